"""Overfitting, seen while it happens: how much better the model is on rows that it learns from than on others.

At every evaluation a few training rows, the same each time, are scored as the validation rows are. What lies between
both is told with an interval (bootstrap over the rows of either). A gap alone is no harm: every model knows better what
it has seen. Overfitting is named where, at two evaluations in a row,

- the gap's whole interval is above 0,
- the validation loss is at least 5% above the lowest so far,
- and the loss of the training rows is lower than it was then:

what is learned by then are the rows, and no longer what they have in common with others (Prechelt 1998, "Early
stopping - but when?", whose generalisation loss at 5 is the second of these).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np

from tunesmith.engine.predict import Scored, predict
from tunesmith.evaluate import resamples
from tunesmith.readable import interval, metric_phrase, number
from tunesmith.run.private_training import is_private
from tunesmith.types import Interval, Problem

if TYPE_CHECKING:
    from tunesmith.data.encoded import Encoded
    from tunesmith.run.session import Opened, Progress

FEWEST, MOST = 64, 512
"""Training rows that are scored at an evaluation: a tenth of those learned from since the last, within these bounds."""
MOST_DRAWN, FEWEST_DRAWS, MOST_DRAWS = 2_000_000, 50, 200
"""Rows drawn for the bootstrap of a split, and how often it is drawn."""
RISE = 0.05
IN_A_ROW = 2
_SAMPLE = 0x0F17
"""What the sample's random numbers are drawn by, beside the seed."""


def training_sample(session: Opened) -> Encoded | None:
    """Return the training rows that are scored beside the validation rows, the same at every evaluation.

    None where that makes no sense or would not be right: without validation rows, of private runs (whose training rows
    are to show in nothing), of tasks whose rows are several sequences or made anew in every step.
    """
    training, config, validation = session.training, session.config, session.validation
    data, wanted = training.data, config.evaluation.training_rows
    if validation is None or not validation.targets or is_private(config) or wanted == 0:
        return None
    if data.rows is not None or data.beside or data.extras or session.data.task.draws:
        return None
    num_rows = min(len(session.data.prepared.splits["train"]), len(data))  # rows beyond have no labels, or are planted
    every = config.train.evaluate_steps or training.plan.steps_per_epoch
    number_of = wanted or min(max(every * training.plan.batch_size // 10, FEWEST), MOST)
    random = np.random.default_rng([config.train.seed, _SAMPLE])
    chosen = np.sort(random.permutation(num_rows)[:number_of])
    sample = data.select(chosen)
    own = {name: target for name, target in sample.targets.items() if name in validation.targets}
    return type(sample)(
        inputs=sample.inputs, targets=own, reads=sample.reads, states=sample.states, read_states=sample.read_states
    )


def scored_rows(session: Opened) -> list[Encoded]:
    """Return all rows that are scored at every evaluation."""
    return [one for one in (session.validation, training_sample(session)) if one is not None]


def fit_of(session: Opened, validation: Scored, check: Callable[[], None]) -> dict[str, Any] | None:
    """Return how the model does on some training rows, and the gap to the validation rows; None where nobody looks.

    ``check`` is called between batches and may raise. ``gap`` is what training rows are better by in ``metric``, with
    an interval; its ends are None where the metric is undefined.
    """
    sample = training_sample(session)
    if sample is None or session.validation is None:
        return None
    training, task = session.training, session.data.task
    scored = predict(
        training.scorer,
        training.collate,
        task,
        sample,
        session.config.compute.micro_batch_tokens,
        check=check,
    )
    name = session.metric[0]
    if name not in task.higher_is_better:  # the loss: it has no resamples
        name = task.main_metric()
    seed = session.config.train.seed
    own, own_variance = _spread(session, scored, sample.num_data_rows, name, seed + 1)
    other, other_variance = _spread(session, validation, session.validation.num_data_rows, name, seed)
    gap = (own - other) * (1 if task.higher_is_better[name] else -1)
    half = NormalDist().inv_cdf(0.5 + session.config.evaluation.confidence / 2) * math.sqrt(
        own_variance + other_variance
    )
    return {
        "rows": sample.num_data_rows,
        "loss": scored.loss,
        "metric": name,
        "value": own,
        "gap": {"value": gap, "low": gap - half, "high": gap + half},
    }


def _spread(session: Opened, scored: Scored, num_rows: int, name: str, seed: int) -> tuple[float, float]:
    """Return a metric of some rows, and its variance over resamples."""
    measure = session.data.task.measure
    value = float(measure(scored.outputs, scored.targets, np.ones((1, num_rows)))[name][0])
    draws = min(max(MOST_DRAWN // num_rows, FEWEST_DRAWS), MOST_DRAWS)
    values = np.concatenate(
        [measure(scored.outputs, scored.targets, block)[name] for block in resamples(num_rows, draws, seed)]
    )
    values = values[np.isfinite(values)]
    return value, float(values.var(ddof=1)) if len(values) > 1 else math.nan


def watch(progress: Progress, record: Mapping[str, Any]) -> Problem | None:
    """Take note of an evaluation; return the warning, once, where the model overfits.

    What is remembered stands in ``progress.fit``, which checkpoints hold.
    """
    fit, loss, memory = record.get("fit"), record["loss"], progress.fit
    if fit is None or loss is None or fit["loss"] is None or not math.isfinite(loss):
        return None
    if not memory or loss < memory["loss"]:
        memory.update(loss=loss, step=record["step"], training_loss=fit["loss"], worse=0)
        return None
    risen = loss - memory["loss"] >= RISE * abs(memory["loss"])
    is_worse = risen and fit["loss"] < memory["training_loss"] and fit["gap"]["low"] > 0
    memory["worse"] = memory["worse"] + 1 if is_worse else 0
    if memory["worse"] < IN_A_ROW or "since" in memory:
        return None
    memory["since"] = memory["step"]
    memory["named_at"] = record["step"]
    return _warning(record, memory)


def _warning(record: Mapping[str, Any], memory: Mapping[str, Any]) -> Problem:
    fit = record["fit"]
    name, gap = fit["metric"], fit["gap"]
    message = (
        f"The model overfits since step {memory['step']}: by step {record['step']} the validation loss has risen from "
        f"{number(memory['loss'])} to {number(record['loss'])}, while that of training rows has fallen from "
        f"{number(memory['training_loss'])} to {number(fit['loss'])}. On training rows {metric_phrase(name)} is better "
        f"by {interval(Interval(gap['value'], gap['low'], gap['high']))} ({fit['rows']} of them looked at)."
    )
    fix = (
        "The best step is kept, as far as train.early_stopping.metric tells it. More rows help most (data.augment "
        "makes some), or train.mixup, a method that trains less (lora, freeze), a lower rate, fewer epochs."
    )
    return Problem("warning", message, fix)
