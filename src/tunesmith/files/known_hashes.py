"""The SHA-256 of large files without reading them anew in every process.

What a file's hash was is kept in the cache, beside what the system says of the file: its place on the disk, its
size, and when its content and its entry were last changed. The last of these no program can set back. A file of
which any of it is another is read again.
"""

from __future__ import annotations

import json
import time
from contextlib import suppress
from pathlib import Path

from tunesmith.files.atomic import write_text
from tunesmith.files.hashing import hash_bytes, hash_file
from tunesmith.files.root import cache_root
from tunesmith.types import RunError

ALWAYS_READ = 1 << 24
"""Files up to this size are read every time: that takes some hundredths of a second."""

_SETTLED_NANOSECONDS = 2_000_000_000
"""Clocks of file systems are coarse: what was written just now may be written again without another time."""


def known_hash(path: Path) -> str:
    """Return the SHA-256 of a file's content, from memory where nothing says that it was touched."""
    before = _stamp(path)
    if before["size"] <= ALWAYS_READ:
        return hash_file(path)
    note = cache_root() / "hashes" / f"{hash_bytes(str(path.absolute()).encode('utf-8', 'surrogatepass'))}.json"
    with suppress(OSError, ValueError):
        kept = json.loads(note.read_text(encoding="utf-8"))
        if isinstance(kept, dict) and kept.get("stamp") == before and isinstance(kept.get("sha256"), str):
            return str(kept["sha256"])
    found = hash_file(path)
    age = time.time_ns() - max(before["modified"], before["changed"])
    if _stamp(path) == before and age > _SETTLED_NANOSECONDS:
        with suppress(OSError, RunError):  # a cache that cannot be written to costs time only
            write_text(note, json.dumps({"path": str(path), "stamp": before, "sha256": found}) + "\n")
    return found


def _stamp(path: Path) -> dict[str, int]:
    found = path.stat()
    return {
        "device": found.st_dev,
        "place": found.st_ino,
        "size": found.st_size,
        "modified": found.st_mtime_ns,
        "changed": found.st_ctime_ns,
    }
