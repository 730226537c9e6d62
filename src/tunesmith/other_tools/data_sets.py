"""Data sets of other tools' files: where each is, what its columns are, how they are mixed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tunesmith.data.message_cells import MisfitError
from tunesmith.data.messages import read_messages
from tunesmith.other_tools.reading import placed
from tunesmith.other_tools.translation import Translation
from tunesmith.types import InputError

HUB = "hub:"


@dataclass
class ForeignSet:
    """One data set, as far as it could be translated."""

    path: str
    columns: dict[str, str] = field(default_factory=dict)
    """Its columns, by role here; found by name and content where nothing is said."""
    weight: float | None = None


def locate(name: str, place: Path, configuration: str = "") -> str:
    """Return the path of a data set here: a file or folder that is there, else a repository of the hub."""
    if (found := placed(name, place)) is not None:
        return found
    looks_like_file = name.startswith((".", "/", "~")) or Path(name).suffix.lower() in _SUFFIXES
    if looks_like_file or name.startswith(HUB):
        return name
    return f"{HUB}{name}{f':{configuration}' if configuration else ''}"


_SUFFIXES = frozenset((".json", ".jsonl", ".csv", ".tsv", ".parquet", ".arrow", ".txt", ".gz"))


def write_sets(found: Translation, keys: str, sets: Sequence[ForeignSet], validation: str | None = None) -> None:
    """Write the section ``data`` of one data set, or of several as a mixture; ``keys`` say where they stand there.

    Raises ``InputError`` where there are none.
    """
    if not sets:
        message = f"There are no data to train on ({keys.split(maxsplit=1)[0]})."
        raise InputError(message, "Give them as --data PATH.")
    if len(sets) == 1:
        (only,) = sets
        settings: dict[str, Any] = {"data.path": only.path}
        if only.columns:
            settings["data.columns"] = only.columns
        if validation is not None:
            settings["data.validation"] = validation
        found.translate(keys, settings)
        return
    entries: list[dict[str, Any]] = []
    for one in sets:
        entry: dict[str, Any] = {"path": one.path}
        if one.columns:
            entry["columns"] = one.columns
        if one.weight is not None:
            entry["weight"] = one.weight
        entries.append(entry)
    if validation is not None:
        entries[0]["validation"] = validation
    found.translate(keys, {"data.mixture": entries})


def keep_for_validation(found: Translation, key: str, *, given: bool) -> None:
    """Translate the share of rows that is kept for validation; test rows there are none, there as here.

    With ``given`` there are validation rows of their own.
    """
    share = found.number(key)
    if share is not None and share >= 1:
        found.leave_out(key, "It is a share of the rows here: data.validation_fraction; 0.1 was written.")
        found.settings["data.validation_fraction"] = 0.1
    elif share is not None and not given:
        found.translate(key, {"data.validation_fraction": share})
    elif share is not None:
        found.needless(key, "There are validation rows of their own.")
    if given:
        return
    found.take_usual("data.validation_fraction", 0)
    found.take_usual("data.test_fraction", 0)


def are_understood(names: Mapping[str, str], role_key: str, content_key: str) -> bool:
    """Say whether turns with these keys and speakers are read as such without being told.

    ``names`` are what the speakers are called, by what they are here: ``user``, ``assistant``, ``system``, ``tool``.
    """
    expected = list(names)
    turns = [{role_key: name, content_key: "x"} for name in names.values()]
    try:
        return [message["role"] for message in read_messages(turns)] == expected
    except MisfitError:
        return False
