"""Near duplicates: rows whose texts share most of their n-grams, found by MinHash sketches and verified.

Broder 1997; Leskovec, Rajaraman and Ullman, "Mining of Massive Datasets", 3.4. A row is held as ``NUM_BANDS`` numbers
of 32 bits, made for thousands of rows at once: a table of a million rows takes 64 MB, where an object a row would take
gigabytes. Rows that agree in a band are candidates; whether they are near duplicates is then counted on their texts.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tunesmith.data.split import drawn

NUM_BANDS, ROWS_OF_BAND = 16, 5
"""Two texts that share 80% of their n-grams agree in a band with a probability of 99.8%; of 50%, with 40%."""
WORDS, CHARACTERS = 2, 3
"""Length of the n-grams: in words, and in characters where texts are written without spaces."""

_WORD = re.compile(r"\w+")
_UNSPACED = re.compile("[\u3040-\u30ff\u3400-\u9fff\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff]")
_CHUNK = 4_000
"""Pairs whose texts are read at once."""

Keys = npt.NDArray[np.uint64]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class NearPairs:
    """P pairs of rows, the earlier first; among rows that are all alike, not every pair is listed."""

    first: IntArray
    second: IntArray
    similarity: npt.NDArray[np.float64]
    """[P]: Jaccard: n-grams that both have, of those that either has."""


def units_of(text: str) -> list[str]:
    """Return the words of a text in lower case, or its letters where it is written without spaces."""
    plain = text.casefold()
    words = _WORD.findall(plain)
    return [letter for word in words for letter in word] if _UNSPACED.search(plain) else words


def grams(text: str) -> set[tuple[str, ...]]:
    """Return the n-grams by which texts are compared; a text that is shorter than one is one."""
    units = units_of(text)
    length = CHARACTERS if _UNSPACED.search(text) else WORDS
    if len(units) <= length:
        return {tuple(units)} if units else set()
    return set(zip(*(units[place:] for place in range(length)), strict=False))


def sketch(texts: Sequence[str]) -> npt.NDArray[np.uint32]:
    """[N, NUM_BANDS]: the bands of each text; rows that agree in one are candidates. A text without words has zeros."""
    hashes_T, lengths_N = _gram_hashes(texts)
    bands = np.zeros((len(texts), NUM_BANDS), dtype=np.uint32)
    filled = np.flatnonzero(lengths_N)
    if not len(filled):
        return bands
    starts = np.concatenate(([0], np.cumsum(lengths_N[filled])[:-1]))
    random = np.random.default_rng(1997)
    for band in range(NUM_BANDS):
        key = np.full(len(filled), band, dtype=np.uint64)
        for _ in range(ROWS_OF_BAND):
            factor, offset = random.integers(0, 2**63, 2, dtype=np.uint64)
            values_T = (hashes_T * (factor * np.uint64(2) + np.uint64(1)) + offset) >> np.uint64(32)
            key = drawn(key ^ np.minimum.reduceat(values_T, starts), 0)
        bands[filled, band] = np.maximum(key >> np.uint64(32), np.uint64(1)).astype(np.uint32)
    return bands


def _gram_hashes(texts: Sequence[str]) -> tuple[Keys, IntArray]:
    """Return the hashes of all texts' n-grams, one after the other, and how many each text has."""
    hashes: list[Keys] = []
    lengths = np.zeros(len(texts), dtype=np.int64)
    for row, text in enumerate(texts):
        units = units_of(text)
        if not units:
            continue
        length = CHARACTERS if _UNSPACED.search(text) else WORDS
        codes = np.array([zlib.crc32(unit.encode()) for unit in units], dtype=np.uint64)
        number = max(len(codes) - length + 1, 1)
        joined = np.zeros(number, dtype=np.uint64)
        for place in range(min(length, len(codes))):
            joined = joined * np.uint64(0x9E3779B97F4A7C15) + codes[place : place + number]
        hashes.append(joined)
        lengths[row] = number
    return drawn(np.concatenate([np.zeros(0, dtype=np.uint64), *hashes]), 1), lengths


def find_near_pairs(
    bands: npt.NDArray[np.uint32], rows: IntArray, read: Callable[[IntArray], Sequence[str]], threshold: float
) -> NearPairs:
    """Return pairs among ``rows`` whose texts are at least so similar.

    Rows that are linked already are not compared again, so that among very many alike rows the work grows with their
    number rather than with its square.

    Args:
        bands: [N, NUM_BANDS], as ``sketch`` gives them.
        rows: The rows to compare, in rising order: of rows with the same text, one.
        read: Returns the texts of some rows.
        threshold: The least similarity, from 0 to 1.
    """
    clusters = _Clusters(len(bands))
    tried = np.zeros(0, dtype=np.uint64)
    found: list[tuple[int, int, float]] = []
    for band in range(NUM_BANDS):
        pairs = np.setdiff1d(_candidates(bands[:, band], rows), tried, assume_unique=True)
        tried = np.union1d(tried, pairs)
        for start in range(0, len(pairs), _CHUNK):
            found += _verified(pairs[start : start + _CHUNK], clusters, read, threshold)
    found.sort()
    pairs_P2 = np.array([pair[:2] for pair in found], dtype=np.int64).reshape(-1, 2)
    return NearPairs(pairs_P2[:, 0], pairs_P2[:, 1], np.array([value for *_, value in found], dtype=np.float64))


def _candidates(keys_N: npt.NDArray[np.uint32], rows: IntArray) -> Keys:
    """Return pairs of rows with the same key, each with the first one and with the one before it, as sorted numbers."""
    keys = keys_N[rows]
    order = np.argsort(keys, kind="stable")
    ordered, sorted_rows = keys[order], rows[order]
    same = np.flatnonzero((ordered[1:] == ordered[:-1]) & (ordered[1:] != 0)) + 1
    if not len(same):
        return np.zeros(0, dtype=np.uint64)
    is_new = np.concatenate(([True], ordered[1:] != ordered[:-1]))
    firsts = np.maximum.accumulate(np.where(is_new, np.arange(len(ordered)), 0))
    second = sorted_rows[same].astype(np.uint64)
    pairs = [(sorted_rows[other].astype(np.uint64) << np.uint64(32)) | second for other in (same - 1, firsts[same])]
    return np.unique(np.concatenate(pairs))


def _verified(
    pairs: Keys, clusters: _Clusters, read: Callable[[IntArray], Sequence[str]], threshold: float
) -> Iterator[tuple[int, int, float]]:
    """Yield those of some pairs that are near duplicates, and link them."""
    unlinked = [
        (first, second)
        for first, second in zip(
            (pairs >> np.uint64(32)).tolist(), (pairs & np.uint64(0xFFFFFFFF)).tolist(), strict=True
        )
        if clusters.root(first) != clusters.root(second)
    ]
    wanted = np.unique(np.array(unlinked, dtype=np.int64))
    of_row = dict(zip(wanted.tolist(), map(grams, read(wanted)), strict=True)) if len(wanted) else {}
    for first, second in unlinked:
        if clusters.root(first) == clusters.root(second):
            continue
        one, other = of_row[first], of_row[second]
        value = len(one & other) / max(len(one | other), 1)
        if value >= threshold:
            clusters.join(first, second)
            yield first, second, value


class _Clusters:
    """Which of N rows are linked, directly or through others."""

    def __init__(self, num_rows: int) -> None:
        self._parent = np.arange(num_rows, dtype=np.int64)

    def root(self, row: int) -> int:
        """Return the row that stands for all that this one is linked with."""
        parent = self._parent
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = int(parent[row])
        return row

    def join(self, first: int, second: int) -> None:
        """Link two rows."""
        one, other = self.root(first), self.root(second)
        self._parent[max(one, other)] = min(one, other)
