"""The training loop: a generator that yields one ``StepInfo`` per optimizer step and does no I/O."""

from __future__ import annotations

import itertools
import math
import statistics
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch

from tunesmith.data.encoded import Encoded
from tunesmith.engine.batch import Collator, IntArray
from tunesmith.engine.config import TrainConfig
from tunesmith.engine.losses import loss_sum
from tunesmith.engine.optimizers import MasterOptimizer
from tunesmith.engine.order import StepPlan, micro_batches, step_seed
from tunesmith.engine.scorer import Scorer
from tunesmith.tasks.base import Task
from tunesmith.types import RunError, StepInfo

SPIKE_WINDOW = 32
"""Gradient norms that the spike guard compares with."""


@dataclass
class Training:
    """The parts of one training, and where it stands. What changes is what a checkpoint holds."""

    scorer: Scorer
    collate: Collator
    task: Task
    data: Encoded
    plan: StepPlan
    optimizer: MasterOptimizer
    learning_rate: float
    config: TrainConfig
    prepare_step: Callable[[float], None]
    """Called with the progress (0 to 1) before each step: the method's schedule of what is trained."""
    step: int = 0
    """Optimizer steps completed."""
    num_skipped: int = 0
    """Steps skipped in a row."""
    recent_norms: deque[float] = field(default_factory=lambda: deque(maxlen=SPIKE_WINDOW))
    token_budget: int = 0
    """Tokens per micro-batch; halved when memory runs out. 0 stands for the configured one."""


def train(training: Training) -> Iterator[StepInfo]:
    """Make the remaining steps, yielding after each one.

    A step's loss is the sum of its micro-batches' losses divided by the labelled units of the
    whole step, so that the way a step is split changes nothing but rounding. Raises
    ``RunError`` after too many steps in a row without an update.
    """
    config, plan = training.config, training.plan
    training.token_budget = training.token_budget or config.micro_batch_tokens
    while training.step < plan.total_steps:
        started = time.perf_counter()
        training.prepare_step(training.step / plan.total_steps)
        training.scorer.set_training()
        rows = plan.rows_of(training.step)
        loss, num_tokens, note = _gradients_within_memory(training, rows)
        norm = training.optimizer.gradient_norm()
        skipped = _why_skip(training, loss, norm)
        rate = training.learning_rate * config.schedule.factor(training.step, plan.total_steps)
        if skipped:
            training.optimizer.discard()
            training.num_skipped += 1
        else:
            _update(training, norm, rate)
        training.step += 1
        yield StepInfo(
            step=training.step,
            epoch=plan.epoch_after(training.step),
            loss=loss,
            learning_rate=rate,
            gradient_norm=norm,
            num_rows=len(rows),
            num_tokens=num_tokens,
            seconds=time.perf_counter() - started,
            skipped=skipped,
            rows=tuple(rows.tolist()) if skipped else (),
            note=note,
        )
        if training.num_skipped >= config.max_skipped_steps:
            raise RunError(
                f"{training.num_skipped} steps in a row made no update, the last one (step {training.step}) because "
                f"{skipped}. Lower train.learning_rate, set train.clip_norm, or look at the rows named above."
            )


def _update(training: Training, norm: float, rate: float) -> None:
    limit = training.config.clip_norm
    if limit is not None and norm > limit:
        training.optimizer.scale_gradients(limit / norm)
    training.optimizer.step(rate)
    training.recent_norms.append(norm)
    training.num_skipped = 0


def _gradients_within_memory(training: Training, rows: IntArray) -> tuple[float, int, str]:
    """Compute the step's gradient, halving the micro-batches for as long as memory does not suffice."""
    note = ""
    while True:
        try:
            return *compute_gradients(training, rows), note
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            if not _is_out_of_memory(error):
                raise
            training.optimizer.discard()
            if training.token_budget < 2 * int(training.data.lengths[rows].min()):
                raise RunError(
                    f"Out of memory with micro-batches of a single row ({training.data.lengths[rows].max()} tokens). "
                    "Lower model.max_length, choose a method that trains less (lora), or a smaller model."
                ) from error
            training.token_budget //= 2
        note = f"out of memory: micro-batches now hold {training.token_budget} tokens (the gradient stays the same)"
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def compute_gradients(training: Training, rows: IntArray) -> tuple[float, int]:
    """Fill the masters' gradients for one step over ``rows``; return its loss and its real tokens.

    Without any labelled unit (every row's class weighs 0) there is no gradient and the loss is 0.
    """
    task, seed = training.task, step_seed(training.config.seed, training.step)
    torch.manual_seed(seed)
    data, places = training.data, rows
    if task.corrupts:
        data, places = task.corrupt(data, rows, seed), np.arange(len(rows))
    batches = [training.collate(data, part) for part in _split(training, data, places)]
    units = [task.count_units(batch.targets) for batch in batches]
    num_units = sum(units)
    loss = 0.0
    for batch in itertools.compress(batches, units):
        with training.scorer.surrounding(batch):
            batch_loss = loss_sum(training.scorer, task, batch) / num_units
            batch_loss.backward()  # type: ignore[no-untyped-call]
        training.optimizer.collect()
        loss += float(batch_loss.detach())
    if num_units:
        training.optimizer.add_penalties()
    return loss, sum(batch.num_tokens for batch in batches)


def _split(training: Training, data: Encoded, rows: IntArray) -> Iterator[IntArray]:
    budget = training.token_budget or training.config.micro_batch_tokens
    return micro_batches(rows, data.lengths[rows], training.collate.layout, budget, training.config.micro_batch_rows)


def _why_skip(training: Training, loss: float, norm: float) -> str:
    """Return why this step must not be made, or nothing."""
    if not training.optimizer.has_gradients:
        return "none of its rows has anything to learn from"
    if not math.isfinite(loss):
        return f"its loss is {loss}"
    if not math.isfinite(norm):
        return f"its gradient norm is {norm}"
    factor, recent = training.config.spike_factor, training.recent_norms
    if factor is not None and len(recent) == SPIKE_WINDOW and norm > factor * statistics.median(recent):
        return f"its gradient norm {norm:.3g} is over {factor:g} times the recent median"
    return ""


def _is_out_of_memory(error: BaseException) -> bool:
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "can't allocate memory" in str(error)
