"""``--sweep KEY=A,B,C``: one run for each value, and for each combination where several keys are swept."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from tunesmith.cli.flags import FlagTree
from tunesmith.config.lists import split_values
from tunesmith.types import Problem

Pairs = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Variant:
    """One combination of values."""

    name: str
    """For people and folders: ``seed-1-learning_rate-3e-4``."""
    pairs: Pairs
    """The keys and their values, as flags."""


def variants(sweeps: Sequence[str], tree: FlagTree) -> tuple[list[Variant], list[Problem]]:
    """Return every combination of the swept values, in order, and what is wrong with the texts.

    Without sweeps there is one variant, with no name and no pairs.
    """
    axes: dict[str, list[str]] = {}
    problems: list[Problem] = []
    for text in sweeps:
        key, equals, values = text.partition("=")
        path = tree.spell(key)
        found = [value for value in split_values(values) if value]
        if not equals or not found:
            problems.append(
                Problem("error", f"--sweep {text}: expected KEY=VALUE,VALUE,...", "Example: --sweep train.seed=0,1,2")
            )
        elif not tree.accepts(path):
            problems.append(tree.unknown(f"--sweep {key}", path))
        elif path == "output":
            problems.append(Problem("error", "--sweep output: every run has a folder of its own.", "Leave it out."))
        elif path in axes:
            problems.append(Problem("error", f"--sweep {key} is given twice.", "List all values after one --sweep."))
        else:
            axes[path] = list(dict.fromkeys(found))
    combinations = itertools.product(*([(path, value) for value in values] for path, values in axes.items()))
    return [Variant(_name_of(pairs), pairs) for pairs in combinations], problems


def _name_of(pairs: Pairs) -> str:
    last = [path.rpartition(".")[2] for path, _ in pairs]
    keys = [key if last.count(key) == 1 else path for key, (path, _) in zip(last, pairs, strict=True)]
    return "-".join(f"{key}-{_safe(value)}" for key, (_, value) in zip(keys, pairs, strict=True))


def _safe(value: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "._-" else "-" for letter in value).strip("-.") or "empty"
