"""The training loop: a generator that yields one ``StepInfo`` per optimizer step and does no I/O."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from functools import partial

import torch

from tunesmith.data.encoded import Ragged, as_ragged
from tunesmith.engine import ranks
from tunesmith.engine.batch import Batch, IntArray
from tunesmith.engine.cuda.transfer import numbers, to_device
from tunesmith.engine.drawing import Drawn, draw
from tunesmith.engine.free_memory import is_out_of_memory
from tunesmith.engine.losses import loss_sum, reduced, widened
from tunesmith.engine.noised_gradients import NoisedGradients
from tunesmith.engine.order import set_seed, step_seed
from tunesmith.engine.predict import predict
from tunesmith.engine.step import SPIKE_WINDOW, Step, Training
from tunesmith.engine.step_layout import lay_out, learned, split
from tunesmith.engine.whole_step import differentiate_whole_step
from tunesmith.tasks.objective import SURVEYED, Lesson
from tunesmith.types import RunError, StepInfo

_FIRST_RANK = 1 << 33
"""The first of the numbers that ranks draw noise by; hooks of methods and micro-batches have smaller ones."""


def train(training: Training) -> Iterator[StepInfo]:
    """Make the remaining steps, yielding after each one.

    A step's loss is the sum of its micro-batches' losses divided by the labelled units of the
    whole step, so that the way a step is split, over micro-batches and over ranks, changes nothing but rounding. Raises
    ``RunError`` after too many steps in a row without an update.
    """
    while training.step < training.plan.total_steps:
        step = _begin(training)
        _within_memory(step, _compute)
        training.optimizer.sum_over_ranks()
        info = _finish(step)
        ranks.step_took(info.seconds)
        yield info
        _require_updates(training, info)


def _begin(training: Training) -> Step:
    """Return the next step of ``training``, whose gradients are still to be computed."""
    training.token_budget = training.token_budget or training.compute.micro_batch_tokens
    training.method.update(training.scorer.model, training.step / training.plan.total_steps)
    if training.method.has("update"):
        training.optimizer.forget_frozen()
    training.scorer.set_training()
    step = Step(training, training.plan.samples_of(training.step), step_seed(training.config.seed, training.step))
    if training.task.draws:
        step.lesson = _lesson(training, step.samples)
    return step


def _lesson(training: Training, samples: IntArray) -> Lesson:
    """Return what the model's answers give to learn: written now, or for a step before that they serve, too."""
    plan, scorer, task = training.plan, training.scorer, training.task
    first = training.step - training.step % plan.repeats
    if training.drawn is not None and training.drawn.first_step == first:
        return training.drawn.lesson
    lesson = draw(scorer, task, training.data, samples, step_seed(training.config.seed, first))
    if plan.repeats > 1:
        found = predict(scorer, training.collate, task.at_drawing, lesson.data, training.token_budget).outputs
        offsets = as_ragged(lesson.data.reads).offsets
        said = {name: Ragged(as_ragged(values).values, offsets) for name, values in found.items()}
        lesson = replace(lesson, data=lesson.data.with_targets(said))
        training.drawn = Drawn(first, lesson)
    return lesson


def _finish(step: Step) -> StepInfo:
    """Update the weights by the gradients that have been computed, unless there is a reason not to."""
    training, config, plan = step.training, step.training.config, step.training.plan
    if step.num_units:
        training.optimizer.add_penalties()
        _add_penalty_of_method(step)
    *parts, norm = numbers(*step.losses, training.optimizer.gradient_norm())  # where a step waits for the device
    loss = ranks.sum(sum(parts, 0.0))
    skipped = _why_skip(training, loss, norm)
    clipped_norm = norm
    if not skipped and training.method.has("after_gradients"):
        clipped_norm = _change_gradients(step)
        skipped = "" if math.isfinite(clipped_norm) else f"its gradient norm is {clipped_norm}"
    rate = training.learning_rate * config.schedule.factor(training.step, plan.total_steps)
    if skipped:
        training.optimizer.discard()
        training.num_skipped += 1
    else:
        _update(step, clipped_norm, rate)
        training.recent_norms.append(norm)
        training.num_skipped = 0
    training.step += 1
    return StepInfo(
        step=training.step,
        epoch=plan.epoch_after(training.step),
        loss=loss,
        learning_rate=rate,
        gradient_norm=norm,
        num_rows=len(step.samples),
        num_tokens=step.num_tokens,
        seconds=time.perf_counter() - step.started,
        skipped=skipped,
        rows=tuple(training.data.data_rows(step.samples.tolist())) if skipped else (),
        note=step.note,
        measured=dict(step.lesson.measured) if step.lesson is not None else {},
        idle=step.lesson.idle if step.lesson is not None else "",
    )


def _require_updates(training: Training, info: StepInfo) -> None:
    """Raise ``RunError`` when too many steps in a row, ``info`` being the last one, made no update."""
    if training.num_skipped >= training.config.max_skipped_steps:
        raise RunError(
            f"{training.num_skipped} steps in a row made no update, the last one (step {training.step}) because "
            f"{info.skipped}. Lower train.learning_rate, set train.clip_norm, or look at the rows named above."
        )


def _add_penalty_of_method(step: Step) -> None:
    method, model = step.training.method, step.training.scorer.model
    if not method.has("penalty"):
        return
    with step.hook(), torch.enable_grad():
        penalty = method.penalty(model)
        if penalty is not None:
            penalty.backward()  # type: ignore[no-untyped-call]


def _change_gradients(step: Step) -> float:
    """Let the method look at the gradients and change them; return their norm afterwards."""
    training = step.training
    with step.hook():
        training.method.after_gradients(training.scorer.model, training.step + 1, training.plan.total_steps)
    (norm,) = numbers(training.optimizer.gradient_norm())
    return norm


def _update(step: Step, norm: float, rate: float) -> None:
    training = step.training
    limit = training.config.clip_norm
    if limit is not None and norm > limit:
        training.optimizer.scale_gradients(limit / norm)
    set_seed(step_seed(step.seed, 0), training.collate.device)  # some optimizers project onto random directions
    training.optimizer.step(rate)
    if training.method.has("after_step"):
        with step.hook():
            training.method.after_step(training.scorer.model, training.step + 1, training.plan.total_steps)


def _within_memory(step: Step, compute: Callable[[Step], None]) -> None:
    """Lay out ``step`` and ``compute`` its gradients, with smaller micro-batches until memory suffices."""
    while True:
        lay_out(step)
        if step.training.scorer.sharding is not None:
            _compute_in_parts(step, compute)
            return
        lack = _lack_of_memory(step, compute)
        step.training.optimizer.finish_sums()
        if not ranks.any(lack is not None):
            return
        step.training.optimizer.discard()
        _halve_budget(step, lack)
        del lack  # and with it what the frames of its traceback hold
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _lack_of_memory(step: Step, compute: Callable[[Step], None]) -> BaseException | None:
    """Return the error that says there is no memory to ``compute``; None where there is."""
    try:
        compute(step)
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        return error
    return None


def _compute_in_parts(step: Step, compute: Callable[[Step], None]) -> None:
    """Compute with weights in parts: a pass that one rank breaks off is lost to all, and cannot be made again."""
    with ranks.passing():
        lack = _lack_of_memory(step, compute)
    if lack is not None:
        raise RunError(
            f"Rank {ranks.number()} is out of memory with micro-batches of {step.training.token_budget} tokens, and "
            "the others wait for it in the middle of a pass.\n  → Continue with --resume and a lower "
            "--compute.micro_batch_tokens, or with --compute.checkpointing always."
        ) from lack


def _halve_budget(step: Step, error: BaseException | None) -> None:
    training = step.training
    data, samples = learned(step)
    lengths = data.sample_lengths[samples]
    shortest, longest = int(lengths.min()), int(lengths.max())
    if ranks.any(training.token_budget < 2 * shortest):
        raise RunError(
            f"Out of memory with micro-batches of a single row ({longest} tokens). "
            "Lower model.max_length, choose a method that trains less (lora), or a smaller model."
        ) from error
    training.token_budget //= 2
    step.note = f"out of memory: micro-batches now hold {training.token_budget} tokens (the gradient stays the same)"


def _compute(step: Step) -> None:
    training, device = step.training, step.training.collate.device
    if training.noised is not None:
        step.losses.append(_compute_noised(step, training.noised))
        return
    if training.task.surveys:
        _survey(step)
    set_seed(_own_seed(step), device)
    is_divided = len(step.batches) > 1 or ranks.size() > 1
    if training.task.needs_whole_step and is_divided and step.num_units:
        step.losses.append(_compute_together(step))
        return
    passes = [*((built, True) for built in step.batches), *((built, False) for built in step.idle)]
    for number, (built, counts) in enumerate(passes, start=1):
        batch = to_device(built, device)
        # A captured backward pass writes gradients without telling when.
        is_last = number == len(passes) and training.scorer.graphs is None
        with training.scorer.surrounding(batch), training.optimizer.last_backward() if is_last else nullcontext():
            loss = training.scorer.compute(partial(_loss, step, batch))
            (loss if counts else 0 * loss).backward()  # type: ignore[no-untyped-call]
        # A captured backward pass writes its gradients to the same place each time.
        training.optimizer.collect(copy=training.scorer.graphs is not None)
        if counts:
            step.losses.append(loss.detach())


def _loss(step: Step, batch: Batch) -> torch.Tensor:
    return loss_sum(step.training.scorer, step.training.task, batch) / step.num_units


def _compute_noised(step: Step, noised: NoisedGradients) -> torch.Tensor:
    """Compute the gradient that is made of those of rows; return the step's loss."""
    training = step.training
    loss = noised.differentiate(
        training.scorer,
        training.task,
        training.collate,
        training.data,
        samples=step.samples,
        batches=step.batches,
        split=partial(split, training, training.data),
        parameters=[parameter for parameter in training.optimizer.parameters if parameter.requires_grad],
        step=training.step,
        seed=step.seed,
    )
    training.optimizer.collect()
    return loss


def _compute_together(step: Step) -> torch.Tensor:
    """Compute the gradients of a loss that needs all rows of the step at once; return it."""
    training = step.training
    return differentiate_whole_step(
        training.scorer,
        training.task,
        step.batches,
        step.num_units,
        before=step.before,
        after=step.after,
        idle=step.idle,
        device=training.collate.device,
        seed=step.seed,
        collect=lambda: training.optimizer.collect(copy=training.scorer.graphs is not None),
    )


def _survey(step: Step) -> None:
    """Look at the whole step once, without gradients, and give each micro-batch what the task adds up of it."""
    training, device = step.training, step.training.collate.device
    task, scorer = training.task, training.scorer
    found = [torch.zeros(task.surveys, device=device)]
    set_seed(_own_seed(step), device)
    with torch.no_grad(), scorer.at_hand():
        for built in (*step.batches, *step.idle):
            batch = to_device(built, device)
            with scorer.surrounding(batch):
                scores = widened(scorer(batch)) if scorer.reads == "row" else reduced(scorer, task, batch)
                found.append(task.survey(scores, batch.targets, batch.units))
    del found[len(step.batches) + 1 :]
    own = numbers(*torch.stack(found).sum(dim=0))
    surveyed = torch.tensor([ranks.sum(value) for value in own])
    step.batches, step.idle = (
        [replace(batch, targets={**batch.targets, SURVEYED: surveyed}) for batch in batches]
        for batches in (step.batches, step.idle)
    )


def _own_seed(step: Step) -> int:
    """Return the seed of noise that is drawn in the order of the work: another one on each rank."""
    return step_seed(step.seed, _FIRST_RANK + ranks.number()) if ranks.number() else step.seed


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
