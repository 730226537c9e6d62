"""Embeddings: what rows mean, losses beside their definitions, what is found among candidates, mined negatives."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from tiny import HIDDEN, tiny_folder, tiny_tokenizer
from tunesmith.data import DataConfig, prepare
from tunesmith.data.encoded import Ragged, Units, as_ragged
from tunesmith.models import Pretrained
from tunesmith.models.sentence_folder import read_sentence_settings, sentence_files
from tunesmith.run.rows import find_rows
from tunesmith.tasks import Embedding, mined_negatives
from tunesmith.types import InputError


def write(folder: Path, *rows: dict[str, Any], name: str = "rows.jsonl") -> DataConfig:
    path = folder / name
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return DataConfig(path=str(path), test_fraction=0.0, validation_fraction=0.0)


def text(i: int, kind: str = "question") -> str:
    return f"the {kind} number {i} of many that there are about {'films' if i % 2 else 'plots'}"


# ---- columns ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "asked", "columns"),
    [
        (("anchor", "positive"), False, {"anchor": "anchor", "positive": "positive"}),
        (("query", "positive_passage"), False, {"anchor": "query", "positive": "positive_passage"}),
        (("question", "context"), True, {"anchor": "question", "positive": "context"}),
        (("left", "right"), True, {"anchor": "left", "positive": "right"}),
        (("sentence1", "sentence2"), True, {"anchor": "sentence1", "positive": "sentence2"}),
    ],
)
def test_columns_are_found(tmp_path: Path, names: tuple[str, str], asked: bool, columns: dict[str, str]) -> None:
    data = write(tmp_path, *({names[0]: text(i), names[1]: text(i, "answer")} for i in range(30)))
    found = find_rows(data, Embedding() if asked else None)
    assert found.task.name == "embedding"
    assert {choice.role: choice.column for choice in found.choices} == columns


def test_scored_pairs_are_regression_unless_an_anchor_is_named(tmp_path: Path) -> None:
    rows = [{"sentence1": text(i), "sentence2": text(i, "answer"), "score": i % 23 / 7} for i in range(60)]
    data = write(tmp_path, *rows)
    assert find_rows(data, None).task.name == "regression"
    asked = find_rows(data, Embedding())
    assert [choice.role for choice in asked.choices] == ["anchor", "positive", "score"]
    assert (
        asked.task.bind(prepare(asked.raw, data, asked.choices, asked.form).splits["train"].columns()).loss == "cosent"
    )
    named = [{"anchor": row["sentence1"], "positive": row["sentence2"], "score": row["score"]} for row in rows]
    assert find_rows(write(tmp_path, *named, name="named.jsonl"), None).task.name == "embedding"


def test_rows_are_tidied_and_what_cannot_be_used_is_counted(tmp_path: Path) -> None:
    rows = [
        {"anchor": text(i), "positive": text(i, "answer"), "negative_1": text(i, "other"), "negative_2": "  far away "}
        for i in range(20)
    ]
    rows[3]["negative_2"] = rows[3]["positive"]
    rows[4]["positive"] = " "
    rows[5]["negative_1"] = json.dumps(["one", "two"])
    data = write(tmp_path, *rows)
    found = find_rows(data, None)
    prepared = prepare(found.raw, data, found.choices, found.form)
    columns = prepared.splits["train"].columns()
    assert len(columns["anchor"]) == 19
    assert columns["negative"][0] == [text(0, "other"), "far away"]
    assert columns["negative"][3] == [text(3, "other")]
    assert columns["negative"][4] == ["one", "two", "far away"]
    said = "\n".join(problem.message for problem in prepared.problems)
    assert "1 negatives left out that are the anchor or the positive" in said
    assert "1 row without text left out" in said


def test_scores_that_are_no_numbers_are_named_with_their_lines(tmp_path: Path) -> None:
    rows = [{"anchor": text(i), "positive": text(i, "answer"), "score": i / 7} for i in range(60)]
    path = tmp_path / "rows.csv"
    lines = [f"{row['anchor']},{row['positive']},{row['score'] if i != 40 else '?'}" for i, row in enumerate(rows)]
    path.write_text("anchor,positive,score\n" + "\n".join(lines) + "\n", encoding="utf-8")
    data = DataConfig(path=str(path), columns={"score": "score"}, bad_rows="quarantine")
    found = find_rows(data, Embedding())
    prepared = prepare(found.raw, data, found.choices, found.form)
    assert any("rows.csv:42" in str(problem) and "no finite number" in str(problem) for problem in prepared.problems)
    assert sum(map(len, prepared.splits.values())) == 59


@pytest.mark.parametrize(
    ("settings", "columns", "said"),
    [
        ({"loss": "cosine"}, {}, "have no score"),
        ({"loss": "triplet"}, {"score": [0.0, 1.0]}, "have a score"),
        ({"loss": "triplet"}, {}, "needs negatives"),
        ({"hard_negatives": 2}, {"score": [0.0, 1.0]}, "no place for negatives"),
        ({}, {"score": [1.0, 1.0]}, "the same score"),
        ({}, {"score": [1.0, math.nan]}, "no finite number"),
    ],
)
def test_losses_that_do_not_fit_the_rows_are_refused(settings: Any, columns: Any, said: str) -> None:
    columns = {"anchor": ["a", "b"], "positive": ["c", "d"], **columns}
    (problem,) = Embedding(**settings).bind(columns).check("train", columns)
    assert said in problem.message
    assert problem.fix


# ---- losses ----------------------------------------------------------------------------------------


def vectors(number: int, seed: int = 0, width: int = 12) -> torch.Tensor:
    return torch.randn(number, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def loss_of(task: Embedding, states_UD: torch.Tensor, columns: dict[str, Any]) -> torch.Tensor:
    encoded = task.encode(columns, tiny_tokenizer(), 64)
    assert encoded.rows is not None
    units = Units(np.arange(len(encoded) + 1), encoded.rows)
    targets = {
        name: torch.from_numpy(np.array(value.values if isinstance(value, Ragged) else value))
        for name, value in encoded.targets.items()
    }
    return task.loss_sum(states_UD, targets, units) / task.count_units(targets, units)


PAIRS = {"anchor": list("abcdef"), "positive": list("uvwxyz")}
FAR = {**PAIRS, "negative": [[str(i)] for i in range(6)]}
SCORED = {**PAIRS, "score": [0.0, 1.0, 2.0, 5.0, 4.0, 1.0]}
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "in_batch": ({}, PAIRS),
    "negatives": ({"temperature": 0.1}, FAR),
    "symmetric": ({"symmetric": True}, PAIRS),
    "cosine": ({"loss": "cosine", "score_range": (0.0, 5.0)}, SCORED),
    "cosent": ({}, SCORED),
    "triplet": ({"loss": "triplet", "margin": 0.3}, FAR),
    "matryoshka": ({"matryoshka": (8, 3)}, PAIRS),
}


def defined(kind: str, states_UD: torch.Tensor) -> torch.Tensor:
    """Return the loss by its definition, row by row."""
    rows = states_UD.reshape(6, -1, states_UD.shape[1])
    cos = lambda a, b: functional.cosine_similarity(a, b, dim=-1)  # noqa: E731
    near = [cos(row[0], row[1]) for row in rows]
    scores = torch.tensor(SCORED["score"], dtype=torch.float64)
    if kind == "matryoshka":
        return torch.stack([defined("in_batch", states_UD[:, :width]) for width in (12, 8, 3)]).mean()
    if kind == "cosine":
        return torch.stack([(one - score / 5) ** 2 for one, score in zip(near, scores, strict=True)]).mean()
    if kind == "cosent":
        pairs = [(i, j) for i in range(6) for j in range(6) if scores[i] > scores[j]]
        return torch.log(1 + torch.stack([torch.exp(20 * (near[j] - near[i])) for i, j in pairs]).sum())
    if kind == "triplet":
        return torch.stack([(cos(row[0], row[2]) - cos(row[0], row[1]) + 0.3).clamp(min=0) for row in rows]).mean()
    heat = 0.1 if kind == "negatives" else 0.05
    others = [row[place] for place in range(1, rows.shape[1]) for row in rows]
    losses = []
    for i, row in enumerate(rows):
        among = torch.stack([cos(row[0], other) / heat for other in others])
        losses.append(among.logsumexp(dim=0) - among[i])
        if kind == "symmetric":
            back = torch.stack([cos(other[0], row[1]) / heat for other in rows])
            losses.append(back.logsumexp(dim=0) - back[i])
    return torch.stack(losses).mean()


@pytest.mark.parametrize("kind", CASES)
def test_losses_and_gradients_are_those_of_their_definition(kind: str) -> None:
    settings, columns = CASES[kind]
    task = Embedding(**settings).bind(columns)
    ours, theirs = (vectors(18 if "negative" in columns else 12).requires_grad_() for _ in range(2))
    found, expected = loss_of(task, ours, columns), defined(kind, theirs)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
    gradients = [torch.autograd.grad(one, of)[0] for one, of in ((found, ours), (expected, theirs))]
    torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("kind", ["in_batch", "negatives", "symmetric", "cosine", "cosent", "triplet"])
def test_losses_are_those_of_sentence_transformers(kind: str) -> None:
    losses = pytest.importorskip("sentence_transformers.sentence_transformer.losses")

    class Given(torch.nn.Module):
        """Gives vectors that are there already, as its model would."""

        def forward(self, features: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
            return features

    settings, columns = CASES[kind]
    states = vectors(18 if "negative" in columns else 12).float()
    model: Any = Given()
    make: dict[str, Callable[[], Any]] = {
        "in_batch": lambda: losses.MultipleNegativesRankingLoss(model, scale=20.0),
        "negatives": lambda: losses.MultipleNegativesRankingLoss(model, scale=10.0),
        "symmetric": lambda: losses.MultipleNegativesRankingLoss(
            model, scale=20.0, directions=("query_to_doc", "doc_to_query"), partition_mode="per_direction"
        ),
        "cosine": lambda: losses.CosineSimilarityLoss(model),
        "cosent": lambda: losses.CoSENTLoss(model, scale=20.0),
        "triplet": lambda: losses.TripletLoss(model, losses.TripletDistanceMetric.COSINE, triplet_margin=0.3),
    }
    parts = states.reshape(6, -1, 12).unbind(dim=1)
    labels = torch.tensor(SCORED["score"]) / (5 if kind == "cosine" else 1)
    expected = make[kind]()([{"sentence_embedding": part} for part in parts], labels)
    found = loss_of(Embedding(**settings).bind(columns), states, columns)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_what_may_be_right_is_no_negative() -> None:
    """Rows 0 and 1 ask the same, rows 2 and 3 have the same answer, and row 4's anchor is the answer of row 5."""
    columns = {"anchor": list("aabcdf"), "positive": list("uvwwxd")}
    task = Embedding().bind(columns)
    states = vectors(12)
    first = loss_of(task, states, columns)
    anchors, positives = functional.normalize(states[::2], dim=-1), functional.normalize(states[1::2], dim=-1)
    left_out = {(0, 1), (1, 0), (2, 3), (3, 2), (4, 5)}
    losses = []
    for i in range(6):
        among = [j for j in range(6) if (i, j) not in left_out]
        scores = torch.stack([anchors[i] @ positives[j] for j in among]) / 0.05
        losses.append(scores.logsumexp(dim=0) - scores[among.index(i)])
    torch.testing.assert_close(first, torch.stack(losses).mean(), rtol=1e-10, atol=1e-12)


# ---- judging ---------------------------------------------------------------------------------------


def test_ranks_are_among_all_candidates_and_other_right_ones_do_not_compete() -> None:
    columns = {
        "anchor": ["q", "q", "r", "s"],
        "positive": ["p1", "p2", "p1", "p4"],
        "negative": [["n"], [], [], ["p2"]],
    }
    task = Embedding().bind(columns)
    encoded = task.encode(columns, tiny_tokenizer(), 64)
    own = {"q": [1.0, 0, 0], "r": [0, 1.0, 0], "s": [0, 0, 1.0]}
    own |= {"p1": [0.6, 0, 0.8], "p2": [0.8, 0.6, 0], "p4": [0.6, 0.8, 0], "n": [0.7, 0, 0.714]}
    rows = [["q", "p1", "n"], ["q", "p2"], ["r", "p1"], ["s", "p4", "p2"]]
    states = np.array([own[name] for row in rows for name in row])
    found = task.conclude({"vectors": Ragged(states, encoded.rows)}, encoded)  # type: ignore[arg-type]
    # q, p1: behind n and level with p4; p2 answers q as well. r, p1: behind p4 and p2, level with n.
    # s, p4: behind p1 and n, level with p2.
    assert found["rank"].tolist() == [2.5, 1.0, 3.5, 3.5]
    targets = encoded.data_targets
    measured = task.measure(found, targets, np.ones((1, 4)))
    assert measured["recall_at_1"][0] == 0.25
    assert measured["mrr"][0] == pytest.approx((1 / 2.5 + 1 + 2 / 3.5) / 4)
    assert measured["ndcg_at_10"][0] == pytest.approx((1 / math.log2(3.5) + 1 + 2 / math.log2(4.5)) / 4)
    answers = [task.shown(row["label"], columns, 0) for row in task.decode(found)]
    assert answers == ["n", "p2", "p4", "p1"]
    assert [task.shown(truth, columns, 0) for truth in task.truth(targets)] == columns["positive"]
    np.testing.assert_array_equal(task.errors(found, targets) == 0, [False, True, False, False])


def test_a_model_that_gives_all_texts_one_vector_finds_nothing() -> None:
    columns = {"anchor": [f"a{i}" for i in range(30)], "positive": [f"p{i}" for i in range(30)]}
    task = Embedding().bind(columns)
    encoded = task.encode(columns, tiny_tokenizer(), 64)
    states = np.tile(np.array([[0.6, 0.8]], dtype=np.float32), (60, 1))
    found = task.conclude({"vectors": Ragged(states, np.arange(0, 61, 2))}, encoded)
    assert task.measure(found, encoded.data_targets, np.ones((1, 30)))["recall_at_10"][0] == 0.0


def test_correlations_are_those_of_scipy() -> None:
    from scipy.stats import spearmanr

    task = Embedding().bind(SCORED)
    encoded = task.encode(SCORED, tiny_tokenizer(), 64)
    states = functional.normalize(vectors(12), dim=-1).numpy()
    found = task.conclude({"vectors": Ragged(states, np.arange(0, 13, 2))}, encoded)
    cosines = (states[::2] * states[1::2]).sum(axis=1)
    measured = task.measure(found, encoded.data_targets, np.ones((1, 6)))
    assert measured["spearman"][0] == pytest.approx(spearmanr(cosines, SCORED["score"]).statistic)
    values = [row["value"] for row in task.decode(found)]
    assert values == pytest.approx((5 * cosines).tolist(), abs=1e-5)


# ---- mined negatives -------------------------------------------------------------------------------


def test_mined_negatives_are_the_nearest_below_the_margin() -> None:
    columns = {"anchor": ["q", "q", "r", "s"], "positive": ["p1", "p2", "p3", "p4"]}
    task = Embedding(hard_negatives=2, hard_negatives_margin=0.1).bind(columns)
    encoded = task.encode(columns, tiny_tokenizer(), 64)
    angles = {"q": 0, "p1": 20, "p2": 10, "p3": 22, "p4": 60, "r": 90, "s": 45}
    turned = [math.radians(angles[name]) for i in range(4) for name in (columns["anchor"][i], columns["positive"][i])]
    states = np.array([[math.cos(angle), math.sin(angle)] for angle in turned])
    mined = task.mine({"vectors": Ragged(states, np.arange(9))}, encoded)
    # Of q, p1 and p2 are right and p3 is as near as they are; of r and s, p2 alone is far enough from what is right.
    assert mined["chosen"].tolist() == [[7, -1], [7, -1], [3, -1], [3, -1]]
    assert mined["too_near"].tolist() == [1, 1, 2, 2]
    more, (problem,) = task.with_mined(encoded, mined)
    assert as_ragged(more.targets["text"]).values.tolist() == [0, 1, 6, 0, 2, 6, 3, 4, 2, 5, 6, 2]
    assert more.rows is not None
    assert more.rows.tolist() == [0, 3, 6, 9, 12]
    assert "4 hard negatives for 4 of 4 rows" in problem.message
    ids = as_ragged(more.inputs["input_ids"])
    np.testing.assert_array_equal(ids[2], as_ragged(encoded.inputs["input_ids"])[7])
    with pytest.raises(InputError, match="surely wrong"):
        task.with_mined(encoded, {**mined, "chosen": np.full((4, 1), -1)})


# ---- folders ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("pooling", ["cls", "mean", "last"])
def test_what_a_folder_says_of_its_vectors_is_found(tmp_path: Path, pooling: Any) -> None:
    folder = tiny_folder(tmp_path)
    task = Embedding(pooling=pooling, query_prefix="query: ", passage_prefix="passage: ")
    loaded = Pretrained(name=str(folder)).load(task.head(), (), 0)
    assert getattr(loaded.model, "pooler", 0) is None
    assert Embedding().suited_to(loaded.model, loaded.tokenizer).pooling == "mean"
    for name, content in task.files_beside(loaded.model, 64).items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(json.dumps(content), encoding="utf-8")
    again = Pretrained(name=str(folder)).load(task.head(), (), 0)
    found = Embedding().suited_to(again.model, again.tokenizer)
    assert (found.pooling, found.query_prefix, found.passage_prefix) == (pooling, "query: ", "passage: ")
    assert found.suited_to(loaded.model, loaded.tokenizer) == found
    with pytest.raises(InputError, match=f"have {HIDDEN} numbers"):
        Embedding(matryoshka=(8, 64)).suited_to(loaded.model, loaded.tokenizer)


def test_other_kinds_of_vectors_are_refused_unless_pooling_is_given(tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path)
    for name, content in sentence_files(HIDDEN, "mean", 64, {}).items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(json.dumps(content), encoding="utf-8")
    (folder / "1_Pooling" / "config.json").write_text('{"pooling_mode": ["max", "mean"]}', encoding="utf-8")
    loaded = Pretrained(name=str(folder)).load(Embedding().head(), (), 0)
    with pytest.raises(InputError, match="pooling by max and mean"):
        Embedding().suited_to(loaded.model, loaded.tokenizer)
    assert Embedding(pooling="mean").suited_to(loaded.model, loaded.tokenizer).pooling == "mean"
    (folder / "modules.json").write_text("[", encoding="utf-8")
    with pytest.raises(InputError, match="cannot be read as JSON"):
        read_sentence_settings(folder)


def test_encoder_decoders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no head for this task"):
        Pretrained(name=str(tiny_folder(tmp_path, "t5"))).load(Embedding().head(), (), 0)


def test_prefixes_stand_before_texts_and_scores_have_one() -> None:
    tokenizer = tiny_tokenizer()
    given = {"query_prefix": "film ", "passage_prefix": "plot "}
    plain = Embedding().bind(PAIRS)
    for columns, second in ((PAIRS, "plot"), (SCORED, "film")):
        encoded = Embedding(**given).bind(columns).encode(columns, tokenizer, 64)
        expected = plain.encode(
            {
                "anchor": [f"film {text}" for text in PAIRS["anchor"]],
                "positive": [f"{second} {text}" for text in PAIRS["positive"]],
            },
            tokenizer,
            64,
        )
        np.testing.assert_array_equal(
            as_ragged(encoded.inputs["input_ids"]).values, as_ragged(expected.inputs["input_ids"]).values
        )
    alone = Embedding(**given).bind(PAIRS).encode({"positive": ["great"]}, tokenizer, 64)
    assert as_ragged(alone.inputs["input_ids"])[0].tolist() == tokenizer("plot great")["input_ids"]


def test_a_negative_of_the_same_text_is_chosen_once() -> None:
    """Many questions have one passage: it is one candidate."""
    columns = {"anchor": list("abcd"), "positive": ["p", "p", "p", "o"]}
    encoded = Embedding().bind(columns).encode(columns, tiny_tokenizer(), 64)
    states = functional.normalize(vectors(8), dim=-1).numpy()
    chosen = mined_negatives.choose(states, encoded, 3, 0.0)["chosen"]
    assert [(row >= 0).sum() <= 1 for row in chosen] == [True] * 4
