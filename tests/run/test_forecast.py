"""Forecasts: they change nothing of the run, and follow from what was measured by plain arithmetic."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from engine.memory import training
from tunesmith.engine.memory_plan import plan_memory
from tunesmith.engine.order import StepPlan
from tunesmith.engine.work import SAMPLED_STEPS, Work
from tunesmith.run import RunConfig, Workshop, train
from tunesmith.run.forecast import Forecast, forecast
from tunesmith.run.pace import StepsSeen, Timetable
from tunesmith.run.session import Progress

FREEZE_TOP = {"name": "freeze", "layers": 1}


@pytest.mark.parametrize("method", ["full", "lora", "freeze"])
def test_a_forecast_changes_nothing_of_the_run_that_follows(
    configured: Callable[..., RunConfig], tmp_path: Path, method: str
) -> None:
    alone = train(configured(method=method, output=str(tmp_path / "alone")))
    config = configured(method=method, output=str(tmp_path / "after"))
    with Workshop() as workshop:
        state = torch.get_rng_state()
        found = forecast(config, workshop, seconds=0.2)
        assert torch.equal(torch.get_rng_state(), state)
        assert not Path(str(config.output)).exists()
        after = train(config, workshop=workshop)
    assert found.timetable.num_steps == 16
    assert found.seconds > found.seconds_of_training > 0
    name = "adapter_model.safetensors" if method == "lora" else "model.safetensors"
    first, second = (load_file(folder / name) for folder in (alone, after))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)
    saved = json.loads((alone / "training.json").read_text())
    assert found.disk == pytest.approx(saved["saved_bytes"], abs=8000)  # the headers of the files
    assert found.trained.num_weights == saved["num_trained_parameters"]
    assert found.trained.num_outside_head == {"full": found.trained.num_all - 34, "lora": 3584, "freeze": 0}[method]


def test_a_run_says_after_its_first_steps_what_it_takes_and_keeps_to_it(
    configured: Callable[..., RunConfig], tmp_path: Path
) -> None:
    config = configured(output=str(tmp_path / "run"))
    folder = train(config, until=8)
    state = json.loads((folder / "checkpoints" / "step-8" / "state.json").read_text())
    predicted = state["extra"]["predicted"]
    assert predicted["steps"] == 16
    assert predicted["how"] == "after step 3, from what the steps up to there took"
    train(config, resume=True)
    record = json.loads((folder / "training.json").read_text())
    assert record["predicted"] == predicted
    assert predicted["peak_memory"] > record["predicted_memory_bytes"] / 2
    assert 0 < predicted["seconds"] < 1000 * record["seconds"]


def test_checkpoints_of_before_are_read() -> None:
    assert Progress(best_step=3).predicted is None


# ---- arithmetic --------------------------------------------------------------------------------------


def test_what_steps_take_adds_up_with_evaluations_and_checkpoints() -> None:
    table = Timetable(
        plan=StepPlan(num_samples=100, batch_size=30, epochs=2, seed=0),
        num_steps=8,
        evaluate_every=3,
        save_every=2,
        seconds_of_all_steps=20.0,
        seconds_of_evaluation=1.0,
        seconds_of_checkpoint=0.1,
        checkpoint_bytes=0,
    )
    assert table.seconds_of_steps(0) == 0
    assert table.seconds_of_steps(1) == pytest.approx(20 * 30 / 200)
    assert table.seconds_of_steps(4) == pytest.approx(10 + 1 + 3 * 0.1)  # an epoch; evaluated at 3, saved at 2, 3, 4
    # evaluated at 3, 6 and 8; saved at 2, 3, 4, 6 and 8
    assert table.seconds == table.seconds_of_steps(99) == pytest.approx(20 + 3 + 5 * 0.1)


@pytest.mark.parametrize("layout", ["flat", "padded"])
def test_some_steps_stand_for_all(layout: str) -> None:
    parts = training("minilm", layout=layout, rows=600, lengths=(5, 90))
    parts.plan = StepPlan(600, 7, 2, 0)
    work = Work.of(parts.scorer, parts.data, parts.optimizer.names)
    every = sum(work.of_step(parts, step) for step in range(parts.plan.total_steps))
    assert parts.plan.total_steps > SAMPLED_STEPS
    assert work.of_steps(parts, parts.plan.total_steps) == pytest.approx(every, rel=0.03)
    assert work.of_steps(parts, 10) == pytest.approx(sum(work.of_step(parts, step) for step in range(10)))


def test_attention_is_quadratic_in_the_length_and_padding_is_work() -> None:
    flat, padded = (training("minilm", layout=layout, rows=8, lengths=(10, 80)) for layout in ("flat", "padded"))
    works = [Work.of(parts.scorer, parts.data, parts.optimizer.names) for parts in (flat, padded)]
    every = np.arange(8)
    assert works[1].of_batch(padded.data, every) > 1.5 * works[0].of_batch(flat.data, every)
    once, twice = (works[0].of_lengths(np.array([length])) for length in (100, 200))
    assert twice == pytest.approx(2 * once + 2 * works[0].per_pair * 100**2)


def test_what_is_trained_decides_the_backward_pass() -> None:
    full, lora = (training("minilm", method=method) for method in ("full", "lora"))
    backward = [Work.of(one.scorer, one.data, one.optimizer.names).backward for one in (full, lora)]
    assert backward[0] == pytest.approx(2.0, abs=0.01)
    assert 1.0 < backward[1] < 1.3


def test_a_step_that_waited_does_not_count() -> None:
    parts = training("minilm", rows=64)
    parts.plan = StepPlan(64, 16, 1, 0)
    seen = StepsSeen(parts, Work.of(parts.scorer, parts.data, parts.optimizer.names))
    for step, wait in enumerate([7.0, 0.0, 0.0, 9.0]):
        seen.add(step, 1e-9 * Work.of(parts.scorer, parts.data, parts.optimizer.names).of_step(parts, step) + wait)
    assert seen.seconds_of_work(1) == pytest.approx(1e-9)


def test_what_larger_steps_take_is_added_to_what_was_measured() -> None:
    parts = training("minilm", rows=400, lengths=(10, 60), micro_batch_tokens=8192)
    parts.plan = StepPlan(400, 100, 1, 0)
    memory = plan_memory(parts, "never", in_use=0, available=10**12)
    small, large = (StepsSeen(parts, Work.of(parts.scorer, parts.data, parts.optimizer.names)) for _ in range(2))
    parts.plan = StepPlan(400, 10, 1, 0)
    small.add(0, 1.0)
    parts.plan = StepPlan(400, 400, 1, 0)
    large.add(0, 1.0)
    assert large.peak_of_all(memory, 10**9) == 10**9
    more = small.peak_of_all(memory, 10**9) - 10**9
    kept = max(one.in_layers for one in memory.needs.kept)
    assert more == pytest.approx((memory.needs.step_tokens - 350) * kept, rel=0.3)


# ---- what cannot be measured whole -------------------------------------------------------------------


def test_steps_too_long_for_the_probe_are_made_of_fewer_rows(configured: Callable[..., RunConfig]) -> None:
    with Workshop() as workshop:
        short = forecast(configured(), workshop, seconds=0.0)
    assert short.seconds_of_training > 0
    assert short.timetable.num_steps == 16


def test_states_of_frozen_layers_are_part_of_what_a_run_takes(configured: Callable[..., RunConfig]) -> None:
    found: list[Forecast] = []
    with Workshop() as workshop:
        for keeps in (True, False):
            config = configured(method=FREEZE_TOP, compute={"keep_states": keeps})
            found.append(forecast(config, workshop, seconds=0.1))
    kept, computed = found
    assert kept.work.per_token < computed.work.per_token
    assert replace(kept.work, per_token=0, backward=0) != kept.work
