"""What is made of the log-probabilities of answers: rewards, which answer is preferred, how far the model has moved.

Shapes: N rows, S answers of all rows, T tokens of all answers.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from tunesmith.data.encoded import as_ragged
from tunesmith.metrics.preference import TIE, JudgedAnswers, row_means
from tunesmith.tasks.base import Columns, FloatArray, Outputs
from tunesmith.tasks.objectives.preference import ELSEWHERE, NORMALISED, WITHOUT_REFERENCE, Loss

CHOSEN, REJECTED, NEITHER = "chosen", "rejected", "neither"
GOOD, BAD = "good", "bad"


@dataclass(frozen=True, slots=True)
class Preferred:
    """What a model prefers."""

    answers: JudgedAnswers
    """Those to the question of their row."""
    log_probabilities: FloatArray
    """[S]: of all tokens of each answer."""
    distances: FloatArray
    """[N]: half the mean square of ``log p - log q`` over the tokens of a row's answers (Schulman 2020, k2): near 0 the
    KL divergence of the model from the reference, at the given answers."""


def best_margins(answers: JudgedAnswers) -> FloatArray:
    """Return [N]: the best answer's reward minus the highest of the others', or of an answer alone its own reward.

    Not a number for rows without answers to compare; 0 where rounding explains the difference.
    """
    found = np.full(answers.num_rows, np.nan)
    if answers.are_alone:
        found[answers.rows] = answers.rewards
        return found
    best, sides = answers.ranks == 0, []
    for chosen in (best, ~best):
        highest = np.full(answers.num_rows, -np.inf)
        np.maximum.at(highest, answers.rows[chosen], answers.rewards[chosen])
        sides.append(highest)
    has_both = np.isfinite(sides[0]) & np.isfinite(sides[1])
    found[has_both] = sides[0][has_both] - sides[1][has_both]
    scale = np.zeros(answers.num_rows)
    np.maximum.at(scale, answers.rows, answers.sizes)
    return np.where(np.abs(found) <= TIE * scale, 0.0, found)


def preferred(outputs: Outputs, loss: Loss, beta: float) -> Preferred:
    """Return what a model prefers, by what was kept of its scores: see ``Preference.collect``."""
    values = {name: as_ragged(outputs[name]) for name in ("log_probability", "reference", "answer", "rank")}
    log_p, log_q, answer_T, rank_T = (values[name].values.astype(np.float64) for name in values)
    num_rows = len(values["answer"])
    row_T = np.repeat(np.arange(num_rows), values["answer"].lengths)
    starts = np.flatnonzero((np.diff(row_T, prepend=-1) != 0) | (np.diff(answer_T, prepend=-1) != 0))
    sum_p, sum_q = (_sums(part, starts) for part in (log_p, log_q))
    lengths = np.diff(np.append(starts, len(row_T))).astype(np.float64)
    worth = sum_p if loss in WITHOUT_REFERENCE else sum_p - sum_q
    scale = np.abs(sum_p) + np.abs(sum_q)
    if loss in NORMALISED:
        worth, scale = worth / lengths, scale / lengths
    own = rank_T[starts] != ELSEWHERE
    answers = JudgedAnswers(
        row_T[starts][own],
        rank_T[starts][own].astype(np.int64),
        beta * worth[own],
        beta * scale[own],
        num_rows,
    )
    is_own_T = rank_T != ELSEWHERE
    distances = row_means(0.5 * (log_p - log_q)[is_own_T] ** 2, row_T[is_own_T], num_rows)
    return Preferred(answers, sum_p[own], distances)


def _sums(values_T: FloatArray, starts: Any) -> FloatArray:
    found: FloatArray = np.add.reduceat(values_T, starts) if len(starts) else np.zeros(0)
    return found


def verdicts(answers: JudgedAnswers) -> list[dict[str, Any]]:
    """Return for each row which answer is preferred (``label``), how surely (``score``) and by what ``margin``.

    Of an answer alone the label says whether it is taken for a good one.
    """
    names = (GOOD, BAD) if answers.are_alone else (CHOSEN, REJECTED)
    rows: list[dict[str, Any]] = []
    for margin in best_margins(answers).tolist():
        if margin != margin:  # noqa: PLR0124 (NaN: the row lost its answers)
            rows.append({"label": None, "score": None, "margin": None})
            continue
        label = NEITHER if not margin else names[margin < 0]
        rows.append({"label": label, "score": float(1 / (1 + np.exp(-min(abs(margin), 700.0)))), "margin": margin})
    return rows


def truths(outputs: Outputs) -> list[str | None]:
    """Return for each row what a right verdict says, by its targets; None for rows without answers."""
    ranks, answers = as_ragged(outputs["rank"]), as_ragged(outputs["answer"])
    are_own = ranks.values != ELSEWHERE
    are_alone = not bool((are_own & (answers.values.astype(np.int64) > 0)).any())
    found: list[str | None] = []
    for row in range(len(ranks)):
        own = ranks[row][ranks[row] != ELSEWHERE].tolist()
        found.append(None if not own else (GOOD, BAD)[own[0] > 0] if are_alone else CHOSEN)
    return found


def shown_answer(verdict: Any, columns: Columns, row: int) -> Any:
    """Return the text of the answer that a verdict names, as people read it."""
    if verdict in (None, NEITHER) or columns.get("answers") is None or columns["answers"][row] is None:
        return verdict
    cell = columns["answers"][row]
    answers = json.loads(cell) if isinstance(cell, str) else cell
    turns = answers[-1 if verdict == REJECTED else 0]
    text = "\n".join(str(turn["content"]) for turn in turns)
    return f"{verdict}: {text}"
