"""The cache: folders built once per content key and shared by all runs of a user."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tunesmith.files.atomic import new_folder, sweep
from tunesmith.files.hashing import hash_bytes
from tunesmith.files.known_hashes import known_hash
from tunesmith.files.manifest import verify_manifest
from tunesmith.files.root import cache_root

__all__ = ["cache_root", "cached_folder"]

# No build takes longer; leftovers older than this belong to a process that died.
_MAX_BUILD_SECONDS = 2 * 24 * 3600.0
_MAX_WAIT_SECONDS = 600.0
"""For somebody else to build a folder."""
_SAFE_NAME = re.compile(r"\w[\w.-]{0,119}", re.ASCII)


def cached_folder(kind: str, key: str, build: Callable[[Path], None], *, hashes: bool = True) -> Path:
    """Return the folder of ``key``, calling ``build`` with an empty one to fill when there is none.

    Only complete folders carry the key's name. Of several processes that want one, the first builds it and the others
    wait; where they cannot know of each other, or one takes very long, each builds its own, the first to finish wins,
    and all get the winner's. One whose files are missing or changed is built
    again. Large files are read for that only when something says that they were touched
    (``known_hash``); without ``hashes`` sizes alone are compared.
    """
    if not _SAFE_NAME.fullmatch(key):
        key = hash_bytes(key.encode("utf-8"))
    folder = cache_root() / kind / key
    if _is_complete(folder, hashes=hashes):
        return folder
    with _turn(folder):
        if not _is_complete(folder, hashes=hashes):
            _build(folder, build, hashes=hashes)
    return folder


def _build(folder: Path, build: Callable[[Path], None], *, hashes: bool) -> None:
    sweep(folder.parent, min_age_seconds=_MAX_BUILD_SECONDS)
    damaged = folder.exists()
    try:
        with new_folder(folder, replace=damaged) as temporary:
            build(temporary)
    except OSError:
        # Somebody else finished first: renaming onto their folder failed, and theirs will do.
        if not _is_complete(folder, hashes=hashes):
            raise


@contextmanager
def _turn(folder: Path) -> Iterator[None]:
    """Wait for whoever builds a folder now; two that build the same are a waste, and no more than that."""
    from filelock import FileLock, Timeout

    place = cache_root() / "locks" / f"{folder.parent.name}-{folder.name}.lock"
    lock = FileLock(place)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=_MAX_WAIT_SECONDS)
    except (OSError, Timeout, NotImplementedError):
        yield  # a folder that cannot be locked, or somebody who hangs
        return
    try:
        yield
    finally:
        lock.release()


def _is_complete(folder: Path, *, hashes: bool) -> bool:
    return folder.is_dir() and not verify_manifest(folder, hashes=hashes, hash_of=known_hash)
