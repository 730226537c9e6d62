"""Configurations of earlier versions: their keys are moved to where they are now, in files as in flags."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from tunesmith.config.base import ConfigError
from tunesmith.types import Problem

VERSION: Final = 2
"""Of what runs write as ``config.yaml``. What people write need not tell: it may hold keys of every version."""

_MACHINE = (
    "device",
    "layout",
    "micro_batch_tokens",
    "micro_batch_rows",
    "checkpointing",
    "compile",
    "kernels",
    "cuda_graphs",
    "keep_states",
    "deterministic",
    "checkpoint_steps",
    "keep_checkpoints",
)
_MOVED: Mapping[int, Mapping[str, str]] = {2: {f"train.{name}": f"compute.{name}" for name in _MACHINE}}
"""For each version the keys that have other names since: the former and the present one, both of two parts."""

_PRESENT = {former: present for moved in _MOVED.values() for former, present in moved.items()}


def former_names() -> list[str]:
    """Return every name that a key has had and has no more."""
    return list(_PRESENT)


def present_name(name: str) -> str:
    """Return the name that a key or its flag has now: ``train.layout`` is ``compute.layout``."""
    path = name.removeprefix("--")
    return name.removesuffix(path) + _PRESENT.get(path, path)


def migrate(values: Mapping[str, Any], source: str = "") -> tuple[dict[str, Any], list[Problem]]:
    """Return a configuration's values as the present version has them, and a note of what moved, if anything did.

    ``source`` (a file name) starts every message.

    Raises ``ConfigError`` for a version newer than this one, and for a key that is given by both its names.
    """
    given = values.get("version", 1)
    if isinstance(given, bool) or not isinstance(given, int) or given < 1:
        return dict(values), []  # to be refused with all else that is wrong
    if given > VERSION:
        message = f"version is {given}; this tunesmith reads configurations up to version {VERSION}."
        raise ConfigError(_from(source, message), "A newer tunesmith has written it: update this one.")
    found = {key: dict(value) if isinstance(value, Mapping) else value for key, value in values.items()}
    former: list[str] = []
    for version in range(given + 1, VERSION + 1):
        former += _move(found, _MOVED[version], source)
    if "version" in found:
        found["version"] = VERSION
    return found, note_moved(former, source)


def _move(values: dict[str, Any], moved: Mapping[str, str], source: str) -> list[str]:
    """Move keys of ``values`` in place, and return their former names."""
    found: list[str] = []
    twice: list[str] = []
    for before, now in moved.items():
        (section, key), (target, name) = before.split("."), now.split(".")
        old, new = values.get(section), values.get(target)
        if not isinstance(old, dict) or key not in old or not (new is None or isinstance(new, dict)):
            continue
        if new is not None and name in new:
            twice.append(before)
            continue
        values[target] = {**(new or {}), name: old.pop(key)}
        found.append(before)
    if twice:
        raise ConfigError(given_twice(twice, source))
    return found


def given_twice(former: Iterable[str], source: str = "") -> list[Problem]:
    """Return the problems of keys, or their flags, that are given by their ``former`` names and by the present ones."""
    return [
        Problem(
            "error",
            _from(source, f"{name} and {present_name(name)} are both given; they are one key, which has moved."),
            f"Leave out {name}.",
        )
        for name in former
    ]


def note_moved(former: Iterable[str], source: str = "") -> list[Problem]:
    """Return the note that says where keys, or their flags, are that were given by ``former`` names; none of none."""
    told = ", ".join(f"{name} is {present_name(name)} now" for name in dict.fromkeys(former))
    fix = "Nothing has to be done: what it says is obeyed."
    return [Problem("note", _from(source, f"{told}."), fix)] if told else []


def _from(source: str, message: str) -> str:
    return f"{source}: {message}" if source else message
