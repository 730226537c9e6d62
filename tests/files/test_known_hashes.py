"""The hash of a large file is remembered until anything says that the file was touched."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tunesmith.files import cached_folder, known_hashes
from tunesmith.files.hashing import hash_file
from tunesmith.files.known_hashes import ALWAYS_READ, known_hash


@pytest.fixture(autouse=True)
def reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """What was read, in a cache of its own; files count as settled at once."""
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(known_hashes, "_SETTLED_NANOSECONDS", 0)
    read: list[Path] = []

    def counted(path: Path) -> str:
        read.append(path)
        return hash_file(path)

    monkeypatch.setattr(known_hashes, "hash_file", counted)
    return read


def write(path: Path, size: int = ALWAYS_READ + 7) -> None:
    with path.open("wb") as file:
        file.truncate(size)
    time.sleep(0.02)


def flip(path: Path, *, hidden: bool) -> None:
    """Change a byte; ``hidden``: and put back the time at which the content was changed."""
    before = path.stat()
    with path.open("r+b") as file:
        file.seek(12345)
        file.write(b"\1")
    if hidden:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    time.sleep(0.02)


@pytest.mark.parametrize("hidden", [False, True])
def test_it_is_read_once_and_again_when_touched(hidden: bool, tmp_path: Path, reads: list[Path]) -> None:
    path = tmp_path / "weights"
    write(path)
    first = known_hash(path)
    assert first == known_hash(path) == hash_file(path)
    assert len(reads) == 1
    flip(path, hidden=hidden)
    assert known_hash(path) == hash_file(path) != first
    assert len(reads) == 2


def test_another_file_under_the_same_name_is_read(tmp_path: Path, reads: list[Path]) -> None:
    path = tmp_path / "weights"
    write(path)
    known_hash(path)
    write(tmp_path / "other", ALWAYS_READ + 8)
    (tmp_path / "other").replace(path)
    assert known_hash(path) == hash_file(path)
    assert len(reads) == 2


def test_what_was_written_just_now_is_not_remembered(
    tmp_path: Path, reads: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known_hashes, "_SETTLED_NANOSECONDS", 10**12)
    write(tmp_path / "weights")
    for _ in range(2):
        known_hash(tmp_path / "weights")
    assert len(reads) == 2


def test_a_note_that_is_damaged_or_cannot_be_kept_costs_time_only(tmp_path: Path, reads: list[Path]) -> None:
    path = tmp_path / "weights"
    write(path)
    expected = known_hash(path)
    (note,) = (tmp_path / "cache" / "hashes").iterdir()
    note.write_text('{"stamp": ', encoding="utf-8")
    assert known_hash(path) == expected
    note.unlink()
    note.parent.rmdir()
    note.parent.write_text("no folder", encoding="utf-8")
    assert known_hash(path) == expected
    assert len(reads) == 3


@pytest.mark.parametrize("size", [1000, ALWAYS_READ + 7])
def test_a_cached_folder_with_a_changed_byte_is_built_again(size: int) -> None:
    built: list[Path] = []

    def build(folder: Path) -> None:
        built.append(folder)
        write(folder / "weights", max(size, 20_000))

    folder = cached_folder("models", "key", build)
    assert cached_folder("models", "key", build) == folder
    assert len(built) == 1
    flip(folder / "weights", hidden=True)
    assert cached_folder("models", "key", build) == folder
    assert len(built) == 2
    assert cached_folder("models", "key", build) == folder
    assert len(built) == 2
