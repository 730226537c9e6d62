"""Fused operations on rows of tokens: norms with what comes before them, activations, gates.

Shapes: T tokens, D numbers each.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch.nn import functional

from tunesmith.kernels.library import address, kernel, serves
from tunesmith.kernels.noise import Mask, arguments

Activation = Literal["gelu", "gelu_tanh", "silu", "relu"]

EAGER: dict[Activation, Callable[[torch.Tensor], torch.Tensor]] = {
    "gelu": functional.gelu,
    "gelu_tanh": lambda x: functional.gelu(x, approximate="tanh"),
    "silu": functional.silu,
    "relu": functional.relu,
}

KINDS = {name: index for index, name in enumerate(EAGER)}


def add_layer_norm(
    x_TD: torch.Tensor,
    bias_D: torch.Tensor | None,
    residual_TD: torch.Tensor,
    gain_D: torch.Tensor | None,
    shift_D: torch.Tensor | None,
    *,
    epsilon: float,
    mask: Mask | None = None,
) -> torch.Tensor:
    """Return ``layer_norm(dropout(x + bias) + residual)`` (Ba et al. 2016, eq. 4)."""
    if gain_D is not None and shift_D is not None and serves(x_TD, bias_D, residual_TD, gain_D, shift_D):
        result: torch.Tensor = _AddLayerNorm.apply(  # type: ignore[no-untyped-call]
            x_TD, bias_D, residual_TD, gain_D, shift_D, epsilon, mask
        )
        return result
    if bias_D is not None:
        x_TD = x_TD + bias_D
    if mask is not None:
        x_TD = x_TD * mask.factors(x_TD.shape[-1]).to(x_TD.dtype).view(x_TD.shape)
    return functional.layer_norm(x_TD + residual_TD, x_TD.shape[-1:], gain_D, shift_D, epsilon)


def add_rms_norm(
    x_TD: torch.Tensor, residual_TD: torch.Tensor | None, gain_D: torch.Tensor, epsilon: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return ``x + residual`` and its root mean square norm (Zhang & Sennrich 2019, eq. 4)."""
    if serves(x_TD, residual_TD, gain_D):
        both: tuple[torch.Tensor, torch.Tensor] = _AddRmsNorm.apply(  # type: ignore[no-untyped-call]
            x_TD, residual_TD, gain_D, epsilon
        )
        return both
    sum_TD = x_TD if residual_TD is None else x_TD + residual_TD
    wide = sum_TD.float()
    normal = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + epsilon)
    return sum_TD, gain_D * normal.to(sum_TD.dtype)


def activate(x_TD: torch.Tensor, bias_D: torch.Tensor | None, kind: Activation) -> torch.Tensor:
    """Return ``activation(x + bias)``."""
    if serves(x_TD, bias_D):
        result: torch.Tensor = _Activate.apply(x_TD, bias_D, kind)  # type: ignore[no-untyped-call]
        return result
    return EAGER[kind](x_TD if bias_D is None else x_TD + bias_D)


def gated(x_TD: torch.Tensor, kind: Activation) -> torch.Tensor:
    """Return ``activation(gate) * value`` [T, D] of gate and value side by side, [T, 2 D] (Shazeer 2020, eq. 5)."""
    if serves(x_TD):
        result: torch.Tensor = _Gated.apply(x_TD, kind)  # type: ignore[no-untyped-call]
        return result
    gate, value = x_TD.chunk(2, dim=-1)
    return EAGER[kind](gate) * value


def column_sums(x_TD: torch.Tensor) -> torch.Tensor:
    """Return the sums over tokens, [D], summed in float32."""
    if not serves(x_TD):
        return x_TD.sum(0, dtype=torch.float32).to(x_TD.dtype)
    sums = torch.empty(x_TD.shape[-1])
    kernel("column_sums", x_TD.dtype)(*_size(x_TD), address(x_TD), address(sums))
    return sums.to(x_TD.dtype)


class _AddLayerNorm(torch.autograd.Function):
    @staticmethod
    def forward(  # noqa: PLR0917 (the interface of torch)
        ctx: Any,
        x: torch.Tensor,
        bias: torch.Tensor | None,
        residual: torch.Tensor,
        gain: torch.Tensor,
        shift: torch.Tensor,
        epsilon: float,
        mask: Mask | None,
    ) -> torch.Tensor:
        total, y = torch.empty_like(x), torch.empty_like(x)
        means, inverses = (torch.empty(x.numel() // x.shape[-1]) for _ in range(2))
        kernel("layer_norm_forward", x.dtype)(
            *_size(x),
            *map(address, (x, bias, residual, gain, shift)),
            ctypes.c_float(epsilon),
            *arguments(mask),
            *map(address, (total, y, means, inverses)),
        )
        ctx.save_for_backward(total, gain, means, inverses)
        ctx.mask = mask
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        total, gain, means, inverses = ctx.saved_tensors
        y_gradient = gradients[0].contiguous()
        residual_gradient = torch.empty_like(total)
        # Without noise both are the same numbers.
        x_gradient = residual_gradient if ctx.mask is None else torch.empty_like(total)
        of_bias, of_gain, of_shift = (
            torch.empty(total.shape[-1]) if ctx.needs_input_grad[index] else None for index in (1, 3, 4)
        )
        kernel("layer_norm_backward", total.dtype)(
            *_size(total),
            *map(address, (y_gradient, total, gain, means, inverses)),
            *arguments(ctx.mask),
            address(None if ctx.mask is None else x_gradient),
            *map(address, (residual_gradient, of_bias, of_gain, of_shift)),
        )
        return (
            x_gradient,
            _as(of_bias, total.dtype),
            residual_gradient,
            _as(of_gain, total.dtype),
            _as(of_shift, total.dtype),
            None,
            None,
        )


class _AddRmsNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, residual: torch.Tensor | None, gain: torch.Tensor, epsilon: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        total = x if residual is None else torch.empty_like(x)
        y, inverses = torch.empty_like(x), torch.empty(x.numel() // x.shape[-1])
        kernel("rms_norm_forward", x.dtype)(
            *_size(x),
            *map(address, (x, residual, gain)),
            ctypes.c_float(epsilon),
            *map(address, (total, y, inverses)),
        )
        ctx.save_for_backward(total, gain, inverses)
        ctx.adds = residual is not None
        ctx.set_materialize_grads(False)
        return x.view_as(x) if residual is None else total, y

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor | None) -> tuple[torch.Tensor | None, ...]:
        total, gain, inverses = ctx.saved_tensors
        sum_gradient, y_gradient = (None if given is None else given.contiguous() for given in gradients)
        if y_gradient is None:
            return sum_gradient, sum_gradient if ctx.adds else None, None, None
        result = torch.empty_like(total)
        of_gain = torch.empty(total.shape[-1]) if ctx.needs_input_grad[2] else None
        kernel("rms_norm_backward", total.dtype)(
            *_size(total), *map(address, (y_gradient, sum_gradient, total, gain, inverses, result, of_gain))
        )
        return result, result if ctx.adds else None, _as(of_gain, total.dtype), None


class _Activate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, bias: torch.Tensor | None, kind: Activation) -> torch.Tensor:
        y = torch.empty_like(x)
        kernel("activation_forward", x.dtype)(*_size(x), address(x), address(bias), KINDS[kind], address(y))
        ctx.save_for_backward(x, bias)
        ctx.kind = kind
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, bias = ctx.saved_tensors
        gradient, result = gradients[0].contiguous(), torch.empty_like(x)
        of_bias = torch.empty(x.shape[-1]) if ctx.needs_input_grad[1] else None
        kernel("activation_backward", x.dtype)(
            *_size(x),
            *map(address, (gradient, x, bias)),
            KINDS[ctx.kind],
            *map(address, (result, of_bias)),
        )
        return result, _as(of_bias, x.dtype), None


class _Gated(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, kind: Activation) -> torch.Tensor:
        y = x.new_empty((*x.shape[:-1], x.shape[-1] // 2))
        kernel("gated_forward", x.dtype)(*_size(y), address(x), KINDS[kind], address(y))
        ctx.save_for_backward(x)
        ctx.kind = kind
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (x,) = ctx.saved_tensors
        gradient, result = gradients[0].contiguous(), torch.empty_like(x)
        kernel("gated_backward", x.dtype)(
            *_size(gradient), address(gradient), address(x), KINDS[ctx.kind], address(result)
        )
        return result, None


def _size(x: torch.Tensor) -> tuple[ctypes.c_int64, ctypes.c_int64]:
    return ctypes.c_int64(x.numel() // x.shape[-1]), ctypes.c_int64(x.shape[-1])


def _as(gradient: torch.Tensor | None, dtype: torch.dtype) -> torch.Tensor | None:
    return None if gradient is None else gradient.to(dtype)
