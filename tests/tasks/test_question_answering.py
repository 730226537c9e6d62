"""Question answering beside transformers: its windows, its loss, its way of choosing an answer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tiny import MAX_LENGTH, gradients_of, tiny_model, tiny_tokenizer
from tunesmith.data.encoded import Encoded, Ragged, as_ragged
from tunesmith.engine.batch import Collator
from tunesmith.engine.layout import choose_layout
from tunesmith.engine.losses import loss_sum
from tunesmith.engine.predict import predict
from tunesmith.engine.scorer import Scorer
from tunesmith.engine.stand_ins import as_written
from tunesmith.metrics import compare_answer
from tunesmith.tasks import QuestionAnswering
from tunesmith.tasks.question_encoding import NO_ANSWER
from tunesmith.tasks.span_decoding import best_threshold, find_candidates
from tunesmith.types import ColumnProfile

CONTEXT = "a wonderful little film, warm and funny"
LONG = " ".join(["the plot is dull and the acting is worse"] * 12)
WORDS = ["film", "plot", "cast", "dull", "warm", "great", "time", "of", "the"]


def answer(context: str, text: str, nth: int = 0) -> dict[str, Any]:
    start = -1
    for _ in range(nth + 1):
        start = context.index(text, start + 1)
    return {"text": text, "start": start}


def columns(*rows: tuple[str, str, list[dict[str, Any]] | None]) -> dict[str, Any]:
    questions, contexts, answers = zip(*rows, strict=True)
    return {"question": questions, "context": contexts, **({"answers": answers} if None not in answers else {})}


SHORT = columns(
    ("what is warm", CONTEXT, [answer(CONTEXT, "little film")]),
    ("is it dull", CONTEXT, []),
    ("what", "great songs, great cast", [answer("great songs, great cast", "great cast")]),
)


def task_for(rows: dict[str, Any], **settings: Any) -> QuestionAnswering:
    return QuestionAnswering(**settings).bind(rows)


# ---- windows -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("stride", "max_length"), [(0, 40), (7, 40), (10, 31), (0, 64)])
@pytest.mark.parametrize("kind", ["wordpiece", "bpe"])
def test_windows_are_those_of_transformers(kind: str, stride: int, max_length: int) -> None:
    tokenizer = tiny_tokenizer(kind)
    rows = columns(("what is worse", LONG, None), ("what", CONTEXT, None))
    encoded = QuestionAnswering(stride=stride).encode(rows, tokenizer, max_length)
    expected = tokenizer(
        list(rows["question"]), list(rows["context"]), truncation="only_second", max_length=max_length, stride=stride,
        return_overflowing_tokens=True, return_offsets_mapping=True,
    )  # fmt: skip
    ids = as_ragged(encoded.inputs["input_ids"])
    assert [ids[window].tolist() for window in range(len(ids))] == expected["input_ids"]
    assert encoded.rows.tolist() == [0, expected["overflow_to_sample_mapping"].count(0), len(ids)]
    if kind == "wordpiece":
        types = as_ragged(encoded.inputs["token_type_ids"])
        assert [types[window].tolist() for window in range(len(ids))] == expected["token_type_ids"]
    places, unit = as_ragged(encoded.beside["places"]).values, 0
    for window, offsets in enumerate(expected["offset_mapping"]):
        for place, text in zip(offsets, expected.sequence_ids(window), strict=True):
            if text == 1:
                context = rows["context"][expected["overflow_to_sample_mapping"][window]]
                start, end = places[unit, :2].tolist()
                if word := context[slice(*place)].strip():
                    assert (context[start:end], end) == (word, place[1])
                else:  # white space alone
                    assert start < 0
            else:
                assert places[unit, 0] < 0
            unit += 1
    assert unit == len(places)


@pytest.mark.parametrize("nth", range(12))
def test_an_answer_counts_in_every_window_that_holds_it_whole(nth: int) -> None:
    rows = columns(("what", LONG, [answer(LONG, "the acting is", nth)]))
    encoded = QuestionAnswering(stride=8).encode(rows, tiny_tokenizer(), 40)
    assert encoded.num_samples == 1 < len(encoded)
    marked = marks(encoded)
    starts = {place for place, mark in marked["start"] if mark}
    ends = {place for place, mark in marked["end"] if mark}
    truth = rows["answers"][0][0]
    assert {start for start, _, _ in starts} == {truth["start"]}
    assert {end for _, end, _ in ends} == {truth["start"] + len(truth["text"])}
    assert {window for *_, window in starts} == {window for *_, window in ends} != set()
    assert not encoded.remarks


def marks(encoded: Encoded) -> dict[str, list[tuple[tuple[int, ...], int]]]:
    places = [tuple(place) for place in as_ragged(encoded.beside["places"]).values.tolist()]
    names = ("start", "end")
    return {name: list(zip(places, as_ragged(encoded.targets[name]).values.tolist(), strict=True)) for name in names}


def test_an_answer_longer_than_windows_share_is_kept_and_remarked() -> None:
    text = LONG[10:200]
    encoded = QuestionAnswering(stride=8).encode(columns(("what", LONG, [answer(LONG, text)])), tiny_tokenizer(), 40)
    found = marks(encoded)
    start = 10 + len(text) - len(text.lstrip())
    assert all(first <= start < last for (first, last, _), mark in found["start"] if mark)
    assert all(first < 200 <= last for (first, last, _), mark in found["end"] if mark)
    assert all(any(mark for _, mark in side) for side in found.values())
    (words,) = encoded.remarks
    assert "no window holds whole" in words


def test_without_an_answer_that_of_every_window_is_right_and_long_questions_are_cut() -> None:
    encoded = QuestionAnswering(stride=8).encode(columns(("what " * 60, LONG, [])), tiny_tokenizer(), 40)
    assert encoded.num_truncated == 1
    assert encoded.lengths.max() <= 40
    for found in marks(encoded).values():
        assert {place[0] == NO_ANSWER for place, mark in found if mark} == {True}
        assert sum(mark for _, mark in found) == len(encoded) > 1


# ---- loss ----------------------------------------------------------------------------------------


def network(arch: str = "bert") -> tuple[Any, Scorer, Collator]:
    model = tiny_model(arch, 2, head="question")
    layout, reason = choose_layout(model, "token", 97, "auto")
    assert layout == "flat", reason
    return model, Scorer(model, "flat", "token"), Collator("flat", 1)


def test_the_loss_of_one_window_is_that_of_bert_for_question_answering() -> None:
    model, scorer, collate = network()
    task, encoded = task_for(SHORT), task_for(SHORT).encode(SHORT, tiny_tokenizer(), MAX_LENGTH)
    batch = collate(encoded, np.arange(len(encoded)))
    with scorer.surrounding(batch):
        ours = loss_sum(scorer, task, batch) / task.count_units(batch.targets, batch.units)
    ours.backward()
    gradients = gradients_of(model)
    model.zero_grad()
    with as_written(model):
        # A row at a time: with others beside it, transformers counts their padding among the places of an answer.
        losses = []
        for row in range(len(encoded)):
            alone = Collator("padded", 1)(encoded, np.array([row])).inputs
            first, last = (as_ragged(encoded.targets[name])[row].argmax() for name in ("start", "end"))
            places = {"start_positions": torch.tensor([first]), "end_positions": torch.tensor([last])}
            losses.append(model(**alone, **places).loss)
        theirs = torch.stack(losses).mean()
        theirs.backward()
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-9)
    for name, gradient in gradients_of(model).items():
        torch.testing.assert_close(gradients[name], gradient, rtol=1e-6, atol=1e-9)


def test_windows_of_a_row_share_one_softmax() -> None:
    rows = columns(("what", LONG, [answer(LONG, "the acting is", 3)]), ("what", CONTEXT, []))
    task = task_for(rows, stride=8)
    encoded = task.encode(rows, tiny_tokenizer(), 40)
    _, scorer, collate = network()
    scored = predict(scorer, collate, task, encoded, 10_000)
    scores, losses = as_ragged(scored.outputs["scores"]), []
    for row in range(2):
        for side, name in enumerate(("start", "end")):
            chances = torch.tensor(scores[row][:, side]).double().softmax(0)
            losses.append(-chances[torch.tensor(as_ragged(encoded.data_targets[name])[row]).bool()].sum().log())
    assert scored.loss == pytest.approx(float(sum(losses)) / 4, abs=1e-6)


# ---- answers -------------------------------------------------------------------------------------


def official(features: list[dict[str, Any]], context: str, longest: int, threshold: float) -> tuple[str, float]:
    """Choose an answer as the example of transformers does (utils_qa.py), all begins and ends considered."""
    null_score, found = None, []
    for feature in features:
        start_logits, end_logits, offsets = feature["start"], feature["end"], feature["offsets"]
        own = start_logits[0] + end_logits[0]
        null_score = own if null_score is None else min(null_score, own)
        for first in range(len(start_logits)):
            for last in range(first, len(start_logits)):
                if offsets[first] is None or offsets[last] is None:
                    continue
                start, end = offsets[first][0], offsets[last][1]
                if first == last or end - start <= longest:
                    found.append((start_logits[first] + end_logits[last], start, end))
    score, start, end = max(found)
    difference = null_score - score
    return ("" if difference > threshold else context[start:end]), difference


def outputs_of(encoded: Encoded, scores: np.ndarray) -> dict[str, Any]:
    return {"scores": Ragged(scores, as_ragged(encoded.beside["places"]).offsets), **encoded.beside}


@pytest.mark.parametrize("seed", range(8))
def test_answers_are_chosen_as_the_official_procedure_does(seed: int) -> None:
    generator = np.random.default_rng(seed)
    contexts = [" ".join(generator.choice(WORDS, 14)) for _ in range(6)] + [LONG]
    answers = [[answer(context, context.split()[2])] if i % 3 else [] for i, context in enumerate(contexts)]
    rows = columns(*zip(["what is it"] * len(contexts), contexts, answers, strict=True))
    task = task_for(rows, stride=0, longest_answer=18, no_answer_threshold=0.7)
    encoded = task.encode(rows, tiny_tokenizer(), 40)
    scores = generator.normal(size=(int(encoded.lengths.sum()), 2)).astype(np.float32) * 2
    found = task.decode(outputs_of(encoded, scores))
    places, offsets = as_ragged(encoded.beside["places"]), as_ragged(encoded.beside["places"]).offsets
    for row, context in enumerate(contexts):
        own = places[row]
        features = []
        for window in range(int(own[:, 2].max()) + 1):
            unit = np.flatnonzero(own[:, 2] == window)
            start, end = (scores[offsets[row] + unit, side].astype(np.float64) for side in (0, 1))
            spans = [(int(place[0]), int(place[1])) if place[0] >= 0 else None for place in own[unit]]
            features.append({"start": start, "end": end, "offsets": spans})
        wanted, difference = official(features, context, 18, 0.7)
        if len(features) == 1:
            assert found[row]["answer"] == wanted
            odds = find_candidates(scores[offsets[row] : offsets[row + 1]], own, 18, 1).odds
            assert odds == pytest.approx(difference, abs=1e-5)
        else:  # no answer is counted over all windows, where transformers takes the least
            best = next(one for one in found[row]["n_best"] if one["answer"])
            assert best["answer"] == official(features, context, 18, np.inf)[0]
        if found[row]["answer"]:
            assert context[found[row]["start"] : found[row]["end"]] == found[row]["answer"]


def test_probabilities_are_those_among_all_spans_and_no_answer() -> None:
    rows = columns(("what", LONG, [answer(LONG, "dull")]), ("what", CONTEXT, []))
    task = task_for(rows, stride=10, longest_answer=12, n_best=10_000)
    encoded = task.encode(rows, tiny_tokenizer(), 40)
    scores = np.random.default_rng(0).normal(size=(int(encoded.lengths.sum()), 2))
    found = task.decode(outputs_of(encoded, scores))
    for row in found:
        assert sum(one["score"] for one in row["n_best"]) == pytest.approx(1.0, abs=1e-6)
        assert len({(one["start"], one["end"]) for one in row["n_best"]}) == len(row["n_best"])
        assert row["n_best"] == sorted(row["n_best"], key=lambda one: -one["score"])
    for number in (1, 3):  # whatever is asked for, the best of all are found: spans of two windows, too
        few = task.changed(n_best=number, no_answer_threshold=1e9).decode(outputs_of(encoded, scores))
        assert [one["n_best"] for one in few] == [one["n_best"][:number] for one in found]
    flat = find_candidates(
        np.zeros_like(scores[: len(encoded.beside["places"][0])]), encoded.beside["places"][0], 12, 1
    )
    assert flat.best[0].score == pytest.approx(np.log(2)), (
        "where windows say nothing, what two of them hold is likelier"
    )
    always = task.changed(unanswerable=False).decode(outputs_of(encoded, scores))
    assert sum(one["score"] for one in always[1]["n_best"]) == pytest.approx(1.0, abs=1e-6)
    assert all(one["answer"] for row in always for one in row["n_best"])


scored = st.tuples(st.floats(-5, 5), st.sampled_from([0.0, 0.4, 1.0]), st.sampled_from([0.0, 1.0]))


@given(st.lists(scored, min_size=1, max_size=9))
def test_the_threshold_is_the_best_of_all(rows: list[tuple[float, float, float]]) -> None:
    odds, answered, unanswered = (np.array(column) for column in zip(*rows, strict=True))

    def total(threshold: float) -> float:
        return float(np.where(odds > threshold, unanswered, answered).sum())

    best = max(map(total, [*odds.tolist(), *(odds - 1e-9).tolist(), -10.0, 10.0]))
    assert total(best_threshold(odds, answered, unanswered)) == pytest.approx(best)


def test_the_threshold_is_chosen_once_and_only_where_there_may_be_no_answer() -> None:
    rows = columns(*[("what", CONTEXT, [answer(CONTEXT, "film")])] * 2, *[("who", CONTEXT, [])] * 2)
    task = task_for(rows)
    encoded = task.encode(rows, tiny_tokenizer(), MAX_LENGTH)
    scores = np.zeros((int(encoded.lengths.sum()), 2))
    is_right = np.stack([as_ragged(encoded.targets[name]).values for name in ("start", "end")], axis=1) > 0
    is_none = as_ragged(encoded.beside["places"]).values[:, 0] == NO_ANSWER
    scores[is_none] = 5  # no answer is likelier everywhere, but least where there is one
    scores[is_right & ~is_none[:, None]] = 4
    outputs = outputs_of(encoded, scores)
    ones = np.ones((1, 4))
    assert task.measure(outputs, encoded.data_targets, ones)["f1"] == 0.5
    tuned = task.tune(outputs, encoded.data_targets)
    assert 2 < tuned.no_answer_threshold < 10
    assert tuned.measure(outputs, encoded.data_targets, ones)["f1"] == 1.0
    assert tuned.tune(outputs, encoded.data_targets) is tuned
    assert task.changed(unanswerable=False).tune(outputs, encoded.data_targets).no_answer_threshold is None


# ---- rival ---------------------------------------------------------------------------------------


def test_the_rival_is_the_rule_that_does_best_on_training_rows() -> None:
    context = "The sun is far away. Ada Lovelace wrote the first program in 1843. It was short."
    rows = columns(*[("Who wrote the first program?", context, [answer(context, "Ada Lovelace")])] * 4)
    name, outputs = task_for(rows).answer_by_rule(rows, rows)
    assert "new part" in name
    assert [one["answer"] for one in task_for(rows).decode(outputs)] == ["Ada Lovelace"] * 4
    none = columns(*[("Who?", context, [])] * 3, ("Who wrote?", context, [answer(context, "Ada")]))
    task = task_for(none, no_answer_threshold=1e4)
    name, outputs = task.answer_by_rule(none, rows)
    assert name == "always no answer"
    assert {one["answer"] for one in task.decode(outputs)} == {""}
    assert compare_answer("", [])[1] == 1.0


# ---- columns -------------------------------------------------------------------------------------


def profile(name: str, kind: Any = "text", words: float = 5.0) -> ColumnProfile:
    return ColumnProfile(name, kind, 100, 0, 90, mean_length=30, mean_words=words, examples=("some words",))


def test_columns_are_known_by_their_names() -> None:
    named = {"context": profile("passage"), "question": profile("query"), "answers": profile("answer")}
    assert QuestionAnswering.fit_score(named)[0] > 0.97
    assert QuestionAnswering.fit_score({**named, "answers": profile("answers", "object")})[0] > 0.97
    assert QuestionAnswering.fit_score({**named, "answers": profile("answer", words=40)})[0] < 0.5
    assert QuestionAnswering.fit_score({**named, "context": profile("review")})[0] == 0


def test_what_cannot_be_answered_is_told() -> None:
    task = task_for(columns(("what", CONTEXT, [answer(CONTEXT, "film")])))
    assert not task.unanswerable
    (warning,) = task.check("test", columns(("what", CONTEXT, [])))
    assert warning.severity == "warning"
    assert "always gives one" in warning.message
    (error,) = task.check("train", columns(("what", CONTEXT, []), ("who", CONTEXT, [])))
    assert "No training row has an answer" in error.message
    (error,) = task.check("test", {**columns(("what", CONTEXT, [{"text": "plot", "start": 3}])), "row": ["x.json:7"]})
    assert error.rows == ("x.json:7",)
