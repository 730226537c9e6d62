"""AdamW in one pass over memory: decay, moments, update and the bf16 copy, straight from bf16 gradients."""

from __future__ import annotations

import ctypes
import math
from dataclasses import dataclass

import torch

from tunesmith.kernels.library import DTYPES, address, kernel, require_memory, serves


@dataclass(frozen=True, slots=True)
class AdamW:
    """The settings of one step (Loshchilov & Hutter 2019, algorithm 2)."""

    rate: float
    betas: tuple[float, float]
    epsilon: float
    decay: float
    step: int
    """Steps made, this one included."""
    factor: float = 1.0
    """Multiplies the gradient: that of clipping."""


def update(
    settings: AdamW,
    gradient: torch.Tensor,
    weights: torch.Tensor,
    moments: tuple[torch.Tensor, torch.Tensor],
    shadow: torch.Tensor | None,
) -> None:
    """Make a step in place; needs what ``serves_all`` asks for.

    Args:
        settings: Of the step.
        gradient: float32 or bf16.
        weights: float32.
        moments: The first and the second, float32.
        shadow: bf16: set to the rounded weights.
    """
    kernel("adamw", gradient.dtype)(
        ctypes.byref(_native(settings)),
        ctypes.c_int64(weights.numel()),
        *map(address, (gradient, weights, *moments, shadow)),
    )
    _written(weights, *moments, shadow)


@dataclass(frozen=True, slots=True)
class RowGradient:
    """The gradient of a table [V, D] of which few rows were used; all others are zero."""

    rows: torch.Tensor
    """[n] int64, each row once."""
    values: torch.Tensor
    """[n, D] float32 (float64 where that was given)."""

    @classmethod
    def of(cls, sparse: torch.Tensor) -> RowGradient:
        """Return torch's sparse gradient of a table, equal rows summed in float32."""
        return cls._summed(sparse._indices()[0], sparse._values())

    def plus(self, other: RowGradient) -> RowGradient:
        """Return the sum of two gradients of one table."""
        return self._summed(torch.cat([self.rows, other.rows]), torch.cat([self.values, other.values]))

    @classmethod
    def _summed(cls, used: torch.Tensor, given: torch.Tensor) -> RowGradient:
        rows, places = torch.unique(used, return_inverse=True)
        wide = given if given.dtype == torch.float64 else given.float()
        return cls(rows, wide.new_zeros((len(rows), given.shape[1])).index_add_(0, places, wide))

    def dense(self, like: torch.Tensor) -> torch.Tensor:
        """Return the gradient of the whole table."""
        return torch.zeros_like(like, dtype=self.values.dtype).index_copy_(0, self.rows, self.values)


def update_rows(
    settings: AdamW,
    gradient: RowGradient,
    weights: torch.Tensor,
    moments: tuple[torch.Tensor, torch.Tensor],
    shadow: torch.Tensor | None,
    *,
    with_moments: torch.Tensor | None = None,
) -> torch.Tensor:
    """Make the step of ``update`` for a table: rows that never had a gradient only decay, which is all they would do.

    ``with_moments``, bool [V], are the rows whose moments are not zero; without it they are looked for. Returns
    those after the step.
    """
    first, second = moments
    has_moments = first.any(dim=1) | second.any(dim=1) if with_moments is None else with_moments
    slots = torch.full((len(weights),), -1, dtype=torch.int32)
    slots[gradient.rows] = torch.arange(len(gradient.rows), dtype=torch.int32)
    kernel("adamw_rows", torch.float32)(
        ctypes.byref(_native(settings)),
        *(ctypes.c_int64(size) for size in weights.shape),
        *map(address, (slots, has_moments, gradient.values, weights, first, second, shadow)),
    )
    _written(weights, first, second, shadow)
    return has_moments.index_fill_(0, gradient.rows, True)


def squares(tensor: torch.Tensor) -> float:
    """Return the sum of squares, summed in double precision."""
    if serves(tensor):
        total = float(kernel("squares", tensor.dtype)(ctypes.c_int64(tensor.numel()), address(tensor)))
        require_memory(total < 0)
        return total
    return float(tensor.double().square().sum())


def serves_all(gradient: torch.Tensor | RowGradient, weights: torch.Tensor, shadow: torch.Tensor | None) -> bool:
    """Say whether native code can make the step."""
    values = gradient.values if isinstance(gradient, RowGradient) else gradient
    return (
        values.dtype in DTYPES
        and serves(values)
        and weights.dtype == torch.float32
        and serves(weights)
        and (shadow is None or (shadow.dtype == torch.bfloat16 and serves(shadow)))
    )


def _written(*tensors: torch.Tensor | None) -> None:
    """Let torch know of tensors that have new numbers, as its own operations in place do."""
    torch.autograd.graph.increment_version([tensor for tensor in tensors if tensor is not None])


class _Native(ctypes.Structure):
    """``Step`` of native/adamw.h."""

    _fields_ = [
        (name, ctypes.c_float)
        for name in ("rate", "beta1", "beta2", "epsilon", "decay", "correction1", "correction2_root", "factor")
    ]


def _native(settings: AdamW) -> _Native:
    beta1, beta2 = settings.betas
    return _Native(
        settings.rate,
        beta1,
        beta2,
        settings.epsilon,
        settings.decay,
        1 - beta1**settings.step,
        math.sqrt(1 - beta2**settings.step),
        settings.factor,
    )
