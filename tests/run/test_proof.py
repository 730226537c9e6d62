"""The figures of docs/reliability.md: crashes at every file operation, random kills, full disks.

Slow, all of it: python -m pytest -m slow tests/run/test_proof.py -s
With TUNESMITH_PROOF_STRIDE=10 only every tenth crash, kill and moment is tried.
"""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from forked import Forked
from tunesmith.config.build import build
from tunesmith.files import operations
from tunesmith.report import write_report
from tunesmith.run import Observer, Run, RunConfig, Stopped, train
from tunesmith.run.signals import SIGNALS
from tunesmith.types import InputError, RunError

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

NETWORK = {"name": "cnn", "embedding_size": 8, "widths": [2], "num_channels": 4}
STEPS = 4
LONG_STEPS = 40
STRIDE = int(os.environ.get("TUNESMITH_PROOF_STRIDE", "1"))
NUM_KILLS = 50 // STRIDE
NUM_MOMENTS = 30 // STRIDE


class Crash(BaseException):
    """Ends a run in process as a kill would: nothing that catches errors sees it."""


class Case:
    """A run, and what becomes of it when nothing happens."""

    def __init__(self, place: Path, values: dict[str, Any]) -> None:
        self.place = place
        self.values = values
        self.expected = result(train(self.config("whole")))

    def settings(self, name: str | Path) -> dict[str, Any]:
        return {**self.values, "output": str(self.place / name)}

    def config(self, name: str | Path) -> RunConfig:
        return build(RunConfig, self.settings(name))


def result(folder: Path) -> dict[str, bytes]:
    """Return what must not depend on interruptions: weights, losses, predictions, figures."""
    run = Run.open(folder)  # which verifies every hash
    lines = map(json.loads, (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    curve = [(record["kind"], record["step"], record["loss"]) for record in lines]
    return {
        "weights": (folder / "model.safetensors").read_bytes(),
        "curve": json.dumps(curve).encode(),
        "predictions": (folder / "predictions.parquet").read_bytes(),
        "figures": json.dumps(run.evaluation["metrics"]).encode(),
    }


@pytest.fixture(scope="module")
def values(reviews: Path) -> dict[str, Any]:
    training = {"max_steps": STEPS, "evaluate_steps": 4, "batch_size": 8, "learning_rate": 1e-2, "precision": "fp32"}
    judged = {"num_resamples": 0, "baseline": False}
    data = {"path": str(reviews), "limit": 60}
    saved = {"checkpoint_steps": 2}
    return {"model": NETWORK, "data": data, "train": training, "compute": saved, "evaluation": judged}


@pytest.fixture(scope="module")
def case(values: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Case:
    return Case(tmp_path_factory.mktemp("case"), values)


@pytest.fixture(scope="module")
def forked() -> Iterator[Forked]:
    process = Forked()
    yield process
    process.close()


def set_hook(monkeypatch: pytest.MonkeyPatch, first: int, error: Callable[[str], None]) -> list[str]:
    """Call ``error`` at the ``first``-th durable operation from now on and at all after it; return those seen."""
    seen: list[str] = []

    def hook(operation: str, path: Path) -> None:
        seen.append(f"{operation} {path.name}")
        if 0 < first <= len(seen):
            error(operation)

    monkeypatch.setattr(operations, "on_operation", hook)
    return seen


def say(text: str) -> None:
    """Show a figure, where the tests' output is shown (-s)."""
    sys.stdout.write(f"\n{text}\n")


def crash(_: str) -> None:
    raise Crash


def begun(config: RunConfig) -> bool:
    folder = Path(config.output or "")
    return (folder / "config.yaml").exists() or (folder / ".new" / "config.yaml").exists()


def every_crash(
    case: Case,
    monkeypatch: pytest.MonkeyPatch,
    begin: Callable[[RunConfig], Path],
    prepare: Callable[[Path, int], None] = lambda folder, number: None,
    check: Callable[[Path], None] = lambda folder: None,
    every: int = 1,
) -> int:
    """Crash a run at each of its operations, resume it, compare; return at how many.

    ``begin`` starts or resumes it after ``prepare`` has made its folder; ``check`` looks at what the crash left.
    """
    number = tested = 0
    while True:
        number += every * STRIDE
        config = case.config(f"crash-{number}")
        folder = Path(config.output or "")
        prepare(folder, number)
        seen = set_hook(monkeypatch, number, crash)
        try:
            begin(config)
        except Crash:
            pass
        else:
            shutil.rmtree(folder)
            return tested
        finally:
            monkeypatch.setattr(operations, "on_operation", None)
        check(folder)
        found = result(finish(config))
        assert found == case.expected, f"crash at operation {number}: {seen[-1]}"
        tested += 1
        shutil.rmtree(folder)


def finish(config: RunConfig) -> Path:
    """Do what the message says: resume what can be resumed, begin anew what never began."""
    with suppress(InputError):  # nothing of a replacement was there yet: the old run says that it is another one
        return train(config, resume=begun(config), overwrite=not begun(config))
    return train(config, overwrite=True)


def test_crashes_in_training_and_in_building_the_cache(
    case: Case, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def own_cache(folder: Path, number: int) -> None:
        monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / f"cache-{number}"))

    tested = every_crash(case, monkeypatch, train, own_cache)
    say(f"training, with nothing in the cache: {tested} crash points")
    assert tested * STRIDE >= 100


def test_crashes_in_resuming(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    class Stop(Observer):
        def stepped(self, info: Any, total_steps: int) -> None:
            if info.step == 3:
                raise Stopped(SIGNALS[0])

    with pytest.raises(Stopped):
        train(case.config("stopped"), observers=[Stop()])

    def copy(folder: Path, number: int) -> None:
        shutil.copytree(case.place / "stopped", folder)

    tested = every_crash(case, monkeypatch, lambda config: train(config, resume=True), copy)
    say(f"resuming: {tested} crash points")
    assert tested * STRIDE >= 50


def test_crashes_in_replacing_a_run(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    other = {**case.values, "train": {**case.values["train"], "seed": 5, "max_steps": 2}}
    old = train(build(RunConfig, {**other, "output": str(case.place / "old")}))
    (old / "mine.txt").write_text("kept", encoding="utf-8")
    of_old = result(old)

    def copy(folder: Path, number: int) -> None:
        shutil.copytree(old, folder)

    def check(folder: Path) -> None:
        """Whatever can be opened is the whole old run or the whole new one."""
        if (folder / "manifest.json").exists():
            assert result(folder) in (of_old, case.expected)
        else:
            with pytest.raises(InputError, match="--resume"):
                Run.open(folder)
        assert (folder / "mine.txt").read_text(encoding="utf-8") == "kept"

    tested = every_crash(case, monkeypatch, lambda config: train(config, overwrite=True), copy, check)
    say(f"replacing a run (--overwrite): {tested} crash points")
    assert tested * STRIDE >= 100


def test_crashes_in_a_run_with_frozen_layers_of_a_pretrained_model(
    values: dict[str, Any], bert_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = {"train": {**values["train"], "max_steps": 8, "evaluate_steps": 8}, "compute": {"checkpoint_steps": 100}}
    frozen = {"name": "freeze", "layers": 1}
    case = Case(tmp_path, {**values, "model": str(bert_folder), "method": frozen, **training})
    tested = every_crash(case, monkeypatch, train, every=3)
    say(f"a pretrained model with frozen layers: {tested} crash points, at every third operation")
    assert tested * STRIDE >= 20


def test_crashes_in_writing_a_report(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, tested = case.place / "whole", 0
    page = write_report([folder], folder / "page.html")
    before = page.read_bytes()
    while True:
        tested += 1
        set_hook(monkeypatch, tested, crash)
        try:
            write_report([folder, folder], page)
        except Crash:
            pass
        else:
            break
        finally:
            monkeypatch.setattr(operations, "on_operation", None)
        left = page.read_bytes()
        write_report([folder, folder], page)
        assert left in (before, page.read_bytes())
        write_report([folder], page)
        assert page.read_bytes() == before
    say(f"writing a report: {tested - 1} crash points")
    assert tested > 3


def test_random_kills(values: dict[str, Any], tmp_path: Path, forked: Forked) -> None:
    generator = random.Random(0)
    case = Case(tmp_path, {**values, "train": {**values["train"], "max_steps": LONG_STEPS}})
    duration = min(forked.train(case.settings(f"timed-{number}"))["seconds"] for number in range(2))
    num_kills = num_runs = 0
    while num_kills < NUM_KILLS:
        num_runs += 1
        name = f"killed-{num_runs}"
        config = case.config(name)
        for _ in range(4):
            moment = generator.uniform(0, duration)
            answer = forked.train(case.settings(name), resume=begun(config), kill_after=moment)
            assert answer["status"] in (-9, 0), answer["error"]
            if answer["status"] == 0:  # machines are not equally busy all the time
                duration = min(duration, answer["seconds"])
                break
            num_kills += 1
        answer = forked.train(case.settings(name), resume=begun(config))
        assert answer["status"] == 0, answer["error"]
        assert result(Path(config.output or "")) == case.expected
    say(f"killed {num_kills} times in {num_runs} runs")


def refuse(operation: str) -> None:
    """Do as a full disk does: what needs no room goes on."""
    if operation in ("write", "append", "mkdir", "reserve"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_disk_that_is_full_from_some_operation_on(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = set_hook(monkeypatch, 0, refuse)
    train(case.config("counted"))
    monkeypatch.setattr(operations, "on_operation", None)
    num_failed = 0
    for moment in range(NUM_MOMENTS):
        config = case.config(f"full-{moment}")
        set_hook(monkeypatch, 1 + moment * len(seen) // NUM_MOMENTS, refuse)
        began, message = time.monotonic(), ""
        try:
            train(config)
        except RunError as error:
            message = str(error)
        monkeypatch.setattr(operations, "on_operation", None)
        assert time.monotonic() - began < 60
        if message:
            num_failed += 1
            assert "the disk is full" in message
            assert ("--resume" in message) == begun(config)
        assert result(finish(config)) == case.expected
    say(f"full from an operation on: {NUM_MOMENTS} moments, {num_failed} runs ended by it")
    assert num_failed > NUM_MOMENTS / 2


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Return a folder with a disk of its own."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(place)]
    if not shutil.which("mount") or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted here (that takes root)")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_a_disk_that_is_filled_while_a_run_goes_on(case: Case, forked: Forked, small_disk: Path) -> None:
    stages = ("reading", "loading", "tokenising", "saving the model", "evaluating on the", "writing the results")
    moments = [*range(1, STEPS + 1), *stages]
    num_failed = num_moments = 0
    slowest = 0.0
    for leave in (0, 4096, 20_000):
        for moment in moments[::STRIDE]:
            num_moments += 1
            settings = {**case.values, "output": str(small_disk / "run")}
            filler = small_disk / "filler"
            answer = forked.train(settings, fill=str(filler), moment=moment, leave=leave)
            slowest = max(slowest, answer["seconds"])
            assert slowest < 60
            assert answer["status"] in (0, 1, 2), f"{moment}, {leave} bytes free: {answer}"
            if answer["status"]:
                num_failed += 1
                known = ("", "the disk is full", "free; this run needs about")[answer["status"]]
                assert known in answer["error"]
            filler.unlink()
            config = build(RunConfig, settings)
            if answer["status"] and begun(config):
                assert "--resume" in answer["error"]
            assert result(finish(config)) == case.expected, f"{moment}, {leave} bytes free"
            shutil.rmtree(small_disk / "run")
    say(
        f"filled at {num_moments} moments: {num_failed} runs ended by it, all within {slowest:.0f} s, "
        f"{num_moments - num_failed} went on"
    )
    assert num_moments >= NUM_MOMENTS
    assert num_failed > num_moments / 3
