"""A long result that is written line by line, and gone on with where the work on it was broken off.

What is there of ``predictions.jsonl`` while it is made is ``.predictions.jsonl.partial-KEY`` beside it. The key stands
for everything that the result depends on: who asks for the same finds it, and what was begun for something else is put
away.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tunesmith.files.append import GrowingFile
from tunesmith.files.atomic import remove_file
from tunesmith.files.operations import make_folder, perform, rename, sync_folder
from tunesmith.types import InputError

Row = dict[str, Any]

_LOCK = ".lock"


class PartialFile:
    """Lines of JSON, in parts of so many rows; only whole parts are gone on from."""

    def __init__(self, path: Path, part_rows: int) -> None:
        """``path`` is the file itself; use ``partial_of`` to get one for a result."""
        self.path = path
        self.num_rows = _keep_whole_parts(path, part_rows)
        """Rows that were there already: a multiple of ``part_rows``."""
        self._file = GrowingFile(path)

    def add(self, rows: Sequence[Row]) -> None:
        """Append rows, each a line. Raises ``RunError`` when the disk is full."""
        self._file.append("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode("utf-8"))

    def rows(self) -> Iterator[Row]:
        """Yield all rows that are there, one after the other."""
        self._file.flush()
        if self.path.exists():
            with self.path.open("rb") as file:
                for line in file:
                    yield json.loads(line)

    def become(self, final: Path) -> None:
        """Make it the file ``final``, in one step; one that is there is replaced."""
        self._file.append(b"")
        self._file.sync()
        self._file.close()
        rename(self.path, final)
        sync_folder(final.parent)

    def remove(self) -> None:
        """Delete it: its result is written elsewhere."""
        self._file.close()
        remove_file(self.path)

    def close(self) -> None:
        """Leave it to be gone on with."""
        self._file.close()


@contextmanager
def partial_of(final: Path, key: str, part_rows: int) -> Iterator[PartialFile]:
    """Yield what there is so far of the result ``final``, to be added to; left as it is on an error.

    Raises ``InputError`` when another process works on the same result.
    """
    make_folder(final.parent)
    path = final.with_name(f".{final.name}.partial-{key[:16]}")
    with _held(path) as is_ours:
        if not is_ours:
            raise InputError(
                f"{final} is being written by another process.",
                "Wait until it has finished, or choose another --output.",
            )
        begun = re.compile(re.escape(f".{final.name}.partial-") + "[0-9a-f]{16}")
        for other in sorted(final.parent.iterdir()):
            if begun.fullmatch(other.name) and other != path:
                _put_away(other)
        partial = PartialFile(path, part_rows)
        try:
            yield partial
        finally:
            partial.close()


def sweep_partials(folder: Path, max_age_seconds: float) -> None:
    """Put away what nobody has gone on with for so long."""
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if ".partial-" in path.name and not path.name.endswith(_LOCK):
            with suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime > max_age_seconds:
                    _put_away(path)


def _put_away(path: Path) -> None:
    """Delete what was begun, unless somebody is at it."""
    with _held(path) as is_ours:
        if is_ours:
            remove_file(path)


@contextmanager
def _held(path: Path) -> Iterator[bool]:
    """Hold a file for this process; yield whether nobody else has it. Its lock goes when the file is gone."""
    from filelock import FileLock, Timeout

    place = path.with_name(path.name + _LOCK)
    lock = FileLock(place)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        if not path.exists():
            with suppress(OSError):
                place.unlink()
        lock.release()


def _keep_whole_parts(path: Path, part_rows: int) -> int:
    """Cut off what does not make a whole part, such as half a line; return the rows that stay."""
    if not path.exists():
        return 0
    num_rows = num_bytes = 0
    kept = (0, 0)
    with path.open("rb") as file:
        for line in file:
            if not line.endswith(b"\n") or not _is_json(line):
                break
            num_rows, num_bytes = num_rows + 1, num_bytes + len(line)
            if num_rows % part_rows == 0:
                kept = (num_rows, num_bytes)
    if kept[1] != path.stat().st_size:
        perform("truncate", path, lambda: os.truncate(path, kept[1]))
    return kept[0]


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True
