"""Archives of data files: unpacked into the cache once, and read as the folder that they hold."""

from __future__ import annotations

import lzma
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from tunesmith.data.encodings import MAX_EXPANSION
from tunesmith.data.image_sources import is_archive
from tunesmith.files.cache import cache_root, cached_folder
from tunesmith.files.known_hashes import known_hash
from tunesmith.readable import size
from tunesmith.types import InputError

_CONTENT = "content"
_TARS = (".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz")
_HIDDEN = "__MACOSX"
_DAMAGE = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError)
_ROOM = 0.8
"""Share of the disk's free room that it may take."""


def is_packed(path: Path) -> bool:
    """Say whether a file is a zip or tar archive by its name, and one indeed: sheets and weights are zip files, too."""
    return is_archive(path) or (path.name.lower().endswith(_TARS) and tarfile.is_tarfile(path))


def unpacked(path: Path) -> Path:
    """Return a file or folder with what an archive holds; where that is one file or folder, this itself.

    Raises ``InputError`` where it is damaged, encrypted, empty, or too large for the disk.
    """

    def build(folder: Path) -> None:
        content = folder / _CONTENT
        content.mkdir()
        with _readable(path):
            if zipfile.is_zipfile(path):
                _unpack_zip(path, content)
            else:
                _unpack_tar(path, content)

    found = cached_folder("unpacked", known_hash(path), build) / _CONTENT
    while len(inner := list(found.iterdir())) == 1:
        (found,) = inner
        if found.is_file():
            break
    if found.is_dir() and not inner:
        raise InputError(f"{path.name} holds no files.", "Give an archive of data files, or a folder.")
    return found


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Say of an archive that cannot be unpacked what is wrong with it."""
    try:
        yield
    except (*_DAMAGE, NotImplementedError, RuntimeError) as error:
        raise InputError(f"{path.name} cannot be unpacked: {error}.", "Unpack it first and give the folder.") from error


def _unpack_zip(path: Path, content: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        members = [one for one in archive.infolist() if not one.is_dir() and _is_wanted(one.filename)]
        if any(one.flag_bits & 1 for one in members):
            message = f"{path.name} is encrypted."
            raise InputError(message, "Unpack it with its password first and give the folder.")
        _require_room(path, sum(one.file_size for one in members))
        for one in members:
            archive.extract(one, content)  # which stays below the folder, whatever the name


def _unpack_tar(path: Path, content: Path) -> None:
    with tarfile.open(path) as archive:
        members = [one for one in archive if one.isreg() and _is_wanted(one.name)]
        _require_room(path, sum(one.size for one in members))
        for one in members:
            archive.extract(one, content, filter="data")


def _is_wanted(name: str) -> bool:
    return not any(part == _HIDDEN or part.startswith("._") for part in PurePosixPath(name).parts)


def _require_room(path: Path, num_bytes: int) -> None:
    """Raise ``InputError`` where what is unpacked is out of all proportion, or has no room."""
    if num_bytes > MAX_EXPANSION * max(path.stat().st_size, 1):
        message = f"{path.name} would grow to {size(num_bytes)}, more than {MAX_EXPANSION} times its size."
        raise InputError(message, "Unpack it first and give the folder, if you trust it.")
    root = cache_root()
    root.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(root).free
    if num_bytes > _ROOM * free:
        message = f"{path.name} would grow to {size(num_bytes)}, and {size(free)} are free where the cache is ({root})."
        raise InputError(message, "Make room, name another place in TUNESMITH_CACHE, or unpack it elsewhere.")
