"""Private steps: gradients of rows, clipping, the scale of the noise, rows drawn by chance, and resuming."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from engine.stepping import compute_gradients
from engine.test_loop import data, task, training
from tiny import VOCABULARY, tiny_model
from tunesmith.data.encoded import Encoded, Ragged, Units
from tunesmith.engine import checkpoint, row_gradients
from tunesmith.engine.layout import collator_for
from tunesmith.engine.loop import train
from tunesmith.engine.noised_gradients import NoisedGradients
from tunesmith.engine.poisson import PoissonPlan, Secret
from tunesmith.engine.row_gradients import at_once, clipped_sums, come_at_once, one_by_one, sums_of_groups
from tunesmith.engine.scorer import Scorer
from tunesmith.engine.step import Training
from tunesmith.methods.lora import Lora
from tunesmith.models.modes import evaluating
from tunesmith.tasks.causal_lm import CausalLM
from tunesmith.tasks.objective import Objective

pytest.importorskip(
    "opacus", reason="per-sample gradients and accounting are opacus': pip install 'tunesmith[privacy]'"
)

NUM_ROWS = 22
CPU = torch.device("cpu")


def private(
    *, bound: float = 1.0, multiplier: float = 1.0, secret: bytes = b"s" * 32, batch_size: int = 8, **settings: Any
) -> Training:
    parts = training(layout="padded", batch_size=batch_size, **settings)
    plan, kept = parts.plan, Secret(secret)
    parts.plan = PoissonPlan(NUM_ROWS, batch_size, plan.epochs, plan.seed, plan.max_steps, secret=kept)
    parts.noised = NoisedGradients(bound, multiplier, parts.plan.sample_rate * NUM_ROWS, kept)
    return parts


def gradient(parts: Training, rows: list[int]) -> torch.Tensor:
    parts.optimizer.discard()
    compute_gradients(parts, np.array(rows, dtype=np.int64))
    return torch.cat([one.flatten() for one in parts.optimizer.gradients().values()])


def full(arch: str, dtype: torch.dtype) -> nn.Module:
    return tiny_model(arch, dtype=dtype, hidden_dropout_prob=0.1, attention_probs_dropout_prob=0.1)


def head(arch: str, dtype: torch.dtype) -> nn.Module:
    model = tiny_model(arch, dtype=dtype)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("classifier" in name)
    return model


def lora(arch: str, dtype: torch.dtype) -> nn.Module:
    model = Lora(rank=2, dropout=0.1).apply(tiny_model(arch, dtype=torch.float64))
    for parameter in model.parameters():
        if parameter.requires_grad:  # half of them begin as zeros
            nn.init.normal_(parameter, std=0.1)
    return model.to(dtype)


def texts() -> Encoded:
    """Return rows that a language model reads but for their first tokens, of which it reads different numbers."""
    generator = np.random.default_rng(1)
    tokens = [generator.integers(5, VOCABULARY, generator.integers(4, 20)) for _ in range(NUM_ROWS)]
    reads = [np.arange(number % 3, len(row) - 1) for number, row in enumerate(tokens)]
    labels = [row[places + 1] for row, places in zip(tokens, reads, strict=True)]
    return Encoded(
        inputs={"input_ids": Ragged.from_rows(tokens)},
        targets={"labels": Ragged.from_rows(labels)},
        reads=Ragged.from_rows(reads),
    )


def trained(model: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def differences(scorer: Scorer, objective: Objective, rows: Encoded) -> float:
    """Return the largest difference between gradients of rows at once and one by one, relative to the largest entry."""
    collate = collator_for(scorer.model, "padded", 1, CPU)
    parameters, batch = trained(scorer.model), collate(rows, np.arange(8))
    singles = [collate(rows, np.array([one])) for one in batch.sequences]
    with evaluating(scorer.model):
        _, together = at_once(scorer, objective, batch, parameters)
        alone = [one_by_one(scorer, objective, single, parameters)[1] for single in singles]
    found, expected = [], []
    for number, gradients in enumerate(together):
        assert (gradients is None) == (alone[0][number] is None)
        if gradients is not None:
            found.append(gradients.flatten(1))
            expected.append(torch.stack([row[number][0] for row in alone]).flatten(1))  # type: ignore[index]
    one, two = torch.cat(found, dim=1), torch.cat(expected, dim=1)
    assert two.abs().max() > 1e-3
    return float((one - two).abs().max() / two.abs().max())


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-6)])
@pytest.mark.parametrize("adapted", [full, head, lora])
def test_gradients_of_rows_at_once_are_those_of_single_rows(adapted: Any, dtype: torch.dtype, tolerance: float) -> None:
    model = adapted("bert", dtype)
    assert differences(Scorer(model, "padded", "row"), task(), data()) < tolerance
    assert not any(hasattr(parameter, "grad_sample") for parameter in model.parameters())
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("arch", ["llama", "gpt2"])
def test_so_are_those_of_language_models_whose_heads_are_trained(arch: str, tied: bool) -> None:
    model = tiny_model(arch, dtype=torch.float64, head="causal", tie_word_embeddings=tied)
    scorer = Scorer(model, "padded", "token")
    collate = collator_for(model, "padded", 1, CPU)
    can = come_at_once(scorer, CausalLM(), collate, texts(), trained(model))
    if can:
        assert differences(scorer, CausalLM(), texts()) < 1e-6, "norms and rotations are in float32 whatever the model"
    assert can or arch == "gpt2", "opacus knows every layer of a llama"


def test_where_they_cannot_be_had_at_once_rows_are_run_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = private(multiplier=0.0)
    expected = gradient(parts, list(range(6)))
    assert parts.noised is not None
    assert parts.noised.are_at_once

    def broken(*_: Any) -> Any:
        raise RuntimeError("Output 0 of BackwardHookFunctionBackward is a view and is being modified inplace")

    monkeypatch.setattr(row_gradients, "at_once", broken)
    slow = private(multiplier=0.0)
    torch.testing.assert_close(gradient(slow, list(range(6))), expected, rtol=0, atol=1e-10)
    assert slow.noised is not None
    assert slow.noised.are_at_once is False


def test_gradients_of_rows_that_are_not_theirs_are_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    real = row_gradients.at_once

    def mixed(*given: Any) -> Any:
        loss, found = real(*given)
        return loss, [None if one is None else one.roll(1, dims=0) for one in found]  # the right sum, of other rows

    monkeypatch.setattr(row_gradients, "at_once", mixed)
    parts = training(layout="padded")
    assert not come_at_once(parts.scorer, parts.task, parts.collate, parts.data, parts.optimizer.parameters)


def test_without_bound_and_noise_a_step_is_the_usual_one() -> None:
    parts, usual = private(bound=1e9, multiplier=0.0), training(layout="padded")
    rows = list(range(8))
    torch.testing.assert_close(gradient(parts, rows), gradient(usual, rows), rtol=0, atol=1e-10)


@pytest.mark.parametrize("bound", [1e-3, 0.5])
def test_one_row_moves_a_step_by_the_bound_at_most(bound: float) -> None:
    parts = private(bound=bound, multiplier=0.0)
    whole, less = gradient(parts, list(range(8))), gradient(parts, list(range(7)))
    moved = float((whole - less).norm()) * 8
    assert moved <= bound * (1 + 1e-9)
    assert moved > 0.99 * bound or bound == 0.5


def test_clipping_is_that_of_a_loop_over_rows() -> None:
    generator = torch.Generator().manual_seed(0)
    gradients = [torch.randn(4, 3, 2, generator=generator), None, torch.randn(4, 5, generator=generator)]
    counts = [1, 2, 0, 5]
    borders = np.concatenate([[0], np.cumsum(counts)])
    found = clipped_sums(gradients, Units(borders, borders), 0.7)
    assert found[1] is None
    for number in (0, 2):
        expected = torch.zeros_like(gradients[number][0])  # type: ignore[index]
        for row, count in enumerate(counts):
            if count:
                norm = math.sqrt(sum(float(one[row].square().sum()) for one in gradients if one is not None)) / count
                expected += gradients[number][row] / count * min(1, 0.7 / norm)  # type: ignore[index]
        torch.testing.assert_close(found[number], expected)


def test_a_row_whose_gradient_is_no_number_has_no_part_and_breaks_nothing() -> None:
    gradients = torch.ones(3, 2)
    gradients[1, 0], gradients[2, 1] = math.nan, math.inf
    (found,) = clipped_sums([gradients], Units.single(3), 10.0)
    assert found is not None
    assert found.tolist() == [1.0, 1.0]


def test_the_noise_has_its_scale_whatever_the_rows() -> None:
    parts = private(bound=0.5, multiplier=3.0)
    noise = gradient(parts, []) * 8 / 1.5
    size = len(noise)
    assert float(noise.mean()) == pytest.approx(0, abs=5 / math.sqrt(size))
    assert float(noise.std()) == pytest.approx(1, abs=5 / math.sqrt(2 * size))
    assert float((noise.abs() > 1.96).double().mean()) == pytest.approx(0.05, abs=5 * math.sqrt(0.05 * 0.95 / size))
    silent = private(bound=0.5, multiplier=0.0)
    rest = gradient(parts, [0, 1, 2]) - gradient(silent, [0, 1, 2])
    torch.testing.assert_close(rest * 8 / 1.5, noise, rtol=0, atol=1e-9)


def test_noise_is_that_of_the_secret_and_the_step_alone() -> None:
    parts, same, other = private(), private(seed=5), private(secret=b"t" * 32)
    first = gradient(parts, [])
    assert torch.equal(gradient(same, []), first)
    assert float(torch.corrcoef(torch.stack([gradient(other, []), first]))[0, 1]) == pytest.approx(0, abs=0.1)
    same.step = 1
    assert float(torch.corrcoef(torch.stack([gradient(same, []), first]))[0, 1]) == pytest.approx(0, abs=0.1)


GROUPS = np.array([0, 1, 1, 0, 2, 1, 1, 3, *range(4, 4 + NUM_ROWS - 8)])
"""Of the first eight rows two are of one, four of another."""


def grouped(*, bound: float = 0.5, at_once: bool | None = None, most_groups: int = 8, **settings: Any) -> Training:
    parts = private(bound=bound, multiplier=0.0, **settings)
    assert parts.noised is not None
    parts.noised.group_of_sample, parts.noised.most_groups = GROUPS, most_groups
    parts.noised.are_at_once = at_once
    return parts


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"at_once": False},
        {"micro_batch_rows": 1},
        {"micro_batch_rows": 3},
        {"most_groups": 1, "micro_batch_rows": 2},
    ],
)
@pytest.mark.parametrize("bound", [0.05, 1e9])
def test_the_mean_gradient_of_a_groups_rows_is_clipped_as_one(settings: dict[str, Any], bound: float) -> None:
    rows = list(range(8))
    single = private(bound=1e9, multiplier=0.0)
    of_row = torch.stack([gradient(single, [row]) * 8 for row in rows])
    expected = torch.zeros_like(of_row[0])
    for group in range(4):
        mean = of_row[[row for row in rows if GROUPS[row] == group]].mean(dim=0)
        expected += mean * min(1.0, bound / float(mean.norm()))
    torch.testing.assert_close(gradient(grouped(bound=bound, **settings), rows) * 8, expected, rtol=0, atol=1e-9)


def test_one_group_moves_a_step_by_the_bound_at_most_and_its_rows_by_more() -> None:
    rows, others = list(range(8)), [row for row in range(8) if GROUPS[row] != 1]
    for parts, most in ((grouped(bound=0.01), 1), (private(bound=0.01, multiplier=0.0), 4)):
        moved = float((gradient(parts, rows) - gradient(parts, others)).norm()) * 8 / 0.01
        assert moved <= most * (1 + 1e-9)
    assert moved > 1.5, "of a person's four rows, four bounds"


def test_a_row_that_is_no_number_takes_its_own_group_alone_with_it() -> None:
    gradients = torch.ones(4, 2)
    gradients[1, 0] = math.nan
    groups = sums_of_groups([gradients], Units.single(4), np.array([0, 1, 1, 2]), np.array([1.0, 0.5, 0.5, 1.0]), 3)
    (found,) = clipped_sums(groups, Units.single(3), 10.0)
    assert found is not None
    assert found.tolist() == [2.0, 2.0]


def test_whole_groups_take_part_with_the_same_probability() -> None:
    groups = np.repeat(np.arange(40), 5)
    plan, steps = PoissonPlan(200, 30, 1.0, 0, secret=Secret(b"s" * 32), group_of_sample=groups), 2000
    assert plan.num_units == 40
    taken = np.zeros((steps, 200), dtype=bool)
    for step in range(steps):
        taken[step, plan.samples_of(step)] = True
    by_group = taken.reshape(steps, 40, 5)
    assert (by_group == by_group[:, :, :1]).all()
    shares = by_group[:, :, 0].mean(axis=0)
    assert np.abs(shares - 0.15).max() < 5 * math.sqrt(0.15 * 0.85 / steps)


def test_every_row_takes_part_with_the_same_probability_whatever_others_do() -> None:
    plan, steps = PoissonPlan(200, 30, 1.0, 0, secret=Secret(b"s" * 32)), 3000
    taken = np.zeros((steps, 200), dtype=bool)
    for step in range(steps):
        taken[step, plan.samples_of(step)] = True
    rate = plan.sample_rate
    assert rate == 0.15
    per_row = (taken.mean(axis=0) - rate) / math.sqrt(rate * (1 - rate) / steps)
    assert np.abs(per_row).max() < 5
    sizes = taken.sum(axis=1)
    assert sizes.var() == pytest.approx(200 * rate * (1 - rate), rel=0.15), "of a fixed size it would be 0"
    pairs = np.corrcoef(taken[:, :20].T) - np.eye(20)
    assert np.abs(pairs).max() < 5 / math.sqrt(steps)
    assert np.array_equal(plan.samples_of(7), plan.samples_of(7))
    assert not np.array_equal(plan.samples_of(7), PoissonPlan(200, 30, 1.0, 0, secret=Secret()).samples_of(7))


def test_a_step_that_chance_gives_no_row_is_made_of_noise() -> None:
    parts = private(batch_size=1, max_steps=12, epochs=9)
    infos = list(train(parts))
    assert any(info.num_rows == 0 for info in infos)
    assert not any(info.skipped for info in infos)
    assert all(info.gradient_norm > 0 for info in infos)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_a_resumed_private_training_is_the_same_to_the_bit(tmp_path: Path, dropout: float) -> None:
    straight = private(dropout=dropout, epochs=2)
    infos = list(train(straight))
    first = private(dropout=dropout, epochs=2)
    for info in train(first):
        if info.step == 3:
            break
    folder = checkpoint.save(first, tmp_path, {})
    second = private(dropout=dropout, epochs=2, secret=b"another secret, to be forgotten!")
    found, _ = checkpoint.open_checkpoint(folder, 3)
    assert found is not None
    checkpoint.restore(second, found)
    rest = list(train(second))
    assert [info.loss for info in rest] == [info.loss for info in infos[3:]]
    for one, two in zip(straight.optimizer.masters, second.optimizer.masters, strict=True):
        assert torch.equal(one, two)
    assert b"s" * 32 not in repr(second).encode()
