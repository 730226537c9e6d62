"""The conditional random field against trying every sequence of tags."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tiny import tiny_model, tiny_tokenizer
from tunesmith.data.encoded import Encoded, Ragged
from tunesmith.data.tagged import join_tokens
from tunesmith.engine.layout import Scorer, collator_for
from tunesmith.engine.predict import predict
from tunesmith.models.lstm_network import LstmForTokenClassification
from tunesmith.tasks import TokenClassification
from tunesmith.tasks.crf import MAX_TAGS, negative_log_likelihood_sum, output_names, potentials
from tunesmith.tasks.tag_decoding import best_tags, tag_probabilities, transitions
from tunesmith.types import InputError

LABELS = ("O", "B-a", "I-a")
FREE = (np.zeros((3, 3)), np.zeros(3))


def path_score(scores: np.ndarray, path: tuple[int, ...], num_tags: int) -> float:
    pairs = zip((num_tags, *path), path, strict=False)
    return float(sum(scores[i, previous * num_tags + tag] for i, (previous, tag) in enumerate(pairs)))


def is_allowed(path: tuple[int, ...]) -> bool:
    return all(tag != 2 or previous in (1, 2) for previous, tag in itertools.pairwise((0, *path)))


def every_path(scores: np.ndarray, num_tags: int, *, keeps_scheme: bool) -> dict[tuple[int, ...], float]:
    paths = itertools.product(range(num_tags), repeat=len(scores))
    return {path: path_score(scores, path, num_tags) for path in paths if not keeps_scheme or is_allowed(path)}


def random_rows(lengths: list[int], num_tags: int, seed: int = 0) -> tuple[Ragged, list[np.ndarray]]:
    generator = np.random.default_rng(seed)
    rows = [generator.normal(size=(length, (num_tags + 1) * num_tags)) * 2 for length in lengths]
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return Ragged(np.concatenate(rows), offsets), rows


@pytest.mark.parametrize("num_tags", [1, 2, 4])
def test_the_loss_is_that_of_all_sequences(num_tags: int) -> None:
    lengths = [3, 1, 5, 0, 2, 5]
    scores, rows = random_rows(lengths, num_tags)
    tags = np.random.default_rng(1).integers(0, num_tags, sum(lengths))
    expected = 0.0
    for row, truth in zip(rows, np.split(tags, scores.offsets[1:-1]), strict=True):
        total = np.logaddexp.reduce(list(every_path(row, num_tags, keeps_scheme=False).values()))
        expected += total - path_score(row, tuple(truth.tolist()), num_tags)
    found = negative_log_likelihood_sum(
        torch.from_numpy(scores.values), torch.from_numpy(tags), torch.tensor(lengths, dtype=torch.int32)
    )
    assert found.item() == pytest.approx(expected, abs=1e-10)


@settings(max_examples=40)
@given(st.lists(st.integers(0, 6), min_size=1, max_size=5), st.integers(0, 1000))
def test_rows_together_are_rows_alone(lengths: list[int], seed: int) -> None:
    scores = random_rows(lengths, 3, seed)[0]
    tags = np.random.default_rng(seed).integers(0, 3, sum(lengths))
    rows = [slice(*ends) for ends in itertools.pairwise(scores.offsets.tolist())]
    values, targets = torch.from_numpy(scores.values), torch.from_numpy(tags)
    together = negative_log_likelihood_sum(values, targets, torch.tensor(lengths))
    alone = [
        negative_log_likelihood_sum(values[row], targets[row], torch.tensor([row.stop - row.start])) for row in rows
    ]
    torch.testing.assert_close(together, sum(alone, torch.tensor(0.0, dtype=torch.float64)), rtol=0, atol=1e-10)
    probabilities = tag_probabilities(scores, *transitions(LABELS))
    chosen = best_tags(scores, *transitions(LABELS))
    for row in rows:
        one = Ragged(scores.values[row], np.array([0, row.stop - row.start]))
        np.testing.assert_allclose(tag_probabilities(one, *transitions(LABELS)), probabilities[row], atol=1e-12)
        np.testing.assert_array_equal(best_tags(one, *transitions(LABELS)), chosen[row])


def test_gradients_are_those_of_finite_differences() -> None:
    scores = torch.randn(7, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    tags, lengths = torch.tensor([0, 2, 1, 1, 0, 2, 2]), torch.tensor([2, 0, 4, 1])
    assert torch.autograd.gradcheck(lambda values: negative_log_likelihood_sum(values, tags, lengths), (scores,))


def test_gradients_are_the_probabilities_of_pairs_less_the_truth() -> None:
    """The gradient of the loss sums, over the pairs that end in a tag, to the tag's probability less the truth."""
    scores, _ = random_rows([4, 2], 3)
    tags = torch.tensor([0, 1, 2, 0, 1, 1])
    values = torch.from_numpy(scores.values).requires_grad_()
    negative_log_likelihood_sum(values, tags, torch.tensor([4, 2])).backward()
    assert values.grad is not None
    found = values.grad.unflatten(1, (4, 3)).sum(dim=1) + torch.nn.functional.one_hot(tags, 3)
    np.testing.assert_allclose(found.numpy(), tag_probabilities(scores, *FREE), atol=1e-12)


@pytest.mark.parametrize("keeps_scheme", [True, False])
def test_decoding_and_probabilities_are_those_of_all_sequences(keeps_scheme: bool) -> None:
    scores, rows = random_rows([4, 1, 6, 0, 3, 6], 3)
    masks = transitions(LABELS) if keeps_scheme else FREE
    chosen, probabilities = best_tags(scores, *masks), tag_probabilities(scores, *masks)
    for row, first in zip(rows, scores.offsets, strict=False):
        if not len(row):
            continue
        paths = every_path(row, 3, keeps_scheme=keeps_scheme)
        here = slice(int(first), int(first) + len(row))
        assert tuple(chosen[here].tolist()) == max(paths, key=lambda path: paths[path])
        total = np.logaddexp.reduce(list(paths.values()))
        expected = np.zeros((len(row), 3))
        for path, score in paths.items():
            expected[np.arange(len(row)), path] += np.exp(score - total)
        np.testing.assert_allclose(probabilities[here], expected, atol=1e-10)


def test_large_and_half_precision_scores_stay_finite() -> None:
    scores = torch.full((5, 12), 1e4, requires_grad=True)
    loss = negative_log_likelihood_sum(scores, torch.zeros(5, dtype=torch.long), torch.tensor([5]))
    loss.backward()  # type: ignore[no-untyped-call]
    assert torch.isfinite(loss)
    assert torch.isfinite(scores.grad).all()  # type: ignore[arg-type]
    half = negative_log_likelihood_sum(torch.ones(5, 12).bfloat16(), torch.zeros(5), torch.tensor([5]))
    assert half.dtype == torch.float32
    assert half.item() == pytest.approx(5 * np.log(3), abs=1e-5)
    none = negative_log_likelihood_sum(torch.ones(0, 12), torch.zeros(0), torch.tensor([0, 0]))
    assert none.item() == 0


def test_outputs_are_named_and_added_by_their_pairs() -> None:
    names = output_names(("O", "B-a"))
    assert names == ["O", "B-a", "O>O", "O>B-a", "B-a>O", "B-a>B-a", ">O", ">B-a"]
    scores = torch.tensor([[1.0, 2, 10, 20, 30, 40, 50, 60]], dtype=torch.bfloat16)
    assert potentials(scores).tolist() == [[11, 22, 31, 42, 51, 62]]
    assert potentials(scores).dtype == torch.float32


# ---- as a setting of the task --------------------------------------------------------------------


def columns_of(sentences: list[list[str]], tags: list[list[str]]) -> dict[str, Any]:
    joined = [join_tokens(tokens) for tokens in sentences]
    return {"text": [text for text, _ in joined], "tokens": sentences, "starts": [s for _, s in joined], "tags": tags}


SENTENCES = [["great", "songs", "and", "time"], ["boring"], ["a", "warm", "film", "of", "the", "year"]]
TAGS = [["O", "B-a", "I-a", "O"], ["B-a"], ["O", "O", "B-a", "I-a", "I-a", "O"]]
COLUMNS = columns_of(SENTENCES, TAGS)
TASK = TokenClassification(crf=True).bind(COLUMNS)


@pytest.mark.parametrize("max_length", [64, 7])
def test_the_loss_knows_where_rows_end_in_a_batch(max_length: int, tmp_path: Any) -> None:
    """Windows are chains of their own, whatever the order of rows in a batch; answers are joined again."""
    encoded = TASK.encode(COLUMNS, tiny_tokenizer(), max_length)
    encoded.save(tmp_path)
    encoded = Encoded.load(tmp_path)
    torch.manual_seed(0)
    model = LstmForTokenClassification(tiny_model("lstm", num_labels=15).config).eval()
    collate = collator_for(model, "padded", 1, torch.device("cpu"))
    scorer = Scorer(model, "padded", "token")
    batch = collate(encoded, np.arange(len(encoded))[::-1].copy())
    with torch.no_grad(), scorer.surrounding(batch):
        together = float(TASK.loss_sum(scorer(batch), batch.targets, batch.units))
    assert TASK.count_units(batch.targets, batch.units) == 11
    scored = predict(scorer, collate, TASK, encoded, 1)
    assert scored.loss == pytest.approx(together / 11, abs=1e-6)
    assert [len(row["tags"]) for row in TASK.decode(scored.outputs)] == [4, 1, 6]
    assert sum(batch.units.per_sequence) == 11
    measured = TASK.measure(scored.outputs, encoded.data_targets, np.ones((1, 3)))
    assert measured.keys() == TASK.higher_is_better.keys()


def test_scores_are_the_probability_over_sequences() -> None:
    scores, _ = random_rows([4, 1, 6], 3)
    outputs = {"scores": Ragged(scores.values.astype(np.float32), scores.offsets)}
    probabilities = tag_probabilities(outputs["scores"], *transitions(LABELS))
    for row, answer in enumerate(TASK.decode(outputs, COLUMNS)):
        chosen = [LABELS.index(tag) for tag in answer["tags"]]
        here = probabilities[scores.offsets[row] : scores.offsets[row + 1]]
        assert answer["score"] == pytest.approx(min(p[k] for p, k in zip(here, chosen, strict=True)))
        assert all(0 < entity["score"] <= 1 for entity in answer["entities"])


@pytest.mark.parametrize("settings", [{"class_weights": "balanced"}, {"label_smoothing": 0.1}])
def test_settings_of_single_tags_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="cannot be used with it"):
        TokenClassification(crf=True, **settings)


def test_too_many_tags_are_refused() -> None:
    tags = [f"t{i}" for i in range(MAX_TAGS + 1)]
    with pytest.raises(InputError, match="at most 60 tags; there are 61"):
        TokenClassification(crf=True).bind(columns_of([["x"] * len(tags)], [tags]))
    with pytest.raises(ValueError, match="at most 60 tags; there are 61"):
        TokenClassification(crf=True, labels=tuple(tags))
