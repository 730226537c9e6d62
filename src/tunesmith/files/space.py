"""Checks of a folder before work starts, so that hours of it are not lost at the first save."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from tunesmith import readable
from tunesmith.types import InputError


def nearest_existing(folder: Path) -> Path:
    """Return ``folder`` or the nearest of its parents that exists."""
    folder = folder.absolute()
    return next(path for path in (folder, *folder.parents) if path.exists())


def require_writable(folder: Path) -> None:
    """Raise ``InputError`` when files cannot be written in ``folder``, or it cannot be created."""
    existing = nearest_existing(folder)
    if not existing.is_dir():
        raise InputError(f"{folder} cannot be a folder: {existing} is a file.", "Choose another folder with --output.")
    try:
        with tempfile.NamedTemporaryFile(dir=existing, prefix=".writable-") as file:
            file.write(b"x")
    except OSError as error:
        raise InputError(
            f"Nothing can be written in {existing}: {error.strerror or error}.",
            "Choose another folder with --output, or change its permissions.",
        ) from error


def require_space(folder: Path, num_bytes: int) -> None:
    """Raise ``InputError`` when the disk of ``folder`` has fewer than ``num_bytes`` bytes free."""
    free = shutil.disk_usage(nearest_existing(folder)).free
    if free < num_bytes:
        raise InputError(
            f"The disk of {folder} has {readable.size(free)} free; this run needs about {readable.size(num_bytes)}.",
            "Free some space, choose another folder with --output, or keep fewer checkpoints.",
        )
