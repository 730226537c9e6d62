"""The kinds of rows that a run does worst on, found by looking at many and proven on rows that were not looked at.

Whoever looks at hundreds of slices finds bad ones by chance. The rows are therefore cut in two by their content: slices
are chosen on the one half by how much worse they are than the rest, and tested on the other, corrected for as many as
were chosen (Holm 1979). What a slice is: texts that are short or long, that hold a word, that are of a language, that
have a label, or that are of a group.

Shapes: N rows.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tunesmith.data.documents.lines import CJK
from tunesmith.data.row_groups import Grouping
from tunesmith.evaluate.comparisons import holm
from tunesmith.tasks.base import FloatArray
from tunesmith.trust.judged_rows import JudgedRows

NUM_CHOSEN = 8
"""Slices that are tested."""
MIN_ROWS = 15
"""Rows of a slice in each half."""
LARGEST = 0.6
"""The share of the rows beyond which a slice is no part."""
NUM_WORDS = 300
_WORDS = re.compile(f"[{CJK}]{{2}}|[^\\W\\d_{CJK}]{{2,}}")

BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Slice:
    """Some rows, and what they have in common."""

    name: str
    rows: BoolArray


def slice_report(rows: JudgedRows, groupings: Sequence[Grouping] = ()) -> dict[str, Any]:
    """Return the worst slices with what is known of them from the half that did not choose them."""
    errors_N = rows.errors()
    is_chooser = np.random.default_rng([rows.seed, len(rows)]).permutation(len(rows)) % 2 == 0
    candidates = [one for one in slices(rows, groupings) if _has_size(one, is_chooser)]
    ranked = sorted(candidates, key=lambda one: -_distance(errors_N[is_chooser], one.rows[is_chooser]))
    chosen: list[Slice] = []
    for one in ranked:
        if len(chosen) == NUM_CHOSEN or _distance(errors_N[is_chooser], one.rows[is_chooser]) <= 0:
            break
        if not any(_alike(one.rows, other.rows) for other in chosen):
            chosen.append(one)
    tested = [_tested(rows, one, errors_N, ~is_chooser) for one in chosen]
    for entry, corrected in zip(tested, holm([entry["p"] for entry in tested]), strict=True):
        entry["p_holm"] = corrected
    return {"metric": rows.metric, "looked_at": len(candidates), "slices": tested}


def slices(rows: JudgedRows, groupings: Sequence[Grouping] = ()) -> Iterator[Slice]:
    """Yield all kinds of rows that are looked at."""
    columns = rows.task.texts(rows.columns)
    texts = [" ".join(str(text or "") for text in one) for one in zip(*columns.values(), strict=True)]
    if texts:
        yield from _by_length(texts)
        yield from _by_writing(texts)
        yield from _by_word(texts)
    if rows.has_labels:
        truths = rows.truths()
        for label, name in enumerate(rows.task.answer_names):
            yield Slice(f"label {name}", truths == label)
    for grouping in groupings:
        for place, name in enumerate(grouping.names):
            yield Slice(f"{grouping.column}: {name}", grouping.of_row == place)


def _by_length(texts: Sequence[str]) -> Iterator[Slice]:
    lengths = np.array([len(_WORDS.findall(text)) for text in texts])
    low, high = np.quantile(lengths, [0.25, 0.75])
    yield Slice(f"up to {low:g} words", lengths <= low)
    yield Slice(f"more than {high:g} words", lengths > high)


def _by_writing(texts: Sequence[str]) -> Iterator[Slice]:
    chinese = np.array([len(re.findall(f"[{CJK}]", text)) > 0.3 * len(text) for text in texts])
    other = np.array([sum(letter.isalpha() and not letter.isascii() for letter in text) > 0 for text in texts])
    yield Slice("Chinese or Japanese", chinese)
    yield Slice("letters beyond English", other & ~chinese)
    yield Slice("numbers in the text", np.array([any(letter.isdigit() for letter in text) for text in texts]))
    yield Slice("a question", np.array([text.rstrip().endswith(("?", "？")) for text in texts]))
    yield Slice("an exclamation", np.array(["!" in text or "！" in text for text in texts]))


def _by_word(texts: Sequence[str]) -> Iterator[Slice]:
    words = [frozenset(word.lower() for word in _WORDS.findall(text)) for text in texts]
    counts = Counter(word for one in words for word in one)
    for word, _ in counts.most_common(NUM_WORDS):
        yield Slice(f"with “{word}”", np.array([word in one for one in words]))


def _has_size(one: Slice, is_chooser: BoolArray) -> bool:
    inside = [int((one.rows & half).sum()) for half in (is_chooser, ~is_chooser)]
    return min(inside) >= MIN_ROWS and one.rows.mean() <= LARGEST


def _alike(first: BoolArray, second: BoolArray) -> bool:
    """Say whether two slices are nearly the same rows."""
    return bool((first & second).sum() > 0.8 * (first | second).sum())


def _distance(errors: FloatArray, inside: BoolArray) -> float:
    """Return how far the mean error inside lies above that outside, in standard errors."""
    own, others = errors[inside], errors[~inside]
    spread = own.var() / len(own) + others.var() / len(others)
    return float((own.mean() - others.mean()) / np.sqrt(spread)) if spread > 0 else 0.0


def _tested(rows: JudgedRows, one: Slice, errors_N: FloatArray, half: BoolArray) -> dict[str, Any]:
    """Return what the other half says of a slice: its metric, how far that is from the others', and the chance."""
    inside, outside = one.rows & half, ~one.rows & half
    weights = rows.weights()
    own, others = rows.main(weights * inside), rows.main(weights * outside)
    return {
        "name": one.name,
        "rows": int(one.rows.sum()),
        "tested_rows": int(inside.sum()),
        "metric": rows.interval(own),
        "gap": rows.interval(own - others),
        "p": _p(errors_N[inside], errors_N[outside]),
    }


def _p(inside: FloatArray, outside: FloatArray) -> float:
    """Return the one-sided p-value that errors inside are larger: Fisher's exact of right and wrong, else of ranks."""
    from scipy.stats import fisher_exact, mannwhitneyu

    wrong = [(inside > 0).sum(), (outside > 0).sum()]
    if wrong[0] < len(inside) or wrong[1] < len(outside):  # some are right
        table = [[wrong[0], len(inside) - wrong[0]], [wrong[1], len(outside) - wrong[1]]]
        return float(fisher_exact(table, alternative="greater").pvalue)
    return float(mannwhitneyu(inside, outside, alternative="greater").pvalue)
