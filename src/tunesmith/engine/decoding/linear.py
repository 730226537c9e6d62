"""Linear layers as they are used over and over with few tokens: side by side, their weights packed once.

A matrix product of few tokens takes as long as reading the weights. oneDNN reads them in an order of its own, and
brings them there at every call, unless they are given to it in that order.

Shapes: N tokens, K inputs, O outputs of all layers together, R ranks of all adapters together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakValueDictionary

import torch
from torch import nn
from torch.nn import functional

from tunesmith.engine.blocks.projection import Layer, layer_of

PACKED = (torch.bfloat16, torch.float32)
PACKED_FOR = 32
"""Tokens for which the order of packed weights is best; any number is computed right."""


@dataclass(frozen=True, slots=True)
class Linear:
    """Linear layers that read the same tokens, as one: ``x W' + b + (x A') B'``."""

    weight: torch.Tensor
    """[O, K], in an order of oneDNN's own if ``packed``."""
    bias: torch.Tensor | None
    down: torch.Tensor | None
    """[R, K]: the A's of all adapters."""
    up: torch.Tensor | None
    """[R, O]: their B's with their scales, each where its layer's outputs are."""
    packed: bool

    @classmethod
    def of(cls, *modules: nn.Module) -> Linear | None:
        """Return what the modules compute; None where one of them is of an unknown kind."""
        layers = [layer_of(module, {}) for module in modules]
        known = [layer for layer in layers if layer is not None]
        if len(known) < len(layers) or len({layer.bias is None for layer in known}) > 1:
            return None
        weights = [layer.weight.detach() for layer in known]
        packed = weights[0].is_cpu and _can_pack(weights[0].dtype)
        biases = [layer.bias for layer in known if layer.bias is not None]
        return cls(
            _prepared(weights, packed=packed),
            torch.cat(biases).detach() if biases else None,
            *_adapters(known),
            packed,
        )

    def __call__(self, x_NK: torch.Tensor, added_NO: torch.Tensor | None = None) -> torch.Tensor:
        """Return [N, O], with ``added_NO`` added if given."""
        if not self.packed:
            made = functional.linear(x_NK, self.weight, self.bias)
            made = made if added_NO is None else made + added_NO
        elif added_NO is None:
            made = torch.ops.mkldnn._linear_pointwise.default(x_NK, self.weight, self.bias, "none", [], "")
        else:
            made = torch.ops.mkldnn._linear_pointwise.binary(x_NK, added_NO, self.weight, self.bias, "add")
        if self.down is not None:
            assert self.up is not None
            made.addmm_(torch.mm(x_NK, self.down.t()), self.up)
        return made


@dataclass(frozen=True, slots=True)
class StandIn:
    """Stands in for the ``forward`` of a linear module."""

    linear: Linear

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return what the module makes of ``x`` [..., K]."""
        return self.linear(x.reshape(-1, x.shape[-1])).view(*x.shape[:-1], -1)


_known: WeakValueDictionary[tuple[Any, ...], torch.Tensor] = WeakValueDictionary()
"""Weights that were prepared and are in use, by the memory and version of those that they were made of."""


def _prepared(weights: Sequence[torch.Tensor], *, packed: bool) -> torch.Tensor:
    """Return weights side by side, [O, K], and in oneDNN's order if ``packed``.

    Models that share their weights' memory (adapters on one base) share what is made of it, too. Whoever uses that
    keeps the weights alive as well, so that their memory stands for them.
    """
    if len(weights) == 1 and not packed:
        return weights[0]
    key = (packed, *((one.data_ptr(), one._version, one.dtype, one.shape, one.stride()) for one in weights))
    found = _known.get(key)
    if found is None:
        found = torch.cat(list(weights)) if len(weights) > 1 else weights[0]
        if packed:
            found = torch.ops.mkldnn._reorder_linear_weight(found, PACKED_FOR)
        _known[key] = found
    return found


def _adapters(layers: Sequence[Layer]) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """Return the A's of all layers [R, K] and their B's with their scales [R, O]; None where there are none."""
    downs = [adapter.down for layer in layers for adapter in layer.adapters]
    if not downs:
        return None, None
    down_RK = torch.cat(downs).detach()
    up_RO = down_RK.new_zeros((len(down_RK), sum(layer.weight.shape[0] for layer in layers)))
    rank, output = 0, 0
    for layer in layers:
        width = layer.weight.shape[0]
        for adapter in layer.adapters:
            size = len(adapter.down)
            up_RO[rank : rank + size, output : output + width] = adapter.up.detach().t() * adapter.scale
            rank += size
        output += width
    return down_RK, up_RO


def _can_pack(dtype: torch.dtype) -> bool:
    """Say whether oneDNN has an order of its own for weights of a format on this processor."""
    if dtype not in PACKED or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    return dtype != torch.bfloat16 or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
