"""Labels that one word, or another column, gives away: rules learned on half of the rows, judged on the other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tunesmith.data.near_duplicates import units_of
from tunesmith.data.records import ROW
from tunesmith.data.split import drawn
from tunesmith.data_audit.audited_rows import AuditedRows
from tunesmith.data_audit.findings import AuditOptions, Finding
from tunesmith.data_audit.survey import UNLABELLED, Survey

MAX_ROWS = 20_000
LEAST_ROWS = 60
LEAST_OF_CLASS = 20
"""Rows of a class (half of them are judged on) from which on a word can be said to give it away."""
CLOSED = 0.5
"""Share of what the commonest answer gets wrong that a rule must, for certain, make good to give labels away."""
MAX_CLASSES = 200
NUM_BANDS = 20
"""Into which columns of amounts are cut."""
_MOST = 20
_NORMAL = 1.959963984540054

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Judged:
    """A rule on rows that it was not learned from."""

    accuracy: float
    low: float
    high: float
    """Wilson's interval of 95%."""
    majority: float
    """Accuracy of the commonest answer."""

    @property
    def gives_away(self) -> bool:
        """Whether the rule is right far more often than chance."""
        return self.low >= self.majority + CLOSED * (1 - self.majority) and self.majority < 1

    def to_json(self) -> dict[str, float]:
        """Return the figures by their names."""
        return {"accuracy": self.accuracy, "low": self.low, "high": self.high, "majority": self.majority}


def leaks(rows: AuditedRows, survey: Survey, options: AuditOptions, working: Callable[[str], None]) -> list[Finding]:
    """Return the words and the columns that give labels away."""
    labels = survey.labels[: rows.num_train]
    usable = np.flatnonzero((labels != UNLABELLED) & (survey.lengths[: rows.num_train] > 0))
    if len(usable) > MAX_ROWS:
        usable = np.sort(np.random.default_rng(options.seed).choice(usable, MAX_ROWS, replace=False))
    codes = labels[usable].astype(np.int64)
    num_classes = len(np.unique(codes))
    if len(usable) < LEAST_ROWS or not 2 <= num_classes <= min(MAX_CLASSES, len(usable) // 4):
        return []
    working("Looking for words and columns that give labels away")
    # Rows of one text are on one side, so that nothing is known by heart.
    is_judged = (drawn(survey.texts[usable], options.seed) & np.uint64(1)).astype(bool)
    return [
        *_telling_words(rows, survey, usable, codes, is_judged),
        *_telling_columns(rows, survey, usable, codes, is_judged),
    ]


def judged(is_right: npt.NDArray[np.bool_], majority: float) -> Judged:
    """Return how often a rule is right, with Wilson's interval."""
    number, share = max(len(is_right), 1), float(is_right.mean()) if len(is_right) else 0.0
    square = _NORMAL**2 / number
    middle = (share + square / 2) / (1 + square)
    half = _NORMAL * float(np.sqrt(share * (1 - share) / number + square / (4 * number))) / (1 + square)
    return Judged(share, max(middle - half, 0.0), min(middle + half, 1.0), majority)


def _telling_words(
    rows: AuditedRows, survey: Survey, usable: IntArray, codes: IntArray, is_judged: npt.NDArray[np.bool_]
) -> list[Finding]:
    """Return words whose presence says of a row whether it has one label, for labels that are not hopelessly rare."""
    of_word: dict[str, list[int]] = {}
    for position, text in enumerate(rows.read(usable)):
        for word in set(units_of(text[:4_000])):
            of_word.setdefault(word, []).append(position)
    sizes = np.bincount(codes, minlength=len(survey.names))
    found: list[tuple[float, Finding]] = []
    for word, listed in of_word.items():
        if len(listed) < LEAST_OF_CLASS // 2:
            continue
        has_word = np.zeros(len(codes), dtype=bool)
        has_word[listed] = True
        label = int(np.bincount(codes[has_word]).argmax())
        if sizes[label] < LEAST_OF_CLASS or not 0.5 <= len(listed) / sizes[label] <= 2:
            continue
        is_label = codes == label
        rule = has_word == is_label
        share = float(is_label[is_judged].mean()) if is_judged.any() else 1.0
        figures = judged(rule[is_judged], max(share, 1 - share))
        learned = judged(rule[~is_judged], max(share, 1 - share))
        if figures.gives_away and learned.gives_away:
            found.append(
                (
                    figures.low - figures.majority,
                    _word_finding(word, survey.names[label], usable[has_word & is_label], figures),
                )
            )
    found.sort(key=lambda one: -one[0])
    return [finding for _, finding in found[:_MOST]]


def _word_finding(word: str, label: str, rows: IntArray, figures: Judged) -> Finding:
    return Finding(
        "leak",
        f"The word “{word}” gives the label '{label}' away: whether it is there tells that label from others in "
        f"{figures.accuracy:.1%} [{figures.low:.1%}, {figures.high:.1%}] of held-out rows; the commonest answer, "
        f"{figures.majority:.1%}.",
        rows,
        figures.accuracy,
        "held-out accuracy of the word alone",
        "Find out how the word came into the texts; remove it unless texts will have it later, too.",
        {"word": word, "label": label, **figures.to_json()},
    )


def _telling_columns(
    rows: AuditedRows, survey: Survey, usable: IntArray, codes: IntArray, is_judged: npt.NDArray[np.bool_]
) -> list[Finding]:
    """Return columns, besides those that are read, whose values say what the label is; and the length of texts."""
    used = {choice.column for choice in rows.found.choices} | {ROW}
    names = [name for name in rows.splits["train"].column_names if name not in used]
    values: dict[str, Sequence[Any]] = {f"column '{name}'": rows.cells(usable, name) for name in names}
    values["length of the text"] = survey.lengths[usable].tolist()
    majority_code = int(np.bincount(codes[~is_judged]).argmax()) if (~is_judged).any() else 0
    majority = float((codes[is_judged] == majority_code).mean()) if is_judged.any() else 1.0
    found = []
    for name, cells in values.items():
        keys = _keys(cells)
        if keys is None:
            continue
        answers = _learned(keys[~is_judged], codes[~is_judged])
        said = np.array([answers.get(key, majority_code) for key in keys[is_judged].tolist()])
        figures = judged(said == codes[is_judged], majority)
        if figures.gives_away:
            found.append(
                Finding(
                    "leak",
                    f"The {name} alone tells the label of {figures.accuracy:.1%} "
                    f"[{figures.low:.1%}, {figures.high:.1%}] of held-out rows; the commonest answer, "
                    f"{figures.majority:.1%}.",
                    np.zeros(0, dtype=np.int64),
                    figures.accuracy,
                    "held-out accuracy of it alone",
                    "It is not read by default. Make sure that it is no second label, and not in the texts as well."
                    if name.startswith("column")
                    else "Give texts of every label in all lengths, or cut them to one.",
                    {"feature": name, **figures.to_json()},
                )
            )
    return found


def _learned(keys: npt.NDArray[np.int64], codes: IntArray) -> dict[int, int]:
    counts: dict[int, Counter[int]] = {}
    for key, code in zip(keys.tolist(), codes.tolist(), strict=True):
        counts.setdefault(key, Counter())[code] += 1
    return {key: max(of_key.items(), key=lambda item: (item[1], -item[0]))[0] for key, of_key in counts.items()}


def _keys(cells: Sequence[Any]) -> npt.NDArray[np.int64] | None:
    """Return a number for each cell, equal for equal ones; amounts in bands; None where hardly any come again."""
    numbers = _numbers(cells)
    if numbers is not None and len(np.unique(numbers)) > NUM_BANDS:
        edges = np.unique(np.quantile(numbers, np.linspace(0, 1, NUM_BANDS + 1)[1:-1]))
        return np.searchsorted(edges, numbers, side="right").astype(np.int64)
    codes: dict[str, int] = {}
    keys = np.array([codes.setdefault(str(cell)[:200], len(codes)) for cell in cells], dtype=np.int64)
    return keys if 2 <= len(codes) <= len(cells) / 2 else None


def _numbers(cells: Sequence[Any]) -> npt.NDArray[np.float64] | None:
    try:
        numbers = np.array([float(cell) for cell in cells])
    except (TypeError, ValueError):
        return None
    return numbers if np.isfinite(numbers).all() else None
