"""What many texts begin with, end with or hold word by word: counted by hashes, a few numbers a row."""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tunesmith.data.near_duplicates import units_of

NUM_UNITS = 6
"""Words (characters, where there are no spaces) of a beginning or an end."""
LONG_SENTENCE = 25
"""Characters from which on a sentence that comes again is no accident."""
LEAST_ROWS, LEAST_SHARE = 10, 0.02

_SENTENCE = re.compile("(?<=[.!?])\\s+|(?<=[。！？])|[\r\n]+")


@dataclass(frozen=True, slots=True)
class Shared:
    """What R rows have in common."""

    what: str
    """``beginning``, ``end`` or ``sentence``."""
    rows: npt.NDArray[np.int64]
    """[R]"""


class SharedParts:
    """Collects the parts of texts, row after row."""

    def __init__(self) -> None:
        self._hashes: dict[str, list[int]] = {"beginning": [], "end": [], "sentence": []}
        self._rows: dict[str, list[int]] = {"beginning": [], "end": [], "sentence": []}
        self._packed: dict[str, list[tuple[npt.NDArray[np.uint64], npt.NDArray[np.int32]]]] = {
            what: [] for what in self._hashes
        }

    def add(self, row: int, text: str) -> None:
        """Take in the text of a row; texts that are hardly longer than a beginning have none."""
        units = units_of(text[:400])
        if len(units) > 2 * NUM_UNITS:
            self._put("beginning", row, " ".join(units[:NUM_UNITS]))
            self._put("end", row, " ".join(units_of(text[-400:])[-NUM_UNITS:]))
        if len(text) >= 2 * LONG_SENTENCE:
            for sentence in {part.strip() for part in _SENTENCE.split(text)}:
                if LONG_SENTENCE <= len(sentence) < len(text.strip()):
                    self._put("sentence", row, sentence)

    def pack(self) -> None:
        """Bring what was taken in since the last time into arrays."""
        for what, hashes in self._hashes.items():
            arrays = np.array(hashes, dtype=np.uint64), np.array(self._rows[what], dtype=np.int32)
            self._packed[what].append(arrays)
            self._hashes[what], self._rows[what] = [], []

    def shared(self, num_rows: int) -> list[Shared]:
        """Return what at least 10 rows, and 2% of all, have in common; the commonest first."""
        self.pack()
        least = max(LEAST_ROWS, LEAST_SHARE * num_rows)
        found = []
        for what, packed in self._packed.items():
            hashes = np.concatenate([one for one, _ in packed])
            rows = np.concatenate([one for _, one in packed]).astype(np.int64)
            keys, of_key, counts = np.unique(hashes, return_inverse=True, return_counts=True)
            found += [Shared(what, rows[of_key == key]) for key in np.flatnonzero(counts >= least)[:50] if len(keys)]
        return sorted(found, key=lambda one: -len(one.rows))

    def _put(self, what: str, row: int, part: str) -> None:
        content = part.encode()
        self._hashes[what].append(zlib.crc32(content) << 32 | zlib.adler32(content))
        self._rows[what].append(row)


def part_of(text: str, what: str, others: str) -> str:
    """Return the part of a text that is meant by ``what`` and that another text has, too, to be shown."""
    if what == "sentence":
        sentences = {part.strip() for part in _SENTENCE.split(others)}
        return next(
            (
                part
                for part in map(str.strip, _SENTENCE.split(text))
                if len(part) >= LONG_SENTENCE and part in sentences
            ),
            "",
        )
    common = 0
    one, other = (text, others) if what == "beginning" else (text[::-1], others[::-1])
    while common < min(len(one), len(other)) and one[common] == other[common]:
        common += 1
    return (one[:common] if what == "beginning" else one[:common][::-1]).strip()
