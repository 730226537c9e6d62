"""How the rows of a step become micro-batches, on this rank and on the others."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np

from tunesmith.data.encoded import Encoded
from tunesmith.engine import ranks
from tunesmith.engine.batch import Batch, IntArray, NoiseSource
from tunesmith.engine.division import divide
from tunesmith.engine.order import micro_batches
from tunesmith.engine.step import Step, Training


def lay_out(step: Step) -> None:
    """Split the step into micro-batches of the size that now holds."""
    training, task = step.training, step.training.task
    data, samples = learned(step)
    noise = NoiseSource(step.seed)
    if task.corrupts:
        sequences = data.sequences_of(samples)
        data, samples = task.corrupt(data, sequences, step.seed), np.arange(len(samples))
        noise = NoiseSource(step.seed, sequences)
    parts, own = divide(data, samples, training.collate.layout, ranks.size()), ranks.number()
    batches = _built(training, data, parts[own], noise)
    units = [task.count_units(batch.targets, batch.units) for batch in batches]
    step.batches = list(itertools.compress(batches, units))
    if task.needs_whole_step:
        step.before, step.after = (
            [
                batch
                for part in others
                for batch in _built(training, data, part, noise)
                if task.count_units(batch.targets, batch.units)
            ]
            for others in (parts[:own], parts[own + 1 :])
        )
    num_tokens, adds_up = sum(batch.num_tokens for batch in batches), len(step.batches) > 1
    step.num_units, all_tokens, num_adding = ranks.sums(sum(units), num_tokens, adds_up)
    step.num_tokens = int(all_tokens)
    training.optimizer.expect_gradients(of_one_pass=not num_adding)
    step.losses = []
    step.idle = [] if training.scorer.sharding is None else _idle(step, data, samples, noise)


def _idle(step: Step, data: Encoded, samples: IntArray, noise: NoiseSource) -> list[Batch]:
    """Return as many batches as this rank makes fewer than another, each the step's shortest row that is learned."""
    training, task = step.training, step.training.task
    missing = int(ranks.max(len(step.batches))) - len(step.batches)
    shortest_first = samples[np.argsort(data.sample_lengths[samples], kind="stable")] if missing else samples[:0]
    for sample in shortest_first:
        (built,) = _built(training, data, np.array([sample]), noise)
        if task.count_units(built.targets, built.units):
            return [built] * missing
    return []


def _built(training: Training, data: Encoded, samples: IntArray, noise: NoiseSource) -> list[Batch]:
    """Return the micro-batches of samples, which may be none."""
    if not len(samples):
        return []
    return [training.collate.on_host(data, part, noise) for part in split(training, data, samples)]


def learned(step: Step) -> tuple[Encoded, IntArray]:
    """Return the rows that a step is learned from."""
    if step.lesson is None:
        return step.training.data, step.samples
    return step.lesson.data, np.arange(step.lesson.data.num_samples)


def split(training: Training, data: Encoded, samples: IntArray) -> Iterator[IntArray]:
    """Yield the samples of each micro-batch."""
    budget = training.token_budget or training.compute.micro_batch_tokens
    return micro_batches(data, samples, training.collate.layout, budget, training.compute.micro_batch_rows)
