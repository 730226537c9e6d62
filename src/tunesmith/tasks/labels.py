"""Label cells to label names: the user's ``1``, ``1.0``, ``"1"``, ``True``, ``["a", "b"]`` or ``"a|b"``."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from tunesmith.data.cells import list_separator

NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?")

DELIMITERS = ("|", ";", ",")
"""What may stand between several labels in one cell, the surest sign first."""


def label_name(value: Any) -> str:
    """Return the name of one label; empty for a missing one.

    Numbers and booleans of any library become text: 1, 1.0, ``np.int64(1)`` and ``"1"`` are
    the label ``1``; ``True`` is ``true``. Text loses the white space around it.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()


def is_list(cell: Any) -> bool:
    """Say whether a cell holds several labels as a list."""
    return isinstance(cell, (list, tuple, set, frozenset, np.ndarray))


def split_cell(cell: Any, delimiter: str | None) -> tuple[str, ...]:
    """Return the names of the labels in a cell, each once, in their order."""
    if is_list(cell):
        names = [label_name(item) for item in cell]
    elif delimiter and isinstance(cell, str):
        names = [part.strip() for part in cell.split(delimiter)]
    else:
        names = [label_name(cell)]
    return tuple(dict.fromkeys(name for name in names if name))


def find_delimiter(cells: Iterable[Any], known: Sequence[str] | None, *, certain: bool) -> str | None:
    """Return what separates several labels within a cell, or None when cells hold one label each.

    With ``known`` labels, a delimiter is one that cuts some cell, not itself a label, into
    labels. ``certain`` (the user said that there are several) believes the one that most
    cells contain. Otherwise the parts have to recur as ``list_separator`` demands.
    """
    texts = [cell.strip() for cell in cells if isinstance(cell, str) and cell.strip()]
    if known is not None:
        return next((mark for mark in DELIMITERS if _cuts_into(set(texts), mark, frozenset(known))), None)
    if certain:
        found = {mark: sum(mark in text for text in texts) for mark in DELIMITERS}
        best = max(DELIMITERS, key=lambda mark: found[mark])
        return best if found[best] else None
    return list_separator(texts) or None


def _cuts_into(cells: Iterable[str], mark: str, known: frozenset[str]) -> bool:
    return any(mark in cell and cell not in known and known.issuperset(split_cell(cell, mark)) for cell in cells)


def sorted_labels(names: Iterable[str]) -> tuple[str, ...]:
    """Return distinct names in order: by value when all are numbers, else alphabetically."""
    distinct = set(names)
    if all(NUMBER.fullmatch(name) for name in distinct):
        return tuple(sorted(distinct, key=lambda name: (float(name), name)))
    return tuple(sorted(distinct))
