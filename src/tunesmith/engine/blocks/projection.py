"""Linear layers side by side on the same tokens, low-rank adapters included, as one differentiable operation.

Each output is ``x W' + b``, and with an adapter ``+ s (x A') B'`` (Hu et al. 2021, eq. 3). The tokens are read and kept
once for all layers; their results lie side by side; the gradients of ``x`` are added up by the matrix products
themselves; gradients of frozen weights are never formed.

Shapes: T tokens, K inputs, N outputs of all layers together, R ranks of all adapters together.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from tunesmith.kernels import noise
from tunesmith.kernels.rows import column_sums


@dataclass(frozen=True, slots=True)
class LowRank:
    """One adapter of one layer."""

    down: torch.Tensor
    """A: [r, K]."""
    up: torch.Tensor
    """B: [outputs of the layer, r]."""
    scale: float
    mask: noise.Mask | None
    """Dropout before A."""

    def of(self, tokens: torch.Tensor) -> LowRank:
        """Return the adapter as it is for some of the tokens (int64 [Q])."""
        return self if self.mask is None else replace(self, mask=self.mask.of(tokens))


@dataclass(frozen=True, slots=True)
class Layer:
    """One linear layer."""

    weight: torch.Tensor
    bias: torch.Tensor | None
    adapters: tuple[LowRank, ...] = ()

    def of(self, tokens: torch.Tensor) -> Layer:
        """Return the layer as it is for some of the tokens (int64 [Q])."""
        return replace(self, adapters=tuple(adapter.of(tokens) for adapter in self.adapters))


def layer_of(module: nn.Module, sites: Mapping[nn.Module, int]) -> Layer | None:
    """Return what a module computes, if it is a plain linear layer or PEFT's plain LoRA around one; else None.

    ``sites`` names modules that drop. None is also the answer where there are no keys for what is to be dropped.
    """
    if type(module) is nn.Linear:
        return Layer(module.weight, module.bias)
    base: Any = getattr(module, "base_layer", None)
    if type(base) is not nn.Linear or not hasattr(module, "lora_A"):
        return None
    peft: Any = module
    names = [] if peft.disable_adapters else [name for name in peft.active_adapters if name in peft.lora_A]
    adapters = [_adapter_of(peft, name, sites) for name in names]
    if peft.merged or None in adapters:
        return None
    return Layer(base.weight, base.bias, tuple(adapter for adapter in adapters if adapter is not None))


def _adapter_of(peft: Any, name: str, sites: Mapping[nn.Module, int]) -> LowRank | None:
    """Return one of a module's adapters; None where it is a variant, or there are no keys for its dropout."""
    down, up, dropout = peft.lora_A[name], peft.lora_B[name], peft.lora_dropout[name]
    is_plain = all(isinstance(one, nn.Module) for one in (down, up)) and name not in peft.lora_variant
    if not is_plain or up.bias is not None or not isinstance(dropout, nn.Dropout | nn.Identity):
        return None
    mask = None
    if isinstance(dropout, nn.Dropout) and dropout.training and dropout.p:
        mask = noise.draw(sites[dropout], dropout.p)
        if mask is None:
            return None
    return LowRank(down.weight, up.weight, float(peft.scaling[name]), mask)


def project(x_TK: torch.Tensor, layers: Sequence[Layer], *, with_bias: bool = True) -> torch.Tensor:
    """Return what the layers make of the tokens, side by side: [T, N]."""
    biases = [layer.bias if with_bias else None for layer in layers]
    adapters = [(index, adapter) for index, layer in enumerate(layers) for adapter in layer.adapters]
    plan = _Plan(
        tuple(layer.weight.shape[0] for layer in layers),
        tuple(_Adapter(index, one.scale, one.mask) for index, one in adapters),
    )
    tensors = [layer.weight for layer in layers] + biases
    tensors += [one.down for _, one in adapters] + [one.up for _, one in adapters]
    result: torch.Tensor = _Project.apply(x_TK, plan, *tensors)  # type: ignore[no-untyped-call]
    return result


@dataclass(frozen=True, slots=True)
class _Adapter:
    layer: int
    scale: float
    mask: noise.Mask | None


@dataclass(frozen=True, slots=True)
class _Plan:
    """Everything about the layers but their tensors."""

    widths: tuple[int, ...]
    adapters: tuple[_Adapter, ...]

    def columns(self, made: torch.Tensor) -> list[torch.Tensor]:
        return _parts(made, self.widths, dim=1)

    def parts(self, tensors: Sequence[Any]) -> tuple[Sequence[Any], Sequence[Any], Sequence[Any], Sequence[Any]]:
        """Return weights, biases, A's and B's."""
        layers, adapters = len(self.widths), len(self.adapters)
        return (
            tensors[:layers],
            tensors[layers : 2 * layers],
            tensors[2 * layers : 2 * layers + adapters],
            tensors[2 * layers + adapters :],
        )


class _Project(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, plan: _Plan, *tensors: Any) -> torch.Tensor:
        weights, biases, downs, ups = plan.parts(tensors)
        made = x.new_empty((len(x), sum(plan.widths)))
        columns = plan.columns(made)
        for out, weight, bias in zip(columns, weights, biases, strict=True):
            if bias is None:
                torch.mm(x, weight.t(), out=out)
            else:
                torch.addmm(bias, x, weight.t(), out=out)
        shrunk = _shrink(x, plan, downs)
        for adapter, up, small in zip(plan.adapters, ups, shrunk, strict=True):
            columns[adapter.layer].addmm_(small, up.t(), alpha=adapter.scale)
        ctx.save_for_backward(x, *tensors)
        ctx.plan, ctx.shrunk = plan, shrunk
        return made

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[Any, ...]:
        x, *tensors = ctx.saved_tensors
        plan: _Plan = ctx.plan
        weights, _, downs, ups = plan.parts(tensors)
        columns = plan.columns(gradients[0].contiguous())
        wanted = plan.parts(ctx.needs_input_grad[2:])
        x_gradient = _input_gradient(columns, weights) if ctx.needs_input_grad[0] else None
        of_weights = [part.t() @ x if want else None for part, want in zip(columns, wanted[0], strict=True)]
        of_biases = [_sums(part) if want else None for part, want in zip(columns, wanted[1], strict=True)]
        of_downs, of_ups = _adapter_gradients(x, plan, columns, downs, ups, ctx.shrunk, x_gradient)
        return x_gradient, None, *of_weights, *of_biases, *of_downs, *of_ups


def _shrink(x: torch.Tensor, plan: _Plan, downs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Return ``x A'`` for every adapter: one product for all that read the tokens as they are."""
    results: list[torch.Tensor | None] = [None] * len(downs)
    for group in _groups(plan):
        first = plan.adapters[group[0]]
        inputs = _read(x, first)
        small = inputs @ _stacked([downs[index] for index in group]).t()
        for index, part in zip(group, _parts(small, [len(downs[index]) for index in group], dim=1), strict=True):
            results[index] = part
    return [result for result in results if result is not None]


def _groups(plan: _Plan) -> list[list[int]]:
    """Return the adapters that read the same numbers, together."""
    groups: dict[int | None, list[int]] = {}
    for index, adapter in enumerate(plan.adapters):
        groups.setdefault(None if adapter.mask is None else index, []).append(index)
    return list(groups.values())


def _read(x: torch.Tensor, adapter: _Adapter) -> torch.Tensor:
    return x if adapter.mask is None else noise.drop(x, adapter.mask)


def _parts(whole: torch.Tensor, sizes: Sequence[int], *, dim: int) -> list[torch.Tensor]:
    ends = list(itertools.accumulate(sizes))
    return [whole.narrow(dim, end - size, size) for end, size in zip(ends, sizes, strict=True)]


def _stacked(tensors: list[torch.Tensor]) -> torch.Tensor:
    return tensors[0] if len(tensors) == 1 else torch.cat(tensors)


def _input_gradient(columns: Sequence[torch.Tensor], weights: Sequence[torch.Tensor]) -> torch.Tensor:
    total = columns[0] @ weights[0]
    for part, weight in zip(columns[1:], weights[1:], strict=True):
        total.addmm_(part, weight)
    return total


def _adapter_gradients(  # noqa: PLR0917 (all of it belongs to one product's gradient)
    x: torch.Tensor,
    plan: _Plan,
    columns: Sequence[torch.Tensor],
    downs: Sequence[torch.Tensor],
    ups: Sequence[torch.Tensor],
    shrunk: Sequence[torch.Tensor],
    x_gradient: torch.Tensor | None,
) -> tuple[list[Any], list[Any]]:
    """Return the gradients of the A's and the B's; add what goes through the adapters to that of ``x``."""
    of_downs: list[Any] = [None] * len(downs)
    of_ups: list[Any] = [None] * len(ups)
    for group in _groups(plan):
        first = plan.adapters[group[0]]
        smalls = []
        for index in group:
            adapter = plan.adapters[index]
            part = columns[adapter.layer]
            smalls.append((part @ ups[index]).mul_(adapter.scale))
            of_ups[index] = (part.t() @ shrunk[index]).mul_(adapter.scale)
        small = smalls[0] if len(smalls) == 1 else torch.cat(smalls, dim=1)
        of_group = small.t() @ _read(x, first)
        for index, gradient in zip(group, _parts(of_group, [len(downs[index]) for index in group], dim=0), strict=True):
            of_downs[index] = gradient
        if x_gradient is None:
            continue
        down = _stacked([downs[index] for index in group])
        if first.mask is None:
            x_gradient.addmm_(small, down)
        else:
            x_gradient += noise.drop(small @ down, first.mask)
    return of_downs, of_ups


def _sums(part: torch.Tensor) -> torch.Tensor:
    return column_sums(part) if part.is_contiguous() else part.sum(0)
