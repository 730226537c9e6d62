"""The best sequence of tags that keeps to the scheme, and how probable its tags are: chains over many rows at once.

A token's scores are one for each tag, or one for each tag after each tag (a conditional random field, ``tasks.crf``).
Sequences are scored by their sum either way. Viterbi 1967; forward-backward as in Rabiner 1989, section III.

Shapes: N rows, M of them that reach a place, L tokens of the longest, T tokens of all rows, K tags.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tunesmith.data.encoded import Ragged
from tunesmith.tasks.base import FloatArray
from tunesmith.tasks.tag_schemes import is_bio

IntArray = npt.NDArray[np.int64]
MAX_CELLS = 2_000_000
"""Scores (rows x tokens x scores a token) worked on at once."""


def transitions(labels: Sequence[str]) -> tuple[FloatArray, FloatArray]:
    """Return what is added to a tag for the tag before it, [K, K], and at the start of a row, [K]: 0 or -inf.

    Where tags mark entities ``I-X`` may only follow ``B-X`` or ``I-X``; everything else may follow anything.
    """
    num_labels = len(labels)
    has_scheme = is_bio(labels)
    between_KK = np.zeros((num_labels, num_labels))
    start_K = np.zeros(num_labels)
    for k, label in enumerate(labels):
        if has_scheme and label.startswith("I-"):
            start_K[k] = -np.inf
            allowed = [before[:2] in ("B-", "I-") and before[2:] == label[2:] for before in labels]
            between_KK[:, k] = np.where(allowed, 0.0, -np.inf)
    return between_KK, start_K


@dataclass(frozen=True, slots=True)
class Chains:
    """Some rows, longest first, as chains: the scores of every place given the tag before it."""

    scores: npt.NDArray[np.generic]
    """[T, K] scores of tags, or [T, (K + 1) * K] of pairs, those at the start of a row last."""
    between: FloatArray
    """[K, K]: added to a tag's score for the tag before it."""
    start: FloatArray
    """[K]: added at the start of a row."""
    first_tokens: IntArray
    """[N]: the first token of each row."""
    num_rows: IntArray
    """[L]: how many rows reach each place; they are the first ones."""

    def tokens(self, place: int) -> IntArray:
        """Return [M]: the tokens at a place of the rows that reach it."""
        return self.first_tokens[: self.num_rows[place]] + place

    def begin(self) -> FloatArray:
        """Return [N, K]: the scores of the first tags."""
        values = np.asarray(self.scores[self.first_tokens], dtype=np.float64)
        return values[:, -len(self.start) :] + self.start

    def step(self, place: int) -> FloatArray:
        """Return [M, K, K]: the scores of the tags at a place (last axis) after those before it."""
        num_tags = len(self.start)
        values = np.asarray(self.scores[self.tokens(place)], dtype=np.float64)
        if values.shape[1] == num_tags:
            return self.between + values[:, None, :]
        return self.between + values.reshape(len(values), num_tags + 1, num_tags)[:, :num_tags]


def best_tags(scores: Ragged, between_KK: FloatArray, start_K: FloatArray) -> IntArray:
    """Return [T]: the tags of every row's best allowed sequence, the sum of its scores being the largest.

    With ``scores`` [T, K] that are log-probabilities up to a constant a token, or [T, (K + 1) * K] that are
    log-potentials of pairs, that is the likeliest sequence.
    """
    found_T = np.zeros(int(scores.offsets[-1]), dtype=np.int64)
    for chains in _chains(scores, between_KK, start_K):
        _follow_best(chains, found_T)
    return found_T


def tag_probabilities(scores: Ragged, between_KK: FloatArray, start_K: FloatArray) -> FloatArray:
    """Return [T, K]: the probability of each tag of each token, over all allowed sequences of its row.

    The probability of a sequence is proportional to the exponential of the sum of its scores.
    """
    found_TK = np.zeros((int(scores.offsets[-1]), len(start_K)))
    for chains in _chains(scores, between_KK, start_K):
        _forward_backward(chains, found_TK)
    return found_TK


def _chains(scores: Ragged, between_KK: FloatArray, start_K: FloatArray) -> Iterator[Chains]:
    """Yield rows that are not empty, longest first, as many at once as memory allows."""
    lengths = scores.lengths
    order = np.argsort(-lengths, kind="stable")
    order = order[lengths[order] > 0]
    values_TV = np.asarray(scores.values)
    first = 0
    while first < len(order):
        length = int(lengths[order[first]])
        last = first + max(1, MAX_CELLS // (length * max(values_TV.shape[1], 1)))
        rows = order[first:last]
        num_rows = (lengths[rows][None, :] > np.arange(length)[:, None]).sum(axis=1)
        yield Chains(values_TV, between_KK, start_K, scores.offsets[rows], num_rows)
        first = last


def _follow_best(chains: Chains, found_T: IntArray) -> None:
    """Write the tags of every row's best sequence into ``found_T``: Viterbi."""
    best_NK = chains.begin()
    came_from = np.zeros((len(chains.num_rows), *best_NK.shape), dtype=np.int16)
    for place in range(1, len(chains.num_rows)):
        num = int(chains.num_rows[place])
        paths_MKK = best_NK[:num, :, None] + chains.step(place)
        came_from[place, :num] = paths_MKK.argmax(axis=1)
        best_NK[:num] = paths_MKK.max(axis=1)
    tag_N = best_NK.argmax(axis=1)
    for place in range(len(chains.num_rows) - 1, -1, -1):
        num = int(chains.num_rows[place])
        found_T[chains.tokens(place)] = tag_N[:num]
        tag_N[:num] = came_from[place, np.arange(num), tag_N[:num]]


def _forward_backward(chains: Chains, found_TK: FloatArray) -> None:
    """Write the probabilities of every token's tags into ``found_TK``."""
    forward_NK = chains.begin()
    forward_LNK = np.zeros((len(chains.num_rows), *forward_NK.shape))
    forward_LNK[0] = forward_NK
    for place in range(1, len(chains.num_rows)):
        num = int(chains.num_rows[place])
        forward_NK[:num] = _log_sum(forward_NK[:num, :, None] + chains.step(place), axis=1)
        forward_LNK[place] = forward_NK
    # A row that has ended keeps the sums of its last token.
    total_N = _log_sum(forward_NK, axis=1)
    backward_NK = np.zeros_like(forward_NK)
    for place in range(len(chains.num_rows) - 1, -1, -1):
        num = int(chains.num_rows[place])
        log_MK = forward_LNK[place, :num] + backward_NK[:num] - total_N[:num, None]
        found_TK[chains.tokens(place)] = np.exp(log_MK)
        if place:
            backward_NK[:num] = _log_sum(chains.step(place) + backward_NK[:num, None, :], axis=2)


def _log_sum(values: FloatArray, axis: int) -> FloatArray:
    """Return log(sum(exp(values))) over an axis; -inf where all are."""
    largest = values.max(axis=axis, keepdims=True)
    largest[~np.isfinite(largest)] = 0.0
    with np.errstate(divide="ignore"):
        summed: FloatArray = np.log(np.exp(values - largest).sum(axis=axis)) + largest.squeeze(axis)
    return summed
