"""What every task must do. A new task adds one row to ``CASES``."""

from __future__ import annotations

import atexit
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from chats import assistant, columns_of, user
from preferences import columns_of_answers
from proof_tasks import registered
from tiny import VOCABULARY, tiny_tokenizer
from tunesmith.data.encoded import DECODER, Encoded, Ragged, Units
from tunesmith.data.image_chat_rows import read_conversation
from tunesmith.data.tagged import join_tokens
from tunesmith.metrics import compare_answer
from tunesmith.tasks import TASKS, Task
from tunesmith.tasks.objective import SURVEYED

TEXTS = [
    "a wonderful little film",
    "dull and worse",
    "laugh and cry",
    "a waste of time",
    "great songs",
    "boring, slow and far too long",
    "the best of the year",
    "i wanted to leave",
    "warm and funny",
    "too long",
]
QUESTIONS = ["what is it", "is it too long"] * 5
SEEING = ("image_classification", "image_text", "image_chat")
PAIRS = [text[::-1] for text in TEXTS]
TWO = ["good", "bad"] * 5
THREE = ["a", "b", "c", "b", "a", "c", "c", "a", "b", "b"]
SEVERAL = [["x"], ["y"], ["x", "y"], [], ["z"], ["x", "z"], ["y"], ["y", "z"], ["x"], ["z", "y"]]
ENTITIES = [["O", "B-x", "I-x", "O"], ["B-y"], ["O", "O", "B-x"], ["O", "B-y", "I-y", "B-y"]]
WORD_CLASSES = [["a", "b", "n", "n"], ["n"], ["b", "a", "n"], ["a", "n", "b", "n"]]
NUMBERS = [0.5, 3.0, 2, 1.25, 4.75, 0, 2.5, 3.5, 1.0, 2.0]
FUNCTIONS = Path(__file__).parent / "reward_functions.py"


@cache
def pictures() -> list[str]:
    """Return the paths of ten pictures."""
    pytest.importorskip("PIL")
    from images import draw

    folder = Path(tempfile.mkdtemp(prefix="tunesmith-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return [str(draw(folder / f"{number}.png", number)) for number in range(len(TEXTS))]


def reader_of(task: str) -> Any:
    """Return what a tiny model of this task reads with."""
    if task not in SEEING:
        return tiny_tokenizer()
    pytest.importorskip("PIL")
    if task == "image_chat":
        return vision_reader()
    from images import image_reader

    return image_reader(with_texts=task == "image_text")


@cache
def vision_reader() -> Any:
    """Return what a tiny vision-language model reads with."""
    from seeing import vision_folder
    from tunesmith.models.pretrained import Pretrained

    folder = Path(tempfile.mkdtemp(prefix="tunesmith-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Pretrained(name=str(vision_folder(folder))).load(TASKS["image_chat"]().head(), (), 0).tokenizer


@dataclass
class Case:
    """One configuration of one task with rows that suit it."""

    task: str
    label: list[Any]
    settings: dict[str, Any] = field(default_factory=dict)
    paired: bool = False

    @property
    def columns(self) -> dict[str, list[Any]]:
        places = [f"rows.csv:{i + 2}" for i in range(len(TEXTS))]
        if self.task == "pair_ranking":
            return {"first": TEXTS, "second": PAIRS, "label": self.label, "row": places}
        if self.task in ("preference", "reward"):
            answers = [[[assistant(answer)] for answer in row] for row in self.label]
            ranks = [[i % 2] if len(row) == 1 else [0, 1, 1][: len(row)] for i, row in enumerate(self.label)]
            asked = ([user(text)] for text in TEXTS)
            return columns_of_answers(list(zip(asked, answers, ranks, strict=True))) | {"row": places}
        if self.task == "seq2seq":
            return {"source": TEXTS, "target": [[text] for text in self.label], "row": places}
        if self.task == "question_answering":
            spans = [
                [{"text": text, "start": TEXTS[i].index(text)} for text in texts] for i, texts in enumerate(self.label)
            ]
            return {"question": QUESTIONS, "context": TEXTS, "answers": spans, "row": places}
        if self.task == "multiple_choice":
            choices = [[f"{pair} {k}" for k in range(2 + i % 3)] for i, pair in enumerate(PAIRS)]
            return {"question": TEXTS, "choices": choices, "label": self.label, "row": places}
        if self.task == "image_chat":
            shown = [[{"type": "image", "image": path}, {"type": "text", "text": "?"}] for path in pictures()]
            talks = [[user(parts), assistant(label)] for parts, label in zip(shown, self.label, strict=True)]
            return columns_of([read_conversation(talk) for talk in talks]) | {"row": places}
        if self.task in SEEING:
            asked = {"question": QUESTIONS} if self.task == "image_text" else {}
            return {"image": pictures(), **asked, "label": self.label, "row": places}
        if self.task == "reranking":
            candidates = [[f"{pair} {k}" for k in range(len(self.label[i]))] for i, pair in enumerate(PAIRS)]
            return {"query": TEXTS, "candidates": candidates, "grades": self.label, "row": places}
        if self.task == "embedding":
            beside = (
                {"score" if isinstance(self.label[0], (int, float)) else "negative": self.label} if self.label else {}
            )
            return {"anchor": TEXTS, "positive": PAIRS, **beside, "row": places}
        if self.task in ("causal_lm", "grpo"):
            if not self.label:
                return {"text": TEXTS, "row": places}
            pairs = zip(TEXTS, self.label, strict=True)
            return columns_of([[user(text), assistant(label)] for text, label in pairs]) | {"row": places}
        if self.task == "token_classification":
            tokens = [text.split() for text in TEXTS]
            starts = [join_tokens(words)[1] for words in tokens]
            tags = [
                (self.label[i % 4] + ["O" if "O" in self.label[0] else "n"] * 9)[: len(words)]
                for i, words in enumerate(tokens)
            ]
            return {"text": TEXTS, "tokens": tokens, "starts": starts, "tags": tags, "row": places}
        return {
            "text": TEXTS,
            **({"text_pair": PAIRS} if self.paired else {}),
            **({"label": self.label} if self.label else {}),
            "row": places,
        }

    def bound(self) -> Task:
        return TASKS[self.task](**self.settings).bind(self.columns)


CASES: dict[str, Case] = {
    "two labels": Case("classification", TWO),
    "three labels, pairs": Case("classification", THREE, paired=True),
    "integers, smoothing": Case("classification", [1, 2, 10, 2, 1, 10, 10, 1, 2, 2], {"label_smoothing": 0.1}),
    "weights": Case("classification", THREE, {"class_weights": {"a": 2.0, "c": 0.5}, "label_smoothing": 0.2}),
    "balanced": Case("classification", THREE, {"class_weights": "balanced"}),
    "focal": Case("classification", THREE, {"focal_gamma": 2.0, "class_weights": [0.2, 0.3, 0.5]}),
    "several": Case("classification", SEVERAL),
    "several, weights": Case("classification", SEVERAL, {"class_weights": "balanced", "label_smoothing": 0.1}),
    "several, focal": Case("classification", SEVERAL, {"focal_gamma": 1.5, "threshold": 0.3}),
    "delimited": Case("classification", ["|".join(names) for names in SEVERAL], {"multi_label": True}),
    "regression": Case("regression", NUMBERS),
    "regression, standardized": Case("regression", NUMBERS, {"standardize": True, "loss": "huber"}, paired=True),
    "regression, absolute": Case("regression", [str(number) for number in NUMBERS], {"loss": "mae"}),
    "entities": Case("token_classification", ENTITIES),
    "entities, weights": Case("token_classification", ENTITIES, {"class_weights": {"O": 0.3}, "label_smoothing": 0.1}),
    "chats": Case("causal_lm", TEXTS[::-1], {"template": "chatml"}),
    "plain texts": Case("causal_lm", []),
    "texts of texts": Case(
        "seq2seq", PAIRS, {"via": "encoder_decoder", "decoder_start": 3, "label_smoothing": 0.1, "num_beams": 2}
    ),
    "texts of texts, prompted": Case("seq2seq", TEXTS[::-1], {"via": "prompt", "template": "chatml"}),
    "masked words": Case("masked_lm", []),
    "masked tokens": Case("masked_lm", [], {"whole_words": False, "probability": 0.4, "mask_share": 0.5}),
    "entities, chains": Case("token_classification", ENTITIES, {"crf": True}),
    "pairs of answers": Case("preference", [[PAIRS[i], TEXTS[-i]] for i in range(10)], {"template": "chatml"}),
    "ranked answers": Case(
        "preference",
        [[PAIRS[i], TEXTS[-i], TEXTS[-i - 1]][: 2 + i % 2] for i in range(10)],
        {"template": "chatml", "loss": "orpo", "beta": 0.5},
    ),
    "thumbs": Case("preference", [[text] for text in PAIRS], {"template": "chatml"}),
    "rewards": Case("reward", [[PAIRS[i], TEXTS[-i], TEXTS[-i - 1]][: 2 + i % 2] for i in range(10)], {"center": 0.1}),
    "two sequences a row": Case("pair_ranking", ["first", "second"] * 5),
    "answers": Case("question_answering", [[" ".join(text.split()[i % 2 : 2])] for i, text in enumerate(TEXTS)]),
    "answers, or none": Case(
        "question_answering",
        [[text.split()[-1], text[-3:]][: (i + 1) % 3] for i, text in enumerate(TEXTS)],
        {"stride": 5},
    ),
    "images": Case("image_classification", THREE),
    "images of several labels": Case("image_classification", SEVERAL, {"class_weights": "balanced"}),
    "questions about images": Case("image_text", THREE, {"label_smoothing": 0.1}),
    "questions of several answers": Case("image_text", SEVERAL),
    "talks about images": Case("image_chat", TEXTS),
    "choices": Case("multiple_choice", [i % 2 for i in range(10)]),
    "candidates": Case("reranking", [[float(k == i % 2) for k in range(2 + i % 3)] for i in range(10)]),
    "candidates, pairs of them": Case(
        "reranking", [[1.0, 2.0, 0.0][: 2 + i % 2] for i in range(10)], {"loss": "pairwise"}
    ),
    "single candidates": Case("reranking", [[float(i % 2)] for i in range(10)]),
    "texts that belong together": Case("embedding", [], {"symmetric": True, "matryoshka": (32, 8)}),
    "texts and others": Case("embedding", [[text] * (i % 3) for i, text in enumerate(reversed(TEXTS))]),
    "triplets": Case("embedding", [[f"{text} not"] for text in TEXTS], {"loss": "triplet"}),
    "near texts": Case("embedding", NUMBERS),
    "near texts, cosines": Case("embedding", NUMBERS, {"loss": "cosine"}),
    "rewarded answers": Case(
        "grpo",
        TEXTS[::-1],
        {
            "template": "chatml",
            "max_new_tokens": 8,
            "rewards": ["number", "text", "regex:.*a.*", "length:3", f"{FUNCTIONS}:score", "run:runs/judge"],
        },
    ),
    "word classes": Case("token_classification", WORD_CLASSES, {"class_weights": "balanced", "split": "word"}),
}


@pytest.fixture(scope="module", autouse=True)
def _with_proof_tasks() -> Iterator[None]:
    with registered():
        yield


@pytest.fixture(params=CASES, scope="module")
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


@pytest.fixture
def tokenizer(case: Case) -> Any:
    return reader_of(case.task)


def predicts_text(task: Task) -> bool:
    """Say whether what is to be predicted is a part of the text itself, and no label beside it."""
    return task.writer is not None or not task.truths


def encoded_of(task: Task, case: Case) -> Encoded:
    tokenizer = reader_of(case.task)
    task.adapt(tokenizer)
    return task.encode(case.columns, tokenizer, 256)


def targets_of(task: Task, case: Case) -> dict[str, Any]:
    """Return what the case's rows are learned and judged by: some of it only encoding can tell."""
    return dict(encoded_of(task, case).data_targets)


def units_of(encoded: Encoded) -> Ragged:
    """Return the numbers of each row's units."""
    counts = np.ones(len(encoded), dtype=np.int64) if encoded.reads is None else encoded.reads.lengths
    offsets = np.concatenate([[0], np.cumsum(counts)])
    return encoded.join(Ragged(np.arange(offsets[-1]), offsets))


def borders_of(encoded: Encoded, rows: list[int] | None = None) -> Units:
    """Return the borders of all rows, or of some, in this order."""
    lengths = np.ones(len(encoded), dtype=np.int64) if encoded.reads is None else encoded.reads.lengths
    firsts = np.arange(len(encoded) + 1) if encoded.rows is None else encoded.rows
    own = [lengths[firsts[row] : firsts[row + 1]] for row in (range(len(firsts) - 1) if rows is None else rows)]
    sequences, totals = np.concatenate(own), [int(part.sum()) for part in own]
    return Units(np.concatenate([[0], np.cumsum(sequences)]), np.concatenate([[0], np.cumsum(totals)]))


def read_of(task: Task, scores: torch.Tensor, targets: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Return what of scores the loss is given."""
    return task.reduce(scores, targets) if task.reduces else scores


def loss_of(task: Task, scores: torch.Tensor, targets: Mapping[str, torch.Tensor], borders: Units) -> torch.Tensor:
    return task.loss_sum(read_of(task, scores, targets), targets, borders)


def scores_for(task: Task, case: Case, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    num_units = len(units_of(encoded_of(task, case)).values)
    num_outputs = task.head().num_outputs or max(VOCABULARY, len(reader_of(case.task)))
    return torch.randn(num_units, num_outputs, generator=generator, dtype=torch.float64)


def as_tensors(targets: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    arrays = {name: value.values if isinstance(value, Ragged) else value for name, value in targets.items()}
    return {name: torch.from_numpy(np.array(value)) for name, value in arrays.items()}


def rows_of(values: Mapping[str, Any], rows: list[int]) -> dict[str, Any]:
    return {name: one.select(rows) if isinstance(one, Ragged) else one[rows] for name, one in values.items()}


def outputs_for(task: Task, case: Case) -> tuple[dict[str, Any], dict[str, Any]]:
    targets, encoded = targets_of(task, case), encoded_of(task, case)
    units = units_of(encoded)
    tensors = as_tensors(targets)
    kept = task.collect(read_of(task, scores_for(task, case), tensors), tensors, borders_of(encoded))
    outputs: dict[str, Any] = {name: value.numpy() for name, value in kept.items()}
    if encoded.reads is not None or encoded.rows is not None:
        outputs = {name: Ragged(value, units.offsets) for name, value in outputs.items()}
    outputs = dict(task.conclude(outputs, encoded)) | dict(encoded.beside)
    if task.writer is not None:
        outputs |= task.writer.judge_answers([*TEXTS[:5], *[None] * 5], case.columns)
    return outputs, targets


def test_every_task_has_a_case() -> None:
    assert {case.task for case in CASES.values()} == set(TASKS)
    for name, task in TASKS.items():
        assert task().name == name


def test_binding_twice_changes_nothing(case: Case) -> None:
    task = case.bound()
    assert task.bind(case.columns) == task
    other = {name: values[:4] for name, values in case.columns.items()}
    assert task.bind(other) == task


def test_bound_task_survives_yaml(case: Case) -> None:
    task = case.bound()
    dumped = yaml.safe_dump(task.model_dump(mode="json"), allow_unicode=True)
    assert type(task).model_validate(yaml.safe_load(dumped)) == task


def test_good_rows_have_no_errors(case: Case) -> None:
    task = case.bound()
    for split in ("train", "validation", "test"):
        assert [problem for problem in task.check(split, case.columns) if problem.severity == "error"] == []


def test_encode_lays_rows_side_by_side(case: Case, tokenizer: Any, tmp_path: Path) -> None:
    task = case.bound()
    task.adapt(tokenizer)
    encoded = task.encode(case.columns, tokenizer, max_length=256)
    assert encoded.num_data_rows == len(TEXTS)
    assert encoded.num_samples == len(TEXTS)
    assert encoded.num_truncated == 0
    for name, target in (targets_of(task, case) if predicts_text(task) else task.targets(case.columns)).items():
        found = encoded.data_targets[name]
        assert len(found) == len(TEXTS)
        np.testing.assert_array_equal(*(one.values if isinstance(one, Ragged) else one for one in (found, target)))
    assert (encoded.reads is None) == (task.reads == "row")
    for prefix in ("", DECODER):
        for name, ragged in encoded.inputs.items():
            stream = encoded.stream(prefix)
            if isinstance(ragged, Ragged) and stream and name.startswith(DECODER) == (prefix == DECODER):
                np.testing.assert_array_equal(ragged.lengths, stream.lengths)
    encoded.save(tmp_path)
    assert Encoded.load(tmp_path).inputs.keys() == encoded.inputs.keys()


def test_rows_without_labels_encode(case: Case, tokenizer: Any) -> None:
    task = case.bound()
    columns = {name: values for name, values in case.columns.items() if name not in task.truths}
    task.adapt(tokenizer)
    encoded = task.encode(columns, tokenizer, max_length=256)
    assert encoded.targets == {} or predicts_text(task)
    assert encoded.num_data_rows == len(TEXTS)


def test_loss_adds_up_over_micro_batches(case: Case) -> None:
    task = case.bound()
    if task.needs_whole_step:
        pytest.skip("it is given all of them at once")
    encoded = encoded_of(task, case)
    scores, given, units = scores_for(task, case), targets_of(task, case), units_of(encoded)
    targets, borders = as_tensors(given), borders_of(encoded)
    surveyed = {SURVEYED: task.survey(read_of(task, scores, targets), targets, borders)} if task.surveys else {}
    whole = loss_of(task, scores, targets | surveyed, borders)
    num_units = task.count_units(targets, borders)
    assert whole.shape == ()
    slices = [slice(0, 1), slice(1, 4), slice(4, len(TEXTS))]
    if task.sums_over_units:
        bounded = [slice(some.start, len(scores) if some.stop == len(TEXTS) else some.stop) for some in slices]
        parts = [
            (scores[some], {name: value[some] for name, value in targets.items()}, borders.part(some))
            for some in bounded
        ]
    else:
        rows = [list(range(len(TEXTS)))[some] for some in slices]
        parts = [
            (scores[units.take(some)], as_tensors(rows_of(given, some)) | surveyed, borders_of(encoded, some))
            for some in rows
        ]
    torch.testing.assert_close(sum(loss_of(task, *part) for part in parts), whole, rtol=0, atol=1e-12)
    assert sum(task.count_units(*part[1:]) for part in parts) == pytest.approx(num_units, abs=1e-12)
    assert num_units > 0


def test_loss_is_wide_finite_and_trains(case: Case) -> None:
    task = case.bound()
    targets, borders = as_tensors(targets_of(task, case)), borders_of(encoded_of(task, case))
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        loss = loss_of(task, scores_for(task, case).to(dtype), targets, borders)
        assert loss.dtype == torch.float32
        assert torch.isfinite(loss)
    extreme = (scores_for(task, case).float() * 1e4).requires_grad_()
    loss_of(task, extreme, targets, borders).backward()
    assert extreme.grad is not None
    assert torch.isfinite(extreme.grad).all()
    scores = scores_for(task, case).requires_grad_()
    optimizer = torch.optim.Adam([scores], lr=0.3)
    first = loss_of(task, scores, targets, borders)
    for _ in range(30):
        optimizer.zero_grad()
        loss_of(task, scores, targets, borders).backward()
        optimizer.step()
    assert loss_of(task, scores, targets, borders) < first


def test_numbers_agree_in_shape(case: Case) -> None:
    task = case.bound()
    outputs, targets = outputs_for(task, case)
    for value in outputs.values():
        assert len(value) == len(TEXTS)
    weights = np.random.default_rng(0).integers(0, 3, (5, len(TEXTS))).astype(np.float64)
    measured = task.measure(outputs, targets, weights)
    assert all(values.shape == (5,) for values in measured.values())
    details = task.details(outputs, targets)
    json.dumps(details, allow_nan=False)
    for values in task.measure_per_label(outputs, targets, weights).values():
        assert values.shape == (5, len(details["per_label"]))
    assert task.errors(outputs, targets).shape == (len(TEXTS),)
    assert len(task.truth(targets)) == len(TEXTS)


def test_every_metric_has_a_direction(case: Case) -> None:
    task = case.bound()
    measured = task.measure(*outputs_for(task, case), np.ones((1, len(TEXTS))))
    assert set(measured) <= set(task.higher_is_better)
    assert task.main_metric() in measured


def test_every_direction_belongs_to_a_metric() -> None:
    measured: dict[str, set[str]] = {name: set() for name in TASKS}
    for case in CASES.values():
        task = case.bound()
        measured[case.task] |= set(task.measure(*outputs_for(task, case), np.ones((1, len(TEXTS)))))
    assert measured == {name: set(task.higher_is_better) for name, task in TASKS.items()}


def test_decoded_rows_are_json_and_match_the_truth_when_right(case: Case) -> None:
    task = case.bound()
    outputs, targets = outputs_for(task, case)
    decoded = task.decode(outputs, case.columns)
    assert json.loads(json.dumps(decoded, allow_nan=False)) == decoded
    assert len(decoded) == len(TEXTS)
    if predicts_text(task):
        pytest.skip("no answer is right or wrong")
    answers = [next(row[name] for name in ("label", "value", "tags", "answer") if name in row) for row in decoded]
    truths = task.truth(targets)
    if case.task == "question_answering":  # any of several is right, articles and case put aside
        pairs = zip(answers, truths, strict=True)
        truths = [answer if compare_answer(answer, several)[0] else None for answer, several in pairs]
    right = [answer == truth for answer, truth in zip(answers, truths, strict=True)]
    np.testing.assert_array_equal(task.errors(outputs, targets) == 0, right)


def test_decoding_rows_one_by_one_is_the_same(case: Case) -> None:
    task = case.bound()
    outputs, _ = outputs_for(task, case)
    alone = [task.decode(rows_of(outputs, [i]))[0] for i in range(len(TEXTS))]
    assert alone == task.decode(outputs)


def test_other_predictions_become_outputs(case: Case) -> None:
    """Perfect predictions of any origin decode to the truth."""
    task = case.bound()
    if task.reads == "token":
        pytest.skip("no baseline predicts tokens")
    if task.head().num_outputs == 1 and not task.has_answers:
        pytest.skip("rules give scores of their own")
    if task.vectors_of:
        pytest.skip("no baseline makes vectors")
    targets = task.targets(case.columns)
    label = np.asarray(targets["label"], dtype=np.float64)
    is_index = label.ndim == 1 and task.head().num_outputs > 1
    perfect = np.eye(task.head().num_outputs)[label.astype(int)] if is_index else label
    outputs = task.outputs_from(perfect)
    assert not task.errors(outputs, targets).any()


def test_head_names_every_output(case: Case) -> None:
    head = case.bound().head()
    if head.num_outputs is None:
        pytest.skip("the outputs are the model's vocabulary")
    assert len(head.config["id2label"]) == head.num_outputs
    assert {k: name for name, k in head.config["label2id"].items()} == head.config["id2label"]
    from transformers import BertConfig

    config = BertConfig(**head.config)
    assert config.num_labels == head.num_outputs
    assert config.problem_type == head.config.get("problem_type")


def test_unusable_labels_are_named_with_their_rows(case: Case) -> None:
    task = case.bound()
    if predicts_text(task) or len(task.truths) > 1:
        pytest.skip("there are no labels")
    if task.vectors_of:
        pytest.skip("any text may belong to another one")
    (truth,) = task.truths
    given = case.columns[truth]
    last = ["never seen"] * len(given[-1]) if isinstance(given[-1], list) and task.reads == "token" else "never seen"
    columns = {**case.columns, truth: [*given[:-1], last]}
    problems = task.check("test", columns)
    assert [problem.severity for problem in problems] == ["error"]
    assert problems[0].rows == ("rows.csv:11",)
    assert "never seen" in str(problems[0])
    assert problems[0].fix


def test_tasks_that_write_say_where_answers_begin_and_end(case: Case, tokenizer: Any) -> None:
    task = case.bound()
    if task.writer is None:
        assert not task.answer_metrics
        return
    task.adapt(tokenizer)
    assert task.adapt(tokenizer) == [], "doing it twice changes nothing"
    prompts = task.writer.encode_prompts(case.columns, tokenizer, 40)
    assert len(prompts) == len(TEXTS)
    assert prompts.targets == {}
    assert 0 < prompts.lengths.min() <= prompts.lengths.max() <= 40
    assert all(0 <= token < len(tokenizer) for token in task.writer.stop_tokens(tokenizer))
    assert task.answer_metrics < set(task.higher_is_better)
    judged = task.writer.judge_answers([*TEXTS[:-1], None], case.columns)
    assert {len(values) for values in judged.values()} == {len(TEXTS)}
