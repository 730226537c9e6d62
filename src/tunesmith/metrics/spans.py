"""Answers taken from a text against the true ones: exact match and F1 as SQuAD counts them.

Rajpurkar et al. 2016 (section 6.1) and the evaluation script of SQuAD 2.0 (Rajpurkar et al. 2018); texts with Chinese
or Japanese characters are cut as in the evaluations of MLQA (Lewis et al. 2020, section 4) and CMRC 2018 (Cui et al.
2019).

Shapes: N rows, R replicates.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tunesmith.metrics.weighting import FloatArray, Metrics, over_replicates, ratio

_UNSPACED = re.compile("[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = frozenset(string.punctuation)


def segments(text: str) -> list[str]:
    """Return the words that an answer is compared by: lower case, no punctuation, no English articles.

    Han characters and kana are a word each, whatever stands between them, and the punctuation of their text is that of
    Unicode; in texts without any it is that of ASCII alone, as in SQuAD's script.
    """
    text = text.lower()
    if _UNSPACED.search(text) is None:
        kept = "".join(letter for letter in text if letter not in _PUNCTUATION)
    else:
        kept = "".join(letter for letter in text if letter not in _PUNCTUATION and not _is_mark(letter))
        kept = _UNSPACED.sub(lambda found: f" {found[0]} ", kept)
    return _ARTICLES.sub(" ", kept).split()


def _is_mark(letter: str) -> bool:
    return unicodedata.category(letter)[0] == "P"


def exact_match(answer: str, truth: str) -> float:
    """Return 1.0 where the segments of both are the same, else 0.0."""
    return float(segments(answer) == segments(truth))


def token_f1(answer: str, truth: str) -> float:
    """Return the harmonic mean of precision and recall of the answer's segments, 0 to 1.

    Where one of both has none (no answer), it is 1 if the other has none, too.
    """
    given, wanted = segments(answer), segments(truth)
    if not given or not wanted:
        return float(given == wanted)
    shared = (Counter(given) & Counter(wanted)).total()
    return 2 * shared / (len(given) + len(wanted))


def compare_answer(answer: str, truths: Sequence[str]) -> tuple[float, float]:
    """Return exact match and F1 of an answer: each the best over the true ones, of which none means no answer.

    True answers without a segment (an article alone) do not count, as in SQuAD's script.
    """
    wanted = [truth for truth in truths if segments(truth)] or [""]
    return max(exact_match(answer, truth) for truth in wanted), max(token_f1(answer, truth) for truth in wanted)


def span_metrics(
    exact_N: FloatArray, f1_N: FloatArray, is_answerable_N: npt.NDArray[np.bool_], weights_RN: npt.ArrayLike
) -> Metrics:
    """Return the means over rows, [R] each.

    ``f1`` and ``exact_match``; ``answerable_f1`` of the rows that have an answer and ``unanswerable_accuracy``, the
    share of the others for which none was given: nan in a replicate that has no such row.
    """
    answerable_N = is_answerable_N.astype(np.float64)

    def compute(weights_NR: FloatArray) -> Metrics:
        total_R, answerable_R = weights_NR.sum(axis=0), answerable_N @ weights_NR
        return {
            "f1": ratio(f1_N @ weights_NR, total_R, np.nan),
            "exact_match": ratio(exact_N @ weights_NR, total_R, np.nan),
            "answerable_f1": ratio((f1_N * answerable_N) @ weights_NR, answerable_R, np.nan),
            "unanswerable_accuracy": ratio(
                (exact_N * (1 - answerable_N)) @ weights_NR, (1 - answerable_N) @ weights_NR, np.nan
            ),
        }

    return over_replicates(compute, weights_RN, len(f1_N))
