"""Files and folders that are there whole or not at all.

Everything is first written under a temporary name beside its final one, made durable, and
then renamed. A crash can leave only temporary names behind: ``sweep`` clears them away.

    .NAME.tmp-xxxxxxxx       being written
    .NAME.old-xxxxxxxx       the folder that is being replaced; ``sweep`` puts it back if NAME is missing
    .NAME.removed-xxxxxxxx   being deleted
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from tunesmith.files.manifest import MANIFEST, render_manifest, write_manifest
from tunesmith.files.operations import clear_errors, make_folder, perform, rename, sync_file, sync_folder

_UMASK = os.umask(0o022)  # the only way to read it is to set it
os.umask(_UMASK)
_FILE_MODE = 0o666 & ~_UMASK

_LEFTOVER = re.compile(r"\.(?P<name>.+)\.(?P<kind>tmp|old|removed)-[0-9a-f]{8}")


def write_bytes(path: Path, data: bytes) -> None:
    """Replace the content of ``path``: after a crash it holds the old bytes or the new ones.

    Raises ``RunError`` when the disk is full or forbids it; ``path`` is then untouched.
    """
    make_folder(path.parent)
    temporary = _hidden(path, "tmp")
    try:
        perform("write", temporary, lambda: temporary.write_bytes(data))
        sync_file(temporary)
        rename(temporary, path)
    except BaseException:
        _discard(temporary)
        raise
    sync_folder(path.parent)


def write_text(path: Path, text: str) -> None:
    """Replace the content of ``path`` as ``write_bytes`` does, in UTF-8 with line ends as given."""
    write_bytes(path, text.encode("utf-8"))


@contextmanager
def new_file(final: Path) -> Iterator[IO[bytes]]:
    """Yield a file to write, which becomes ``final``, replacing what is there, when the block ends without an error.

    For what is too long to be held in memory. Raises ``RunError`` when the disk is full or forbids it; ``final`` is
    then untouched.
    """
    make_folder(final.parent)
    temporary = _hidden(final, "tmp")
    try:
        with clear_errors(final), temporary.open("xb") as file:
            yield file
        sync_file(temporary)
        rename(temporary, final)
    except BaseException:
        _discard(temporary)
        raise
    sync_folder(final.parent)


@contextmanager
def new_folder(final: Path, *, replace: bool = False, durable: bool = True) -> Iterator[Path]:
    """Yield an empty folder to fill, which becomes ``final`` when the block ends without an error.

    A ``manifest.json`` of everything in it is added, and all of it is durable before the
    rename. On an error the temporary folder is removed and ``final`` is as it was. With
    ``replace`` an existing ``final`` is moved aside first and deleted last; should a crash
    fall between those two, ``sweep(final.parent)`` puts the old folder back. What is not
    ``durable`` has no manifest, and a loss of power may leave anything of it: it costs less
    to make again than to wait for the disk.

    Raises ``FileExistsError`` when ``final`` exists and ``replace`` is not set, ``RunError``
    when the disk is full or forbids it.
    """
    _refuse_existing(final, replace=replace)
    make_folder(final.parent)
    temporary = _hidden(final, "tmp")
    perform("mkdir", temporary, temporary.mkdir)
    old: Path | None = None
    try:
        with clear_errors(final):
            yield temporary
        if durable:
            write_manifest(temporary)
            _sync_tree(temporary)
        _refuse_existing(final, replace=replace)
        if final.exists():
            old = _hidden(final, "old")
            rename(final, old)
        rename(temporary, final)
    except BaseException:
        if old is not None and not final.exists() and old.exists():
            rename(old, final)
        _discard(temporary)
        raise
    if durable:
        sync_folder(final.parent)
    if old is not None:
        _delete_tree(old)


def update_manifest(folder: Path, names: Collection[str]) -> None:
    """Record the files of these names, as far as they are there, in the manifest of a living folder, atomically."""
    write_text(folder / MANIFEST, render_manifest(folder, names))


def remove_file(path: Path) -> None:
    """Delete a file; one that is gone already is fine."""
    if path.exists() or path.is_symlink():
        _delete_tree(path)


def remove_empty_folders(path: Path) -> None:
    """Delete ``path`` and the folders below it as far as no file is in them."""
    if not path.is_dir() or path.is_symlink():
        return
    for entry in sorted(path.iterdir()):
        remove_empty_folders(entry)
    if not any(path.iterdir()):
        perform("rmdir", path, path.rmdir)


def remove_folder(path: Path) -> None:
    """Delete a folder; one that is half deleted never carries its own name."""
    if not path.exists():
        return
    hidden = _hidden(path, "removed")
    rename(path, hidden)
    sync_folder(path.parent)
    _delete_tree(hidden)


def sweep(folder: Path, *, min_age_seconds: float = 0.0) -> list[Path]:
    """Clear away what crashes left directly inside ``folder``; return what was removed or put back.

    Call it only while holding the folder's lock, or with an age that no living writer reaches.
    """
    swept = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        found = _LEFTOVER.fullmatch(path.name)
        if found is None or not _is_older(path, min_age_seconds):
            continue
        original = folder / found["name"]
        if found["kind"] == "old" and not original.exists():
            rename(path, original)
            sync_folder(folder)
            swept.append(original)
        else:
            _delete_tree(path)
            swept.append(path)
    return swept


def is_leftover(name: str) -> bool:
    """Say whether a file or folder of this name is unfinished or half-deleted work."""
    return _LEFTOVER.fullmatch(name) is not None


def _refuse_existing(final: Path, *, replace: bool) -> None:
    if not replace and final.exists():
        raise FileExistsError(f"{final} exists already")


def _hidden(path: Path, kind: str) -> Path:
    return path.with_name(f".{path.name}.{kind}-{secrets.token_hex(4)}")


def _is_older(path: Path, seconds: float) -> bool:
    with suppress(FileNotFoundError):
        return seconds <= 0 or time.time() - path.stat().st_mtime >= seconds
    return False


def _sync_tree(folder: Path) -> None:
    """Make a whole folder durable, with the usual permissions: some libraries write files that only we could read."""
    for parent, _, names in os.walk(folder, topdown=False):
        for name in sorted(names):
            path = Path(parent) / name
            path.chmod(_FILE_MODE)
            sync_file(path)
        sync_folder(Path(parent))


def _delete_tree(path: Path) -> None:
    """Delete a file or a folder; somebody else deleting it too is fine."""
    with suppress(FileNotFoundError):
        if path.is_dir() and not path.is_symlink():
            perform("unlink", path, lambda: shutil.rmtree(path))
        else:
            perform("unlink", path, path.unlink)


def _discard(temporary: Path) -> None:
    """Remove unfinished work after an error, which stays the error that is reported."""
    with suppress(Exception):
        _delete_tree(temporary)
