"""Where results are written: never over what they are made from, and over nothing else without being told to."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from tunesmith.files.ownership import owned_files
from tunesmith.types import InputError


def require_output(
    output: Path,
    *,
    inputs: Iterable[str | Path] = (),
    overwrite: bool = False,
    is_own: Callable[[Path], bool] = lambda _: False,
) -> Path:
    """Return the file that ``output`` stands for, links followed; ``InputError`` where it must not be written.

    Args:
        output: The file to be written.
        inputs: Files and folders that are read; what names no file is passed over.
        overwrite: Whether the user wants a file that is there to be replaced.
        is_own: Whether a file that is there is an earlier result, which may be replaced anyway.
    """
    place = output.resolve()
    if place.is_dir():
        raise InputError(f"--output {output}: that is a folder.", "Name a file in it.")
    for given in inputs:
        if is_part(place, Path(given).expanduser()):
            raise InputError(
                f"--output {output} is what is read as {given}: it would be lost.", "Choose another file with --output."
            )
    for folder in place.parents:
        name = place.relative_to(folder).as_posix()
        if name in (owned_files(folder) or ()) and not is_own(place):
            raise InputError(f"--output {output} is a file of the run in {folder}.", "Choose another file.")
    if place.exists() and not overwrite and not is_own(place):
        raise InputError(
            f"--output {output} exists already.", "Choose another file, or replace that one with --overwrite."
        )
    return place


def is_part(place: Path, given: Path) -> bool:
    """Say whether the file ``place`` is ``given``, under whatever name, or in it."""
    try:
        if place.samefile(given):
            return True
    except (OSError, ValueError):  # one of them does not exist, or is the name of something else
        pass
    try:
        return given.is_dir() and place.is_relative_to(given.resolve())
    except (OSError, ValueError):
        return False
