"""The folder of a study: what was asked, what happened so far, what came of it.

asked.json       what the study is of; another question is refused there
journal.jsonl    what happened, a line each: a study that was killed goes on from it
study.json       the result so far, whole after every change
runs/, tuning/   run folders
report.html
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tunesmith.files.append import GrowingFile
from tunesmith.files.atomic import remove_file, remove_folder, write_bytes, write_text
from tunesmith.files.jsons import finite
from tunesmith.files.lock import HOLDER, LOCK, locked
from tunesmith.types import InputError

ASKED, JOURNAL, RESULT, REPORT = "asked.json", "journal.jsonl", "study.json", "report.html"
RUNS, TUNING = "runs", "tuning"
OWN = (ASKED, JOURNAL, RESULT, REPORT, RUNS, TUNING, "contest.log", "predictions.parquet", "best.yaml")


@dataclass(frozen=True, slots=True)
class StudyFolder:
    """Names and formats of everything in a study's folder."""

    path: Path

    @property
    def result(self) -> Path:
        """``study.json``."""
        return self.path / RESULT

    @property
    def report(self) -> Path:
        """The page about it."""
        return self.path / REPORT

    def run(self, name: str, seed: int) -> Path:
        """Return the folder of a run that counts."""
        return self.path / RUNS / name / f"seed-{seed}"

    def tuning(self, name: str, rate: float) -> Path:
        """Return the folder of a run that a learning rate is tried by."""
        return self.path / TUNING / name / f"rate-{rate:g}"

    @contextmanager
    def held(self, asked: Mapping[str, Any], *, overwrite: bool = False) -> Iterator[bool]:
        """Hold the folder for this process, and make sure that it is of this question; yield whether it goes on.

        Raises ``InputError`` where the folder holds a study of something else, or other files.
        """
        with locked(self.path):
            if overwrite:
                self._clear()
            yield self._claim(finite(dict(asked)))

    def _claim(self, asked: Mapping[str, Any]) -> bool:
        holds = [entry.name for entry in self.path.iterdir() if entry.name not in (LOCK, HOLDER)]
        place = self.path / ASKED
        if place.exists():
            before = _read(place)
            if changed := _differences("", before, json.loads(json.dumps(asked))):
                raise InputError(
                    f"{self.path} holds a study that was begun with other values of {', '.join(changed[:5])}"
                    f"{', …' if len(changed) > 5 else ''}.",
                    "Go on with it by the command it was begun with, replace it with --overwrite, or choose another "
                    "folder with --output.",
                )
            return True
        if holds:
            raise InputError(
                f"{self.path} holds files that are not a study ({', '.join(sorted(holds)[:5])}).",
                "Choose another folder with --output.",
            )
        write_text(place, json.dumps(asked, ensure_ascii=False, indent=1) + "\n")
        return False

    def _clear(self) -> None:
        """Remove a study that is there; what else is in the folder stays."""
        if not (self.path / ASKED).exists():
            return
        for name in (RUNS, TUNING):
            remove_folder(self.path / name)
        for name in OWN:
            if name not in (RUNS, TUNING):
                remove_file(self.path / name)

    def discard(self) -> None:
        """Remove what was begun here: a study that was refused leaves nothing behind."""
        self._clear()
        if all(entry.name in (LOCK, HOLDER) for entry in self.path.iterdir()):
            for name in (LOCK, HOLDER):
                (self.path / name).unlink(missing_ok=True)
            self.path.rmdir()

    def write_result(self, record: Mapping[str, Any]) -> None:
        """Replace ``study.json``; numbers that are not finite become null."""
        text = json.dumps(finite(dict(record)), ensure_ascii=False, indent=1) + "\n"
        write_text(self.result, text)

    def read_result(self) -> dict[str, Any]:
        """Read ``study.json``; ``InputError`` where there is none, or it is damaged."""
        if not self.result.exists():
            raise InputError(f"There is no study in {self.path}: it holds no {RESULT}.", "Give the folder of a study.")
        found: dict[str, Any] = _read(self.result)
        return found


@dataclass
class Journal:
    """What happened in a study, in order: kept line by line, and read again by whoever goes on with it.

    A line that was cut off by a crash is dropped; what it told of is done again.
    """

    path: Path
    events: list[dict[str, Any]] = field(default_factory=list)
    spent: float = 0.0
    """Seconds that were spent up to the last line, over all processes that worked on the study."""

    def __post_init__(self) -> None:
        self._began = time.monotonic()
        if self.path.exists():
            self._read()
        self._before = self.spent
        self._file = GrowingFile(self.path)

    @property
    def seconds(self) -> float:
        """Return the seconds spent until now."""
        return self._before + time.monotonic() - self._began

    def add(self, kind: str, **values: Any) -> dict[str, Any]:
        """Add an event; it is durable when this returns."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        event: dict[str, Any] = finite({"kind": kind, **values, "time": now, "spent": round(self.seconds, 3)})
        self._file.append((json.dumps(event, ensure_ascii=False) + "\n").encode())
        self._file.sync()
        self.events.append(event)
        self.spent = event["spent"]
        return event

    def of(self, kind: str) -> list[dict[str, Any]]:
        """Return the events of a kind, in order."""
        return [event for event in self.events if event["kind"] == kind]

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def _read(self) -> None:
        content = self.path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if whole != content:
            write_bytes(self.path, whole)
        for number, line in enumerate(whole.splitlines(), 1):
            try:
                self.events.append(json.loads(line))
            except ValueError as error:
                raise InputError(f"{self.path}, line {number}, is damaged: {error}") from error
        self.spent = float(self.events[-1]["spent"]) if self.events else 0.0


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {error}") from error


def _differences(name: str, before: Any, now: Any) -> list[str]:
    """Return the keys whose values differ."""
    if before == now:
        return []
    if isinstance(before, dict) and isinstance(now, dict):
        keys = [*now, *(key for key in before if key not in now)]
        return [key for one in keys for key in _differences(f"{name}.{one}".lstrip("."), before.get(one), now.get(one))]
    return [name]
