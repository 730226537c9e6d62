"""How often test rows were opened: a figure on rows that were looked at before is no figure on unseen rows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from tunesmith.files.append import GrowingFile
from tunesmith.files.cache import cache_root
from tunesmith.types import Problem, RunError

MOST_NAMED = 3


class Openings:
    """The studies of this machine's user that have opened some test rows, known by the hash of their content."""

    def __init__(self, test_hash: str, study: Path) -> None:
        self._path = cache_root() / "openings" / f"{test_hash}.jsonl"
        self._study = str(study.absolute())

    def warning(self) -> list[Problem]:
        """Say that other studies have opened the rows before; nothing where none has."""
        others = [place for place in dict.fromkeys(self._studies()) if place != self._study]
        if not others:
            return []
        shown = ", ".join(others[:MOST_NAMED]) + (", …" if len(others) > MOST_NAMED else "")
        times = "another study" if len(others) == 1 else f"{len(others)} other studies"
        message = f"These test rows were opened before, by {times} ({shown})."
        fix = (
            "What was decided by their figures makes those of this study too good: for a final word, give test rows "
            "that nobody has looked at as --data.test."
        )
        return [Problem("warning", message, fix, count=len(others))]

    def add(self) -> None:
        """Take note that this study opens them; a disk that does not take the note stops nothing."""
        with suppress(OSError, RunError):
            file = GrowingFile(self._path)
            now = datetime.now(UTC).isoformat(timespec="seconds")
            file.append((json.dumps({"time": now, "study": self._study}) + "\n").encode())
            file.close()

    def _studies(self) -> Sequence[str]:
        found = []
        with suppress(OSError):
            for line in self._path.read_text(encoding="utf-8").splitlines():
                with suppress(ValueError, KeyError, TypeError):
                    found.append(str(json.loads(line)["study"]))
        return found
