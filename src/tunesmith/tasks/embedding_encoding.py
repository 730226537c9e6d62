"""Texts that belong together, as sequences: the anchor first, then its positive, then its negatives."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from tunesmith.data.encoded import Array, Encoded, Ragged
from tunesmith.data.related_texts import ANCHOR, NEGATIVE, POSITIVE, SCORE
from tunesmith.tasks.base import Columns
from tunesmith.tasks.encoding import encode_texts

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TEXT = "text"
"""The target that says which text each sequence is: equal numbers are equal texts of the split."""

IntArray = npt.NDArray[np.int64]


def related_rows(columns: Columns) -> list[list[str]]:
    """Return the texts of each row: those that are there of the anchor, the positive and the negatives."""
    single = [[text or "" for text in columns[name]] for name in (ANCHOR, POSITIVE) if name in columns]
    rows = [list(texts) for texts in zip(*single, strict=True)]
    if len(single) == 2 and NEGATIVE in columns:
        for row, negatives in zip(rows, columns[NEGATIVE], strict=True):
            row.extend(negatives or ())
    return rows


def encode_related(
    columns: Columns, tokenizer: PreTrainedTokenizerBase, max_length: int, prefixes: tuple[str, str]
) -> Encoded:
    """Tokenise rows; ``prefixes`` are put before anchors and before all others.

    Rows of an anchor or a positive alone are one sequence each, without targets.
    """
    rows, (first, other) = related_rows(columns), prefixes
    before = first if ANCHOR in columns else other
    texts = [(other if place else before) + text for row in rows for place, text in enumerate(row)]
    inputs, num_truncated = encode_texts(tokenizer, texts, None, max_length)
    if not {ANCHOR, POSITIVE} <= columns.keys():
        return Encoded(inputs, {}, num_truncated)
    borders = np.cumsum([0, *map(len, rows)])
    targets = related_targets(columns)
    if isinstance(of_rows := targets.get(TEXT), Ragged):
        targets[TEXT] = Ragged(of_rows.values, np.arange(len(texts) + 1))
    return Encoded(inputs, targets, num_truncated, rows=borders, keeps_rows=True)


def related_targets(columns: Columns) -> dict[str, Array | Ragged]:
    """Return ``score``, float32 [N], where there is one, else ``text``: which text of the split each of a row's is."""
    if SCORE in columns:
        return {SCORE: np.array(columns[SCORE], dtype=np.float32)}
    rows = related_rows(columns)
    numbers: dict[str, int] = {}
    values = np.array([numbers.setdefault(text, len(numbers)) for text in chain.from_iterable(rows)], dtype=np.int64)
    return {TEXT: Ragged(values, np.cumsum([0, *map(len, rows)]))}


def texts_by_number(columns: Columns) -> Sequence[str]:
    """Return the texts that the numbers of ``related_targets`` stand for."""
    return list(dict.fromkeys(chain.from_iterable(related_rows(columns))))


def excluded(anchors_B: Array, own_B: Array, candidates_C: Array, rows_C: Array) -> npt.NDArray[np.bool_]:
    """Return [B, C]: which candidates are no negatives of an anchor though they are not its own.

    They are the anchor's own text or its positive's once more, or the positive of another row with the same anchor.

    Args:
        anchors_B: The text of each anchor, by number.
        own_B: The text of each one's positive.
        candidates_C: The text of each candidate; the first B are the positives of the rows.
        rows_C: The row that each candidate comes from.
    """
    same: npt.NDArray[np.bool_] = (candidates_C == own_B[:, None]) | (candidates_C == anchors_B[:, None])
    is_positive_C = np.arange(len(candidates_C)) < len(own_B)
    same |= (anchors_B[rows_C] == anchors_B[:, None]) & is_positive_C
    same[np.arange(len(own_B)), np.arange(len(own_B))] = False
    return same


def also_right(anchors_N: Array, own_N: Array, texts_C: Array) -> dict[int, IntArray]:
    """Return, for rows whose anchor has other positives or is a candidate itself, which candidates those are."""
    of_anchor: dict[int, set[int]] = {}
    for anchor, own in zip(anchors_N.tolist(), own_N.tolist(), strict=True):
        of_anchor.setdefault(anchor, set()).add(own)
    place = {text: number for number, text in enumerate(texts_C.tolist())}
    found: dict[int, IntArray] = {}
    for row, (anchor, own) in enumerate(zip(anchors_N.tolist(), own_N.tolist(), strict=True)):
        others = of_anchor[anchor] | ({place[anchor]} if anchor in place else set())
        if others := others - {own}:
            found[row] = np.array(sorted(others), dtype=np.int64)
    return found


def as_floats(vectors: Array) -> npt.NDArray[np.float32]:
    """Return vectors as what they are kept as."""
    return np.asarray(vectors, dtype=np.float32)
