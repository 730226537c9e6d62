"""Files that a browser sends: written as they come, under names of their own."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from tunesmith.files.atomic import new_file, remove_file, write_text
from tunesmith.files.space import require_space
from tunesmith.serve.errors import RefusedError
from tunesmith.studio.workplace import Workplace, plain_name
from tunesmith.types import InputError

ENDINGS = (
    ".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".parquet", ".arrow", ".feather", ".txt", ".text", ".conll", ".bio",
    ".tsv.gz", ".csv.gz", ".json.gz", ".jsonl.gz", ".txt.gz", ".xlsx", ".zip",
)  # fmt: skip
"""Of names that keep their ending; what a file is, is found by its content when it is read."""
_ID = re.compile(r"[0-9a-f]{8}-[a-z0-9-]{1,60}(\.[a-z]{2,8}){0,2}")


@dataclass(frozen=True, slots=True)
class Upload:
    """A file that was sent."""

    id: str
    name: str
    """What it was called by whoever sent it."""
    path: Path
    size: int

    def to_json(self) -> dict[str, Any]:
        return {"id": self.id, "name": self.name, "size": self.size, "path": str(self.path)}


class Uploads:
    """All files that were sent, on disk."""

    def __init__(self, place: Workplace, most_bytes: int) -> None:
        self._folder = place.uploads
        self.most_bytes = most_bytes

    def all(self) -> list[Upload]:
        """Return them, the latest first."""
        paths = [path for path in self._folder.iterdir() if _ID.fullmatch(path.name) and path.is_file()]
        paths.sort(key=lambda path: -path.stat().st_mtime)
        return [Upload(path.name, _name_of(path), path, path.stat().st_size) for path in paths]

    def find(self, name: str) -> Upload | None:
        """Return the file that the list calls ``name``."""
        return next((one for one in self.all() if one.id == name), None)

    async def receive(self, name: str, length: int | None, body: AsyncIterator[bytes]) -> Upload:
        """Write what comes in, piece by piece; whatever is not sent to its end leaves nothing behind.

        Raises ``RefusedError`` for files that are too large, empty or larger than what is free.
        """
        shown = _shown(name)
        if length is not None:
            self._check_size(length)
            try:
                require_space(self._folder, 2 * length)
            except InputError as error:
                raise RefusedError(507, str(error), "disk_full") from error
        path = self._folder / f"{secrets.token_hex(4)}-{plain_name(_stem(shown), 'data')}{_ending(shown)}"
        size = 0
        with new_file(path) as file:
            async for piece in body:
                size += len(piece)
                self._check_size(size)
                file.write(piece)
            if not size:
                raise RefusedError(400, f"{shown} is empty: it has no bytes.", "empty")
            if length is not None and size != length:
                raise RefusedError(400, "The upload ended before the file did. Send it again.", "incomplete")
        write_text(_label(path), json.dumps({"name": shown}, ensure_ascii=False) + "\n")
        return Upload(path.name, shown, path, size)

    def remove(self, name: str) -> bool:
        """Delete a file; say whether it was there."""
        found = self.find(name)
        if found is None:
            return False
        remove_file(found.path)
        remove_file(_label(found.path))
        return True

    def _check_size(self, size: int) -> None:
        if size > self.most_bytes:
            raise RefusedError(
                413,
                f"The file is larger than the {self.most_bytes // 10**6:,} MB that can be uploaded. Give its path "
                "on this machine instead: it is then read where it is.",
                "file_too_large",
            )


def _shown(name: str) -> str:
    """Return the last part of a name, whichever system it comes from, without characters that are obeyed."""
    last = PureWindowsPath(PurePosixPath(name).name).name
    return "".join(c for c in last if c.isprintable())[:200] or "data"


def _ending(name: str) -> str:
    lower = name.lower()
    return next((ending for ending in sorted(ENDINGS, key=len, reverse=True) if lower.endswith(ending)), "")


def _stem(name: str) -> str:
    return name[: len(name) - len(_ending(name))] or name


def _label(path: Path) -> Path:
    return path.with_name(f".{path.name}.named")


def _name_of(path: Path) -> str:
    try:
        return str(json.loads(_label(path).read_text(encoding="utf-8"))["name"])
    except (OSError, ValueError, KeyError, TypeError):
        return path.name
