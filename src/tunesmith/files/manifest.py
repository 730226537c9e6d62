"""``manifest.json``: the size and SHA-256 of every file in a folder.

safetensors files carry no checksum, and a flipped bit in them loads silently; nothing
that a run depends on is therefore read before its manifest was verified. The manifest
has exactly one valid text for a given content, so that damage to itself shows as well.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection
from pathlib import Path, PurePosixPath
from typing import Any

from tunesmith.files.hashing import hash_file
from tunesmith.files.operations import perform
from tunesmith.types import Problem

MANIFEST = "manifest.json"
_REMEDY = "Use an intact copy of the folder, or make it again."


def write_manifest(folder: Path) -> None:
    """Record every file in ``folder`` and below; names that start with a dot are left out.

    This is not atomic by itself: ``new_folder`` calls it before the folder gets its name. To
    bring the manifest of a living folder up to date use ``update_manifest``.
    """
    text = render_manifest(folder)
    path = folder / MANIFEST
    perform("write", path, lambda: path.write_text(text, encoding="utf-8", newline="\n"))


def render_manifest(folder: Path, names: Collection[str] | None = None) -> str:
    """Return the text of the manifest that ``folder`` should have now.

    ``names`` are those that it is to hold, relative to ``folder``, as far as they are there; without them it holds
    every file.
    """
    if names is None:
        names = _list_files(folder)
    return _render({name: _describe(folder / name) for name in sorted(names) if (folder / name).is_file()})


def names_in_manifest(folder: Path) -> list[str] | None:
    """Return the names of the files that ``folder``'s manifest holds; None where there is no manifest of ours."""
    try:
        text = (folder / MANIFEST).read_bytes().decode("utf-8")
        entries = json.loads(text)["files"]
        if _render(entries) != text or any(_is_outside(name) for name in entries):
            return None
        return list(entries)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def verify_manifest(folder: Path, *, hashes: bool = True, hash_of: Callable[[Path], str] = hash_file) -> list[Problem]:
    """Return one problem per file that is missing, of another size, or changed; empty when all is well.

    Files that the manifest does not name are ignored. Without ``hashes`` only presence and
    sizes are compared, which costs next to nothing. ``hash_of`` says how a file's hash is had.
    """
    try:
        text = (folder / MANIFEST).read_bytes().decode("utf-8")
        entries = json.loads(text)["files"]
        if _render(entries) != text:
            raise ValueError("not in canonical form")
        problems = [_verify_file(folder, name, entry, hash_of if hashes else None) for name, entry in entries.items()]
    except FileNotFoundError:
        return [_error(f"{folder / MANIFEST} is missing, so that the files beside it cannot be trusted.")]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        return [_error(f"{folder / MANIFEST} is damaged ({type(error).__name__}).")]
    return [problem for problem in problems if problem is not None]


def _list_files(folder: Path) -> list[str]:
    names = []
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        relative = Path(parent).relative_to(folder)
        names += [(relative / name).as_posix() for name in files if not name.startswith(".")]
    return sorted(name for name in names if name != MANIFEST)


def _is_outside(name: str) -> bool:
    return PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts


def _describe(path: Path) -> dict[str, Any]:
    return {"sha256": hash_file(path), "size": path.stat().st_size}


def _render(entries: dict[str, Any]) -> str:
    return json.dumps({"files": entries}, indent=1, sort_keys=True, ensure_ascii=True) + "\n"


def _verify_file(
    folder: Path, name: str, entry: dict[str, Any], hash_of: Callable[[Path], str] | None
) -> Problem | None:
    if _is_outside(name):
        raise ValueError("path outside the folder")
    path = folder / name
    expected_size, expected_hash = entry["size"], entry["sha256"]
    try:
        size = path.stat().st_size
        if size != expected_size:
            return _error(f"{path} has {size:,} bytes, expected {expected_size:,}: it was truncated or replaced.")
        if hash_of is not None and hash_of(path) != expected_hash:
            return _error(f"{path} was changed or damaged: its SHA-256 is not the one recorded when it was written.")
    except FileNotFoundError:
        return _error(f"{path} is missing.")
    except OSError as error:
        return _error(f"{path} cannot be read: {error.strerror or error}.")
    return None


def _error(message: str) -> Problem:
    return Problem("error", message, _REMEDY)
