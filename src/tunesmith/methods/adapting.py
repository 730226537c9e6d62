"""How a training adapts while it goes on: ranks that move, layers that come to rest, an end that is seen coming.

Each is a small account of what happened so far, kept as tensors and JSON values, so that a checkpoint holds it, and
each decides by itself and gives its reason. Nothing here draws random numbers.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch

SMOOTHING = 0.85
"""Share of what was known of a weight's importance that each step keeps (AdaLoRA, Zhang et al. 2023, eq. 9)."""
RANKS_BEGIN, RANKS_END = 0.1, 0.5
"""From which share of the steps on ranks are taken away, and up to which."""

SAMPLED = 64
"""Weights of a parameter that are watched."""
WINDOWS = 10
"""Parts of a training after which layers are looked at."""
EARLIEST_REST = 0.4
AT_REST = 0.3
"""A layer rests when it got ahead in a window by less than this share of what its steps were worth before."""

FEWEST_VALUES = 4
EARLIEST_END = 0.5
"""Before half of the steps the rate is still high: what a falling rate brings cannot be seen yet."""
WORTH_GAINING = 0.02
"""Share of what was gained so far that is still worth the steps."""
SLOWEST_DECAY = 0.5
"""Gains are never taken to shrink faster than this from one evaluation to the next."""


class RankBudget:
    """Takes away the ranks of adapters that matter least, over all modules, until a budget is met.

    A rank matters as much as its weights do on average: a weight by the size of itself times its gradient, smoothed
    over steps (AdaLoRA, Zhang et al. 2023, eqs. 8 and 9, without the uncertainty). What is taken away stays away, and
    the number of ranks falls by the paper's cubic schedule.
    """

    def __init__(self, ranks: Mapping[str, int], wanted: int) -> None:
        """Begin with all ``ranks`` by module; ``wanted`` are to be left in all."""
        self.wanted = wanted
        self.kept = {name: torch.ones(rank, dtype=torch.bool) for name, rank in ranks.items()}
        self.importance = {name: torch.zeros(rank) for name, rank in ranks.items()}

    @property
    def num_kept(self) -> int:
        """How many ranks are left."""
        return sum(int(kept.sum()) for kept in self.kept.values())

    def note(self, name: str, importance_R: torch.Tensor) -> None:
        """Take note of how much the ranks of a module mattered in a step."""
        before = self.importance[name]
        self.importance[name] = SMOOTHING * before + (1 - SMOOTHING) * importance_R.to(before)

    def budget(self, share: float) -> int:
        """Return how many ranks there are to be after a ``share`` of all steps."""
        every = sum(len(kept) for kept in self.kept.values())
        left = min(max((RANKS_END - share) / (RANKS_END - RANKS_BEGIN), 0.0), 1.0)
        return self.wanted + round((every - self.wanted) * left**3)

    def cut(self, budget: int) -> int:
        """Take away what matters least until ``budget`` are left; return how many that were."""
        surplus = self.num_kept - budget
        if surplus <= 0:
            return 0
        names = list(self.kept)
        flat = torch.cat([self.importance[name].masked_fill(~self.kept[name], math.inf) for name in names])
        gone = torch.zeros(len(flat), dtype=torch.bool)
        gone[flat.argsort(stable=True)[:surplus]] = True
        first = 0
        for name in names:
            part = gone[first : first + len(self.kept[name])]
            self.kept[name], first = self.kept[name] & ~part, first + len(part)
        return surplus


class Layers:
    """Watches a few weights of every layer, and says which layers have come to rest, from the bottom up.

    A layer rests when its steps still move it but no longer ahead: what it got ahead in the last window, as a share of
    the way that its steps made there, is small beside the same share of the whole training before (after the effective
    perturbation of Chen et al. 2021, APF). The learning rate, which makes all steps smaller, cancels out.
    """

    def __init__(self, weights: Mapping[int, torch.Tensor]) -> None:
        """Begin with the watched weights of every layer, by its depth."""
        self.first = {depth: values.clone() for depth, values in weights.items()}
        self.mark = {depth: values.clone() for depth, values in weights.items()}
        self.last = {depth: values.clone() for depth, values in weights.items()}
        self.path = dict.fromkeys(weights, 0.0)
        self.path_before = dict.fromkeys(weights, 0.0)
        """Up to where the window began."""
        self.resting: list[int] = []

    def note(self, weights: Mapping[int, torch.Tensor]) -> None:
        """Take note of the weights after a step."""
        for depth, values in weights.items():
            self.path[depth] += float((values - self.last[depth]).norm())
            self.last[depth] = values.clone()

    def close_window(self, share: float) -> tuple[list[int], float]:
        """Return the depths of layers that have come to rest by now, and how little they got ahead at most."""
        found: list[int] = []
        most = 0.0
        for depth in sorted(self.first):
            if depth in self.resting:
                continue
            ahead = self._ahead(depth)
            if share < EARLIEST_REST or ahead >= AT_REST or depth == max(self.first):
                break
            found.append(depth)
            most = max(most, ahead)
        for depth, values in self.last.items():
            self.mark[depth], self.path_before[depth] = values.clone(), self.path[depth]
        self.resting += found
        return found, most

    def _ahead(self, depth: int) -> float:
        """Return how far a layer got ahead in the window for its steps, beside what it did before; large if unknown."""
        path, before = self.path[depth] - self.path_before[depth], self.path_before[depth]
        earlier = float((self.mark[depth] - self.first[depth]).norm())
        if not (path and before and earlier):
            return math.inf
        return float((self.last[depth] - self.mark[depth]).norm()) / path / (earlier / before)


def expected_gain(values: Sequence[float], left: int) -> float:
    """Return what ``left`` more evaluations are likely to add to the best of ``values``: gains that shrink as they did.

    The best so far is what counts. Its last two gains against the two before tell how fast gains shrink, and the rest
    is a geometric sum.
    """
    best = [max(values[: place + 1]) for place in range(len(values))]
    gains = [after - before for before, after in itertools.pairwise(best)]
    recent, earlier = sum(gains[-2:]) / 2, sum(gains[-4:-2]) / max(len(gains[-4:-2]), 1)
    decay = min(max(recent / earlier, SLOWEST_DECAY), 1.0) ** 0.5 if earlier else 1.0
    return float(recent * sum(decay**place for place in range(1, left + 1)))


def reason_to_end(values: Sequence[float], step: int, total_steps: int) -> str:
    """Return why nothing worth its steps is to come, of values at equal distances; nothing where it may be."""
    if len(values) < FEWEST_VALUES or step < EARLIEST_END * total_steps or step >= total_steps:
        return ""
    left = round((total_steps - step) / (step / len(values)))
    gained = max(values) - values[0]
    expected = expected_gain(values, left)
    if gained <= 0 or expected > WORTH_GAINING * gained:  # a training that never began to gain is no matter of curves
        return ""
    return (
        f"{len(values)} evaluations gained {gained:.4g}, the last ones so little that the {left} to come are expected "
        f"to gain {expected:.2g}"
    )


def as_state(values: Mapping[Any, torch.Tensor], name: str) -> dict[str, torch.Tensor]:
    """Return tensors under names of one kind, for a checkpoint."""
    return {f"{name}/{key}": value for key, value in values.items()}


def from_state(state: Mapping[str, Any], name: str) -> dict[str, torch.Tensor]:
    """Return what ``as_state`` was given, with the keys as text, on the host."""
    return {key.removeprefix(f"{name}/"): value.cpu() for key, value in state.items() if key.startswith(f"{name}/")}
