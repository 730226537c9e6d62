"""Attention over a flat batch on CUDA: one variable-length kernel for all sequences, whatever their lengths.

The kernel is torch's own (``torch.nn.attention.varlen``, FlashAttention-2: Dao 2023, arXiv:2307.08691).
It takes half precision, heads of a multiple of 8 numbers up to 256, shared key heads, and windows,
but no dropout. Everything else goes on through the groups of ``engine.attention``, on CUDA too.

Nothing here waits for the device: where the sequences are is on it already, and the longest length
is a number of Python.

Shapes: T tokens, H heads, D numbers per head.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cache
from typing import Any

import torch

from tunesmith.engine.batch import Borders

HALF = (torch.float16, torch.bfloat16)

MAX_HEAD_SIZE = 256
HEAD_SIZE_UNIT = 8
MIN_CAPABILITY = (8, 0)
"""Ampere: the first generation that the kernel is written for."""

NEEDED = ("cu_seq_q", "cu_seq_k", "max_q", "max_k", "scale", "window_size")
"""Parameters that the kernel's Python function must have; it is a young interface."""


def supports(query: torch.Tensor, dropout: float) -> bool:
    """Say whether the variable-length kernel computes attention with queries like ``query`` (its last axis is D)."""
    head_size = query.shape[-1]
    return (
        query.is_cuda
        and dropout == 0.0
        and query.dtype in HALF
        and head_size <= MAX_HEAD_SIZE
        and head_size % HEAD_SIZE_UNIT == 0
        and kernel() is not None
        and _capability(query.device.index) >= MIN_CAPABILITY
    )


def attend(
    query_THD: torch.Tensor,
    key_THD: torch.Tensor,
    value_THD: torch.Tensor,
    borders: Borders,
    *,
    scale: float,
    causal: bool,
    window: int | None,
) -> torch.Tensor:
    """Attend within each sequence and return [T, H, D]; ``supports`` has said yes.

    ``key_THD`` and ``value_THD`` may have fewer heads. ``window`` is that of ``engine.attention``: a token
    sees ``window - 1`` tokens back and, unless causal, as many ahead.
    """
    attention = kernel()
    assert attention is not None
    shares_heads = query_THD.shape[1] != key_THD.shape[1]
    extra: dict[str, Any] = {}
    if shares_heads and _takes_shared_heads():
        extra["enable_gqa"] = True
    elif shares_heads:
        num_repeats = query_THD.shape[1] // key_THD.shape[1]
        key_THD, value_THD = (tensor.repeat_interleave(num_repeats, dim=1) for tensor in (key_THD, value_THD))
    attended: torch.Tensor = attention(
        query_THD,
        key_THD,
        value_THD,
        borders.cumulative_lengths,
        borders.cumulative_lengths,
        borders.max_length,
        borders.max_length,
        scale=scale,
        window_size=window_size(causal=causal, window=window),
        **extra,
    )
    return attended


def window_size(*, causal: bool, window: int | None) -> tuple[int, int]:
    """Return how many tokens each token sees to the left and to the right, besides itself; -1 for all."""
    reach = -1 if window is None else window - 1
    return reach, 0 if causal else reach


@cache
def kernel() -> Callable[..., Any] | None:
    """Return torch's function for variable-length attention, or nothing where it is missing or another."""
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None
    return varlen_attn if set(NEEDED) <= set(inspect.signature(varlen_attn).parameters) else None


@cache
def _takes_shared_heads() -> bool:
    attention = kernel()
    return attention is not None and "enable_gqa" in inspect.signature(attention).parameters


@cache
def _capability(index: int) -> tuple[int, int]:
    return (0, 0) if torch.version.hip else torch.cuda.get_device_capability(index)
