"""Folders that ``datasets`` saved, read as it would read them: which files hold the rows of which split."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tunesmith.data.sources import DataFile, check_file, splits_of
from tunesmith.types import InputError


def files_of_saved_set(folder: Path) -> tuple[list[DataFile], set[str]] | None:
    """Return the files of a data set (or of several, by split), and the names of splits that are not read.

    None where ``datasets`` saved none. Raises ``InputError`` where files that it speaks of are missing.
    """
    several = _described(folder / "dataset_dict.json").get("splits")
    if isinstance(several, list):
        names = list(map(str, several))
        chosen = splits_of(names)
        files = [file for split, name in chosen.items() for file in _listed_files(folder / name, split)]
        return files, set(names) - set(chosen.values())
    if "_data_files" in _described(folder / "state.json"):
        return _listed_files(folder, "train"), set()
    return None


def _listed_files(folder: Path, split: str) -> list[DataFile]:
    listed = _described(folder / "state.json").get("_data_files", [])
    names = [str(one.get("filename", "")) for one in listed if isinstance(one, dict)]
    missing = [name for name in names if Path(name).name != name or not (folder / name).is_file()]
    if missing or not names:
        raise InputError(
            f"{folder} was saved by datasets, but it lacks {', '.join(missing[:5]) or 'its list of files'}.",
            "Copy or save it again.",
        )
    return [check_file(folder / name, split) for name in names]


def _described(path: Path) -> dict[str, Any]:
    """Return what a small JSON file says; nothing where it is none."""
    try:
        value = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
