"""Preferences as numbers: what is learned of a row, in either layout, whole and in parts; what is made of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from chats import assistant, user
from engine.stepping import compute_gradients
from preferences import columns_of_answers
from tiny import tiny_model, tiny_tokenizer, train_and_compute
from tunesmith import metrics
from tunesmith.data.encoded import Encoded, Ragged, as_ragged
from tunesmith.engine import losses as engine_losses
from tunesmith.engine.batch import Collator
from tunesmith.engine.layout import choose_layout, collator_for
from tunesmith.engine.optimizers import MasterOptimizer, Penalties
from tunesmith.engine.order import StepPlan
from tunesmith.engine.predict import predict
from tunesmith.engine.scorer import Scorer
from tunesmith.engine.step import Training
from tunesmith.methods import METHODS
from tunesmith.tasks import Preference
from tunesmith.tasks.preference_judgement import best_margins, preferred
from tunesmith.types import InputError

CPU = torch.device("cpu")
PAIRS = [([user(f"a {i}?")], [[assistant("yes " * (1 + i % 3))], [assistant(f"no {i}")]], [0, 1]) for i in range(8)]
RANKED = [
    (prompt, [*answers, [assistant("?" * (i + 1))]][: 2 + i % 2], [0, 1, 1 + i % 4 // 3][: 2 + i % 2])
    for i, (prompt, answers, _) in enumerate(PAIRS)
]
THUMBS = [(prompt, [answers[i % 2]], [i % 2]) for i, (prompt, answers, _) in enumerate(PAIRS)]


def encoded_of(rows: Any, task: Preference, max_length: int = 128) -> tuple[Preference, Encoded]:
    """Return the bound task, and rows with what some reference says of them."""
    columns = columns_of_answers(rows)
    task = task.bind(columns)
    tokenizer = tiny_tokenizer("chat")
    task.adapt(tokenizer)
    encoded = task.encode(columns, tokenizer, max_length)
    reads = as_ragged(encoded.reads)
    said = np.random.default_rng(0).uniform(-8, -3, len(reads.values)).astype(np.float32)
    return task, encoded.with_targets({"reference": Ragged(said, reads.offsets)})


def test_what_is_asked_is_read_and_the_answers_are_learned() -> None:
    _, encoded = encoded_of(RANKED, Preference())
    tokenizer: Any = tiny_tokenizer("chat")
    assert encoded.keeps_rows
    assert np.diff(encoded.rows).tolist() == [2, 3] * 4
    assert (encoded.num_data_rows, encoded.num_samples) == (8, 8)
    labels, ranks, answers = (as_ragged(encoded.targets[name]) for name in ("labels", "rank", "answer"))
    learned = [tokenizer.decode(labels[sequence]) for sequence in range(len(encoded))]
    assert learned[:3] == ["yes <|im_end|>\n", "no 0<|im_end|>\n", "yes yes <|im_end|>\n"]
    assert [set(ranks[sequence].tolist()) for sequence in range(2, 5)] == [{0}, {1}, {1}]
    assert [set(answers[sequence].tolist()) for sequence in range(2, 5)] == [{0}, {1}, {2}]
    assert "a 0?" in tokenizer.decode(encoded.inputs["input_ids"][0])


def test_answers_alone_stand_beside_an_answer_to_another_question() -> None:
    task, encoded = encoded_of(THUMBS, Preference())
    tokenizer: Any = tiny_tokenizer("chat")
    assert (task.loss, np.diff(encoded.rows).tolist()) == ("kto", [2] * 8)
    texts = [tokenizer.decode(encoded.inputs["input_ids"][sequence]) for sequence in range(4)]
    assert "a 1?" in texts[3]
    assert texts[3].split("assistant")[1] == texts[0].split("assistant")[1]
    assert set(as_ragged(encoded.targets["rank"])[3].tolist()) == {-1}


def training_of(task: Preference, encoded: Encoded, layout: Any, micro_batch_rows: int) -> Training:
    model = tiny_model("llama", head="causal", dtype=torch.float64, vocab_size=300, max_position_embeddings=256)
    method = METHODS["full"]()
    method.apply(model)
    assert choose_layout(model, "token", 300, layout)[0] == layout
    train, compute = train_and_compute(layout=layout, micro_batch_rows=micro_batch_rows, micro_batch_tokens=10_000)
    return Training(
        scorer=Scorer(model, layout, "token"),
        collate=collator_for(model, layout, 1, CPU),
        task=task,
        data=encoded,
        plan=StepPlan(encoded.num_samples, 8, 1, 0),
        optimizer=MasterOptimizer(model, method.parameter_groups(model), train.optimizer, 1e-3, Penalties(0.0, 0.0)),
        learning_rate=1e-3,
        config=train,
        compute=compute,
        method=method,
    )


def dense(gradient: torch.Tensor) -> torch.Tensor:
    return gradient.to_dense() if gradient.is_sparse else gradient.clone()


LOSSES = [("sigmoid", PAIRS), ("ipo", RANKED), ("orpo", RANKED), ("kto", THUMBS), ("kto", PAIRS)]


@pytest.mark.parametrize(("loss", "rows"), LOSSES)
def test_flat_is_padded_and_parts_are_the_whole(loss: Any, rows: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    task, encoded = encoded_of(rows, Preference(loss=loss))
    found = []
    for layout, most, is_chunked in [("flat", 8, False), ("padded", 8, False), ("flat", 1, False), ("flat", 8, True)]:
        if is_chunked:  # ten tokens at a time
            monkeypatch.setattr(engine_losses, "max_scores", lambda _: 3000)
        training = training_of(task, encoded, layout, most)
        parts, _ = compute_gradients(training, np.arange(8))
        masters = zip(training.optimizer.names, training.optimizer.masters, strict=True)
        found.append((float(sum(parts)), {name: dense(one.grad) for name, one in masters if one.grad is not None}))
        assert len(parts) == 8 // most
    whole, gradients = found[0]
    assert any(gradient.abs().max() > 1e-3 for gradient in gradients.values())
    for other, others in found[1:]:
        assert others.keys() >= gradients.keys()  # flat, the table of tokens keeps its gradient elsewhere
        assert other == pytest.approx(whole, rel=1e-8)
        for name, gradient in gradients.items():
            torch.testing.assert_close(others[name], gradient, rtol=1e-6, atol=1e-8)
    training = training_of(task, encoded, "flat", 8)
    scored = predict(training.scorer, training.collate, task, encoded, 40)
    assert scored.loss == pytest.approx(whole, rel=1e-8)


def judged(rows: Any, task: Preference) -> tuple[Preference, dict[str, Any], dict[str, Any]]:
    task, encoded = encoded_of(rows, task)
    model = tiny_model("llama", head="causal", dtype=torch.float64, vocab_size=300, max_position_embeddings=256)
    scored = predict(Scorer(model, "padded", "token"), Collator("padded", 1), task, encoded, 1000)
    return task, scored.outputs, scored.targets


def sums(outputs: dict[str, Any], row: int) -> list[float]:
    """Return how much likelier the model finds each answer of a row than the reference."""
    ratio = outputs["log_probability"][row].astype(np.float64) - outputs["reference"][row]
    return [float(ratio[outputs["answer"][row] == one].sum()) for one in np.unique(outputs["answer"][row])]


def test_figures_of_pairs_are_those_counted_by_hand() -> None:
    task, outputs, targets = judged(RANKED, Preference(beta=0.2))
    rights, margins = [], []
    for row, (_, _, ranks) in enumerate(RANKED):
        ratios = sums(outputs, row)
        pairs = [(i, j) for i in range(len(ranks)) for j in range(i + 1, len(ranks)) if ranks[i] < ranks[j]]
        rights.append(np.mean([ratios[i] > ratios[j] for i, j in pairs]))
        margins.append(np.mean([0.2 * (ratios[i] - ratios[j]) for i, j in pairs]))
    weights = np.array([np.ones(8), np.arange(8)], dtype=np.float64)
    found = task.measure(outputs, targets, weights)
    np.testing.assert_allclose(found["reward_accuracy"], [np.average(rights, weights=one) for one in weights])
    np.testing.assert_allclose(found["margin"], [np.average(margins, weights=one) for one in weights])
    every = np.concatenate([outputs["log_probability"][row] - outputs["reference"][row] for row in range(8)])
    row_of = np.repeat(np.arange(8), outputs["rank"].lengths)
    kl = np.bincount(row_of, weights=every**2 / 2) / outputs["rank"].lengths
    np.testing.assert_allclose(found["kl"], [np.average(kl, weights=one) for one in weights], rtol=1e-6)
    chosen = [outputs["log_probability"][row][outputs["rank"][row] == 0].sum() for row in range(8)]
    np.testing.assert_allclose(found["chosen_log_probability"][0], np.mean(chosen), rtol=1e-6)


def test_figures_of_thumbs_look_at_each_answer_alone() -> None:
    task, outputs, targets = judged(THUMBS, Preference())
    ratios = np.array([sums(outputs, row)[0] for row in range(8)])
    is_good = np.arange(8) % 2 == 0
    found = task.measure(outputs, targets, np.ones((1, 8)))
    assert found["reward_accuracy"][0] == pytest.approx(np.mean((ratios > 0) == is_good))
    assert found["margin"][0] == pytest.approx(0.1 * (ratios[is_good].mean() - ratios[~is_good].mean()))
    assert [row["label"] for row in task.decode(outputs)] == ["good" if ratio > 0 else "bad" for ratio in ratios]
    assert task.truth(targets) == ["good", "bad"] * 4


def test_a_model_that_is_the_reference_prefers_nothing() -> None:
    task, outputs, targets = judged(PAIRS, Preference())
    noise = np.random.default_rng(0).uniform(-1e-6, 1e-6, len(outputs["reference"].values))
    same = outputs["log_probability"].values
    outputs["reference"] = Ragged((same * (1 + noise)).astype(np.float32), outputs["reference"].offsets)
    found = task.measure(outputs, targets, np.ones((1, 8)))
    assert (found["reward_accuracy"][0], found["margin"][0]) == (0.5, 0.0)
    assert {row["label"] for row in task.decode(outputs)} == {"neither"}


def test_the_worse_answer_that_is_preferred_is_a_mistake() -> None:
    task, outputs, targets = judged(PAIRS, Preference())
    columns = columns_of_answers(PAIRS)
    errors, rows = task.errors(outputs, targets), task.decode(outputs, columns)
    margins = best_margins(preferred(outputs, "sigmoid", 0.1).answers)
    assert 0 < (margins < 0).sum() < 8, "both occur among these rows"
    for row, margin in enumerate(margins):
        assert rows[row]["label"] == ("chosen" if margin > 0 else "rejected")
        assert rows[row]["score"] == pytest.approx(1 / (1 + np.exp(-abs(margin))))
        assert errors[row] == (0 if margin > 0 else rows[row]["score"])
        shown = task.shown(rows[row]["label"], columns, row)
        assert shown == f"{rows[row]['label']}: {PAIRS[row][1][int(margin < 0)][0]['content']}"


def test_rows_that_lose_an_answer_are_left_out_whole() -> None:
    rows = [*PAIRS[:3], ([user("a?")], [[assistant("yes")], [assistant("word " * 60)]], [0, 1])]
    _, encoded = encoded_of(rows, Preference(too_long="drop"), max_length=64)
    assert (np.diff(encoded.rows).tolist(), dict(encoded.left_out)) == ([2, 2, 2, 0], {})
    assert encoded.num_truncated == 1
    _, encoded = encoded_of(
        rows,
        Preference(
            template="{{ raise_exception('no') if 'yes yes' in messages[-1].content }}x"
            "{% for one in messages %}{{ one.content }}{% endfor %}"
        ),
    )
    assert list(encoded.left_out.values()) == [(1, 2)]


def test_what_a_loss_leaves_open_is_settled_by_the_rows() -> None:
    columns = columns_of_answers([*THUMBS[:2], THUMBS[0], THUMBS[2]])
    task = Preference().bind(columns)
    assert (task.loss, task.beta, task.desirable_weight, task.undesirable_weight) == ("kto", 0.1, 1.0, 3.0)
    assert Preference(loss="simpo").bind(columns_of_answers(PAIRS)).beta == 2.0
    with pytest.raises(InputError, match="compares two answers"):
        Preference(loss="ipo").bind(columns)
    with pytest.raises(ValidationError, match="wrong way round"):
        Preference(loss="ipo", label_smoothing=0.1)
    (warning,) = Preference().bind(columns_of_answers([THUMBS[0]] * 3)).check("train", columns_of_answers([THUMBS[0]]))
    assert "good ones" in warning.message


def test_means_of_rows_without_a_value() -> None:
    weights = np.array([[1.0, 2.0, 1.0], [0.0, 1.0, 0.0]])
    found = metrics.weighted_mean(np.array([2.0, np.nan, 4.0]), weights)
    assert found[0] == 3.0
    assert np.isnan(found[1])
