"""Whether a training can be done on parts of weights: what its model, its method and its optimizer are made of."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from tunesmith.engine.optimizer_config import OptimizerConfig
from tunesmith.methods.base import ParameterGroup
from tunesmith.methods.hooks import StepHooks
from tunesmith.models.quiet import quiet

SIZE = (128, 65)
"""Of the matrix that an optimizer is tried on: enough of it for moments in 8 bits, which are kept by blocks."""
STEPS = 8
TOLERANCE = 1e-4
MOMENTS = 64
"""Of a training, at which a method is asked what it trains."""

WHOLE_HOOKS = ("penalty", "after_gradients", "after_step", "state")
"""Hooks that look at whole weights or gradients."""


def hindrance_of_model(parameters: Sequence[tuple[str, torch.Tensor]]) -> str:
    """Return why weights cannot be divided, or nothing."""
    for name, one in parameters:
        if not one.is_floating_point():
            return f"its weight {name} is packed ({str(one.dtype).removeprefix('torch.')})"
        if not one.dim():
            return f"its weight {name} is a single number"
    return ""


def hindrance_of_method(method: StepHooks, model: nn.Module, groups: Sequence[ParameterGroup]) -> str:
    """Return why what a method does to ``model`` cannot be done on parts, or nothing."""
    if any(group.places for group in groups):
        return "it trains places within weights"
    if _trains_by_turns(method, model):
        return "it changes what is trained from step to step"
    if any(map(method.has, WHOLE_HOOKS)):
        return "it looks at whole weights or gradients in every step"
    return ""


def _trains_by_turns(method: StepHooks, model: nn.Module) -> bool:
    """Say whether not all steps train the same weights: a pure function of how far the training is, so it is asked."""
    if not method.has("update"):
        return False
    found = set()
    for moment in (*range(1, MOMENTS), 0):  # at last as at the beginning
        method.update(model, moment / MOMENTS)
        found.add(frozenset(name for name, one in model.named_parameters() if one.requires_grad))
    return len(found) > 1


def hindrance_of_optimizer(config: OptimizerConfig) -> str:
    """Return why an optimizer cannot step on parts, or nothing; tried on a small matrix and on its halves."""
    with torch.random.fork_rng(devices=[]), quiet():
        torch.manual_seed(0)
        trials = [_Trial(config, one.clone()) for one in _and_halves(torch.randn(SIZE))]
        way = torch.randn(SIZE)  # most of every gradient, so that what looks for a rate finds one
        for step in range(STEPS):
            gradient = way + torch.randn(SIZE) / 4
            for trial, one in zip(trials, _and_halves(gradient), strict=True):
                torch.manual_seed(step)
                trial.step(one)
    if any(not trial.remembers_by_number for trial in trials):
        return "it remembers of a weight something else than a number for each of its numbers"
    whole, upper, lower = (trial.outcome() for trial in trials)
    if not whole.keys() == upper.keys() == lower.keys() or not all(
        _is_same(whole[name], upper[name], lower[name]) for name in whole
    ):
        return "what it does with a number follows from others of the same weight"
    return ""


def _and_halves(whole: torch.Tensor) -> tuple[torch.Tensor, ...]:
    return (whole, *whole.chunk(2))


def _is_same(whole: torch.Tensor, upper: torch.Tensor, lower: torch.Tensor) -> bool:
    """Say whether what became of a whole is what became of its halves, relative to the largest of its numbers."""
    size = float(whole.abs().max())
    halves = [torch.cat([upper, lower])] if whole.dim() else [upper, lower]
    return all(torch.allclose(whole, one, rtol=0.0, atol=TOLERANCE * size) for one in halves)


class _Trial:
    def __init__(self, config: OptimizerConfig, weight: torch.Tensor) -> None:
        self._before = weight.clone()
        self._weight = weight.requires_grad_()
        self._optimizer = config.build([{"params": [self._weight], "lr": 1e-2, "weight_decay": config.weight_decay}])

    def step(self, gradient: torch.Tensor) -> None:
        self._weight.grad = gradient.clone()
        self._optimizer.step()

    @property
    def remembers_by_number(self) -> bool:
        state = self._optimizer.state[self._weight].values()
        return all(not one.dim() or one.shape == self._weight.shape for one in state if isinstance(one, torch.Tensor))

    def outcome(self) -> dict[str, torch.Tensor]:
        """Return how the weight has moved, and all numbers that are remembered, of the weight and beside it."""
        (group,) = self._optimizer.param_groups
        values = {**group, **self._optimizer.state[self._weight]}
        numbers = {
            name: torch.as_tensor(value, dtype=torch.float64).detach()
            for name, value in values.items()
            if isinstance(value, (torch.Tensor, float))
        }
        return {"moved": (self._weight.detach() - self._before).double(), **numbers}
