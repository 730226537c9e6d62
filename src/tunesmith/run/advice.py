"""What to try first after a run whose model tells no rows apart, or is not clearly better than its rival."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tunesmith.methods import METHODS
from tunesmith.metrics.ranges import RANGES
from tunesmith.readable import count, is_higher_better, number, percent, rival_phrase
from tunesmith.run.defaults import suited_rate
from tunesmith.types import Problem

if TYPE_CHECKING:
    from tunesmith.run.session import Ready

FAR = 3.0
"""A rate so many times another is far from it: the step from one to the next in a search."""
FEW_ROWS = 500
MIN_ROWS = 8
"""Judged rows from which on equal predictions say something."""
MAX_ANSWER = 100
"""Characters of an answer that can be a label."""
COMMON = 0.9
"""Share of a label from which on giving it to every row is a good answer to the training rows."""


def hints(session: Ready, evaluation: Mapping[str, Any] | None, predictions: Mapping[str, Any] | None) -> list[Problem]:
    """Return warnings about a model that gives every row the same answer, or is not clearly better than its rival.

    The first of them says what to try first.
    """
    found = []
    if predictions is not None and (only := _only_answer(predictions)) is not None:
        share = _share(predictions, only)
        found.append(
            f"The model gives every one of the {count(_num_rows(predictions))} judged rows the same answer, "
            f"{repr(only) if only else 'no label'}, which is right in {percent(share)} of the cases: it has not "
            "learned to tell them apart."
        )
    if behind := _shortfall(session, evaluation):
        found.append(behind)
    fix = f"Try first: {_remedy(session, _common_share(session, predictions or {}))}." if found else ""
    return [Problem("warning", message, fix if place == 0 else "") for place, message in enumerate(found)]


def _shortfall(session: Ready, evaluation: Mapping[str, Any] | None) -> str:
    """Say that the rival is better or as good as can be told; nothing where the run is better or nobody knows."""
    if not evaluation or "difference" not in evaluation:
        return ""
    name, rival = evaluation["main_metric"], evaluation["baseline"]
    found = evaluation["difference"].get(name) or {}
    known = [found[end] for end in ("low", "high") if found.get(end) is not None]
    known = known or [found["value"]] * (found.get("value") is not None)
    if not known:
        return ""
    sign = 1.0 if is_higher_better(name, session.data.task.higher_is_better) else -1.0
    least, most = sorted(sign * end for end in (known[0], known[-1]))
    if least > 0:
        return ""
    how = "worse than" if most < 0 else "not clearly better than"
    mine, other = evaluation["metrics"][name]["value"], rival["metrics"][name]["value"]
    if mine == other == RANGES.get(name, (math.nan, math.nan))[sign > 0]:
        return ""  # both are right about every row
    return f"The model is {how} {rival_phrase(rival['name'])}: {name} {number(mine)} against {number(other)}."


def _remedy(session: Ready, common: float) -> str:
    """Say what the run lacked most: a rate that suits it, steps, a part of the model, rows, or a larger model."""
    return next(_remedies(session, common))


def _remedies(session: Ready, common: float) -> Iterator[str]:
    """Yield what might help, what is likeliest to first."""
    training, method, task = session.training, session.config.method, session.data.task
    steps, best, plan = training.step, session.progress.best_step, training.plan
    rate, suited = (
        training.learning_rate,
        suited_rate(session.config, session.data.task, session.network.model, plan.batch_size),
    )
    epochs = min(math.ceil(FAR * plan.total_steps / plan.steps_per_epoch), math.ceil(FAR * task.most_epochs))
    ended = steps == plan.total_steps
    if max(rate, suited) / min(rate, suited) >= FAR:
        yield f"--train.learning_rate {suited:g}, which suits model, method and steps (it was {rate:g})"
    if ended and steps < task.wanted_steps() / FAR and "train.epochs" not in session.decisions:
        yield f"--train.epochs {epochs}, since it made {count(steps)} steps only"
    if ended and best == steps:
        yield f"--train.epochs {epochs}, since its last evaluation was its best: it was still learning"
    if best is not None and best <= plan.total_steps / 5:
        yield f"--train.learning_rate {rate / FAR:.2g}, since it was best after {count(best)} of {count(steps)} steps"
    if common >= COMMON:
        yield (
            f"balanced labels, since one of them has {percent(common)} of the rows (--task.class_weights balanced, "
            "where the task has it)"
        )
    whole = next((name for name, one in METHODS.items() if one.trains_everything), None)
    if whole is not None and not method.trains_everything:
        yield f"--method {whole}, since {method.name} trains a part of the model only"
    if len(training.data) < FEW_ROWS:
        yield f"more training rows than {count(len(training.data))}"
    yield "a larger model"


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


def _common_share(session: Ready, predictions: Mapping[str, Any]) -> float:
    """Return the share of the commonest label among the training rows, where rows have labels."""
    columns = session.data.columns("train")
    name = next((name for name in session.data.task.truths if name in columns), None)
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
