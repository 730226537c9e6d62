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
STEPS = 3
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
        whole = torch.randn(SIZE)
        upper, lower = whole.chunk(2)
        trials = [_Trial(config, one.clone()) for one in (whole, upper, lower)]
        for step in range(STEPS):
            gradient = torch.randn(SIZE)
            for trial, one in zip(trials, (gradient, *gradient.chunk(2)), strict=True):
                torch.manual_seed(step)
                trial.step(one)
    if any(not trial.remembers_by_number for trial in trials):
        return "it remembers of a weight something else than a number for each of its numbers"
    if not torch.allclose(trials[0].weight, torch.cat([one.weight for one in trials[1:]]), rtol=1e-5, atol=1e-6):
        return "what it does with a number follows from others of the same weight"
    return ""


class _Trial:
    def __init__(self, config: OptimizerConfig, weight: torch.Tensor) -> None:
        self.weight = weight.requires_grad_()
        self._optimizer = config.build([{"params": [self.weight], "lr": 1e-2, "weight_decay": config.weight_decay}])

    def step(self, gradient: torch.Tensor) -> None:
        self.weight.grad = gradient.clone()
        self._optimizer.step()

    @property
    def remembers_by_number(self) -> bool:
        state = self._optimizer.state[self.weight].values()
        return all(not one.dim() or one.shape == self.weight.shape for one in state if isinstance(one, torch.Tensor))
