"""Which rows make up which step: pure functions of the seed, so that resuming needs no state."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch

from tunesmith.engine.batch import IntArray, LayoutName


@dataclass(frozen=True, slots=True)
class StepPlan:
    """How many steps there are, and the rows of each.

    Every epoch visits every row once, in an order drawn from (seed, epoch); its last step
    may be short. ``max_steps`` cuts the whole short.
    """

    num_rows: int
    batch_size: int
    """Rows per optimizer step."""
    epochs: float
    seed: int
    max_steps: int | None = None

    @property
    def steps_per_epoch(self) -> int:
        return math.ceil(self.num_rows / self.batch_size)

    @property
    def total_steps(self) -> int:
        steps = max(1, math.ceil(self.steps_per_epoch * self.epochs))
        return steps if self.max_steps is None else min(steps, self.max_steps)

    def epoch_after(self, step: int) -> float:
        """Return the epochs completed after ``step`` steps."""
        whole, rest = divmod(step, self.steps_per_epoch)
        return whole + min(rest * self.batch_size, self.num_rows) / self.num_rows

    def rows_of(self, step: int) -> IntArray:
        """Return the rows of the step with index ``step`` (from 0)."""
        epoch, index = divmod(step, self.steps_per_epoch)
        order = epoch_order(self.num_rows, self.seed, epoch)
        return order[index * self.batch_size : (index + 1) * self.batch_size]


@lru_cache(maxsize=2)
def epoch_order(num_rows: int, seed: int, epoch: int) -> IntArray:
    """Return the order of rows in an epoch: a permutation drawn from (seed, epoch) alone."""
    return np.random.default_rng([seed, epoch]).permutation(num_rows)


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
    rows: IntArray,
    lengths: npt.NDArray[np.int64],
    layout: LayoutName,
    token_budget: int,
    max_rows: int | None = None,
) -> Iterator[IntArray]:
    """Split ``rows`` into micro-batches of at most ``token_budget`` tokens as laid out.

    Rows are sorted by length first. In the padded layout a row costs as much as the longest
    of its micro-batch. A single row over the budget is a micro-batch of its own.
    ``lengths`` are those of ``rows``, in the same order.
    """
    order = np.argsort(lengths, kind="stable")
    rows, lengths = rows[order], lengths[order]
    first, total = 0, 0
    for index, length in enumerate(lengths.tolist()):
        count = index - first + 1
        cost = total + length if layout == "flat" else count * length
        if index > first and (cost > token_budget or (max_rows is not None and count > max_rows)):
            yield rows[first:index]
            first, total = index, 0
        total += length
    if len(rows):
        yield rows[first:]
