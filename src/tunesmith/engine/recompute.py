"""Activation checkpointing: a layer keeps its input only, and runs forward again when its gradient is due.

Chen et al. 2016 (arXiv:1604.06174), by ``torch.utils.checkpoint``, a layer at a time, for whatever layers
a model has. Results are the same to the bit: random numbers are drawn again as they were.

In the backward pass a layer runs in whatever thread differentiates, on CUDA one of torch's own. What
surrounds a batch (its borders, its noise, which tokens are read) belongs to the thread of the loop, as
all context variables do; they are therefore carried along.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import Context, copy_context
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from tunesmith.engine.stand_ins import Forward, Tier, put
from tunesmith.kernels import noise
from tunesmith.models.anatomy import Anatomy

CACHES = ("past_key_values", "past_key_value", "layer_past")
"""Arguments by which a layer would write to a cache a second time."""


def can_recompute(model: nn.Module) -> bool:
    """Say whether the model has layers that can be run again: a stack, of an architecture that allows it."""
    return Anatomy.of(model).can_recompute


def recompute_layers(model: nn.Module) -> None:
    """Let every layer of the model forget its activations in training.

    Doing it twice changes nothing. What is frozen and rests in ``eval`` mode keeps nothing anyway and
    is left as it is, and so is everything outside of training.
    """
    for layer in Anatomy.of(model).layer_modules:
        put(layer, Tier.RECOMPUTED, _Recomputed(layer))


@dataclass
class _Recomputed:
    """Runs what it stands in for again when its gradient is due."""

    layer: nn.Module

    def over(self, below: Forward) -> Forward:
        self.below = below
        return self.forward

    def forward(self, *arguments: Any, **settings: Any) -> Any:
        if not (self.layer.training and torch.is_grad_enabled()):
            return self.below(*arguments, **settings)
        settings.update((name, None) for name in CACHES if name in settings)
        if "use_cache" in settings:
            settings["use_cache"] = False
        return checkpoint(self.below, *arguments, use_reentrant=False, context_fn=_contexts, **settings)


def _contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """Return what surrounds a layer's first run and its second one, in another thread maybe."""
    return nullcontext(), _both(_as_in(copy_context()), noise.as_now())


@contextmanager
def _as_in(context: Context) -> Iterator[None]:
    """Give all context variables the values of ``context``, without entering it: layers in one another share it."""
    tokens = [(variable, variable.set(value)) for variable, value in context.items()]
    try:
        yield
    finally:
        for variable, token in tokens:
            variable.reset(token)


@contextmanager
def _both(first: AbstractContextManager[None], second: AbstractContextManager[None]) -> Iterator[None]:
    with first, second:
        yield
