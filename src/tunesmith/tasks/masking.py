"""Which tokens are masked, and what stands in their place: pure functions of keys, one for each row.

There is no generator that is drawn from in turn: every random number is a hash of a row's key, a
position and a purpose. What happens to a row therefore depends on its key alone, whatever rows
stand beside it, and many rows are done at once.

Shapes: R rows, T tokens of all rows, U units (words or tokens that may be masked), C tokens chosen.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tunesmith.data.encoded import Ragged

Bits = npt.NDArray[np.uint64]
IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

NEVER = -1
"""The word number of tokens that are never masked: special and unknown ones."""
NOT_JUDGED = -100
"""The label of a token that is read without being known, as in ``transformers``."""
TURNS = 7
"""In evaluation every seventh word of a row is masked, about 15%; in seven turns every word is masked once."""

_STEP = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)
_AMOUNT, _ORDER, _FATE, _REPLACEMENT = (np.uint64(purpose * int(_FIRST) % 2**64) for purpose in (1, 2, 3, 4))
"""What random numbers of one row are for, so that they are independent of each other."""


@dataclass(frozen=True, slots=True)
class Masked:
    """Rows as the model is to see them, and what it is to restore."""

    ids: Ragged
    reads: Ragged
    """Positions within each row that were chosen, ascending."""
    labels: Ragged
    """The ids that stood there."""


@dataclass(frozen=True, slots=True)
class Fates:
    """What becomes of a chosen token: the rule of Devlin et al. 2019, section 3.1."""

    mask_id: int
    random_ids: IntArray
    """What a random token is drawn from."""
    mask_share: float = 1.0
    random_share: float = 0.0
    """The rest stays as it is."""


@dataclass(frozen=True, slots=True)
class Units:
    """What is chosen as a whole: words, or single tokens."""

    of_token: IntArray
    """[T]: the unit of each token; ``NEVER`` for tokens that are never masked."""
    rows: IntArray
    """[U]: the row of each unit."""
    starts: IntArray
    """[U]: position of the unit's first token within its row."""
    counts: IntArray
    """[R]: units of each row."""


def random_keys(seed: int, rows: IntArray) -> Bits:
    """Return [R]: a key for each row, from a seed (of a step) and the row's number."""
    return _mixed(_mixed(np.array([seed], dtype=np.uint64) * _STEP) + rows.astype(np.uint64) * _FIRST)


def content_keys(ids: Ragged) -> Bits:
    """Return [R]: a key for each row, from its ids and their order."""
    position_T = np.arange(len(ids.values), dtype=np.uint64) - np.repeat(ids.offsets[:-1], ids.lengths).astype(
        np.uint64
    )
    hash_T = _mixed(_mixed(ids.values.astype(np.uint64) * _STEP) + position_T * _FIRST)
    summed = np.concatenate([np.zeros(1, dtype=np.uint64), np.cumsum(hash_T)])
    return _mixed(summed[ids.offsets[1:]] - summed[ids.offsets[:-1]])


def find_units(words: Ragged, *, whole_words: bool) -> Units:
    """Find the units from the word number of every token; tokens of one word follow each other."""
    words_T = np.asarray(words.values, dtype=np.int64)
    row_T = np.repeat(np.arange(len(words)), words.lengths)
    is_first_T = words_T != NEVER
    if whole_words:
        goes_on_T = (words_T[1:] == words_T[:-1]) & (row_T[1:] == row_T[:-1])
        is_first_T[1:] &= ~goes_on_T
    first_U = np.flatnonzero(is_first_T)
    row_U = row_T[first_U]
    return Units(
        of_token=np.where(words_T == NEVER, NEVER, np.cumsum(is_first_T) - 1),
        rows=row_U,
        starts=first_U - words.offsets[row_U],
        counts=np.bincount(row_U, minlength=len(words)),
    )


def choose_share(units: Units, keys_R: Bits, share: float) -> BoolArray:
    """Return [U]: in each row, units chosen at random, ``share`` of them on average and at least one.

    Their number is ``share`` times the units, rounded up or down at random so that the mean is kept.
    """
    amount_R = np.floor(share * units.counts + _uniform(_noise(keys_R, np.zeros(1, dtype=np.int64), _AMOUNT)))
    return np.less(_ranks(units, keys_R), np.maximum(amount_R, 1)[units.rows])


def choose_turn(units: Units, keys_R: Bits, turn_R: IntArray) -> BoolArray:
    """Return [U]: the units whose turn it is, of ``TURNS``; all turns together choose each unit once."""
    return np.equal(_ranks(units, keys_R) % TURNS, turn_R[units.rows])


def mask(ids: Ragged, units: Units, chosen_U: BoolArray, keys_R: Bits, fates: Fates) -> Masked:
    """Return the rows with the chosen units' tokens masked, replaced or kept, each token for itself."""
    token_C = np.flatnonzero(np.append(chosen_U, False)[units.of_token])  # NEVER finds the entry appended
    row_C = np.searchsorted(ids.offsets, token_C, side="right") - 1
    position_C = token_C - ids.offsets[row_C]
    label_C = np.asarray(ids.values)[token_C]
    masked_T = np.array(ids.values)
    masked_T[token_C] = _after(label_C, keys_R[row_C], position_C, fates)
    offsets = np.zeros(len(ids) + 1, dtype=np.int64)
    np.cumsum(np.bincount(row_C, minlength=len(ids)), out=offsets[1:])
    return Masked(
        Ragged(masked_T, ids.offsets),
        Ragged(position_C.astype(np.int32), offsets),
        Ragged(label_C, offsets),
    )


def _after(label_C: npt.NDArray[np.generic], key_C: Bits, position_C: IntArray, fates: Fates) -> IntArray:
    """Return [C]: what stands in the place of each chosen token."""
    found_C = np.full(len(label_C), fates.mask_id, dtype=np.int64)
    if fates.mask_share < 1.0:
        fate_C = _uniform(_noise(key_C, position_C, _FATE))
        choice_C = _uniform(_noise(key_C, position_C, _REPLACEMENT)) * len(fates.random_ids)
        random_C = fates.random_ids[choice_C.astype(np.int64)]
        other_C = np.where(fate_C < fates.mask_share + fates.random_share, random_C, label_C)
        found_C = np.where(fate_C < fates.mask_share, found_C, other_C)
    return found_C


def _ranks(units: Units, keys_R: Bits) -> IntArray:
    """Return [U]: the place of each unit in a random order of its row's units."""
    order = np.lexsort((_noise(keys_R[units.rows], units.starts, _ORDER), units.rows))
    first_R = np.cumsum(units.counts) - units.counts
    rank_U = np.empty(len(order), dtype=np.int64)
    rank_U[order] = np.arange(len(order)) - first_R[units.rows]
    return rank_U


def _noise(keys: Bits, positions: IntArray, purpose: np.uint64) -> Bits:
    return _mixed(_mixed(keys + purpose) + positions.astype(np.uint64) * _STEP)


def _mixed(values: Bits) -> Bits:
    """Return well-mixed bits: the finaliser of SplitMix64 (Steele, Lea and Flood 2014)."""
    values = (values ^ (values >> np.uint64(30))) * _FIRST
    values = (values ^ (values >> np.uint64(27))) * _SECOND
    return values ^ (values >> np.uint64(31))


def _uniform(bits: Bits) -> FloatArray:
    """Return numbers in [0, 1)."""
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53
