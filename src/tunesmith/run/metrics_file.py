"""``metrics.jsonl``: a line for every step and every evaluation of a run, kept as carefully as its checkpoints."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tunesmith.files.append import GrowingFile
from tunesmith.files.atomic import write_text
from tunesmith.files.jsons import finite
from tunesmith.types import Problem, RunError, StepInfo


class MetricsFile:
    """Appends every step and evaluation to ``path``.

    On resuming, lines after the checkpoint's step are cut first: those steps are made again. Lines that a full disk
    does not take wait in memory, but no longer than to the next checkpoint, which is not saved without them.
    """

    def __init__(self, path: Path, first_step: int, *, evaluation_due: bool = False) -> None:
        self.problems: list[Problem] = []
        """What is missing from the steps before ``first_step``."""
        if path.exists():
            self._cut(path, first_step, evaluation_due=evaluation_due)
        self._file = GrowingFile(path)

    def stepped(self, info: StepInfo) -> None:
        """Add the line of a step."""
        record = {"kind": "step", **asdict(info)}
        for optional in ("rows", "note", "measured", "idle"):
            if not record[optional]:
                del record[optional]
        self._write(record)

    def evaluated(self, record: dict[str, Any]) -> None:
        """Add the line of an evaluation."""
        self._write(record)

    def sync(self) -> None:
        """Make all lines durable. Raises ``RunError`` where the disk does not take them."""
        self._file.sync()

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def _write(self, record: dict[str, Any]) -> None:
        with suppress(RunError, OSError):  # it waits
            self._file.append(_line(record).encode("utf-8"))

    def _cut(self, path: Path, first_step: int, *, evaluation_due: bool) -> None:
        content = path.read_bytes()
        records, damaged = _records(content)
        kept = [record for record in records if record["step"] <= first_step]
        if evaluation_due:  # it is made now, perhaps again
            kept = [record for record in kept if record["kind"] == "step" or record["step"] < first_step]
        text = "".join(map(_line, kept))
        if text.encode("utf-8") != content:
            write_text(path, text)
        seen = {record["step"] for record in kept if record["kind"] == "step"}
        if lost := sorted(set(range(1, first_step + 1)) - seen):
            what = f"its line {damaged} is damaged" if damaged else "lines of it are gone"
            self.problems.append(
                Problem(
                    "warning",
                    f"{path} lacks {_spans(lost)} of the {first_step} made so far: {what}. The run goes on from its "
                    "checkpoint, which does not depend on them; its curve has a gap.",
                    "Restore the file from a copy, and resume again, if the curve matters.",
                    count=len(lost),
                )
            )


class NoMetricsFile(MetricsFile):
    """That of a process whose steps another one records: it keeps nothing."""

    def __init__(self) -> None:
        self.problems = []

    def sync(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""

    def _write(self, record: dict[str, Any]) -> None:
        """Do nothing."""


def _line(record: dict[str, Any]) -> str:
    return json.dumps(finite(record), ensure_ascii=False, allow_nan=False) + "\n"


def _records(content: bytes) -> tuple[list[dict[str, Any]], int]:
    """Return what can be read of the file, and the number of its first damaged line (0: none)."""
    records, damaged = [], 0
    lines = content.split(b"\n")
    for number, line in enumerate(lines, start=1):
        record = _record(line)
        if record is not None:
            records.append(record)
        elif line and number < len(lines):  # a last line without its end is what a crash leaves
            damaged = damaged or number
    return records, damaged


def _record(line: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError):
        return None
    is_record = isinstance(record, dict) and isinstance(record.get("step"), int) and isinstance(record.get("kind"), str)
    return record if is_record else None


def _spans(steps: Sequence[int]) -> str:
    """Spell step numbers: ``steps 3 to 7, 9``."""
    shown = [f"{first} to {last}" if first < last else str(first) for first, last in _runs(steps)]
    return f"step{'s' if len(steps) > 1 else ''} {', '.join(shown[:5])}{', …' if len(shown) > 5 else ''}"


def _runs(steps: Sequence[int]) -> Iterator[tuple[int, int]]:
    first = last = steps[0]
    for step in steps[1:]:
        if step != last + 1:
            yield first, last
            first = step
        last = step
    yield first, last
