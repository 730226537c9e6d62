"""How long a training takes, from what a few of its steps took: one arithmetic for probes and for runs themselves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median

import numpy as np

from tunesmith.data.encoded import Encoded
from tunesmith.engine import checkpoint as checkpoints
from tunesmith.engine.batch import IntArray
from tunesmith.engine.config import TrainConfig
from tunesmith.engine.memory_plan import MemoryPlan
from tunesmith.engine.order import StepPlan
from tunesmith.engine.predict import forward_tokens
from tunesmith.engine.step import Training
from tunesmith.engine.work import Work

SAVING_SECONDS = 0.03
"""What a checkpoint takes, however small: files written, hashed, handed to the disk, renamed."""
SAVING_BYTES = 3e8
"""Bytes of a checkpoint that are written and hashed in a second."""


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds for a unit of work (``engine.work``)."""

    of_step: float
    of_scoring: float
    """In a pass forward alone, of rows that are scored again and again."""
    of_forward: float
    """The same of rows that are scored once, through all layers."""
    per_step: float = 0.0
    """Seconds of every step besides, whatever its length, where that was told apart."""


@dataclass(frozen=True, slots=True)
class Timetable:
    """What a training consists of, as far as time goes, and how long it takes."""

    plan: StepPlan
    num_steps: int
    """That is, all of them: nobody knows beforehand whether it stops early."""
    evaluate_every: int
    save_every: int | None
    """Steps between checkpoints, besides those of evaluations."""
    seconds_of_all_steps: float
    seconds_of_evaluation: float
    seconds_of_checkpoint: float
    checkpoint_bytes: int

    @classmethod
    def of(cls, training: Training, work: Work, pace: Pace, scored: Sequence[Encoded]) -> Timetable:
        """Return what a training consists of from its first step; ``scored`` is what is at every evaluation."""
        total = training.plan.total_steps
        budget, checkpoint = training.compute.micro_batch_tokens, checkpoints.size_of(training)
        scoring = sum(work.of_scoring(one, training.collate, budget) for one in scored)
        return cls(
            plan=training.plan,
            num_steps=total,
            evaluate_every=evaluations_every(training.config, training.plan),
            save_every=training.compute.checkpoint_steps,
            seconds_of_all_steps=pace.of_step * work.of_steps(training, total) + pace.per_step * total,
            seconds_of_evaluation=pace.of_scoring * scoring,
            seconds_of_checkpoint=SAVING_SECONDS + checkpoint / SAVING_BYTES,
            checkpoint_bytes=checkpoint,
        )

    def seconds_of_steps(self, num_steps: int) -> float:
        """Return what the first so many steps take, with the evaluations and checkpoints among them."""
        num_steps = min(num_steps, self.num_steps)
        share = self.plan.epoch_after(num_steps) / self.plan.epoch_after(self.num_steps)
        is_extra = num_steps == self.num_steps and num_steps % self.evaluate_every > 0  # the last step is always judged
        saves = evaluations = num_steps // self.evaluate_every + is_extra
        if self.save_every is not None:
            both = math.lcm(self.save_every, self.evaluate_every)
            saves += num_steps // self.save_every - num_steps // both
            saves -= is_extra and num_steps % self.save_every == 0
        return (
            share * self.seconds_of_all_steps
            + evaluations * self.seconds_of_evaluation
            + saves * self.seconds_of_checkpoint
        )

    @property
    def seconds(self) -> float:
        """What ``training.json`` calls the seconds of a run, if it makes all of its steps."""
        return self.seconds_of_steps(self.num_steps)


def evaluations_every(config: TrainConfig, plan: StepPlan) -> int:
    """Return the steps from one evaluation to the next."""
    return config.evaluate_steps or plan.steps_per_epoch


class StepsSeen:
    """What some steps took: their time, and the most memory."""

    def __init__(self, training: Training, work: Work) -> None:
        self._training = training
        self.work = work
        self.works: list[float] = []
        self.seconds: list[float] = []
        self._lengths: list[IntArray] = []
        self._tokens = 0.0

    def add(self, step: int, seconds: float) -> None:
        """Take note of a step, given by its index from 0."""
        data, plan = self._training.data, self._training.plan
        lengths = data.lengths_of(data.sequences_of(plan.samples_of(step)))
        if not len(lengths):  # where chance gives steps their rows, one without any tells nothing
            return
        laid_out = lengths.sum() if self.work.layout == "flat" else len(lengths) * lengths.max(initial=0)
        self.works.append(self.work.of_step(self._training, step))
        self.seconds.append(seconds)
        self._lengths.append(lengths)
        self._tokens = max(self._tokens, float(laid_out))

    def seconds_of_work(self, num_warm_up: int) -> float:
        """Return the seconds for a unit of work, of steps of which one may have waited for something else.

        Those that warm up count where there are no others.
        """
        first = min(num_warm_up, len(self.seconds) - 1)
        return median(one / work for one, work in zip(self.seconds[first:], self.works[first:], strict=True))

    def peak_of_all(self, memory: MemoryPlan, measured: int, scored_tokens: int = 0) -> int:
        """Return the bytes at the peak of all steps of a training, of which those seen took ``measured``.

        What larger steps take besides is planned; all else is as it was. So is what evaluations take, whose
        micro-batches have ``scored_tokens``, where none was made yet.
        """
        seen = np.sort(np.concatenate(self._lengths))[::-1].astype(np.float64)
        needs = replace(memory.needs, lengths=seen, step_tokens=min(self._tokens, memory.needs.step_tokens))
        tokens, recomputes = memory.micro_batch_tokens, memory.checkpointing
        whole = max(memory.peak(tokens, checkpointing=recomputes), memory.scoring_peak(scored_tokens))
        return measured + max(whole - memory.peak(tokens, checkpointing=recomputes, needs=needs), 0)


def scored_tokens_of(training: Training, validation: Encoded | None) -> int:
    """Return the tokens of a micro-batch of an evaluation that runs the layers; 0 where none does."""
    if validation is None or validation.read_states is not None:
        return 0
    most = forward_tokens(training.compute.micro_batch_tokens, training.collate.device)
    return int(min(max(most, validation.lengths.max(initial=0)), validation.lengths.sum()))
