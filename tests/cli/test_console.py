from __future__ import annotations

import io
import math
import re
from pathlib import Path

import pytest
from rich.console import Console

from tunesmith.cli import console as console_module
from tunesmith.cli.console import ConsoleObserver, Meter
from tunesmith.run.observers import RunPlan
from tunesmith.types import Problem, StepInfo

PLAN = RunPlan(
    task="classification",
    model="lstm",
    method="lora",
    layout="padded",
    precision="fp32",
    device="cpu",
    num_parameters=1_000_000,
    num_trained_parameters=10_000,
    num_rows={"train": 1000, "test": 100},
    total_steps=100,
    first_step=0,
    folder=Path("runs/x"),
)


def step(number: int, loss: float = 1.0, skipped: str = "") -> StepInfo:
    return StepInfo(number, number / 50, loss, 1e-3, 1.0, 32, 500, 0.25, skipped)


def watch(*, terminal: bool = False, quiet: bool = False) -> tuple[ConsoleObserver, io.StringIO]:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=terminal, width=100, color_system=None)
    return ConsoleObserver(quiet=quiet, console=console), stream


def play(observer: ConsoleObserver, num_steps: int = 100) -> None:
    observer.working("reading the data")
    observer.noted(Problem("note", "a note"))
    observer.noted(Problem("warning", "a [bold] warning", "mend it"))
    observer.started(PLAN)
    for number in range(1, num_steps + 1):
        observer.stepped(step(number), 100)
    observer.evaluated(
        {"split": "validation", "step": 100, "loss": 0.5, "metrics": {"accuracy": 0.75, "x": 1.0, "macro_f1": math.nan}}
    )
    observer.finished({"status": "finished", "steps": 100, "seconds": 61.0, "tokens_per_second": 2000.0})
    observer.close()


def test_without_a_terminal_there_is_a_line_at_every_tenth() -> None:
    observer, stream = watch()
    play(observer)
    lines = stream.getvalue().splitlines()
    steps = [line for line in lines if line.startswith("step ")]
    assert [line.split("  ")[0] for line in steps] == [f"step {n}/100" for n in [1, *range(10, 101, 10)]]
    assert all(re.search(r"loss 1\.000  2\.00k tokens/s  \S+ [MG]B  .* left$", line) for line in steps)
    assert "Warning: a [bold] warning" in lines
    assert "  → mend it" in lines
    assert "validation after step 100: loss 0.500, Accuracy 0.750, Macro F1 undefined" in lines
    assert "rows: 1,000 train, 100 test; 100 steps on cpu in fp32, layout padded" in lines
    assert "classification with lstm, method lora: 10.0k of 1.00M (1.00%) parameters trained" in lines
    assert "\x1b" not in stream.getvalue()


def test_slow_steps_are_shown_by_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(console_module.time, "monotonic", lambda: now[0])
    observer, stream = watch()
    observer.started(PLAN)
    for number in range(1, 9):
        now[0] += 4.0
        observer.stepped(step(number), 1000)
    assert [line.split("/")[0] for line in stream.getvalue().splitlines() if line.startswith("step")] == [
        "step 1",
        "step 4",
        "step 7",
    ]


def test_a_terminal_has_one_line_that_is_gone_at_the_end() -> None:
    observer, stream = watch(terminal=True)
    play(observer)
    assert "step 100/100" not in stream.getvalue().rsplit("\n", 3)[-1]
    assert stream.getvalue().count("\n") < 60, "steps must not pile up as lines"
    assert "\x1b[?25h" in stream.getvalue(), "the cursor must come back"


def test_quiet_leaves_warnings_only() -> None:
    observer, stream = watch(quiet=True)
    play(observer)
    assert stream.getvalue() == "Warning: a [bold] warning\n  → mend it\n"


def test_the_meters_figures() -> None:
    meter = Meter(PLAN, now=100.0)
    assert math.isnan(meter.loss)
    assert math.isnan(meter.remaining_seconds(101.0, 100))
    meter.update(step(1, 2.0))
    assert meter.loss == pytest.approx(2.0), "no bias towards 0 at the start"
    meter.update(step(2, math.nan, skipped="loss is nan"))
    assert meter.loss == pytest.approx(2.0)
    meter.update(step(3, 1.0))
    assert 1.4 < meter.loss < 1.6
    assert meter.tokens_per_second == pytest.approx(2000)
    assert meter.remaining_seconds(106.0, 100) == pytest.approx(2 * 97)
