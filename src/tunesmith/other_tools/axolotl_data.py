"""The data sets of axolotl's files: where each is, and which columns its type reads."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tunesmith.other_tools.data_sets import ForeignSet, are_understood, keep_for_validation, locate, write_sets
from tunesmith.other_tools.reading import placed
from tunesmith.other_tools.translation import Translation, is_said
from tunesmith.types import InputError

TYPES: Mapping[str, Mapping[str, str]] = {
    "alpaca": {"prompt": "instruction", "context": "input", "completion": "output"},
    "alpaca:chat": {"prompt": "instruction", "context": "input", "completion": "output"},
    "alpaca_chat.load_qa": {"prompt": "question", "completion": "answer"},
    "gpteacher": {"prompt": "instruction", "context": "input", "completion": "response"},
    "completion": {"text": "text"},
    "pretrain": {"text": "text"},
    "sharegpt": {"messages": "conversations"},
    "chat_template": {"messages": "messages"},
    "": {},
}
"""Types of rows -> the columns that they read, by role here; rows of other types are read by what columns hold."""
FIELDS: Mapping[str, str] = {
    "field_instruction": "prompt",
    "field_input": "context",
    "field_output": "completion",
    "field_system": "system",
    "field_messages": "messages",
    "field_prompt": "prompt",
    "field_chosen": "chosen",
    "field_rejected": "rejected",
    "field_completion": "completion",
    "field_label": "thumb",
    "field_tools": "tools",
    "field": "text",
}
"""Keys that name columns -> roles here."""
READERS = frozenset(("json", "csv", "parquet", "arrow", "text"))
"""Names in the place of a path that stand for a reader of ``data_files``."""
NEEDLESS = frozenset(("ds_type", "trust_remote_code", "shards_idx", "preprocess_shards", "revision_idx", "roles_train"))


def translate_datasets(found: Translation, place: Path) -> None:
    """Translate ``datasets``, ``pretraining_dataset`` and ``test_datasets``."""
    is_pairs = found.get("rl") is not None
    key = "datasets" if found.get("datasets") is not None else "pretraining_dataset"
    sets = [
        _read_set(found, f"{key}[{number}]", one, place, is_pairs) for number, one in enumerate(_listed(found, key))
    ]
    judged = [
        _read_set(found, f"test_datasets[{number}]", one, place, is_pairs)
        for number, one in enumerate(_listed(found, "test_datasets"))
    ]
    write_sets(found, key, sets, judged[0].path if judged else None)
    if judged:
        found.also("test_datasets", "data.validation" if len(sets) == 1 else "data.mixture")
    for number, one in enumerate(judged[1:], start=1):
        found.note_part(f"test_datasets[{number}]", one.path, "left out", "There is one file of validation rows.")
    keep_for_validation(found, "val_set_size", given=bool(judged))


def _listed(found: Translation, key: str) -> list[Any]:
    value = found.get(key)
    return value if isinstance(value, list) else [] if value is None else [value]


def _read_set(found: Translation, part: str, entry: Any, place: Path, is_pairs: bool) -> ForeignSet:
    if isinstance(entry, str):
        entry = {"path": entry}
    if not isinstance(entry, Mapping) or not is_said(entry.get("path")):
        raise InputError(f"{part} names no path.", "Give it as axolotl reads it: path and type.")
    one = ForeignSet(_path(found, part, entry, place))
    kind = entry.get("type")
    rows = kind if isinstance(kind, Mapping) else entry
    one.columns = {} if is_pairs or isinstance(kind, Mapping) else _columns_of_type(found, part, str(kind or ""))
    for key, value in [*entry.items(), *(rows.items() if rows is not entry else ())]:
        _translate_key(found, f"{part}.{key}", key, value, one)
    _check_turns(found, part, entry)
    return one


def _path(found: Translation, part: str, entry: Mapping[str, Any], place: Path) -> str:
    path, files = str(entry["path"]), entry.get("data_files")
    first = files[0] if isinstance(files, list) and files else files
    if isinstance(files, list) and len(files) > 1:
        why = "One file is read of a set: name each as a set of its own."
        found.note_part(f"{part}.data_files", files, "left out", why)
    if path in READERS:
        if not is_said(first):
            raise InputError(f"{part}: path {path!r} is a reader, and data_files names no file.", "Name the file.")
        return placed(str(first), place) or str(first)
    if is_said(first) and (folder := placed(path, place)) is not None:
        return str(Path(folder) / str(first))
    return locate(path, place, str(entry.get("name") or ""))


def _columns_of_type(found: Translation, part: str, kind: str) -> dict[str, str]:
    name = kind if kind in TYPES else re.split(r"[.:]", kind, maxsplit=1)[0]
    if name not in TYPES:
        why = "Rows are read by what their columns hold ('tunesmith data inspect FILE' shows how)."
        found.note_part(f"{part}.type", kind, "left out", why)
        return {}
    # What is usually called so is found by itself, and 'input' need not be there.
    usual = {"prompt": "instruction", "context": "input", "completion": "output", "messages": "messages"}
    return {role: column for role, column in TYPES[name].items() if usual.get(role) != column}


def _translate_key(found: Translation, full: str, key: str, value: Any, one: ForeignSet) -> None:
    if key in ("path", "type", "data_files", "name", "message_property_mappings", "roles") or not is_said(value):
        return
    if key in ("message_field_role", "message_field_content", "chat_template"):
        return
    if key in FIELDS:
        one.columns = {role: column for role, column in one.columns.items() if role != FIELDS[key]}
        one.columns[FIELDS[key]] = str(value)
        return
    if key in NEEDLESS or (key == "split" and value == "train") or (key == "conversation"):
        found.note_part(full, value, "needless", "The file says it itself.")
    elif key == "roles_to_train" and value in (["assistant"], ["gpt"], ["gpt", "assistant"]):
        found.note_part(full, value, "needless", "The assistant's turns are learned.")
    elif key == "train_on_eos":
        found.note_part(full, value, "needless", "The end of every answer that is learned is learned.")
    elif key in ("split", "shards"):
        why = "Rows of a set are all read: data.limit bounds those of a split."
        found.note_part(full, value, "left out", why)
    else:
        why = "Turns are learned by task.train_on, and by marks in the data; columns are named by data.columns."
        found.note_part(full, value, "left out", why)


def _check_turns(found: Translation, part: str, entry: Mapping[str, Any]) -> None:
    """Say so where turns are written in a way that is not understood without being told."""
    names = entry.get("message_property_mappings")
    mapping = names if isinstance(names, Mapping) else {}
    role = str(mapping.get("role") or entry.get("message_field_role") or "role")
    content = str(mapping.get("content") or entry.get("message_field_content") or "content")
    roles = entry.get("roles")
    speakers = {"user": "user", "assistant": "assistant"}
    for name, called in (roles if isinstance(roles, Mapping) else {}).items():
        if name in ("user", "assistant", "system", "tool") and is_said(called):
            speakers[name] = str(called[0] if isinstance(called, list) else called)
    if (role, content) == ("role", "content") and not roles:
        return
    given = {key: entry[key] for key in ("message_property_mappings", "roles") if key in entry}
    if are_understood(speakers, role, content):
        found.note_part(f"{part}.roles", given, "needless", "Turns are read by whatever of these names they have.")
    else:
        why = "Turns are not understood by these names; give them as role and content."
        found.note_part(f"{part}.roles", given, "left out", why)
