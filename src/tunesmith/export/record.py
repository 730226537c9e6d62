"""What came of an export: ``export.json`` in its folder, and a line in ``exports.jsonl`` of the run's."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from tunesmith.files.atomic import write_text
from tunesmith.files.ownership import EXPORTS
from tunesmith.types import InputError, RunError

RECORD = "export.json"


@dataclass(frozen=True, slots=True)
class Exported:
    """What came of an export, as in ``export.json``."""

    target: str
    form: str
    rows: int
    """That were compared."""
    max_difference: float
    """Between scores, relative to the largest."""
    same_answers: float
    """Share of rows with the same answer; of runs that write, of tokens whose likeliest one is the same."""
    metric: str
    metric_before: float
    metric_after: float
    metric_change: Mapping[str, float]
    """After minus before, on the same rows: ``value``, ``low``, ``high``."""
    size: int
    """Bytes of all files."""
    size_before: int
    seconds: float
    same_texts: float | None = None
    """Of runs that write: share of prompts to which the same tokens are written, always the likeliest."""
    latency: Mapping[str, Mapping[str, float]] | None = None
    """Seconds that one ``row`` and a ``batch`` of ``rows`` take, ``before`` and ``after``; None where what compared is
    not the program that people use."""
    notes: tuple[str, ...] = field(default=())
    """What is not as the form says."""


def write_record(folder: Path, found: Exported) -> None:
    """Write what came of an export into its folder, which is still being made."""
    (folder / RECORD).write_text(json.dumps(asdict(found), indent=1) + "\n", encoding="utf-8")


def read_record(folder: Path) -> Exported:
    """Return what came of the export in ``folder``; ``InputError`` where there is none."""
    try:
        content = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        known = {one.name for one in fields(Exported)}
        return Exported(**{name: value for name, value in content.items() if name in known})
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise InputError(
            f"{folder} is no export: {RECORD} in it is missing or damaged.",
            "Give the folder that 'tunesmith export' wrote.",
        ) from error


def remember(run_folder: Path, folder: Path, found: Exported) -> None:
    """Add an export to those that the run's folder knows, for its report; an earlier one in that place is forgotten.

    A run whose folder cannot be written to stays as it is: the export is complete without it.
    """
    place = run_folder / EXPORTS
    name = os.path.relpath(folder.resolve(), run_folder.resolve())
    lines = place.read_text(encoding="utf-8").splitlines() if place.is_file() else []
    kept = [line for line in lines if _folder_of(line) not in (None, name)]
    with suppress(RunError):
        write_text(place, "\n".join([*kept, json.dumps({"folder": name, **asdict(found)})]) + "\n")


def _folder_of(line: str) -> Any:
    with suppress(ValueError, AttributeError):
        return json.loads(line).get("folder")
    return None
