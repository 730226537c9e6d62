"""Few combinations of many settings in which every two settings meet."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import combinations, product

Row = tuple[str, ...]


def pairs_of(row: Row) -> set[tuple[int, str, int, str]]:
    """Return every two values of a row, with their places."""
    return {(one, row[one], other, row[other]) for one, other in combinations(range(len(row)), 2)}


def pairwise(*factors: Sequence[str], allowed: Callable[[Row], bool] = lambda _: True) -> list[Row]:
    """Return rows, with one value of each factor, in which all pairs of values occur that any allowed row has.

    Each row is the one that adds most pairs to those before it, the first one of several: the same rows every time.
    """
    adds = {row: pairs_of(row) for row in product(*factors) if allowed(row)}
    rows: list[Row] = []
    while adds:
        best = max(adds, key=lambda row: len(adds[row]))
        rows.append(best)
        found = adds[best]
        adds = {row: left for row, pairs in adds.items() if (left := pairs - found)}
    return rows
