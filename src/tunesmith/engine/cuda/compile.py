"""Compiling one layer and using the result for all of them ("regional compilation"), for any number of tokens.

The layers of a stack are equal, so that torch compiles the first one and finds its code again for the
others. T is marked as varying: a flat micro-batch has another one each time. Flat attention, which
looks the borders up and is a kernel of its own, is left out of the compiled code.

Compiling takes minutes of a run's time and pays back a share of every step: ``worth_compiling`` weighs
the two.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from tunesmith.engine.attention import FLAT_ATTENTION, flat_attention
from tunesmith.engine.stand_ins import Forward, Tier, put, take_away
from tunesmith.models.anatomy import Anatomy

COMPILE_SECONDS = 70.0
"""What compiling a layer forward and backward costs: with adapters, 70 s on an H200; fully trained, 17 s."""

SAVED_SHARE = 0.11
"""Share of a step's time that compiled layers save: fully trained, 11% on an H200; with adapters, 20%."""

MARGIN = 2.0
"""What is saved must be so many times what it costs: both were measured on one model of a billion weights."""

FLOPS_PER_SECOND = 3e14
"""Rate of training before compiling: on an H200, 2.2e14 with adapters to 3.2e14 fully trained."""


def worth_compiling(num_weights: int, num_tokens: float, device_type: str) -> bool:
    """Say whether a run over ``num_tokens`` tokens (all steps together) is long enough for compiling to pay.

    A step of T tokens is taken to cost 6 operations per weight and token, and a GPU to make
    ``FLOPS_PER_SECOND`` of them. On other devices the answer is no.
    """
    if device_type != "cuda":
        return False
    seconds = 6.0 * num_weights * num_tokens / FLOPS_PER_SECOND
    return SAVED_SHARE * seconds > MARGIN * COMPILE_SECONDS


def compile_layers(model: nn.Module, backend: Any = "inductor") -> int:
    """Compile the layers of ``model`` in place, when they are first called, and return how many there are.

    Weights, names and what is saved stay as they are. Random numbers of compiled dropout are others
    than those of torch's own, drawn from the same seed. Blocks, made of native code, give way.
    """
    from transformers import AttentionInterface

    AttentionInterface.register(FLAT_ATTENTION, torch.compiler.disable(flat_attention))  # type: ignore[no-untyped-call]
    take_away(model, Tier.BLOCK)
    layers = [model.get_submodule(name) for _, name in Anatomy.of(model).layers]
    for layer in layers:
        put(layer, Tier.COMPILED, _Compiled(backend))
    return len(layers)


@dataclass(frozen=True, slots=True)
class _Compiled:
    backend: Any

    def over(self, below: Forward) -> Forward:
        compiled: Forward = torch.compile(below, backend=self.backend, dynamic=True)
        return compiled
