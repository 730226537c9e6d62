"""Runs that are killed, stopped, starved of disk or started twice: nothing is lost, nothing changes."""

from __future__ import annotations

import errno
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from forked_process import ForkedProcess, command
from tunesmith.config.load import dump_yaml
from tunesmith.engine import checkpoint
from tunesmith.files import operations
from tunesmith.run import Run, RunConfig, Stopped, train
from tunesmith.run.signals import stop_requests
from tunesmith.types import InputError, RunError

Configure = Callable[..., RunConfig]

SMALL = {"train": {"epochs": 3, "batch_size": 32}, "compute": {"checkpoint_steps": 3}}


class Crash(BaseException):
    """Ends a run in process as a kill would: nothing that catches errors sees it."""


def trained_bytes(folder: Path) -> dict[str, bytes]:
    """Return what must not depend on interruptions: weights, losses, figures."""
    lines = map(json.loads, (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    curve = [(record["kind"], record["step"], record["loss"]) for record in lines]
    return {
        "model": (folder / "model.safetensors").read_bytes(),
        "curve": json.dumps(curve).encode(),
        "metrics": json.dumps(json.loads((folder / "evaluation.json").read_text())["metrics"]).encode(),
    }


def crash_at(number: int, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Make the ``number``-th durable operation from now on crash; return the list that records them."""
    seen: list[str] = []

    def hook(operation: str, path: Path) -> None:
        seen.append(f"{operation} {path.name}")
        if 0 < number <= len(seen):  # and every one after it: no clean-up happens after a kill
            raise Crash

    monkeypatch.setattr(operations, "on_operation", hook)
    return seen


def check_crash_points(configured: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, every: int) -> int:
    config = configured(**SMALL, evaluation={"num_resamples": 0, "baseline": False})
    whole = train(config.model_copy(update={"output": str(tmp_path / "whole")}))
    expected = trained_bytes(whole)
    seen = crash_at(0, monkeypatch)
    train(config.model_copy(update={"output": str(tmp_path / "counted")}))
    num_operations, tested = len(seen), 0
    for number in range(1, num_operations + 1, every):
        one = config.model_copy(update={"output": str(tmp_path / f"crash-{number}")})
        seen = crash_at(number, monkeypatch)
        with pytest.raises(Crash):
            train(one)
        monkeypatch.setattr(operations, "on_operation", None)
        resumable = (Path(one.output or "") / "config.yaml").exists()
        found = trained_bytes(train(one, resume=resumable, overwrite=not resumable))
        assert found == expected, f"crash at operation {number}: {seen[-1]}"
        tested += 1
    return tested


def test_crashes_at_file_operations_change_nothing(
    configured: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert check_crash_points(configured, tmp_path, monkeypatch, every=29) >= 5


def begin(config: RunConfig, path: Path, *flags: str) -> ForkedProcess:
    """Start a training in a process of its own."""
    return command(*arguments_of(config, path), *flags)


def arguments_of(config: RunConfig, path: Path) -> list[str]:
    path.write_text(dump_yaml(config), encoding="utf-8")
    return ["train", str(path), "--quiet"]


def wait_for_step(folder: Path, step: int, process: ForkedProcess) -> None:
    """Wait until the run has written its ``step``-th step."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.is_alive:
        path = folder / "metrics.jsonl"
        if path.exists() and path.read_text(encoding="utf-8").count('"kind": "step"') >= step:
            return
        time.sleep(0.01)
    raise AssertionError(f"the run never reached step {step}: {process.stderr}")


LONG = {"epochs": 8}
"""64 steps of reviews: enough for a signal to come before the last one."""


def interrupt(config: RunConfig, tmp_path: Path, step: int, number: int, *flags: str) -> tuple[int, str]:
    """Start a training process, send it a signal after ``step`` steps; return status and stderr."""
    process = begin(config, tmp_path / "config.yaml", *flags)
    wait_for_step(Path(config.output or ""), step, process)
    process.send_signal(number)
    return process.wait(), process.stderr


def test_a_killed_training_resumes_to_the_same_bytes(configured: Configure, tmp_path: Path) -> None:
    config = configured(train=LONG, compute={"checkpoint_steps": 5})
    expected = trained_bytes(train(config.model_copy(update={"output": str(tmp_path / "whole")})))
    status, _ = interrupt(config, tmp_path, 8, signal.SIGKILL)
    assert status == -signal.SIGKILL
    assert not (Path(config.output or "") / "model.safetensors").exists()
    assert interrupt(config, tmp_path, 18, signal.SIGKILL, "--resume")[0] == -signal.SIGKILL
    done = begin(config, tmp_path / "config.yaml", "--resume")
    assert done.wait() == 0, done.stderr
    assert trained_bytes(Path(config.output or "")) == expected


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)])
def test_a_stopped_training_saves_says_how_to_resume_and_does(
    configured: Configure, tmp_path: Path, number: int, status: int
) -> None:
    config = configured(train={**LONG, "evaluate_steps": 10_000}, compute={"checkpoint_steps": 10_000})
    expected = trained_bytes(train(config.model_copy(update={"output": str(tmp_path / "whole")})))
    found, stderr = interrupt(config, tmp_path, 7, number)
    folder = Path(config.output or "")
    assert found == status
    assert "--resume" in stderr
    assert str(folder) in stderr
    assert "Traceback" not in stderr
    assert len(checkpoint.list_steps(folder / "checkpoints")) == 1
    assert trained_bytes(train(config, resume=True)) == expected


def test_a_closing_terminal_is_told_of_several_times_and_hurries_nobody() -> None:
    before = signal.getsignal(signal.SIGHUP)
    with stop_requests() as stop, stop.deferred():
        for number in (signal.SIGHUP, signal.SIGHUP, signal.SIGTERM, signal.SIGHUP):  # as somebody logs out
            os.kill(os.getpid(), number)
        with pytest.raises(Stopped) as stopped:
            stop.check()
    assert stopped.value.exit_code == 143
    assert signal.getsignal(signal.SIGHUP) is before


def test_a_training_begun_by_nohup_goes_on() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_requests() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            stop.check()
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


TAKES_TERMINAL = """
import fcntl, os, sys, termios
os.setsid()
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""
"""Lets a command have the terminal that it reads from for its own, as the shell of a window has its."""


@pytest.mark.slow
def test_a_window_that_is_closed_leaves_a_checkpoint(configured: Configure, tmp_path: Path) -> None:
    """What the command has to say then goes nowhere, and that is no failure of its own."""
    config = configured(train={**LONG, "evaluate_steps": 10_000}, compute={"checkpoint_steps": 10_000})
    expected = trained_bytes(train(config.model_copy(update={"output": str(tmp_path / "whole")})))
    words = [sys.executable, "-m", "tunesmith", *arguments_of(config, tmp_path / "config.yaml")[:-1]]
    window, terminal = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", TAKES_TERMINAL, *words], stdin=terminal, stdout=terminal, stderr=terminal
    )
    os.close(terminal)
    steps = Path(config.output or "") / "metrics.jsonl"
    while not steps.exists() or steps.read_text(encoding="utf-8").count('"kind": "step"') < 7:
        if select.select([window], [], [], 0.05)[0]:
            assert os.read(window, 1 << 16), "it ended before that"
    os.close(window)
    assert process.wait(60) == 129
    assert len(checkpoint.list_steps(Path(config.output or "") / "checkpoints")) == 1
    assert trained_bytes(train(config, resume=True)) == expected


def test_a_signal_before_training_stops_at_once(configured: Configure, tmp_path: Path) -> None:
    config = configured()
    command = [sys.executable, "-m", "tunesmith", *arguments_of(config, tmp_path / "config.yaml")]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    deadline = time.monotonic() + 60
    while not (Path(config.output or "") / ".lock").exists() and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 143
    assert "Traceback" not in stderr


def test_resuming_a_finished_run_does_nothing(configured: Configure) -> None:
    config = configured(train={"epochs": 1})
    folder = train(config)
    before = (folder / "manifest.json").stat().st_mtime_ns
    assert train(config, resume=True) == folder
    assert (folder / "manifest.json").stat().st_mtime_ns == before


def test_resuming_as_another_run_is_refused(configured: Configure, monkeypatch: pytest.MonkeyPatch) -> None:
    config = configured(train={"epochs": 2})
    crash_at(40, monkeypatch)
    with pytest.raises(Crash):
        train(config)
    monkeypatch.setattr(operations, "on_operation", None)
    other = config.model_copy(update={"train": config.train.changed(learning_rate=0.5, batch_size=8)})
    with pytest.raises(InputError, match=r"train\.batch_size, train\.learning_rate"):
        train(other, resume=True)


def test_a_full_disk_leaves_the_last_good_checkpoint(configured: Configure, monkeypatch: pytest.MonkeyPatch) -> None:
    config = configured(train={"epochs": 3})
    saves: list[str] = []

    def full(operation: str, path: Path) -> None:
        saves.append(path.name)
        if path.name == "step-16":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(operations, "on_operation", full)
    with pytest.raises(RunError, match="the disk is full"):
        train(config)
    folder = Path(config.output or "")
    monkeypatch.setattr(operations, "on_operation", None)
    found, problems = checkpoint.find(folder / "checkpoints")
    assert found is not None
    assert found.step == 8
    assert not problems
    train(config, resume=True)
    assert Run.open(folder).summary["steps"] == 24


def test_a_damaged_checkpoint_is_named_and_the_run_goes_on_from_an_older_one(
    configured: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configured(train={"epochs": 3}, compute={"keep_checkpoints": 3})
    expected = trained_bytes(train(config.model_copy(update={"output": str(tmp_path / "whole")})))

    def crash(operation: str, path: Path) -> None:
        if path.name == "step-24":
            raise Crash

    monkeypatch.setattr(operations, "on_operation", crash)
    with pytest.raises(Crash):
        train(config)
    monkeypatch.setattr(operations, "on_operation", None)
    folder = Path(config.output or "")
    weights = folder / "checkpoints" / "step-16" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    train(config, resume=True)
    assert trained_bytes(folder) == expected
    problems = [problem["message"] for problem in Run.open(folder).summary["problems"]]
    assert any("step-16" in message and "truncated" in message for message in problems)


def test_two_trainings_in_one_folder(configured: Configure, tmp_path: Path) -> None:
    config = configured(train={"epochs": 1000, "evaluate_steps": 100_000})
    first = begin(config, tmp_path / "config.yaml")
    try:
        wait_for_step(Path(config.output or ""), 1, first)
        second = begin(config, tmp_path / "config.yaml", "--resume")
        assert second.wait() == 2
        assert first.is_alive
        assert f"process {first.pid}" in second.stderr
    finally:
        first.send_signal(signal.SIGTERM)
    assert first.wait() == 143


def test_resuming_with_other_rows_is_refused(
    configured: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reviews: Path
) -> None:
    data = tmp_path / "mine.csv"
    data.write_bytes(reviews.read_bytes())
    config = configured(data=str(data), train={"epochs": 3})
    crash_at(60, monkeypatch)
    with pytest.raises(Crash):
        train(config)
    monkeypatch.setattr(operations, "on_operation", None)
    text = data.read_text(encoding="utf-8")
    data.write_text(text.replace("great", "mixed"), encoding="utf-8")
    with pytest.raises(InputError, match="data has changed"):
        train(config, resume=True)
    data.write_text(text, encoding="utf-8")
    run = Run.open(train(config, resume=True))
    data.write_text(text.replace("great", "mixed"), encoding="utf-8")
    with pytest.raises(InputError, match="data has changed since"):
        run.evaluate()
