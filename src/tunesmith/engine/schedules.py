"""Learning-rate schedules: pure functions from the step to a factor between 0 and 1."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

from pydantic import Field

from tunesmith.config.base import BY_DATA, Config

WARMUP = 0.1
"""Share of all steps where nothing else is said."""

ScheduleName = Literal["constant", "linear", "cosine", "inverse_sqrt", "wsd"]


class ScheduleConfig(Config):
    """How the learning rate moves over the steps."""

    name: ScheduleName = "linear"
    """Shape after the warm-up: constant, linear (to 0), cosine (to 0), inverse_sqrt (of the step), or wsd
    (warm-up, stable, decay; Hu et al. 2024, arXiv:2404.06395)."""
    warmup: float | None = Field(default=None, ge=0, json_schema_extra=BY_DATA)
    """Linear warm-up from 0: a share of all steps below 1, a number of steps from 1 on."""
    decay: float = Field(default=0.2, gt=0, le=1)
    """wsd only: the share of all steps at the end over which the rate falls linearly to 0."""

    def warmup_steps(self, total_steps: int) -> int:
        """Return the number of warm-up steps; never all of them."""
        warmup = WARMUP if self.warmup is None else self.warmup
        steps = math.ceil(warmup * total_steps) if warmup < 1 else int(warmup)
        return min(steps, max(0, total_steps - 1))

    def factor(self, step: int, total_steps: int) -> float:
        """Return the factor on the peak rate for the step with index ``step`` (from 0).

        The first warm-up step already has a factor above 0 and the last step of a falling
        schedule still has one, so that no step is spent on a rate of 0.
        """
        warmup_steps = self.warmup_steps(total_steps)
        if step < warmup_steps:
            return (step + 1) / (warmup_steps + 1)
        return SHAPES[self.name](step - warmup_steps, total_steps - warmup_steps, warmup_steps, self.decay)


Shape = Callable[[int, int, int, float], float]
"""(steps after warm-up, of how many, warm-up steps, decay share) -> factor."""


def _constant(step: int, total: int, warmup: int, decay: float) -> float:  # noqa: ARG001
    return 1.0


def _linear(step: int, total: int, warmup: int, decay: float) -> float:  # noqa: ARG001
    return max(0.0, 1 - step / total)


def _cosine(step: int, total: int, warmup: int, decay: float) -> float:  # noqa: ARG001
    return 0.5 * (1 + math.cos(math.pi * min(1.0, step / total)))


def _inverse_sqrt(step: int, total: int, warmup: int, decay: float) -> float:  # noqa: ARG001
    return math.sqrt(max(1, warmup) / (max(1, warmup) + step))


def _wsd(step: int, total: int, warmup: int, decay: float) -> float:
    decay_steps = max(1, round(decay * (total + warmup)))
    return min(1.0, max(0.0, (total - step) / decay_steps))


SHAPES: dict[ScheduleName, Shape] = {
    "constant": _constant,
    "linear": _linear,
    "cosine": _cosine,
    "inverse_sqrt": _inverse_sqrt,
    "wsd": _wsd,
}
