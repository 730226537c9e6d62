"""The one door through which every durable file operation goes.

Crash tests set ``on_operation`` and stop the program at the n-th operation; everything
that must survive a crash is therefore written with the functions of this package.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from tunesmith.types import DiskError, RunError

T = TypeVar("T")

on_operation: Callable[[str, Path], None] | None = None
"""Called with the operation's name and path before each durable operation; tests set it."""

_CAUSES = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "permission was denied",
    errno.EPERM: "permission was denied",
    errno.EIO: "the disk reports an error",
    errno.EFBIG: "files of this size are not allowed here",
}

# Libraries written in Rust (safetensors, tokenizers) put the number of the error in its text.
_RUST_ERROR = re.compile(r"\(os error (\d+)\)")
# numpy gives none: it says how much of an array could be written.
_CUT_SHORT = re.compile(r"\d+ requested and \d+ written")


def perform(operation: str, path: Path, call: Callable[[], T]) -> T:
    """Run one durable operation on ``path``: announce it to the hook, then do it.

    Raises ``RunError`` when the disk is full, read-only or forbids it; other ``OSError`` pass.
    """
    with clear_errors(path):
        if on_operation is not None:
            on_operation(operation, path)
        return call()


@contextmanager
def clear_errors(path: Path) -> Iterator[None]:
    """Turn errors of a full or forbidden disk, from any library, into a ``RunError`` about ``path``."""
    try:
        yield
    except RunError:
        raise
    except Exception as error:
        cause = _CAUSES.get(_error_number(error))
        if cause is None:
            raise
        raise DiskError(
            f"Cannot write {path}: {cause}.",
            "Free space or choose another folder, then run again; what was saved before is untouched.",
        ) from error


def _error_number(error: Exception) -> int:
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    if isinstance(error, OSError) and _CUT_SHORT.search(str(error)):
        return errno.ENOSPC
    found = _RUST_ERROR.search(str(error))
    return int(found.group(1)) if found else 0


def sync_file(path: Path) -> None:
    """Make the content of ``path`` durable."""
    perform("fsync", path, lambda: _sync(path, os.O_RDONLY if os.name == "posix" else os.O_RDWR))


def sync_folder(path: Path) -> None:
    """Make the names inside ``path`` durable. Windows has no such call and needs none."""
    if os.name == "posix":
        perform("fsync", path, lambda: _sync(path, os.O_RDONLY))


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def rename(source: Path, target: Path) -> None:
    """Give ``source`` the name ``target``, in one step."""
    perform("rename", target, lambda: source.replace(target))


def link_or_copy(source: Path, target: Path) -> None:
    """Give a file a second name, or copy it where that cannot be: on another file system, or one without links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def make_folder(path: Path) -> None:
    """Create ``path`` and its parents; one that exists is fine."""
    if not path.is_dir():
        perform("mkdir", path, lambda: path.mkdir(parents=True, exist_ok=True))


def reserve(path: Path) -> None:
    """Take the disk's space for all of a file that has holes, such as one just made to be mapped into memory.

    Writing to a mapped page for which the disk has no room ends the process; here it is a ``RunError``.
    """
    if not hasattr(os, "posix_fallocate"):
        return

    def take() -> None:
        descriptor = os.open(path, os.O_RDWR)
        try:
            os.posix_fallocate(descriptor, 0, os.fstat(descriptor).st_size)
        finally:
            os.close(descriptor)

    perform("reserve", path, take)
