"""What is worth knowing of finished splits: rows on two sides, labels that give themselves away or are rare."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from tunesmith.data.clean import plural
from tunesmith.data.rows import Rows
from tunesmith.types import MAX_ROWS_SHOWN, Problem

LONG_TEXT = 10_000
"""Characters; hardly any encoder reads that far."""
IMBALANCE = 10
"""The commonest label has this many times the rows of the rarest."""
_MAX_CLASSES = 50
"""More distinct whole numbers than this are amounts, not labels."""
_LEAK_ROWS = 5_000
_LEAK_SHARE = 0.5
_LEAK_PRECISION = 0.95


@dataclass(frozen=True, slots=True)
class Side:
    """A finished split: N rows with their keys and labels, and its table."""

    name: str
    texts: npt.NDArray[np.uint64]
    """[N]: key of each row's texts."""
    labels: Sequence[Any]
    dataset: Rows
    text_roles: tuple[str, ...]
    reads_beginning: bool = True
    """Whether models read the beginning of a text only."""

    def place(self, row: int) -> str:
        """Return where a row stands in the user's files."""
        return str(self.dataset.table.column("row")[row])


def check_splits(sides: Mapping[str, Side], num_crossing_groups: int) -> list[Problem]:
    """Return warnings and notes about finished splits; nothing is changed."""
    problems = []
    for first, second in combinations(sides.values(), 2):
        problems += _shared_rows(first, second)
    if num_crossing_groups:
        problems.append(
            Problem(
                "warning",
                f"{num_crossing_groups} groups have rows in several of the given splits: the figures will be too good.",
                "Give one file, so that the split is cut by group here.",
                count=num_crossing_groups,
            )
        )
    train = sides["train"]
    names = _class_names(train.labels)
    if names is not None:
        problems += _rare_labels(names)
        problems += [problem for side in sides.values() if side is not train for problem in _unseen_labels(names, side)]
        problems += _told_labels(train)
    return problems + [problem for side in sides.values() for problem in _long_texts(side)]


def _shared_rows(first: Side, second: Side) -> list[Problem]:
    """Report rows of the second side whose texts also stand on the first."""
    shared = np.flatnonzero(np.isin(second.texts, first.texts))
    if not len(shared):
        return []
    where = np.argsort(first.texts, kind="stable")
    shown = []
    for row in shared[:MAX_ROWS_SHOWN]:
        other = where[np.searchsorted(first.texts, second.texts[row], sorter=where)]
        shown.append(f"{second.place(int(row))} = {first.place(int(other))}")
    return [
        Problem(
            "warning",
            f"{len(shared)} of {len(second.texts)} {second.name} rows have a text that also stands in {first.name} "
            "(letter case aside): the figures will be too good.",
            "Leave them out of the training rows: data.clean.leaks true." if first.name == "train" else "",
            count=len(shared),
            rows=tuple(shown),
        )
    ]


def _class_names(labels: Sequence[Any]) -> Counter[str] | None:
    """Return how many rows each label has, or None where labels are amounts or missing."""
    present = [label for label in labels if label is not None]
    if not present or any(isinstance(label, float) for label in present):
        return None
    if isinstance(present[0], list):
        return Counter(str(item) for items in present for item in items) or None
    counts = Counter(present)
    if isinstance(present[0], int) and len(counts) > _MAX_CLASSES:
        return None
    return Counter({str(label): count for label, count in counts.items()})


def _rare_labels(names: Counter[str]) -> list[Problem]:
    problems = []
    single = sorted(name for name, count in names.items() if count == 1)
    if single:
        problems.append(
            Problem(
                "warning",
                f"{len(single)} of {len(names)} labels have a single training row: {_listed(single)}.",
                "Add rows for them, or join them with another label.",
                count=len(single),
            )
        )
    (most, num_most), (least, num_least) = names.most_common(1)[0], min(names.items(), key=lambda item: item[1])
    if num_most >= IMBALANCE * num_least:
        problems.append(
            Problem(
                "note",
                f"The labels are uneven: '{most}' has {plural(num_most)}, '{least}' {plural(num_least)}.",
                "Judge by macro F1 rather than by accuracy.",
                count=num_least,
            )
        )
    return problems


def _unseen_labels(names: Counter[str], side: Side) -> list[Problem]:
    found = _class_names(side.labels) or Counter()
    unseen = sorted(name for name in found if name not in names)
    if not unseen:
        return []
    return [
        Problem(
            "warning",
            f"{side.name} has labels that no training row has: {_listed(unseen)}.",
            "Add training rows for them, or remove them.",
            count=sum(found[name] for name in unseen),
        )
    ]


def _told_labels(train: Side) -> list[Problem]:
    """Report labels whose own name stands in most of their texts and in hardly any other text."""
    rows = np.unique(np.linspace(0, len(train.labels) - 1, min(len(train.labels), _LEAK_ROWS)).astype(np.int64))
    labels = [train.labels[int(row)] for row in rows]
    counts = Counter(label for label in labels if isinstance(label, str) and len(label) >= 2)
    candidates = [label for label, count in counts.most_common(200) if count >= 5]
    if len(counts) < 2 or not candidates:
        return []
    texts = [_joined(train, int(row)).casefold() for row in rows]
    told = []
    for label in candidates:
        # Names in writing without spaces need no word borders.
        name = re.escape(label.casefold().replace("_", " "))
        pattern = re.compile(rf"\b{name}\b" if label.isascii() else name)
        hits = [index for index, text in enumerate(texts) if pattern.search(text.replace("_", " "))]
        own = sum(labels[index] == label for index in hits)
        if own >= _LEAK_SHARE * counts[label] and own >= _LEAK_PRECISION * len(hits):
            told.append((label, [train.place(int(rows[index])) for index in hits[:MAX_ROWS_SHOWN]], own))
    if not told:
        return []
    told.sort(key=lambda found: found[0])
    return [
        Problem(
            "warning",
            f"The text itself names the label in most rows of {_listed([label for label, _, _ in told])}: "
            "what is learned may be to look for that word.",
            "Check how the texts were made; remove the label's name from them if it will not be there later.",
            count=sum(own for _, _, own in told),
            rows=tuple(told[0][1]),
        )
    ]


def _joined(side: Side, row: int) -> str:
    table = side.dataset.table
    return " ".join(str(table.column(role)[row]) for role in side.text_roles)


def _long_texts(side: Side) -> list[Problem]:
    if not side.reads_beginning:
        return []
    table = side.dataset.table
    is_long = np.zeros(len(side.dataset), dtype=np.bool_)
    longest = 0
    for role in side.text_roles:
        lengths = pc.fill_null(pc.utf8_length(table.column(role)), 0).to_numpy()
        is_long |= lengths > LONG_TEXT
        longest = max(longest, int(lengths.max(initial=0)))
    count = int(is_long.sum())
    if not count:
        return []
    return [
        Problem(
            "note",
            f"{plural(count)} of {side.name} have more than {LONG_TEXT:,} characters (the longest {longest:,}): "
            "models read the beginning only.",
            count=count,
            rows=tuple(side.place(int(row)) for row in np.flatnonzero(is_long)[:MAX_ROWS_SHOWN]),
        )
    ]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"'{name}'" for name in names[:8]) + (", …" if len(names) > 8 else "")
