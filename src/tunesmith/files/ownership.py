"""Which files of a folder a run has written: nothing else is ever removed or replaced.

A finished run's manifest names its files. A run that did not finish has ``.run.json`` instead, written before
everything else. What neither names (checkpoints, event files, report, model card) is known by its name within a
folder that is a run, and the report and the card by their content, too: they are often written anew by hand.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

from tunesmith.files.atomic import is_leftover, write_text
from tunesmith.files.hashing import hash_file
from tunesmith.files.lock import HOLDER, LOCK
from tunesmith.files.manifest import MANIFEST, names_in_manifest

MARK = ".run.json"
STAGED = ".new"
"""The folder, in that of a run, in which the one that is to replace it is made."""
REPLACED = ".old.json"
"""The names of the files of a run that is being replaced."""

RECORDS = (
    "config.yaml",
    "environment.json",
    "metrics.jsonl",
    "evaluation.json",
    "predictions.parquet",
    "scores.npz",
    "training.json",
    "tracker.json",
)
"""What every run writes besides its model; all of them are in the manifest."""

COLUMNS = ("untuned", "states", "general", "calibration", "teacher", "mined", "reference")
"""What a model makes of rows while the run goes on, by kind."""
FOLDERS = ("checkpoints", "tensorboard", *COLUMNS)
EXPORTS = "exports.jsonl"
"""What came of the run's exports, a line each, with the folder of each relative to the run's."""
PAGES = ("report.html", "README.md", "rejected.jsonl", EXPORTS)
"""Made again at will, or free to be changed: not in the manifest."""

_STEP = r"(step|weights)-\d+/((weights|optimizer|method)\.safetensors|(state|manifest)\.json)"
_LIVING = re.compile(
    rf"checkpoints/{_STEP}"
    r"|tensorboard/events\.out\.tfevents\.[^/]+"
    rf"|({'|'.join(COLUMNS)})(/[^/]+)?/[^/]+\.(npy|json)"
    r"|\.model/.+"
)


def write_mark(folder: Path, names: Collection[str]) -> None:
    """Say that ``folder`` is a run's, and which files, besides ``RECORDS``, it writes."""
    content = {"run_of": "tunesmith", "files": sorted(names)}
    write_text(folder / MARK, json.dumps(content, indent=1) + "\n")


def marked_names(folder: Path) -> list[str] | None:
    """Return the files of a run that did not finish; None where the folder is none."""
    content = _read_json(folder / MARK)
    names = content.get("files") if isinstance(content, dict) and content.get("run_of") == "tunesmith" else None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return None
    return [*RECORDS, *names]


def owned_files(folder: Path) -> list[str] | None:
    """Return the files that the run in ``folder`` has written, relative to it; None where there is no run."""
    finished, marked = names_in_manifest(folder), marked_names(folder)
    if finished is not None and not {"config.yaml", "training.json"} <= set(finished):
        finished = None  # of something else
    if finished is None and marked is None:
        return None
    named = {*(finished or ()), *(marked or ()), MARK}
    if finished is not None:
        named.add(MANIFEST)
    return [name for name in _files(folder) if name in named or _is_living(folder, name)]


def foreign_entries(folder: Path) -> list[str]:
    """Return what is in the way of a new run in ``folder``: the names directly in it that no run of ours explains."""
    owned = set(owned_files(folder) or ())
    foreign = [name for name in _files(folder) if name not in owned and not is_leftover(name.split("/", 1)[0])]
    return sorted({name.split("/", 1)[0] for name in foreign} | set(_empty_folders(folder)))


def obstacles(folder: Path) -> list[str]:
    """Return the foreign files of a run's folder that have names which a run of ours would write to."""
    reserved = {*RECORDS, *PAGES, *FOLDERS, MANIFEST, MARK, REPLACED}
    owned = set(owned_files(folder) or ())
    found = (folder / name for name in reserved)
    return sorted(
        path.name
        for path in found
        if os.path.lexists(path)
        and path.name not in owned
        and not (path.name in FOLDERS and path.is_dir() and not path.is_symlink())
    )


def _is_living(folder: Path, name: str) -> bool:
    if _LIVING.fullmatch(name) or any(is_leftover(part) for part in name.split("/")):
        return True
    known = _PAGES.get(name)
    return known is not None and known(folder / name)


def is_report(path: Path) -> bool:
    """Say whether a file is a page that was written by ``tunesmith report``."""
    return b'<meta name="generator" content="tunesmith ' in _beginning(path)


def _is_card(path: Path) -> bool:
    environment = _read_json(path.parent / "environment.json")
    recorded = environment.get("card_sha256") if isinstance(environment, dict) else None
    if recorded is None:  # of an older version
        return b"tunesmith" in _beginning(path)
    return bool(hash_file(path) == recorded)


def _is_rejected(path: Path) -> bool:
    try:
        first = json.loads(_beginning(path).split(b"\n", 1)[0])
    except ValueError:  # a row that is longer
        return _beginning(path).startswith(b'{"place": ')
    return isinstance(first, dict) and {"place", "reason", "content"} <= first.keys()


_PAGES: dict[str, Callable[[Path], bool]] = {
    "report.html": is_report,
    "README.md": _is_card,
    "rejected.jsonl": _is_rejected,
    EXPORTS: lambda path: _beginning(path).startswith(b'{"folder": '),
}


def _files(folder: Path) -> Iterator[str]:
    """Yield the files in ``folder`` and below, but for the lock and what is made to replace the run."""
    for parent, folders, names in os.walk(folder):
        relative = Path(parent).relative_to(folder)
        links = [name for name in folders if (Path(parent) / name).is_symlink()]
        if not relative.parts:
            folders[:] = [name for name in folders if name != STAGED]
        own = () if relative.parts else (LOCK, HOLDER, REPLACED)
        for name in sorted([*names, *links]):
            if name not in own:
                yield (relative / name).as_posix()


def _empty_folders(folder: Path) -> list[str]:
    """Return the folders directly in ``folder`` that hold nothing and are none of ours."""
    return [
        entry.name
        for entry in (folder.iterdir() if folder.is_dir() else ())
        if entry.is_dir() and entry.name not in (*FOLDERS, STAGED) and not any(entry.iterdir())
    ]


def _beginning(path: Path, num_bytes: int = 4096) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(num_bytes)
    except OSError:
        return b""


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
