"""From scores of tokens to the best spans of a text, with their probabilities among all spans that there could be.

A span's score is that of its first token as a beginning plus that of its last one as an end (Devlin et al. 2019,
section 4.3); begin and end are of one window. What stands for no answer is compared with them in the same way.

Shapes: L tokens of a window, U of all windows of a row, W tokens of the longest span that may begin at one.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from tunesmith.data.encoded import Ragged
from tunesmith.tasks.base import FloatArray
from tunesmith.tasks.question_encoding import NO_ANSWER

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Candidate:
    """Characters of a context that may be the answer."""

    start: int
    end: int
    score: float
    """What its windows give it: the logarithm of the sum over them of the exponentials of begin's plus end's score."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """What a row's scores say."""

    best: tuple[Candidate, ...]
    """Best first; at least one, where the context has a token at all."""
    no_answer: float
    """The score of there being no answer, over all windows."""
    total: float
    """The same of all spans together, no answer left out."""

    @property
    def odds(self) -> float:
        """The log-odds of no answer against the best span: SQuAD's ``null_score_diff``."""
        return self.no_answer - self.best[0].score if self.best else np.inf

    def probability(self, score: float, *, with_none: bool) -> float:
        """Return the probability of a score among all spans and, ``with_none``, no answer."""
        total = np.logaddexp(self.total, self.no_answer) if with_none else self.total
        return float(min(np.exp(score - total), 1.0))


@dataclass(frozen=True, slots=True)
class _Window:
    """The tokens of a context that one window holds, in its order."""

    begins: IntArray
    ends: IntArray
    first_scores: FloatArray
    last_scores: FloatArray

    def reach(self, longest: int) -> IntArray:
        """Return [L]: the last token of the longest span that begins at each; a token alone is never too long."""
        found = np.searchsorted(self.ends, self.begins + longest, side="right") - 1
        return np.maximum(found, np.arange(len(self.begins)))

    def total(self, reach_L: IntArray) -> float:
        """Return the logarithm of the sum over all spans: for each beginning its possible ends, by running sums."""
        first, last = self.first_scores.max(), self.last_scores.max()
        sums = np.concatenate([[0.0], np.cumsum(np.exp(self.last_scores - last))])
        ends_L = np.maximum(sums[reach_L + 1] - sums[:-1], np.finfo(np.float64).tiny)
        return float(first + last + np.log(np.sum(np.exp(self.first_scores - first) * ends_L)))

    def scores_of_spans(self, reach_L: IntArray) -> FloatArray:
        """Return [L, W]: the score of the span that begins at each token and has so many more of them."""
        more_L = reach_L - np.arange(len(reach_L))
        width = int(more_L.max()) + 1
        padded = np.concatenate([self.last_scores, np.full(width - 1, -np.inf)])
        scores_LW = self.first_scores[:, None] + sliding_window_view(padded, width)
        return np.where(np.arange(width) <= more_L[:, None], scores_LW, -np.inf)

    def best(self, scores_LW: FloatArray, number: int) -> list[tuple[int, int]]:
        """Return the spans, as characters, that score most: the best of all lie at the beginnings that score most."""
        width = scores_LW.shape[1]
        firsts = np.argsort(-scores_LW.max(axis=1), kind="stable")[:number]
        flat = scores_LW[firsts].reshape(-1)
        chosen = np.argsort(-flat, kind="stable")[:number]
        chosen = chosen[np.isfinite(flat[chosen])]
        begins, ends = firsts[chosen // width], firsts[chosen // width] + chosen % width
        return list(zip(self.begins[begins].tolist(), self.ends[ends].tolist(), strict=True))

    def part(self, tokens: slice) -> _Window:
        """Return some of the tokens as a window of their own."""
        return _Window(self.begins[tokens], self.ends[tokens], self.first_scores[tokens], self.last_scores[tokens])

    def score(self, start: int, end: int) -> float:
        """Return the score of a span; minus infinity where the window does not have it."""
        first, last = np.searchsorted(self.begins, start), np.searchsorted(self.ends, end)
        if first >= len(self.begins) or last >= len(self.ends) or last < first:
            return -np.inf
        if self.begins[first] != start or self.ends[last] != end:
            return -np.inf
        return float(self.first_scores[first] + self.last_scores[last])


def find_candidates(
    scores_U2: npt.NDArray[np.generic], places_U3: npt.NDArray[np.generic], longest: int, number: int
) -> Candidates:
    """Return the ``number`` best spans of at most ``longest`` characters of one row.

    A span that two windows hold counts with both, as in the loss: their chances add up.
    """
    scores, places = np.asarray(scores_U2, dtype=np.float64), np.asarray(places_U3, dtype=np.int64)
    is_none = places[:, 0] == NO_ANSWER
    none = np.logaddexp.reduce(scores[is_none], axis=0).sum() if is_none.any() else -np.inf
    inside = places[:, 0] >= 0
    windows = [
        _Window(places[own, 0], places[own, 1], scores[own, 0], scores[own, 1])
        for own in (np.flatnonzero(inside & (places[:, 2] == window)) for window in np.unique(places[inside, 2]))
    ]
    spans: dict[tuple[int, int], None] = {}
    totals = []
    for window in windows:
        reach_L = window.reach(longest)
        totals.append(window.total(reach_L))
        spans |= dict.fromkeys(window.best(window.scores_of_spans(reach_L), number))
    for first, second in pairwise(windows):
        spans |= dict.fromkeys(_best_of_both(first, second, longest, number))
    found = [
        Candidate(start, end, float(np.logaddexp.reduce([window.score(start, end) for window in windows])))
        for start, end in spans
    ]
    found = sorted((one for one in found if np.isfinite(one.score)), key=lambda one: -one.score)[:number]
    return Candidates(tuple(found), float(none), float(np.logaddexp.reduce(totals)) if totals else -np.inf)


def _best_of_both(first: _Window, second: _Window, longest: int, number: int) -> list[tuple[int, int]]:
    """Return the spans that score most in two windows together, of those that both hold.

    Others are no better in both than in one, so that they are among the best of that.
    """
    shared = int((first.begins >= second.begins[0]).sum())
    if not shared or not np.array_equal(first.begins[-shared:], second.begins[:shared]):
        return []
    one, two = first.part(slice(len(first.begins) - shared, None)), second.part(slice(shared))
    reach_L = one.reach(longest)
    return one.best(np.logaddexp(one.scores_of_spans(reach_L), two.scores_of_spans(reach_L)), number)


def all_candidates(scores: Ragged, places: Ragged, longest: int, number: int) -> list[Candidates]:
    """Return the candidates of every row."""
    return [find_candidates(scores[row], places[row], longest, number) for row in range(len(scores))]


def best_threshold(odds_N: FloatArray, answered_N: FloatArray, unanswered_N: FloatArray) -> float:
    """Return the log-odds above which answering nothing scores most on these rows.

    ``answered_N`` is what each row scores with its best span, ``unanswered_N`` with no answer. Thresholds lie in the
    middle between rows; of those that score the same, the one nearest to 0, where no answer is as likely as the best
    span.
    """
    order = np.argsort(odds_N, kind="stable")
    odds, gains = odds_N[order], (answered_N - unanswered_N)[order]
    # totals[k]: the k rows whose odds are lowest are answered.
    totals = unanswered_N.sum() + np.concatenate([[0.0], np.cumsum(gains)])
    finite = np.clip(odds, -1e6, 1e6)
    borders = np.concatenate([[finite[0] - 1], (finite[:-1] + finite[1:]) / 2, [finite[-1] + 1]])
    is_border = np.concatenate([[True], finite[1:] > finite[:-1], [True]])
    best = totals[is_border].max()
    fitting = borders[is_border & (totals >= best - 1e-9)]
    # A threshold of 0 that does the same as the best one is the plainest.
    place = int(np.searchsorted(odds, 0.0, side="right"))
    if totals[place] >= best - 1e-9:
        return 0.0
    return float(fitting[np.argmin(np.abs(fitting))])
