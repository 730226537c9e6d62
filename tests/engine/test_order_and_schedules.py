"""Orders, micro-batches and schedules: pure functions, checked by their properties."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tunesmith.engine.order import StepPlan, split_by_length, step_seed
from tunesmith.engine.schedules import SHAPES, ScheduleConfig


@given(
    num_rows=st.integers(1, 200), batch_size=st.integers(1, 40), epochs=st.integers(1, 4), seed=st.integers(0, 2**32)
)
def test_every_epoch_visits_every_row_once(num_rows: int, batch_size: int, epochs: int, seed: int) -> None:
    plan = StepPlan(num_rows, batch_size, epochs, seed)
    assert plan.total_steps == epochs * plan.steps_per_epoch
    for epoch in range(epochs):
        steps = range(epoch * plan.steps_per_epoch, (epoch + 1) * plan.steps_per_epoch)
        visited = np.concatenate([plan.samples_of(step) for step in steps])
        assert sorted(visited) == list(range(num_rows))
    assert plan.epoch_after(plan.total_steps) == epochs


def test_epochs_differ_and_repeat_by_seed() -> None:
    plan = StepPlan(100, 10, 2, seed=7)
    assert plan.samples_of(0).tolist() == StepPlan(100, 10, 2, seed=7).samples_of(0).tolist()
    assert plan.samples_of(0).tolist() != plan.samples_of(10).tolist()
    assert plan.samples_of(0).tolist() != StepPlan(100, 10, 2, seed=8).samples_of(0).tolist()
    assert step_seed(0, 1) != step_seed(1, 0)


def test_fractional_epochs_and_max_steps() -> None:
    assert StepPlan(100, 10, 0.25, 0).total_steps == 3
    assert StepPlan(100, 10, 3, 0, max_steps=4).total_steps == 4
    assert StepPlan(5, 10, 0.001, 0).total_steps == 1


@given(
    lengths=st.lists(st.integers(1, 50), min_size=1, max_size=60),
    budget=st.integers(1, 200),
    max_rows=st.none() | st.integers(1, 8),
    layout=st.sampled_from(["flat", "padded"]),
)
def test_micro_batches_split_exactly_and_keep_the_budget(lengths, budget, max_rows, layout) -> None:
    rows = np.arange(len(lengths)) + 1000
    sizes = np.array(lengths)
    parts = list(split_by_length(rows, sizes, layout, budget, max_rows))
    assert sorted(np.concatenate(parts)) == rows.tolist()
    for part in parts:
        held = sizes[part - 1000]
        cost = held.sum() if layout == "flat" else held.max() * len(held)
        assert cost <= budget or len(part) == 1
        assert max_rows is None or len(part) <= max_rows


@pytest.mark.parametrize("name", list(SHAPES))
def test_schedules_warm_up_to_the_peak_and_never_waste_a_step(name: str) -> None:
    schedule = ScheduleConfig(name=name, warmup=0.1)
    total = 200
    factors = [schedule.factor(step, total) for step in range(total)]
    assert all(0 < factor <= 1 for factor in factors)
    assert factors[:20] == sorted(factors[:20])
    assert factors[20] == 1
    if name != "constant":
        assert factors[20:] == sorted(factors[20:], reverse=True)
        assert factors[-1] < 0.4


@pytest.mark.parametrize(("name", "theirs"), [("linear", "linear"), ("cosine", "cosine")])
def test_schedules_equal_transformers_after_warm_up(name: str, theirs: str) -> None:
    from transformers import get_scheduler

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    reference = get_scheduler(theirs, optimizer, num_warmup_steps=10, num_training_steps=100)
    schedule = ScheduleConfig(name=name, warmup=10)
    for step in range(99):
        if step >= 10:
            assert schedule.factor(step, 100) == pytest.approx(reference.get_last_lr()[0])
        optimizer.step()
        reference.step()


def test_warm_up_as_steps_or_share_and_never_everything() -> None:
    assert ScheduleConfig(warmup=0.1).warmup_steps(50) == 5
    assert ScheduleConfig(warmup=7).warmup_steps(50) == 7
    assert ScheduleConfig(warmup=100).warmup_steps(50) == 49
    assert ScheduleConfig(warmup=0.5).warmup_steps(1) == 0
