from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tunesmith.files import cache_root, cached_folder


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_the_root_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert cache_root() == tmp_path / "cache"
    monkeypatch.delenv("TUNESMITH_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_root() == tmp_path / "xdg" / "tunesmith"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_root() == tmp_path / ".cache" / "tunesmith"


def test_a_folder_is_built_once_and_again_only_when_damaged(cache: Path) -> None:
    calls = []

    def build(folder: Path) -> None:
        calls.append(folder)
        (folder / "a").write_text("content")

    first = cached_folder("encoded", "key", build)
    assert first == cache / "encoded" / "key"
    assert cached_folder("encoded", "key", build) == first
    assert len(calls) == 1
    (first / "a").write_text("cut")
    assert (cached_folder("encoded", "key", build) / "a").read_text() == "content"
    assert len(calls) == 2
    assert [path.name for path in (cache / "encoded").iterdir()] == ["key"]


def test_a_build_that_fails_leaves_nothing(cache: Path) -> None:
    def build(folder: Path) -> None:
        (folder / "a").write_text("half")
        raise FileNotFoundError("the source is gone")

    with pytest.raises(FileNotFoundError, match="the source is gone"):
        cached_folder("encoded", "key", build)
    assert list((cache / "encoded").iterdir()) == []


def test_any_key_makes_a_safe_name(cache: Path) -> None:
    for key in ["../../etc", "a/b", "", ".", "x" * 500, "org/name@main:cfg"]:
        folder = cached_folder("k", key, lambda folder: None)
        assert folder.parent == cache / "k"


def test_processes_that_want_the_same_wait_for_the_first(cache: Path) -> None:
    program = """
import sys, time
from pathlib import Path
from tunesmith.files import cached_folder
def build(folder):
    with open(sys.argv[2], "a") as log:
        log.write("built\\n")
    (folder / "a").write_text(sys.argv[1])
    time.sleep(0.3)
print((cached_folder("k", "key", build) / "a").read_text())
"""
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(i), str(cache.parent / "log")], stdout=subprocess.PIPE, text=True
        )
        for i in range(3)
    ]
    outputs = {worker.communicate()[0].strip() for worker in workers}
    assert all(worker.returncode == 0 for worker in workers)
    assert len(outputs) == 1
    assert (cache.parent / "log").read_text() == "built\n"
    assert [path.name for path in (cache / "k").iterdir()] == ["key"]


def test_where_nothing_can_be_locked_or_somebody_hangs_each_builds_its_own(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from filelock import FileLock

    monkeypatch.setattr("tunesmith.files.cache._MAX_WAIT_SECONDS", 0.05)
    (cache / "locks").mkdir(parents=True)
    with FileLock(cache / "locks" / "k-held.lock"):
        assert cached_folder("k", "held", lambda folder: (folder / "a").touch()).is_dir()
    (cache / "locks" / "k-held.lock").unlink()
    (cache / "locks").rmdir()
    (cache / "locks").touch()
    assert cached_folder("k", "other", lambda folder: (folder / "a").touch()).is_dir()
