"""Attention within each sequence of a flat row of tokens, with rotation, noise and grouped heads, in native code.

``softmax(q k' / sqrt(d)) v`` (Vaswani et al. 2017, eq. 1) for queries of some or all tokens. The weights exist for a
few queries at a time and are computed again for the gradient, so that memory stays linear in tokens; work on keys that
no query sees is left out.

Shapes: T tokens, Q of them with queries, H heads of queries, G heads of keys and values (G divides H), D numbers
per head.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

import torch

from tunesmith.kernels.library import DTYPES, address, kernel, library
from tunesmith.kernels.noise import Mask, NativeNoise

Heads = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
"""Queries [Q, H, D], keys and values [T, G, D]; the numbers of a head lie side by side, tokens and heads anywhere."""

EVERYTHING = 2**40
"""How many tokens a query sees before or after itself where there is no limit."""

DEPTH_STEP = 32
"""D must be a multiple of it."""


@dataclass(frozen=True, slots=True)
class Queries:
    """The tokens that ask, where not all do."""

    borders: torch.Tensor
    """[B + 1] int32: where each sequence's queries begin and end among all queries."""
    places: torch.Tensor
    """[Q] int32: each query's place in its sequence, ascending within the sequence."""


@dataclass(frozen=True, slots=True)
class Rotation:
    """Rotary positions (Su et al. 2021, eq. 34), the halves of a head rotated against each other."""

    cosines: torch.Tensor
    """[T, D] float32."""
    sines: torch.Tensor

    def serves(self, num_tokens: int, depth: int) -> bool:
        """Say whether native code takes it for so many tokens and numbers per head."""
        return all(
            tensor.shape == (num_tokens, depth)
            and tensor.dtype == torch.float32
            and tensor.is_cpu
            and tensor.is_contiguous()
            for tensor in (self.cosines, self.sines)
        )


@dataclass(frozen=True, slots=True)
class Pattern:
    """What attention does besides its products: who sees whom, and what happens to scores and weights."""

    borders: torch.Tensor
    """[B + 1] int32: where each sequence begins and ends among the tokens."""
    scale: float
    ahead: int = EVERYTHING
    """Tokens after itself that a token sees; 0 is causal."""
    behind: int = EVERYTHING
    rotation: Rotation | None = None
    mask: Mask | None = None
    queries: Queries | None = None


def serves(tokens: torch.Tensor, num_heads: int, num_key_heads: int, depth: int, pattern: Pattern) -> bool:
    """Say whether native code computes such an attention.

    ``tokens`` [T, ...] tells how many tokens there are, and the format and device of the heads.
    """
    return (
        tokens.is_cpu
        and tokens.dtype in DTYPES
        and depth % DEPTH_STEP == 0
        and num_key_heads > 0
        and num_heads % num_key_heads == 0
        and _fits(pattern, len(tokens), depth)
        and library() is not None
    )


def serves_heads(heads: Heads, pattern: Pattern) -> bool:
    """Say whether native code takes these heads."""
    query, key, value = heads
    num_queries, num_heads, depth = query.shape
    num_tokens, num_key_heads, _ = key.shape
    return (
        key.shape == value.shape
        and key.shape[2] == depth
        and num_queries == (num_tokens if pattern.queries is None else len(pattern.queries.places))
        and query.dtype == key.dtype == value.dtype
        and query.device == key.device == value.device
        and query.stride(2) == key.stride(2) == value.stride(2) == 1
        and serves(key, num_heads, num_key_heads, depth, pattern)
    )


def serves_packed(packed_TP: torch.Tensor, num_heads: int, depth: int, pattern: Pattern) -> bool:
    """Say whether native code takes queries, keys and values side by side."""
    num_key_heads, rest = divmod(packed_TP.shape[1] - num_heads * depth, 2 * depth)
    return (
        not rest
        and packed_TP.is_contiguous()
        and pattern.queries is None
        and serves(packed_TP, num_heads, num_key_heads, depth, pattern)
    )


def _fits(pattern: Pattern, num_tokens: int, depth: int) -> bool:
    """Say whether all tensors of a pattern are what native code reads without looking."""
    rotation, queries, mask = pattern.rotation, pattern.queries, pattern.mask
    return (
        is_list(pattern.borders)
        and (queries is None or (is_list(queries.places) and is_list(queries.borders, len(pattern.borders))))
        and (mask is None or is_list(mask.keys, num_tokens))
        and (rotation is None or rotation.serves(num_tokens, depth))
    )


def is_list(tensor: torch.Tensor, length: int | None = None) -> bool:
    """Say whether a tensor is a plain list of int32, of this length if given."""
    return (
        tensor.dtype == torch.int32
        and tensor.is_cpu
        and tensor.is_contiguous()
        and (length is None or len(tensor) == length)
    )


def attend(query_QHD: torch.Tensor, key_TGD: torch.Tensor, value_TGD: torch.Tensor, pattern: Pattern) -> torch.Tensor:
    """Return [Q, H * D]; the numbers of a head must lie side by side, tokens and heads anywhere.

    Needs what ``serves_heads`` asks for.
    """
    # Gradients lie as the heads do: of heads that share their numbers, several threads would write one.
    heads = (tensor.contiguous() if 0 in tensor.stride() else tensor for tensor in (query_QHD, key_TGD, value_TGD))
    result: torch.Tensor = _Attend.apply(*heads, pattern)  # type: ignore[no-untyped-call]
    return result


def attend_packed(packed_TP: torch.Tensor, num_heads: int, depth: int, pattern: Pattern) -> torch.Tensor:
    """Return [T, H * D] for queries, keys and values side by side: [T, (H + 2 G) * D].

    Needs what ``serves_packed`` asks for.
    """
    result: torch.Tensor = _AttendPacked.apply(packed_TP, num_heads, depth, pattern)  # type: ignore[no-untyped-call]
    return result


def rotated(heads_TND: torch.Tensor, rotation: Rotation) -> torch.Tensor:
    """Return heads turned to their positions, by torch's own operations."""
    wide = heads_TND.float()
    low, high = wide.chunk(2, dim=-1)
    turned = torch.cat([-high, low], dim=-1)
    return (wide * rotation.cosines[:, None] + turned * rotation.sines[:, None]).to(heads_TND.dtype)


class _Attend(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, pattern: Pattern
    ) -> torch.Tensor:
        ctx.save_for_backward(query, key, value)
        ctx.pattern = pattern
        return _forward((query, key, value), pattern)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        given = ctx.saved_tensors  # asked for once: recomputed layers give them once
        query, key, value = map(_alike, given)
        _backward(given, gradients[0], (query, key, value), ctx.pattern)
        return query, key, value, None


class _AttendPacked(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, packed: torch.Tensor, num_heads: int, depth: int, pattern: Pattern) -> torch.Tensor:
        ctx.save_for_backward(packed)
        ctx.num_heads, ctx.depth, ctx.pattern = num_heads, depth, pattern
        return _forward(split_heads(packed, num_heads, depth), pattern)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        (packed,) = ctx.saved_tensors
        made = torch.empty_like(packed)
        given, parts = (split_heads(tensor, ctx.num_heads, ctx.depth) for tensor in (packed, made))
        _backward(given, gradients[0], parts, ctx.pattern)
        return made, None, None, None


def split_heads(packed_TP: torch.Tensor, num_heads: int, depth: int) -> Heads:
    """Return queries [T, H, D], keys and values [T, G, D] that lie side by side."""
    heads = packed_TP.view(len(packed_TP), -1, depth)
    last = (heads.shape[1] + num_heads) // 2
    return heads[:, :num_heads], heads[:, num_heads:last], heads[:, last:]


def _alike(tensor: torch.Tensor) -> torch.Tensor:
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype)


def _forward(heads: Heads, pattern: Pattern) -> torch.Tensor:
    query, *_ = heads
    num_queries, num_heads, depth = query.shape
    output = query.new_empty((num_queries, num_heads * depth))
    native = _native(heads, pattern)
    kernel("attention_forward", query.dtype)(ctypes.byref(native), *map(address, (*heads, output)))
    return output


def _backward(heads: Heads, output_gradient: torch.Tensor, gradients: Heads, pattern: Pattern) -> None:
    """Fill ``gradients``, which lie as the heads do."""
    native = _native(heads, pattern)
    given = (*heads, output_gradient.contiguous(), *gradients)
    kernel("attention_backward", heads[0].dtype)(ctypes.byref(native), *map(address, given))


class _Native(ctypes.Structure):
    """``Attention`` of native/attention.h."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("num_sequences", "num_heads", "num_key_heads", "depth")),
        *((name, ctypes.c_void_p) for name in ("borders", "query_borders", "places")),
        *((f"{name}_stride", ctypes.c_int64) for name in ("query", "key", "value")),
        *((f"{name}_head_stride", ctypes.c_int64) for name in ("query", "key", "value")),
        ("scale", ctypes.c_float),
        ("ahead", ctypes.c_int64),
        ("behind", ctypes.c_int64),
        ("cosines", ctypes.c_void_p),
        ("sines", ctypes.c_void_p),
        ("noise", NativeNoise),
    ]


def _native(heads: Heads, pattern: Pattern) -> _Native:
    rotation, queries = pattern.rotation, pattern.queries
    query, key, _ = heads
    return _Native(
        len(pattern.borders) - 1,
        query.shape[1],
        key.shape[1],
        query.shape[2],
        pattern.borders.data_ptr(),
        None if queries is None else queries.borders.data_ptr(),
        None if queries is None else queries.places.data_ptr(),
        *(tensor.stride(0) for tensor in heads),
        *(tensor.stride(1) for tensor in heads),
        pattern.scale,
        pattern.ahead,
        pattern.behind,
        None if rotation is None else rotation.cosines.data_ptr(),
        None if rotation is None else rotation.sines.data_ptr(),
        NativeNoise.of(pattern.mask),
    )
