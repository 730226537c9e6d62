"""What a run leaves behind for people who watch it: TensorBoard events and the metrics file."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

from tunesmith.run import RunConfig, train
from tunesmith.run.observers import MetricsFile
from tunesmith.types import StepInfo


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


def test_the_metrics_file_forgets_steps_that_are_made_again(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    lines = [json.dumps({"kind": "step", "step": step, "loss": 1.0}) for step in (1, 2, 3, 4)]
    path.write_text("\n".join(lines) + '\n{"kind": "step", "st', encoding="utf-8")
    recorder = MetricsFile(path, first_step=2)
    recorder.stepped(StepInfo(3, 0.5, 0.7, 1e-3, 1.0, 8, 100, 0.1), total_steps=4)
    recorder.close()
    kept = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert [record["step"] for record in kept] == [1, 2, 3]
    assert kept[-1]["loss"] == 0.7
