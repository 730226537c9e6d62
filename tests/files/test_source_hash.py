"""The keys of the cache follow the source of what fills it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tunesmith.files.source_hash import source_hash


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package, ``sources_for_a_test``, with a module in it and one below."""
    folder = tmp_path / "sources_for_a_test"
    (folder / "below").mkdir(parents=True)
    for name in ("__init__", "one", "below/__init__", "below/two"):
        (folder / f"{name}.py").write_text(f"NAME = {name!r}\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    return folder


def fresh(*names: str, libraries: tuple[str, ...] = ()) -> str:
    """Return the hash as a new process would."""
    source_hash.cache_clear()
    return source_hash(*names, libraries=libraries)


def test_whatever_changes_in_the_source_changes_the_hash(package: Path) -> None:
    seen = [fresh("sources_for_a_test")]
    assert fresh("sources_for_a_test") == seen[0]
    for change in (
        lambda: (package / "one.py").write_text("NAME = 1\n", encoding="utf-8"),
        lambda: (package / "below" / "two.py").write_text("NAME = 2\n", encoding="utf-8"),
        lambda: (package / "below" / "two.py").rename(package / "below" / "three.py"),
        lambda: (package / "new.py").write_text("", encoding="utf-8"),
        (package / "new.py").unlink,
    ):
        change()
        seen.append(fresh("sources_for_a_test"))
    assert len(set(seen)) == len(seen) - 1  # with the new file gone all is as before it
    assert seen[-1] == seen[-3]


def test_other_modules_do_not_count(package: Path) -> None:
    one = fresh("sources_for_a_test.one")
    (package / "below" / "two.py").write_text("NAME = 2\n", encoding="utf-8")
    assert fresh("sources_for_a_test.one") == one
    assert fresh("sources_for_a_test.one", "sources_for_a_test.below") != one
    assert fresh("sources_for_a_test.one", libraries=("numpy",)) != one


def test_the_place_does_not_count(package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = fresh("sources_for_a_test")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    package.rename(elsewhere / "sources_for_a_test")
    monkeypatch.syspath_prepend(str(elsewhere))
    assert fresh("sources_for_a_test") == first


def test_it_is_read_once_in_a_process(package: Path) -> None:
    first = fresh("sources_for_a_test")
    (package / "one.py").write_text("NAME = 1\n", encoding="utf-8")
    assert source_hash("sources_for_a_test") == first


def test_two_processes_agree() -> None:
    program = "from tunesmith.data.version import reading_version; print(reading_version())"
    found = [
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    ]
    from tunesmith.data.version import reading_version

    assert found == [f"{reading_version()}\n"] * 2
