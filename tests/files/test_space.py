from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from tunesmith.files import require_space, require_writable
from tunesmith.types import InputError


def test_a_folder_that_can_be_made_is_writable_and_left_as_it_was(tmp_path: Path) -> None:
    require_writable(tmp_path / "not" / "yet")
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("")
    with pytest.raises(InputError, match="a is a file"):
        require_writable(tmp_path / "a" / "b")


def test_a_read_only_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(tempfile, "NamedTemporaryFile", refuse)
    with pytest.raises(InputError, match="Permission denied"):
        require_writable(tmp_path)


def test_too_little_space_is_said_in_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1_500_000_000))
    require_space(tmp_path / "x", 1_500_000_000)
    with pytest.raises(InputError, match=r"1\.5 GB free; this run needs about 2\.0 TB"):
        require_space(tmp_path / "x", 2_000_000_000_000)
