"""What to try first after a run that is not clearly better than its rival."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from tunesmith.methods import METHODS
from tunesmith.readable import count, is_higher_better, number, rival_phrase
from tunesmith.run.defaults import suited_rate
from tunesmith.types import Problem

if TYPE_CHECKING:
    from tunesmith.run.session import Session

FAR = 3.0
"""A rate so many times another is far from it: the step from one to the next in a search."""
FEW_ROWS = 500


def first_to_try(session: Session, evaluation: Mapping[str, Any] | None) -> Problem | None:
    """Return a warning with the first thing to try where the run is not clearly better than its rival, else nothing."""
    message = _shortfall(session, evaluation)
    return Problem("warning", message, f"Try first: {_remedy(session)}.") if message else None


def _shortfall(session: Session, evaluation: Mapping[str, Any] | None) -> str:
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
    return f"The model is {how} {rival_phrase(rival['name'])}: {name} {number(mine)} against {number(other)}."


def _remedy(session: Session) -> str:
    """Say what the run lacked most: a rate that suits it, steps, a part of the model, rows, or a larger model."""
    return next(_remedies(session))


def _remedies(session: Session) -> Iterator[str]:
    """Yield what might help, what is likeliest to first."""
    training, method, task = session.training, session.config.method, session.data.task
    steps, best, plan = training.step, session.progress.best_step, training.plan
    rate, suited = training.learning_rate, suited_rate(session.config, session.network.model, plan.batch_size)
    epochs = min(math.ceil(FAR * plan.total_steps / plan.steps_per_epoch), math.ceil(FAR * task.most_epochs))
    ended = steps == plan.total_steps
    if max(rate, suited) / min(rate, suited) >= FAR:
        yield f"--train.learning_rate {suited:g}, which suits model, method and steps (it was {rate:g})"
    if ended and steps < task.wanted_steps / FAR and "train.epochs" not in session.decisions:
        yield f"--train.epochs {epochs}, since it made {count(steps)} steps only"
    if ended and best == steps:
        yield f"--train.epochs {epochs}, since its last evaluation was its best: it was still learning"
    if best is not None and best <= plan.total_steps / 5:
        yield f"--train.learning_rate {rate / FAR:.2g}, since it was best after {count(best)} of {count(steps)} steps"
    whole = next((name for name, one in METHODS.items() if one.trains_everything), None)
    if whole is not None and not method.trains_everything:
        yield f"--method {whole}, since {method.name} trains a part of the model only"
    if len(training.data) < FEW_ROWS:
        yield f"more training rows than {count(len(training.data))}"
    yield "a larger model"
