"""Rows between rows: what the model reads and learns is what the papers say, however a step is split or laid out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from engine.test_loop import data, gradients, training
from tiny import tiny_model
from tunesmith.data.encoded import PARTNERS, SHARE_OF_OWN, Encoded, as_ragged
from tunesmith.engine.loop import train
from tunesmith.engine.order import step_seed
from tunesmith.engine.predict import predict
from tunesmith.engine.step import Training
from tunesmith.tasks.classification import Classification
from tunesmith.tasks.objectives.mixed_rows import MixedRows

ROWS = [0, 3, 4, 7, 9, 12, 15, 21]


def mixed(**settings: object) -> Training:
    parts = training(**settings)  # type: ignore[arg-type]
    parts.task = MixedRows(parts.task, 1.0)
    return parts


def corrupted(rows: list[int], seed: int) -> Encoded:
    return mixed().task.corrupt(data(), np.array(rows), seed)


def test_a_step_is_that_of_vectors_mixed_by_hand() -> None:
    parts = mixed()
    loss, found = gradients(parts, ROWS)
    model, rows = (
        tiny_model("bert", dtype=torch.float64, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0),
        data(),
    )
    seed = step_seed(parts.config.seed, 0)
    partners = MixedRows.partners_of(rows, np.array(ROWS), seed)
    share = MixedRows(parts.task, 1.0).share_of_own(seed)
    ids, labels = as_ragged(rows.inputs["input_ids"]), rows.targets["label"]
    table, expected = model.get_input_embeddings(), 0.0
    for row, partner in zip(ROWS, partners, strict=True):
        own, other = (table(torch.from_numpy(ids[one].astype(np.int64))) for one in (row, partner))
        number = min(len(own), len(other))
        vectors = torch.cat([share * own[:number] + (1 - share) * other[:number], own[number:], other[number:]])
        scores = model(inputs_embeds=vectors[None]).logits
        for weight, one in ((share, row), (1 - share, partner)):
            expected += weight * functional.cross_entropy(scores, torch.tensor([int(labels[one])])) / len(ROWS)
    expected.backward()
    assert 0.02 < share < 0.98
    assert set(partners.tolist()) != set(ROWS)
    assert loss == pytest.approx(expected.item(), abs=1e-10)
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(found[name], parameter.grad, rtol=0, atol=1e-9, msg=name)


@pytest.mark.parametrize("arch", ["bert", "llama"])
@pytest.mark.parametrize(
    "other", [{"layout": "padded"}, {"micro_batch_rows": 1}, {"layout": "padded", "micro_batch_rows": 1}]
)
def test_layout_and_accumulation_change_nothing(arch: str, other: dict[str, object]) -> None:
    loss, expected = gradients(mixed(arch=arch), ROWS)
    found_loss, found = gradients(mixed(arch=arch, **other), ROWS)
    tolerance = 1e-9 if arch == "bert" else 1e-6  # norms of Llama in transformers are in float32 whatever the model
    assert found_loss == pytest.approx(loss, abs=tolerance)
    assert loss != pytest.approx(gradients(training(arch=arch), ROWS)[0], abs=1e-3), "rows are mixed"
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=0, atol=tolerance, msg=name)


def test_what_becomes_of_a_row_depends_on_step_and_row_alone() -> None:
    together, alone = corrupted([4, 9, 2], seed=7), corrupted([9], seed=7)
    for name in ("input_ids", PARTNERS):
        assert as_ragged(together.inputs[name])[1].tolist() == as_ragged(alone.inputs[name])[0].tolist()
    later = corrupted([9], seed=8)
    assert later.targets[SHARE_OF_OWN] != alone.targets[SHARE_OF_OWN]
    seeds = [corrupted([9], seed=seed).inputs[PARTNERS] for seed in range(20)]
    assert len({tuple(as_ragged(one)[0].tolist()) for one in seeds}) > 5


def test_where_the_shorter_text_ends_the_longer_goes_on() -> None:
    rows, seed = data(), 3
    every = np.arange(len(rows))
    found, partners = corrupted(every.tolist(), seed), MixedRows.partners_of(rows, every, seed)
    ids = as_ragged(rows.inputs["input_ids"])
    for row, partner in enumerate(partners):
        own, other = ids[row].tolist(), ids[int(partner)].tolist()
        assert as_ragged(found.inputs["input_ids"])[row].tolist() == own + other[len(own) :]
        assert as_ragged(found.inputs[PARTNERS])[row].tolist() == other + own[len(other) :]


def test_evaluation_sees_rows_as_they_are() -> None:
    parts, plain = mixed(), training()
    scored = [predict(one.scorer, one.collate, one.task, one.data, 100) for one in (parts, plain)]
    np.testing.assert_array_equal(scored[0].outputs["scores"], scored[1].outputs["scores"])
    assert scored[0].loss == scored[1].loss


def test_weights_of_classes_count_as_those_of_a_weighted_mean() -> None:
    parts = mixed()
    weighted = Classification(labels=("a", "b", "c"), multi_label=False, class_weights={"a": 5.0, "b": 0.5})
    task = weighted.bind({"text": ["x"] * 3, "label": ["a", "b", "c"]})
    parts.task = MixedRows(task, 1.0)
    batch = parts.collate(corrupted(ROWS, 5), np.arange(len(ROWS)))
    scores = torch.randn(len(ROWS), 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    share = float(batch.targets[SHARE_OF_OWN][0])
    weights = torch.tensor([5.0, 0.5, 1.0], dtype=torch.float64)
    sums = [
        functional.cross_entropy(scores, batch.targets[name], weight=weights, reduction="sum")
        for name in ("label", "partner_label")
    ]
    counts = [weights[batch.targets[name]].sum() for name in ("label", "partner_label")]
    assert float(parts.task.loss_sum(scores, batch.targets, batch.units)) == pytest.approx(
        float(share * sums[0] + (1 - share) * sums[1]), rel=1e-6
    )
    assert parts.task.count_units(batch.targets, batch.units) == pytest.approx(
        float(share * counts[0] + (1 - share) * counts[1]), rel=1e-6
    )


def test_numbers_that_are_mixed_little_are_learned_as_they_are() -> None:
    """With a small alpha nearly every step takes one of both rows whole: the loss falls as without."""
    parts = training(epochs=8)
    parts.task = MixedRows(parts.task, 0.05)
    losses = [info.loss for info in train(parts)]
    assert np.mean(losses[-4:]) < 0.7 * np.mean(losses[:4])
