"""Attention over a flat batch on CUDA: one variable-length kernel for all sequences, whatever their lengths.

The kernel is torch's own (``torch.nn.attention.varlen``, FlashAttention-2: Dao 2023, arXiv:2307.08691).
It takes half precision, heads of a multiple of 8 numbers up to 256, shared key heads, and windows.
That function has no dropout of attention weights; with it, the operation below it is called, which has.
Everything else goes on through the groups of ``engine.attention``, on CUDA too.

Nothing here waits for the device: where the sequences are is on it already, and the longest length
is a number of Python.

Shapes: T tokens, H heads, G heads of keys and values, D numbers per head.
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

NEEDED_TO_DROP = ("cum_seq_q", "cum_seq_k", "dropout_p", "scale", "window_size_left", "window_size_right")
"""The same of the operation below it, which is private to torch."""


def supports(query: torch.Tensor, dropout: float) -> bool:
    """Say whether the variable-length kernel computes attention with queries like ``query`` (its last axis is D)."""
    head_size = query.shape[-1]
    return (
        query.is_cuda
        and query.dtype in HALF
        and head_size <= MAX_HEAD_SIZE
        and head_size % HEAD_SIZE_UNIT == 0
        and (dropping_kernel() if dropout else kernel()) is not None
        and _capability(query.device.index) >= MIN_CAPABILITY
    )


def attend(
    query_THD: torch.Tensor,
    key_TGD: torch.Tensor,
    value_TGD: torch.Tensor,
    borders: Borders,
    *,
    scale: float,
    causal: bool,
    window: int | None,
    dropout: float = 0.0,
) -> torch.Tensor:
    """Attend within each sequence and return [T, H, D]; ``supports`` has said yes.

    G divides H. ``window`` is that of ``engine.attention``: a token sees ``window - 1`` tokens back and, unless
    causal, as many ahead. ``dropout`` is that of the weights, by the generator of the device.
    """
    starts, longest = borders.cumulative_lengths, borders.max_length
    given = (query_THD, key_TGD, value_TGD, starts, starts, longest, longest)
    left, right = window_size(causal=causal, window=window)
    if dropout:
        dropping = dropping_kernel()
        assert dropping is not None
        sides = {"window_size_left": left, "window_size_right": right}
        dropped: torch.Tensor = dropping(*given, dropout, causal, False, scale=scale, **sides)[0]
        return dropped
    attention = kernel()
    assert attention is not None
    # Before torch's function had the parameter, it took shared heads as they are.
    shares_heads = query_THD.shape[1] != key_TGD.shape[1] and _names_shared_heads(attention)
    extra = {"enable_gqa": True} if shares_heads else {}
    attended: torch.Tensor = attention(*given, scale=scale, window_size=(left, right), **extra)
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
def dropping_kernel() -> Callable[..., Any] | None:
    """Return torch's operation for variable-length attention with dropout, or nothing where it is another."""
    operation = getattr(getattr(torch.ops.aten, "_flash_attention_forward", None), "default", None)
    if operation is None:
        return None
    names = {argument.name for argument in operation._schema.arguments}
    return operation if set(NEEDED_TO_DROP) <= names else None


@cache
def _names_shared_heads(attention: Callable[..., Any]) -> bool:
    return "enable_gqa" in inspect.signature(attention).parameters


@cache
def _capability(index: int) -> tuple[int, int]:
    return (0, 0) if torch.version.hip else torch.cuda.get_device_capability(index)
