"""The data sets of LLaMA-Factory: their names in the file, what they are in ``dataset_info.json`` beside it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tunesmith.other_tools.data_sets import (
    ForeignSet,
    are_understood,
    keep_for_validation,
    locate,
    write_sets,
)
from tunesmith.other_tools.reading import placed, read_values
from tunesmith.other_tools.translation import Translation, as_number, is_said, names_in
from tunesmith.types import InputError

REGISTRY = "dataset_info.json"
ROLES: Mapping[str, str] = {
    "prompt": "prompt",
    "query": "context",
    "response": "completion",
    "history": "history",
    "messages": "messages",
    "system": "system",
    "tools": "tools",
    "chosen": "chosen",
    "rejected": "rejected",
    "kto_tag": "thumb",
}
"""Columns there -> roles here."""
SPEAKERS: Mapping[str, tuple[str, str]] = {
    "user_tag": ("user", "human"),
    "assistant_tag": ("assistant", "gpt"),
    "system_tag": ("system", "system"),
    "observation_tag": ("tool", "observation"),
}
"""Tags there: who speaks, and what they are called where nothing is said."""
_NOT_IN_STAGE = "It is not read in this stage."
_NOT_READ = {
    "images": "Images are read in the stage sft alone.",
    "videos": "Videos are not read.",
    "audios": "Sound is not read.",
}
_RENAME = "Rename them in the data, or give turns as role and content."


def translate_datasets(found: Translation, place: Path) -> None:
    """Translate ``dataset`` and ``eval_dataset`` with what the registry says of them."""
    registry, folder = _registry(found, place)
    stage = str(found.get("stage") or "sft").lower()
    sets = [_read_set(found, name, registry, folder, stage) for name in names_in(found.get("dataset"))]
    weights = names_in(found.get("interleave_probs"))
    if len(weights) == len(sets) > 1:
        for one, weight in zip(sets, weights, strict=True):
            one.weight = as_number(weight)
    judged = [_read_set(found, name, registry, folder, stage) for name in names_in(found.get("eval_dataset"))]
    if any("images" in one.columns for one in (*sets, *judged)):
        found.translate("stage", {"task": "image_chat"}, "Rows show images.")
    write_sets(found, "dataset", sets, judged[0].path if judged else None)
    if any(one.weight for one in sets):
        found.also("interleave_probs mix_strategy", "data.mixture")
    found.needless("interleave_probs mix_strategy", "Every set is gone through whole.")
    if judged:
        found.also("eval_dataset", "data.validation" if len(sets) == 1 else "data.mixture")
    for one in judged[1:]:
        found.note_part(f"eval_dataset: {one.path}", one.path, "left out", "There is one file of validation rows.")
    keep_for_validation(found, "val_size", given=bool(judged))


def _registry(found: Translation, place: Path) -> tuple[Mapping[str, Any], Path]:
    """Return the registry of data sets and the folder that it is in; nothing of it where there is none."""
    named = str(found.get("dataset_dir") or "data")
    for folder in (named, f"{named}/{REGISTRY}", "."):
        path = placed(folder, place)
        if path is None:
            continue
        file = Path(path) if path.endswith(".json") else Path(path) / REGISTRY
        if file.is_file():
            return read_values(file), file.parent
    beside = place / REGISTRY
    return (read_values(beside), place) if beside.is_file() else ({}, place)


def _read_set(found: Translation, name: str, registry: Mapping[str, Any], folder: Path, stage: str) -> ForeignSet:
    entry = registry.get(name)
    if entry is None:
        return _unregistered(name, registry, folder)
    if not isinstance(entry, Mapping):
        raise InputError(f"{REGISTRY}: {name} is no entry with keys.", "Give it as LLaMA-Factory reads it.")
    part = f"{REGISTRY}: {name}"
    one = ForeignSet(_path(entry, name, folder))
    one.columns = _columns(found, entry, part, stage)
    _check_tags(found, entry, part)
    for key, value in entry.items():
        if key in ("split", "num_samples", "folder") and is_said(value) and value != "train":
            why = "Rows of a set are all read: data.limit bounds those of a split, a file of its own says which."
            found.note_part(f"{part}.{key}", value, "left out", why)
        elif key not in _KNOWN_OF_ENTRY:
            found.note_part(f"{part}.{key}", value, "left out", "It is not known.")
    return one


_KNOWN_OF_ENTRY = frozenset(
    ("file_name", "hf_hub_url", "formatting", "ranking", "subset", "split", "folder", "num_samples", "columns", "tags")
)


def _unregistered(name: str, registry: Mapping[str, Any], folder: Path) -> ForeignSet:
    if (path := placed(name, folder)) is not None:
        return ForeignSet(path)
    if "/" in name:
        return ForeignSet(locate(name, folder))
    known = f"It holds {', '.join(list(registry)[:8])}." if registry else "There is none beside the file."
    raise InputError(
        f"The data set {name!r} is not in {REGISTRY}. {known}",
        f"Put {REGISTRY} beside the file (or where dataset_dir says), or give the data as --data PATH.",
    )


def _path(entry: Mapping[str, Any], name: str, folder: Path) -> str:
    if is_said(entry.get("file_name")):
        file = str(entry["file_name"])
        return placed(file, folder) or str(folder / file)
    if is_said(entry.get("hf_hub_url")):
        return locate(str(entry["hf_hub_url"]), folder, str(entry.get("subset") or ""))
    raise InputError(
        f"{REGISTRY}: {name} has neither file_name nor hf_hub_url: rows are read from files and from the hub alone.",
        "Download them, and name the file.",
    )


def _columns(found: Translation, entry: Mapping[str, Any], part: str, stage: str) -> dict[str, str]:
    given = entry.get("columns") or {}
    if not isinstance(given, Mapping):
        raise InputError(f"{part}: columns are no names by role.", "Give it as LLaMA-Factory reads it.")
    columns: dict[str, str] = {}
    is_chat = str(entry.get("formatting") or "alpaca") == "sharegpt"
    is_ranked = bool(entry.get("ranking"))
    for role, column in given.items():
        here = ROLES.get(str(role))
        if stage == "sft" and role == "images":
            here = "images"
        if stage == "pt":
            here = "text" if role == "prompt" else None
        elif here == "thumb" and stage != "kto":
            here = None
        elif is_chat and is_ranked and role == "messages":
            here = "prompt"
        if not is_said(column):
            continue
        if here is None:
            found.note_part(f"{part}.columns.{role}", column, "left out", _NOT_READ.get(str(role), _NOT_IN_STAGE))
        else:
            columns[here] = str(column)
    return columns


def _check_tags(found: Translation, entry: Mapping[str, Any], part: str) -> None:
    """Say so where turns are written in a way that is not understood without being told."""
    tags = entry.get("tags")
    if not isinstance(tags, Mapping) or not tags:
        return
    names = {speaker: str(tags.get(tag) or usual) for tag, (speaker, usual) in SPEAKERS.items() if tag in tags}
    role, content = str(tags.get("role_tag") or "from"), str(tags.get("content_tag") or "value")
    if are_understood(names or {"user": "human"}, role, content):
        found.note_part(f"{part}.tags", dict(tags), "needless", "Turns are read by whatever of these names they have.")
    else:
        found.note_part(f"{part}.tags", dict(tags), "left out", f"Turns are not understood by these names. {_RENAME}")
