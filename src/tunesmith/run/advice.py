"""What to try first when a run ends with a model that is not worth much, by the likeliest cause."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tunesmith.readable import count, is_higher_better, metric_title, number, percent
from tunesmith.types import Problem

if TYPE_CHECKING:
    from tunesmith.run.session import Session

FEW_STEPS = 200
"""With fewer optimizer steps, more of them are what helps most."""
MIN_ROWS = 8
"""Judged rows from which on equal predictions say something."""
MAX_ANSWER = 100
"""Characters of an answer that can be a label."""
COMMON = 0.9
"""Share of a label from which on giving it to every row is a good answer to the training rows."""


def hints(
    session: Session, evaluation: Mapping[str, Any] | None, predictions: Mapping[str, Any] | None
) -> list[Problem]:
    """Return warnings about a model that gives every row the same answer, or that is worse than its rival."""
    found = []
    if predictions is not None and (only := _only_answer(predictions)) is not None:
        share = _share(predictions, only)
        found.append(
            Problem(
                "warning",
                f"The model gives every one of the {count(_num_rows(predictions))} judged rows the same answer, "
                f"{repr(only) if only else 'no label'}, which is right in {percent(share)} of the cases: it has not "
                "learned to tell them apart.",
                _what_to_try(session, _common_share(session, predictions)),
            )
        )
    if evaluation is not None and (behind := _behind(evaluation, session.data.task.higher_is_better)):
        fix = "" if found else _what_to_try(session, _common_share(session, predictions or {}))
        found.append(Problem("warning", behind, fix))
    return found


def _what_to_try(session: Session, common: float) -> str:
    training, config = session.training, session.config
    steps, epochs = training.step, training.plan.epoch_after(training.step)
    rate = f"--train.learning_rate {3 * training.learning_rate:.1g}"
    tries = []
    if session.progress.num_skipped:
        tries.append(f"a lower rate (--train.learning_rate {training.learning_rate / 5:.1g}), as steps were skipped")
    elif steps < FEW_STEPS:
        more = max(2.0, min(20.0, FEW_STEPS / max(steps, 1)))
        tries.append(
            f"more steps: there were {count(steps)} (--train.epochs {max(1, round(epochs * more))}, or a smaller "
            f"--train.batch_size than {config.train.batch_size})"
        )
        tries.append(f"a higher rate ({rate})")
    else:
        tries.append(f"another rate: it was {training.learning_rate:.2g} ({rate}, or a fifth of it)")
        tries.append("more epochs")
    if common >= COMMON:
        tries.append(
            f"balanced labels: one of them has {percent(common)} of the rows (--task.class_weights balanced, where the "
            "task has it)"
        )
    tries.append("a look at the labels (tunesmith data inspect)")
    return "Try, in this order: " + "; ".join(tries) + "."


def _behind(evaluation: Mapping[str, Any], higher_is_better: Mapping[str, bool]) -> str | None:
    """Return a sentence where the model's main metric is worse than its rival's."""
    name, rival = evaluation["main_metric"], evaluation.get("baseline")
    if rival is None:
        return None
    difference, own, other = (
        one.get(name) or {} for one in (evaluation["difference"], evaluation["metrics"], rival["metrics"])
    )
    values = (difference.get("value"), own.get("value"), other.get("value"))
    if any(value is None or not math.isfinite(value) for value in values):
        return None
    sign = 1 if is_higher_better(name, higher_is_better) else -1
    if sign * difference["value"] >= 0:
        return None
    end = difference.get("high" if sign > 0 else "low")
    is_clear = end is not None and sign * end < 0
    figures = f"{metric_title(name)} {number(own['value'])} against {number(other['value'])}"
    if is_clear:
        return f"The model is worse than its rival ({rival['name']}): {figures}."
    return f"The model is no better than its rival ({rival['name']}): {figures}, which so few rows do not tell apart."


def _only_answer(predictions: Mapping[str, Any]) -> str | None:
    """Return what every row was given, where rows whose truths differ were all given the same."""
    given, truths = predictions.get("prediction"), predictions.get("label")
    if given is None or truths is None or len(given) < MIN_ROWS:
        return None
    only = _only(given)
    if only is None or len(only) > MAX_ANSWER or _only(truths) is not None:
        return None
    return only


def _only(values: Sequence[Any]) -> str | None:
    """Return the one answer among ``values``; None where there are others, too."""
    leaves = _leaves(values)
    first = next(leaves, None)
    return first if all(leaf == first for leaf in leaves) else None


def _share(predictions: Mapping[str, Any], only: str) -> float:
    truths = list(_leaves(predictions["label"]))
    return truths.count(only) / max(len(truths), 1)


def _common_share(session: Session, predictions: Mapping[str, Any]) -> float:
    """Return the share of the commonest label among the training rows, where rows have labels."""
    columns = session.data.columns("train")
    name = next((name for name in ("label", "tags") if name in columns), None)
    if name is None or not predictions:
        return 0.0
    counted = Counter(_leaves(columns[name]))
    return max(counted.values(), default=0) / max(sum(counted.values()), 1)


def _num_rows(predictions: Mapping[str, Any]) -> int:
    return len(predictions["prediction"])


def _leaves(values: Sequence[Any]) -> Iterator[str]:
    """Yield the single answers, of rows that have several, too."""
    for value in values:
        if isinstance(value, (list, tuple)):
            if not value:
                yield ""
            yield from _leaves(value)
        else:
            yield str(value)
