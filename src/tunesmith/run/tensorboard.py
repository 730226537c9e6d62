"""Event files for TensorBoard, written without the threads and queues of its own writers.

A thread that fails to write leaves those who wait for its queue waiting for ever. Here a record is appended like
anything else that a run writes, and what goes wrong is known at once.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tunesmith.files.append import GrowingFile
from tunesmith.run.observers import Observer
from tunesmith.types import StepInfo

HAND_OVER_SECONDS = 1.0
"""How long numbers wait at most while steps go on."""


class TensorBoard(Observer):
    """Writes event files for TensorBoard into ``tensorboard/`` of the run.

    Steps are written together once a second, which costs a small model less than a write for each.
    """

    def __init__(self, folder: Path, first_step: int) -> None:
        # Loaded when the run starts, not when its first second is over.
        from tensorboardX.proto.event_pb2 import Event, SessionLog

        self._event = Event
        self._session_log = SessionLog
        self._first_step = first_step
        name = f"events.out.tfevents.{time.time():.6f}.{socket.gethostname()}"
        self._file = GrowingFile(folder / name.replace("/", "-"))
        self._waiting: list[Any] = []
        self._has_begun = False
        self._handed_over = time.time()

    def stepped(self, info: StepInfo, total_steps: int) -> None:  # noqa: ARG002
        self._take(step_values(info), info.step)

    def evaluated(self, record: dict[str, Any]) -> None:
        self._take(evaluation_values(record), record["step"])

    def close(self) -> None:
        try:
            self._hand_over()
        finally:
            self._file.close()

    def _take(self, values: dict[str, float], step: int) -> None:
        now = time.time()
        if not self._has_begun:
            self._begin(now)
        summary = [{"tag": name, "simple_value": value} for name, value in values.items()]
        self._waiting.append(self._event(wall_time=now, step=step, summary={"value": summary}))
        if now - self._handed_over >= HAND_OVER_SECONDS:
            self._hand_over()

    def _begin(self, now: float) -> None:
        """Write the file's first records; steps that are made again take the place of those seen before."""
        self._has_begun = True
        self._waiting.append(self._event(wall_time=now, file_version="brain.Event:2"))
        if self._first_step:
            start = self._session_log(status=self._session_log.START)
            self._waiting.append(self._event(wall_time=now, step=self._first_step + 1, session_log=start))

    def _hand_over(self) -> None:
        waiting, self._waiting = self._waiting, []
        self._handed_over = time.time()
        if waiting:
            self._file.append(b"".join(map(_framed, waiting)))


def step_values(info: StepInfo) -> dict[str, float]:
    """Return the figures of a step, as every program that shows them calls them."""
    return {
        "train/loss": info.loss,
        "train/learning_rate": info.learning_rate,
        "train/gradient_norm": info.gradient_norm,
        "train/tokens_per_second": info.num_tokens / max(info.seconds, 1e-9),
        **{f"train/{name}": value for name, value in info.measured.items()},
    }


def evaluation_values(record: Mapping[str, Any]) -> dict[str, float]:
    """Return the figures of an evaluation, a line of ``metrics.jsonl``, likewise."""
    split = record["split"]
    values = {f"{split}/{name}": value for name, value in record["metrics"].items()}
    values |= {} if record["loss"] is None else {f"{split}/loss": record["loss"]}
    if (fit := record.get("fit")) is not None:
        values |= {f"fit/{fit['metric']}": fit["value"], "fit/gap": fit["gap"]["value"]}
        values |= {} if fit["loss"] is None else {"fit/loss": fit["loss"]}
    return values


def _framed(event: Any) -> bytes:
    """Return a record: length, its checksum, content, its checksum (the format of TFRecord)."""
    content: bytes = event.SerializeToString()
    length = struct.pack("<Q", len(content))
    return length + _checksum(length) + content + _checksum(content)


def _checksum(data: bytes) -> bytes:
    from tensorboardX.crc32c import crc32c

    value = int(crc32c(data))
    return struct.pack("<I", (((value >> 15) | (value << 17)) + 0xA282EAD8) & 0xFFFFFFFF)
