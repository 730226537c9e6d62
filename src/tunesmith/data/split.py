"""Cutting rows into training, validation and test rows, or folds, by content: the order of the rows never matters.

Rows that belong together are a unit and stay on one side: rows with the same text, and
rows of one group. Every unit has a pseudo-random number made of its content and the seed;
within each stratum (label, or band of a number) the units with the smallest numbers go to
the test rows, the next to validation, until each has its share.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from tunesmith.types import InputError

Keys = npt.NDArray[np.uint64]
NUM_BANDS = 10
"""Bands of equal size that a numeric label is cut into."""
_LOOK_EVERY = 64
"""Units (by number, that is, now and then) after which it is asked whether all shares are filled."""
_MIN_STRATUM = 4
"""Combinations of labels with fewer rows are put into one stratum."""

TRAIN, VALIDATION, TEST = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Units:
    """Rows that stay together, N rows in M units."""

    of_row: npt.NDArray[np.int64]
    """[N]: unit of each row."""
    keys: Keys
    """[M]: a number made of the unit's content only."""

    @property
    def sizes(self) -> npt.NDArray[np.int64]:
        """[M]: rows of each unit."""
        return np.bincount(self.of_row, minlength=len(self.keys)).astype(np.int64)


def make_units(texts: Keys, groups: Keys | None) -> Units:
    """Join rows ([N] keys) that share their text, or their group, directly or through other rows."""
    _, of_text = np.unique(texts, return_inverse=True)
    component = of_text.astype(np.int64)
    if groups is not None:
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        _, of_group = np.unique(groups, return_inverse=True)
        num_texts = int(of_text.max(initial=-1)) + 1
        num_nodes = num_texts + int(of_group.max(initial=-1)) + 1
        edges = coo_array((np.ones(len(texts), dtype=np.int8), (of_text, of_group + num_texts)), (num_nodes, num_nodes))
        _, of_node = connected_components(edges, directed=False)
        component = of_node[of_text].astype(np.int64)
    _, of_row = np.unique(component, return_inverse=True)
    keys = np.full(int(of_row.max(initial=-1)) + 1, np.iinfo(np.uint64).max, dtype=np.uint64)
    # The smallest key names the unit: it does not depend on the rows' order.
    np.minimum.at(keys, of_row, texts if groups is None else groups)
    return Units(of_row.astype(np.int64), keys)


def strata(labels: Sequence[Any]) -> npt.NDArray[np.int64]:
    """[N]: stratum of each row: its label, its combination of labels, or the band its number falls into.

    The numbers of strata follow the sorted labels, so that they do not depend on the order of rows.
    """
    if any(isinstance(label, float) for label in labels):
        return _bands(np.array([np.nan if label is None else float(label) for label in labels]))
    names = [_name(label) for label in labels]
    counts = Counter(names)
    is_rare_pooled = any(isinstance(label, list) for label in labels) or len(counts) > 0.5 * len(names)
    if is_rare_pooled:
        names = [name if counts[name] >= _MIN_STRATUM else "" for name in names]
    numbers = {name: number for number, name in enumerate(sorted(set(names)))}
    return np.array([numbers[name] for name in names], dtype=np.int64)


def _name(label: Any) -> str:
    if isinstance(label, list):
        return "list " + "\x1f".join(sorted(str(item) for item in label))
    return f"{type(label).__name__} {label}"


def _bands(numbers: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    known = numbers[np.isfinite(numbers)]
    if not len(known):
        return np.zeros(len(numbers), dtype=np.int64)
    edges = np.unique(np.quantile(known, np.linspace(0, 1, NUM_BANDS + 1)[1:-1]))
    return np.searchsorted(edges, numbers, side="right").astype(np.int64)


def cut(
    units: Units,
    strata_N: npt.NDArray[np.int64],
    validation: float,
    test: float,
    draw: Callable[[int, Keys], Keys],
) -> npt.NDArray[np.int8]:
    """Return the side of every row ([N]: TRAIN, VALIDATION or TEST).

    ``validation`` and ``test`` are shares of the rows; a share above zero gets at least one
    unit. ``draw`` turns units' keys into pseudo-random numbers for a side: the test rows follow from
    theirs alone. Raises ``InputError`` when there are too few units.
    """
    num_rows, num_units = len(units.of_row), len(units.keys)
    num_sides = 1 + (validation > 0) + (test > 0)
    if num_units < num_sides:
        raise InputError(
            f"{num_rows} rows with {num_units} distinct texts or groups cannot be cut into {num_sides} parts.",
            "Give more rows, or files of their own as data.validation and data.test. If the file holds more, it was "
            "read as something else: tunesmith data inspect FILE shows how.",
        )
    stratum_M = _unit_strata(units, strata_N)
    sides_M = np.full(num_units, TRAIN, dtype=np.int8)
    shares = [(side, share) for side, share in ((TEST, test), (VALIDATION, validation)) if share > 0]
    for position, (side, share) in enumerate(shares):
        num_left = len(shares) - position
        order = np.lexsort((units.keys, draw(side, units.keys)))
        _take(side, share * num_rows, units.sizes, stratum_M, order, sides_M=sides_M, num_left=num_left)
    return sides_M[units.of_row]


def folds(
    units: Units, strata_N: npt.NDArray[np.int64], num_folds: int, draw: Callable[[Keys], Keys]
) -> npt.NDArray[np.int64]:
    """Return the fold of every row ([N], from 0 on): of about one size and one mix of strata, units whole.

    In the order that ``draw`` gives, every unit goes to the fold that has the fewest rows of its stratum; among equals,
    to the one that has the fewest rows. Raises ``InputError`` when there are fewer units than folds.
    """
    num_units = len(units.keys)
    if num_units < num_folds:
        raise InputError(
            f"{len(units.of_row)} rows with {num_units} distinct texts or groups cannot be cut into {num_folds} folds.",
            "Give more rows, or ask for fewer folds.",
        )
    stratum_M, sizes_M = _unit_strata(units, strata_N), units.sizes
    rows_SF = np.zeros((int(stratum_M.max(initial=0)) + 1, num_folds), dtype=np.int64)
    rows_F = np.zeros(num_folds, dtype=np.int64)
    fold_M = np.empty(num_units, dtype=np.int64)
    for unit in np.lexsort((units.keys, draw(units.keys))):
        own_F = rows_SF[stratum_M[unit]]
        fold = int(np.lexsort((rows_F, own_F))[0])
        fold_M[unit] = fold
        own_F[fold] += sizes_M[unit]
        rows_F[fold] += sizes_M[unit]
    return fold_M[units.of_row]


def cut_fold(
    units: Units,
    strata_N: npt.NDArray[np.int64],
    fold: tuple[int, int],
    validation: float,
    *,
    seed: int,
    validation_seed: int | None,
) -> npt.NDArray[np.int8]:
    """Return the side of every row ([N]) when one fold (its number, of how many) holds the test rows.

    Validation rows are a share of the others, and others for every fold.
    """
    number, num_folds = fold
    of_row = folds(units, strata_N, num_folds, lambda keys: drawn(keys, seed))
    sides = np.where(of_row == number, TEST, TRAIN).astype(np.int8)
    if validation > 0:
        rows = np.flatnonzero(of_row != number)
        kept, of_kept = np.unique(units.of_row[rows], return_inverse=True)
        left = Units(of_kept.astype(np.int64), units.keys[kept])
        own_seed = seed if validation_seed is None else validation_seed
        sides[rows] = cut(
            left, strata_N[rows], validation, 0.0, lambda _, keys: drawn(drawn(keys, number + 1), own_seed)
        )
    return sides


def drawn(keys: Keys, seed: int) -> Keys:
    """Return pseudo-random numbers, each a function of its key and the seed (SplitMix64's finaliser)."""
    state = keys + np.uint64((seed * 0x9E3779B97F4A7C15 + 0x9E3779B97F4A7C15) & (2**64 - 1))
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return cast("Keys", state ^ (state >> np.uint64(31)))


def key_of(text: str) -> int:
    """Return a number of 64 bits made of a text, never 0."""
    return max(int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little"), 1)


def _unit_strata(units: Units, strata_N: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """[M]: the commonest stratum of each unit's rows, the smallest among equals."""
    num_strata = int(strata_N.max(initial=0)) + 1
    pairs, counts = np.unique(units.of_row * num_strata + strata_N, return_counts=True)
    unit, stratum = np.divmod(pairs, num_strata)
    order = np.lexsort((stratum, -counts, unit))
    _, first = np.unique(unit[order], return_index=True)
    result: npt.NDArray[np.int64] = stratum[order][first]
    return result


def _take(
    side: int,
    wanted: float,
    sizes_M: npt.NDArray[np.int64],
    stratum_M: npt.NDArray[np.int64],
    order: npt.NDArray[np.int64],
    *,
    sides_M: npt.NDArray[np.int8],
    num_left: int,
) -> None:
    """Give ``side`` about ``wanted`` rows, from each stratum its share.

    Every stratum keeps a unit to train on, and at least ``num_left`` units stay in all.
    """
    num_strata = int(stratum_M.max(initial=0)) + 1
    rows_S = np.bincount(stratum_M, weights=sizes_M, minlength=num_strata).astype(np.float64)
    quotas_S = _quotas(rows_S, max(1, round(wanted)))
    free_S = np.bincount(stratum_M[sides_M == TRAIN], minlength=num_strata)
    taken_S = np.zeros(num_strata)
    num_free = int((sides_M == TRAIN).sum())
    for unit in order:
        if num_free <= num_left:
            return
        if unit % _LOOK_EVERY == 0 and not ((quotas_S > taken_S) & (free_S > 1)).any():
            break  # no stratum takes any more
        stratum = stratum_M[unit]
        room = quotas_S[stratum] - taken_S[stratum]
        # A unit of many rows may overshoot by less than it would fall short without it.
        if sides_M[unit] == TRAIN and free_S[stratum] > 1 and room > 0 and sizes_M[unit] <= 2 * room:
            sides_M[unit] = side
            taken_S[stratum] += sizes_M[unit]
            free_S[stratum] -= 1
            num_free -= 1
    if not taken_S.any():
        # Strata of one unit each, or units larger than the share: take the smallest in line.
        free = [unit for unit in order if sides_M[unit] == TRAIN]
        smallest = min(free, key=lambda unit: int(sizes_M[unit]))
        sides_M[smallest] = side


def _quotas(rows_S: npt.NDArray[np.float64], wanted: int) -> npt.NDArray[np.float64]:
    """Share ``wanted`` rows out in proportion to ``rows_S``, whole, by largest remainder."""
    exact: npt.NDArray[np.float64] = rows_S * (wanted / max(rows_S.sum(), 1))
    quotas: npt.NDArray[np.float64] = np.floor(exact)
    missing = max(wanted - int(quotas.sum()), 0)
    best = np.lexsort((np.arange(len(exact)), -(exact - quotas)))[:missing]
    quotas[best] += 1
    return quotas


def first_by_content(keys: Keys, strata_N: npt.NDArray[np.int64], limit: int) -> npt.NDArray[np.bool_]:
    """[N]: the ``limit`` rows to keep: the smallest ``keys`` of each stratum, in the strata's proportion."""
    rows_S = np.bincount(strata_N).astype(np.float64)
    quotas_S = _quotas(rows_S, limit)
    order = np.lexsort((keys, strata_N))
    starts = np.concatenate(([0], np.cumsum(rows_S)[:-1])).astype(np.int64)
    rank = np.arange(len(keys)) - starts[strata_N[order]]
    keep = np.zeros(len(keys), dtype=np.bool_)
    keep[order] = rank < quotas_S[strata_N[order]]
    return keep
