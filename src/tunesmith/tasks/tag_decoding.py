"""The best sequence of tags that keeps to the scheme: Viterbi (1967) over many rows at once.

Shapes: N rows, L tokens of the longest, T tokens of all rows, K tags.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tunesmith.data.encoded import Ragged
from tunesmith.tasks.base import FloatArray

IntArray = npt.NDArray[np.int64]
MAX_CELLS = 2_000_000
"""Scores (rows x tokens x tags) worked on at once."""


def transitions(labels: Sequence[str]) -> tuple[FloatArray, FloatArray]:
    """Return what is added to a tag for the tag before it, [K, K], and at the start of a row, [K]: 0 or -inf.

    ``I-X`` may only follow ``B-X`` or ``I-X``; everything else may follow anything.
    """
    num_labels = len(labels)
    between_KK = np.zeros((num_labels, num_labels))
    start_K = np.zeros(num_labels)
    for k, label in enumerate(labels):
        if label.startswith("I-"):
            start_K[k] = -np.inf
            allowed = [before[:2] in ("B-", "I-") and before[2:] == label[2:] for before in labels]
            between_KK[:, k] = np.where(allowed, 0.0, -np.inf)
    return between_KK, start_K


def best_tags(scores: Ragged, between_KK: FloatArray, start_K: FloatArray) -> IntArray:
    """Return [T]: the tags of every row's best allowed sequence, the sum of its scores being the largest.

    With ``scores`` that are log-probabilities up to a constant a token, that is the likeliest sequence.
    """
    found = np.zeros(int(scores.offsets[-1]), dtype=np.int64)
    lengths = scores.lengths
    order = np.argsort(-lengths, kind="stable")
    order = order[lengths[order] > 0]
    first = 0
    while first < len(order):
        length = int(lengths[order[first]])
        last = first + max(1, MAX_CELLS // (length * len(start_K)))
        _decode(scores, order[first:last], between_KK, start_K, found)
        first = last
    return found


def _decode(scores: Ragged, rows: IntArray, between_KK: FloatArray, start_K: FloatArray, found: IntArray) -> None:
    """Decode ``rows``, longest first, and write their tags into ``found`` [T]."""
    lengths = scores.lengths[rows]
    starts = scores.offsets[rows]
    values_TK = np.asarray(scores.values)
    num_steps = int(lengths[0])
    came_from = np.zeros((num_steps, len(rows), len(start_K)), dtype=np.int16)
    active = (lengths[None, :] > np.arange(num_steps)[:, None]).sum(axis=1)
    best_NK = values_TK[starts].astype(np.float64) + start_K
    for step in range(1, num_steps):
        num = int(active[step])
        paths = best_NK[:num, :, None] + between_KK
        came_from[step, :num] = paths.argmax(axis=1)
        best_NK[:num] = paths.max(axis=1) + values_TK[starts[:num] + step]
    tag_N = best_NK.argmax(axis=1)
    for step in range(num_steps - 1, -1, -1):
        num = int(active[step])
        found[starts[:num] + step] = tag_N[:num]
        tag_N[:num] = came_from[step, np.arange(num), tag_N[:num]]
