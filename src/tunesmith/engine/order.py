"""Which samples make up which step: pure functions of the seed, so that resuming needs no state."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

from tunesmith.data.encoded import Encoded
from tunesmith.engine.batch import IntArray, LayoutName


@dataclass(frozen=True, slots=True)
class StepPlan:
    """How many steps there are, and the samples of each.

    Every epoch visits every sample once, in an order drawn from (seed, epoch); its last step
    may be short. ``max_steps`` cuts the whole short.
    """

    num_samples: int
    """Rows of the data or, where rows are cut into pieces that are learned each for itself, pieces."""
    batch_size: int
    """Samples per optimizer step."""
    epochs: float
    seed: int
    max_steps: int | None = None
    repeats: int = 1
    """How many steps in a row are made with the same samples."""

    @property
    def steps_per_epoch(self) -> int:
        return math.ceil(self.num_samples / self.batch_size) * self.repeats

    @property
    def total_steps(self) -> int:
        steps = max(1, math.ceil(self.steps_per_epoch * self.epochs))
        return steps if self.max_steps is None else min(steps, self.max_steps)

    def epoch_after(self, step: int) -> float:
        """Return the epochs completed after ``step`` steps."""
        whole, rest = divmod(step, self.steps_per_epoch)
        return whole + min(rest * self.batch_size / self.repeats, self.num_samples) / self.num_samples

    def order_of(self, epoch: int) -> IntArray:
        """Return the samples of an epoch, one after the other."""
        return epoch_order(self.num_samples, self.seed, epoch)

    def samples_of(self, step: int) -> IntArray:
        """Return the samples of the step with index ``step`` (from 0)."""
        epoch, index = divmod(step, self.steps_per_epoch)
        order = self.order_of(epoch)
        index //= self.repeats
        return order[index * self.batch_size : (index + 1) * self.batch_size]


@lru_cache(maxsize=2)
def epoch_order(num_samples: int, seed: int, epoch: int) -> IntArray:
    """Return the order of samples in an epoch: a permutation drawn from (seed, epoch) alone."""
    return np.random.default_rng([seed, epoch]).permutation(num_samples)


def step_seed(seed: int, step: int) -> int:
    """Return the seed of a step's random numbers (dropout), so that they depend on nothing before it."""
    return int(np.random.SeedSequence([seed, step]).generate_state(1, np.uint64)[0] >> np.uint64(1))


def set_seed(seed: int, device: torch.device) -> None:
    """Seed torch's random numbers on the CPU and on ``device``.

    ``torch.manual_seed`` also notes down, with its whole stack, a call for every kind of device that
    was never used.
    """
    if device.type == "cpu":
        torch.default_generator.manual_seed(seed)
    else:
        torch.manual_seed(seed)


def micro_batches(
    data: Encoded, samples: IntArray, layout: LayoutName, token_budget: int, max_samples: int | None = None
) -> Iterator[IntArray]:
    """Split ``samples`` of ``data`` into micro-batches of at most ``token_budget`` tokens as laid out.

    Yields the sequences of each. Samples are sorted by length first. In the padded layout a sequence costs as much
    as the longest of its micro-batch. A single sample over the budget is a micro-batch of its own.
    """
    if not len(samples):  # chance may give a step none
        return
    if not data.keeps_rows:
        yield from split_by_length(samples, data.lengths_of(samples), layout, token_budget, max_samples)
        return
    borders = data.samples
    counts = borders[samples + 1] - borders[samples]
    lengths = data.lengths_of(data.sequences_of(samples))
    starts = np.cumsum(counts) - counts
    longest, totals = np.maximum.reduceat(lengths, starts), np.add.reduceat(lengths, starts)
    costs = totals if layout == "flat" else longest
    for chosen in split_by_length(samples, longest, layout, token_budget, max_samples, costs=costs, counts=counts):
        yield data.sequences_of(chosen)


def split_by_length(
    samples: IntArray,
    lengths: IntArray,
    layout: LayoutName,
    token_budget: int,
    max_samples: int | None = None,
    *,
    costs: IntArray | None = None,
    counts: IntArray | None = None,
) -> Iterator[IntArray]:
    """Split samples, sorted by ``lengths`` (of their longest sequences), so that none costs more than the budget.

    Args:
        samples: What is split; the other arrays are of them, in the same order.
        lengths: Tokens of each one's longest sequence.
        layout: In the padded one all sequences cost as much as the longest.
        token_budget: Most tokens of a part, where it has more than one sample.
        max_samples: Most samples of a part.
        costs: Tokens of all sequences of each, where there are several and the layout is flat.
        counts: The number of sequences of each, where there are several.
    """
    order = np.argsort(lengths, kind="stable")
    samples, lengths = samples[order], lengths[order]
    costs = lengths if costs is None else costs[order]
    counts = np.ones_like(lengths) if counts is None else counts[order]
    first, total, num_sequences = 0, 0, 0
    for index, (length, own, count) in enumerate(zip(lengths.tolist(), costs.tolist(), counts.tolist(), strict=True)):
        num_samples = index - first + 1
        cost = total + own if layout == "flat" else (num_sequences + count) * length
        if index > first and (cost > token_budget or (max_samples is not None and num_samples > max_samples)):
            yield samples[first:index]
            first, total, num_sequences = index, 0, 0
        total, num_sequences = total + own, num_sequences + count
    if len(samples):
        yield samples[first:]
