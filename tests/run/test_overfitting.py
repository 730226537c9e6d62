"""Overfitting is named while it happens, with the gap's interval, and nowhere else."""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tunesmith.report import write_report
from tunesmith.run import Observer, Run, RunConfig, train
from tunesmith.run.overfitting import watch
from tunesmith.run.session import Progress
from tunesmith.types import Problem

Configure = Callable[..., RunConfig]
WORDS = tuple(f"{first}{second}" for first in "bdfgklmnprst" for second in ("ab", "el", "in", "or", "um"))


class Listener(Observer):
    """Keeps what is said, with the step after which it is."""

    def __init__(self) -> None:
        self.step = 0
        self.said: list[tuple[int, Problem]] = []

    def stepped(self, info: Any, total_steps: int) -> None:
        self.step = info.step

    def noted(self, problem: Problem) -> None:
        self.said.append((self.step, problem))

    @property
    def named(self) -> list[tuple[int, Problem]]:
        return [one for one in self.said if "overfits" in one[1].message]


def by_chance(path: Path, num_rows: int = 150) -> Path:
    """Write texts whose labels have nothing to do with them: whatever is learned of them are the rows."""
    generator = random.Random(1)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        for _ in range(num_rows):
            writer.writerow([" ".join(generator.choices(WORDS, k=6)), generator.choice(["yes", "no"])])
    return path


def evaluations(folder: Path) -> list[dict[str, Any]]:
    lines = map(json.loads, (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line["kind"] == "evaluation"]


def by_heart(configured: Configure, tmp_path: Path, name: str) -> RunConfig:
    settings = {"epochs": 24, "evaluate_steps": 14, "learning_rate": 5e-3, "batch_size": 16}
    return configured(
        model="cnn",
        data=str(by_chance(tmp_path / "chance.csv")),
        train=settings,
        evaluation={"baseline": False},
        output=str(tmp_path / name),
    )


def test_a_run_that_learns_by_heart_is_warned_of_while_it_does(configured: Configure, tmp_path: Path) -> None:
    listener = Listener()
    folder = train(by_heart(configured, tmp_path, "chance"), observers=[listener])
    assert len(listener.named) == 1, "once"
    step, warning = listener.named[0]
    run = Run.open(folder)
    assert step < run.summary["steps"], "early"
    assert warning.severity == "warning"
    assert run.summary["overfitting"]["named_at"] == step
    assert run.summary["overfitting"]["since"] < step
    assert warning.message in [one["message"] for one in run.summary["problems"]]
    last = evaluations(folder)[-1]
    assert last["fit"]["rows"] == 64
    assert last["fit"]["value"] > 0.9
    assert last["fit"]["loss"] < last["loss"]
    gap = last["fit"]["gap"]
    assert gap["value"] == pytest.approx(last["fit"]["value"] - last["metrics"]["accuracy"])
    assert 0 < gap["low"] < gap["value"] < gap["high"]
    page = write_report([folder], tmp_path / "report.html").read_text(encoding="utf-8")
    assert "The model overfits since step" in page
    assert "Gap to training rows" in page


def test_a_healthy_run_is_not(configured: Configure) -> None:
    listener = Listener()
    folder = train(configured(model="cnn", train={"epochs": 6}, evaluation={"baseline": False}), observers=[listener])
    assert not listener.named
    found = evaluations(folder)
    assert found[-1]["metrics"]["accuracy"] > 0.9
    assert all(one["fit"]["gap"]["low"] <= one["fit"]["gap"]["value"] for one in found)
    assert "overfitting" not in Run.open(folder).summary


@pytest.mark.slow
def test_a_run_that_goes_on_remembers_what_it_saw(configured: Configure, tmp_path: Path) -> None:
    whole = train(by_heart(configured, tmp_path, "whole"))
    config = by_heart(configured, tmp_path, "parts")
    for until in (42, 98):  # after an evaluation: who pauses makes one
        train(config, resume=until > 42, until=until)
    parts = train(config, resume=True)
    assert Run.open(parts).summary["overfitting"] == Run.open(whole).summary["overfitting"]
    assert [one["fit"] for one in evaluations(parts)] == [one["fit"] for one in evaluations(whole)]


def test_nobody_looks_where_none_are_wanted(configured: Configure) -> None:
    folder = train(configured(train={"max_steps": 8}, evaluation={"baseline": False, "training_rows": 0}))
    assert all("fit" not in one for one in evaluations(folder))


def test_it_takes_all_three_signs_twice_in_a_row() -> None:
    def told(*evaluations: tuple[float, float, float]) -> list[int]:
        progress, found = Progress(), []
        for number, (loss, training_loss, low) in enumerate(evaluations, start=1):
            gap = {"value": low + 0.1, "low": low, "high": low + 0.2}
            fit = {"rows": 64, "loss": training_loss, "metric": "accuracy", "value": 0.9, "gap": gap}
            if watch(progress, {"step": 10 * number, "loss": loss, "fit": fit}) is not None:
                found.append(number)
        return found

    best = (0.5, 0.4, 0.01)
    assert told(best, (0.6, 0.3, 0.1), (0.7, 0.2, 0.2), (0.9, 0.1, 0.3)) == [3]
    assert told(best, (0.6, 0.3, 0.1), (0.51, 0.2, 0.2), (0.6, 0.1, 0.3)) == [], "not in a row"
    assert told(best, (0.51, 0.3, 0.1), (0.52, 0.2, 0.2)) == [], "hardly risen"
    assert told(best, (0.6, 0.41, 0.1), (0.7, 0.42, 0.2)) == [], "training rows do no better: it diverges"
    assert told(best, (0.6, 0.3, -0.1), (0.7, 0.2, -0.1)) == [], "what lies between them may be chance"
    assert watch(Progress(), {"step": 1, "loss": None, "fit": None}) is None
