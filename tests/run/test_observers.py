"""What a run leaves behind for people who watch it: TensorBoard events and the metrics file."""

from __future__ import annotations

import errno
import json
import math
import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tunesmith.run import Observer, Run, RunConfig, train
from tunesmith.run.metrics_file import MetricsFile
from tunesmith.run.tensorboard import TensorBoard
from tunesmith.types import Problem, RunError, StepInfo


def events(path: Path) -> Iterator[tuple[str, int, float]]:
    """Yield (tag, step, value) of an event file: records framed by length and checksums."""
    from tensorboardX.proto.event_pb2 import Event

    content = path.read_bytes()
    position = 0
    while position < len(content):
        (length,) = struct.unpack_from("<Q", content, position)
        event = Event.FromString(content[position + 12 : position + 12 + length])
        for value in event.summary.value:
            yield value.tag, event.step, value.simple_value
        position += 12 + length + 4


def test_tensorboard_sees_what_the_metrics_file_says(configured: Callable[..., RunConfig]) -> None:
    folder = train(configured(train={"epochs": 1}))
    (file,) = (folder / "tensorboard").iterdir()
    seen = {(tag, step): value for tag, step, value in events(file)}
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    for record in records:
        prefix = "train" if record["kind"] == "step" else record["split"]
        assert abs(seen[f"{prefix}/loss", record["step"]] - record["loss"]) < 1e-6
    last = records[-1]
    assert last["kind"] == "evaluation"
    assert abs(seen["validation/accuracy", last["step"]] - last["metrics"]["accuracy"]) < 1e-6


def step_line(step: int, loss: float = 1.0) -> str:
    return json.dumps({"kind": "step", "step": step, "loss": loss}) + "\n"


def step_of(number: int, loss: float = 0.7) -> StepInfo:
    return StepInfo(number, 0.5, loss, 1e-3, math.nan, 8, 100, 0.1)


def read(path: Path) -> list[dict[str, Any]]:
    """Read JSON Lines strictly: NaN and Infinity are no JSON."""

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    return [json.loads(line, parse_constant=refuse) for line in path.read_text(encoding="utf-8").splitlines()]


def test_the_metrics_file_forgets_steps_that_are_made_again(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(map(step_line, (1, 2, 3, 4))) + '{"kind": "step", "st', encoding="utf-8")
    recorder = MetricsFile(path, first_step=2)
    recorder.stepped(step_of(3))
    recorder.close()
    assert [record["step"] for record in read(path)] == [1, 2, 3]
    assert read(path)[-1]["loss"] == 0.7
    assert not recorder.problems


def test_numbers_that_are_not_finite_are_null_in_the_metrics_file(tmp_path: Path) -> None:
    recorder = MetricsFile(tmp_path / "metrics.jsonl", first_step=0)
    recorder.stepped(step_of(1, math.inf))
    recorder.evaluated({"kind": "evaluation", "step": 1, "loss": math.nan, "metrics": {"r2": -math.inf, "mae": 0.5}})
    recorder.close()
    step, evaluation = read(tmp_path / "metrics.jsonl")
    assert (step["loss"], step["gradient_norm"]) == (None, None)
    assert evaluation["metrics"] == {"r2": None, "mae": 0.5}


def test_lost_lines_of_the_metrics_file_are_told(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text(step_line(1) + step_line(2)[:9] + "\n" + step_line(3) + step_line(6), encoding="utf-8")
    recorder = MetricsFile(path, first_step=6)
    recorder.close()
    assert [record["step"] for record in read(path)] == [1, 3, 6], "what can be read stays, after the damage, too"
    (problem,) = recorder.problems
    assert "steps 2, 4 to 5 of the 6" in problem.message
    assert "line 2 is damaged" in problem.message


def test_a_full_disk_delays_lines_and_loses_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "metrics.jsonl"
    recorder = MetricsFile(path, first_step=0)
    recorder.stepped(step_of(1))
    real_write = os.write

    def write_a_part(descriptor: int, data: bytes) -> int:
        if real_write(descriptor, bytes(data)[:5]):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return 0

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", write_a_part)
        recorder.stepped(step_of(2))
        with pytest.raises(RunError, match="the disk is full"):
            recorder.sync()
        assert [record["step"] for record in read(path)] == [1], "no part of a line stays"
    recorder.stepped(step_of(3))
    recorder.close()
    assert [record["step"] for record in read(path)] == [1, 2, 3]


def test_observers_that_fail_are_let_go_and_the_run_goes_on(configured: Callable[..., RunConfig]) -> None:
    class Broken(Observer):
        num_calls = 0

        def stepped(self, info: StepInfo, total_steps: int) -> None:
            self.num_calls += 1
            raise ZeroDivisionError("no such luck")

        def close(self) -> None:
            raise OSError("nor here")

    class Sound(Observer):
        def __init__(self) -> None:
            self.notes: list[str] = []
            self.num_steps = 0

        def stepped(self, info: StepInfo, total_steps: int) -> None:
            self.num_steps += 1

        def noted(self, problem: Problem) -> None:
            self.notes.append(problem.message)

    broken, sound = Broken(), Sound()
    run = Run.open(train(configured(train={"max_steps": 3}), observers=[broken, sound]))
    assert (broken.num_calls, sound.num_steps) == (1, 3)
    told = [note for note in sound.notes if "Broken failed" in note]
    assert len(told) == 1
    assert "no such luck" in told[0]
    assert told[0] in [problem["message"] for problem in run.summary["problems"]]


def test_event_files_are_framed_as_tensorboards_own_writer_does(tmp_path: Path) -> None:
    from tensorboardX.proto.event_pb2 import Event
    from tensorboardX.record_writer import RecordWriter

    board = TensorBoard(tmp_path / "ours", first_step=4)
    board.stepped(step_of(5), total_steps=9)
    board.close()
    (file,) = (tmp_path / "ours").iterdir()
    content = file.read_bytes()
    found, position = [], 0
    while position < len(content):
        (length,) = struct.unpack_from("<Q", content, position)
        found.append(content[position + 12 : position + 12 + length])
        position += 12 + length + 4
    theirs = RecordWriter(str(tmp_path / "theirs"))
    for event in found:
        theirs.write(event)
    theirs.close()
    assert (tmp_path / "theirs").read_bytes() == content
    first, start, _ = map(Event.FromString, found)
    assert first.file_version == "brain.Event:2"
    assert (start.step, start.session_log.status) == (5, 1), "what was seen of later steps is void"
