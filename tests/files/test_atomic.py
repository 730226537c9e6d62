from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tunesmith.files import (
    new_folder,
    operations,
    remove_folder,
    sweep,
    update_manifest,
    verify_manifest,
    write_bytes,
    write_text,
)
from tunesmith.types import RunError


class Crash(BaseException):
    """The process ended here: nothing after it runs, not even cleaning up."""


class CrashAt:
    """Hook that lets ``limit`` operations through and fails every later one, as a dead process does."""

    def __init__(self, limit: int, error: Callable[[], BaseException] = Crash) -> None:
        self.left = limit
        self.error = error
        self.names: list[str] = []

    def __call__(self, operation: str, path: Path) -> None:
        self.names.append(operation)
        if self.left == 0:
            raise self.error()
        self.left -= 1


@pytest.fixture(autouse=True)
def _no_hook() -> Iterator[None]:
    yield
    operations.on_operation = None


def crash_everywhere(prepare: Callable[[Path], None], work: Callable[[Path], None], root: Path) -> Iterator[Path]:
    """Yield one folder for each operation of ``work``, in which ``work`` crashed at that operation."""
    for limit in range(1000):
        folder = root / str(limit)
        folder.mkdir()
        prepare(folder)
        operations.on_operation = CrashAt(limit)
        try:
            work(folder)
        except Crash:
            operations.on_operation = None
            yield folder
        else:
            operations.on_operation = None
            assert limit >= 3, "the work has fewer operations than a durable write needs"
            return
    raise AssertionError("the work never ended")


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("old", [None, "old " * 1000])
def test_text_is_old_or_new_after_a_crash_at_any_operation(tmp_path: Path, old: str | None) -> None:
    new = "neu: ä 汉字\r\n" * 500

    def prepare(folder: Path) -> None:
        if old is not None:
            (folder / "a.txt").write_text(old)

    seen = set()
    for folder in crash_everywhere(prepare, lambda folder: write_text(folder / "a.txt", new), tmp_path):
        sweep(folder)
        found = (folder / "a.txt").read_bytes().decode() if (folder / "a.txt").exists() else None
        assert found in (old, new)
        seen.add(found)
        assert {path.name for path in folder.iterdir()} <= {"a.txt"}
    assert seen == {old, new}


@pytest.mark.parametrize("replace", [False, True])
def test_folder_is_old_or_new_after_a_crash_at_any_operation(tmp_path: Path, replace: bool) -> None:
    old = {"a": b"1" * 100, "b": b"2", "c/d": b"3"}
    new = {"a": b"9" * 100, "deep/er/e": b"8"}

    def fill(files: dict[str, bytes], folder: Path) -> None:
        for name, data in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)

    def prepare(folder: Path) -> None:
        if replace:
            with new_folder(folder / "step-2") as temporary:
                fill(old, temporary)

    def work(folder: Path) -> None:
        with new_folder(folder / "step-2", replace=replace) as temporary:
            fill(new, temporary)

    seen = set()
    for folder in crash_everywhere(prepare, work, tmp_path):
        sweep(folder)
        final = folder / "step-2"
        if not final.exists():
            assert not replace
            continue
        assert verify_manifest(final) == []
        found = content(final)
        del found["manifest.json"]
        assert found in (old, new)
        seen.add(len(found))
        assert [path.name for path in folder.iterdir()] == ["step-2"]
    assert seen == ({2, 3} if replace else {2})


def test_a_folder_being_removed_is_whole_or_gone(tmp_path: Path) -> None:
    def prepare(folder: Path) -> None:
        with new_folder(folder / "step-1") as temporary:
            for number in range(5):
                (temporary / str(number)).write_bytes(b"x")

    for folder in crash_everywhere(prepare, lambda folder: remove_folder(folder / "step-1"), tmp_path):
        sweep(folder)
        assert not (folder / "step-1").exists() or verify_manifest(folder / "step-1") == []


def test_sweep_leaves_the_users_own_files(tmp_path: Path) -> None:
    for name in (".git", ".env", "a.tmp-12345678", ".b.tmp-xyz", "step-1"):
        (tmp_path / name).mkdir()
    (tmp_path / ".a.tmp-0123abcd").write_text("")
    (tmp_path / ".b.removed-0123abcd").mkdir()
    assert sweep(tmp_path, min_age_seconds=60) == []
    assert [path.name for path in sweep(tmp_path)] == [".a.tmp-0123abcd", ".b.removed-0123abcd"]
    assert len(list(tmp_path.iterdir())) == 5


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_disk_errors_are_run_errors_and_leave_nothing_behind(tmp_path: Path, number: int) -> None:
    write_text(tmp_path / "a", "old")
    for limit in range(3):
        operations.on_operation = CrashAt(limit, lambda: OSError(number, "no"))
        with pytest.raises(RunError, match=r"Cannot write .*a"):
            write_text(tmp_path / "a", "new")
        operations.on_operation = None
        assert (tmp_path / "a").read_text() == "old"
    sweep(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_library_that_meets_a_full_disk_inside_the_block_gives_a_run_error(tmp_path: Path) -> None:
    class SafetensorError(Exception):
        pass

    with pytest.raises(RunError, match="the disk is full"), new_folder(tmp_path / "a"):
        raise SafetensorError("Error while serializing: IoError(No space left on device (os error 28))")
    with pytest.raises(RunError, match="the disk is full"), new_folder(tmp_path / "a"):
        raise OSError(errno.ENOSPC, "full")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_for_real(tmp_path: Path) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no /dev/full")
    with pytest.raises(RunError, match="the disk is full"), new_folder(tmp_path / "a"), full.open("wb") as file:
        file.write(b"x" * 100_000)
    assert list(tmp_path.iterdir()) == []


def test_new_folder_refuses_an_existing_one(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(FileExistsError), new_folder(tmp_path / "a"):
        pytest.fail("the block must not run")


def test_an_error_in_the_block_leaves_the_old_folder(tmp_path: Path) -> None:
    with new_folder(tmp_path / "a") as folder:
        (folder / "x").write_text("1")
    with pytest.raises(ZeroDivisionError), new_folder(tmp_path / "a", replace=True) as folder:
        (folder / "x").write_text("2")
        raise ZeroDivisionError
    assert (tmp_path / "a" / "x").read_text() == "1"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_manifest_is_brought_up_to_date(tmp_path: Path) -> None:
    with new_folder(tmp_path / "a") as folder:
        write_bytes(folder / "x", b"1")
    write_bytes(tmp_path / "a" / "x", b"22")
    write_bytes(tmp_path / "a" / "checkpoints" / "y", b"3")
    assert len(verify_manifest(tmp_path / "a")) == 1
    update_manifest(tmp_path / "a", ["x", "not yet there"])
    assert verify_manifest(tmp_path / "a") == []
    assert "checkpoints" not in (tmp_path / "a" / "manifest.json").read_text()


@pytest.mark.parametrize("replace", [False, True])
def test_a_folder_that_need_not_be_durable_waits_for_no_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, replace: bool
) -> None:
    final = tmp_path / "folder"
    if replace:
        final.mkdir()
        (final / "old").write_text("old")
    seen: list[str] = []
    monkeypatch.setattr(operations, "on_operation", lambda operation, _path: seen.append(operation))
    with new_folder(final, replace=replace, durable=False) as temporary:
        (temporary / "new").write_text("new")
        assert not (final / "new").exists()
    assert [path.name for path in final.iterdir()] == ["new"]
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]
    assert "fsync" not in seen
