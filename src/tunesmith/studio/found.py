"""Runs and studies below the root, found by their files; a browser names them by what this list calls them."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tunesmith.files.lock import HOLDER
from tunesmith.files.manifest import MANIFEST
from tunesmith.files.ownership import MARK
from tunesmith.studio.processes import Process, holder

Kind = Literal["run", "study"]
DEPTH = 2
"""Levels below the root that are looked at: runs of a sweep lie in a folder of their own."""
DEPTH_OF_STUDIES = 3
"""Levels below the folder of a study: runs/METHOD/seed-0."""


@dataclass(frozen=True, slots=True)
class Found:
    """The folder of a run or a study."""

    kind: Kind
    folder: Path
    name: str
    """Where it is below the root."""

    @property
    def id(self) -> str:
        return id_of(self.name)


def id_of(name: str) -> str:
    """Return what an address calls a folder: of no use to whoever wants to name another one."""
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def found_in(root: Path) -> list[Found]:
    """Return all runs and studies, the latest first; those of a study are not listed beside it."""
    return sorted(_found(root, root, DEPTH), key=lambda one: -_changed(one.folder))


def find(root: Path, name: str) -> Found | None:
    """Return what the list calls ``name`` (an id): a run or study of the list, or a run of one of its studies."""
    listed = found_in(root)
    studies = (one for study in listed if study.kind == "study" for one in runs_of(root, study.folder))
    return next((one for one in (*listed, *studies) if one.id == name), None)


def runs_of(root: Path, folder: Path, depth: int = DEPTH_OF_STUDIES) -> Iterator[Found]:
    """Yield the runs in the folder of a study."""
    for path in _folders(folder):
        if is_run(path):
            yield Found("run", path, path.relative_to(root).as_posix())
        elif depth > 1:
            yield from runs_of(root, path, depth - 1)


def _folders(folder: Path) -> list[Path]:
    try:
        entries = [Path(entry.path) for entry in os.scandir(folder) if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return []
    return sorted(path for path in entries if not path.name.startswith("."))


def _found(root: Path, folder: Path, depth: int) -> Iterator[Found]:
    for path in _folders(folder):
        name = path.relative_to(root).as_posix()
        if (path / "study.json").is_file() or (path / "asked.json").is_file():
            yield Found("study", path, name)
        elif is_run(path):
            yield Found("run", path, name)
        elif depth > 1:
            yield from _found(root, path, depth - 1)


def is_run(folder: Path) -> bool:
    """Say whether a run has begun in a folder."""
    return (folder / "config.yaml").is_file() or (folder / MARK).is_file()


def _changed(folder: Path) -> float:
    times = [0.0]
    for name in ("training.json", "metrics.jsonl", "study.json", "config.yaml", MARK):
        try:
            times.append((folder / name).stat().st_mtime)
        except OSError:
            continue
    return max(times)


def changed(folder: Path) -> float:
    """Return when something of a run or study was written last, in seconds since 1970."""
    return _changed(folder)


def process_at(folder: Path) -> Process | None:
    """Return the process that works in a folder; None where none does."""
    return holder(read_json(folder / HOLDER))


def is_finished(folder: Path) -> bool:
    """Say whether a run came to its end: its manifest is written last."""
    return (folder / MANIFEST).is_file() and (folder / "config.yaml").is_file()


def read_json(path: Path) -> Any:
    """Return the content of a JSON file; None where it is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None


def read_mapping(path: Path) -> Mapping[str, Any]:
    """Return the content of a JSON file that holds names and values; an empty one otherwise."""
    content = read_json(path)
    return content if isinstance(content, dict) else {}
