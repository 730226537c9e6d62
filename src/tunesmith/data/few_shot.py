"""A few rows of every class to train on, drawn so that all draws of a study are judged on the same other rows.

All draws are made at once: each takes rows of its own while a class has enough of them, and a run uses one. Rows of no
draw, nor beside one (the same text, the same group), are there to be judged on, whichever draw a run uses.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tunesmith.data.split import Keys, Units, drawn


@dataclass(frozen=True, slots=True)
class Drawing:
    """What is made of N rows."""

    chosen: npt.NDArray[np.bool_]
    """[N]: the rows of the draw that a run trains on."""
    is_free: npt.NDArray[np.bool_]
    """[N]: the rows that no draw has, nor any row beside them."""
    num_classes: int
    short: tuple[str, ...]
    """Classes that have fewer rows to be drawn than were asked for."""
    overlap: bool
    """Whether draws have rows in common, since some class has too few for all of them."""


def class_names(labels: Sequence[Any], *, are_classes: bool) -> list[str]:
    """Return the class of every row: its label, of several labels the one that the fewest rows have, or none at all.

    Numbers with fractions are no classes, whoever learns them.
    """
    if not are_classes or any(isinstance(label, float) for label in labels):
        return [""] * len(labels)
    sets = [tuple(map(str, label)) if isinstance(label, (list, tuple)) else (str(label),) for label in labels]
    counts = Counter(name for names in sets for name in set(names))
    return [min(names, key=lambda name: (counts[name], name), default="") for names in sets]


def draw_rows(
    classes: Sequence[str],
    units: Units,
    keys: Keys,
    shots: int,
    draw: tuple[int, int],
    *,
    seed: int,
    keeps_rest: bool,
) -> Drawing:
    """Draw ``shots`` rows of every class, as the given draw (its number from 0 on, of how many) has them.

    The order of the rows does not matter: a row's place in line is a function of its content and ``seed``.

    Args:
        classes: [N].
        units: Which of the N rows belong together.
        keys: [N], each row's content as a number.
        shots: Rows of a class; fewer where it has no more.
        draw: Which draw, and how many there are.
        seed: Another one draws other rows.
        keeps_rest: Whether half of every class, at least, must stay outside of all draws, to be judged on.
    """
    number, num_draws = draw
    names = np.array(classes)
    line = np.lexsort((keys, drawn(keys, seed)))
    chosen, reserved = np.zeros(len(names), dtype=np.bool_), np.zeros(len(names), dtype=np.bool_)
    short, overlap = [], False
    distinct = sorted(set(classes))
    for name in distinct:
        own = line[names[line] == name]
        most = max(len(own) // 2, 1) if keeps_rest else len(own)
        pool = own[: min(num_draws * shots, most)]
        reserved[pool] = True
        if len(pool) == num_draws * shots:
            chosen[pool[number * shots : (number + 1) * shots]] = True
            continue
        overlap = overlap or num_draws > 1
        short += [name] if len(pool) < shots else []
        again = drawn(drawn(keys[pool], number + 1), seed)
        chosen[pool[np.lexsort((keys[pool], again))[:shots]]] = True
    beside = np.zeros(len(units.keys), dtype=np.bool_)
    beside[units.of_row[reserved]] = True
    return Drawing(chosen, ~beside[units.of_row], len(distinct), tuple(short), overlap)
