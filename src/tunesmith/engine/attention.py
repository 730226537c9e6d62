"""Attention over a flat batch, registered as an attention function of ``transformers``.

The function receives one row of T tokens and attends within each sequence: on the CPU by native code
(``kernels.attention``); on CUDA by torch's kernel for rows of any length (``engine.cuda.attention``); else by one
dense attention per group of (nearly) equal sequences, so that no work is done across sequences and almost none on
padding. Where the sequences are comes from ``borders_of``: a context that surrounds the forward *and* the backward
pass, since recomputed layers run their forward in the latter.

Shapes: T tokens, n rows of length L in a group, H heads, G heads of keys and values, D numbers per head.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional

from tunesmith.engine.batch import Borders, Group
from tunesmith.engine.cuda import attention as variable_length
from tunesmith.kernels import attention as native
from tunesmith.kernels import noise
from tunesmith.models.observation import VARIANTS

if TYPE_CHECKING:
    from torch.autograd.function import FunctionCtx

FLAT_ATTENTION = "tunesmith_flat"
"""Name under which the function is registered."""

MATMUL_MAX_LENGTH = 256
"""Up to this length plain batched matmul beats the tiled kernel, whose backward is slow on short rows."""

ATTENTION_SITES = 2**20
"""Added to a layer's number, this is the name of the dropout of its weights."""

_borders: ContextVar[Borders | None] = ContextVar("borders", default=None)


@contextmanager
def borders_of(borders: Borders | None) -> Iterator[None]:
    """Make ``borders`` those that flat attention sees inside the ``with`` block."""
    token = _borders.set(borders)
    try:
        yield
    finally:
        _borders.reset(token)


def current_borders() -> Borders | None:
    """Return the borders of the flat row that is being computed; None outside of ``borders_of``."""
    return _borders.get()


def register() -> None:
    """Make the function known to ``transformers`` (harmless when repeated).

    No mask function is registered under the name, so ``transformers`` builds no mask.
    """
    from transformers import AttentionInterface

    AttentionInterface.register(FLAT_ATTENTION, flat_attention)


def flat_attention(  # noqa: PLR0917 (the interface of transformers)
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,  # noqa: ARG001 (part of the interface)
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    sliding_window: int | None = None,
    **unsupported: Any,
) -> tuple[torch.Tensor, None]:
    """Attend within each sequence of a flat batch.

    ``query`` is [1, H, T, D]; ``key`` and ``value`` are [1, G, T, D] where G divides H.
    Returns [1, T, H, D] and no weights. Raises ``NotImplementedError`` for variants it does not
    compute (soft-capping, position bias), so that they are never silently left out.
    """
    borders = current_borders()
    assert borders is not None, "flat attention outside of borders_of()"
    for name in VARIANTS:
        if unsupported.get(name) is not None:
            raise NotImplementedError(f"flat attention does not compute '{name}'")
    causal = bool(getattr(module, "is_causal", True) if is_causal is None else is_causal)
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    number = getattr(module, "layer_idx", None)
    mask = None if number is None else noise.draw(ATTENTION_SITES + number, dropout)
    settings = Settings(scale, causal, sliding_window, mask, 0.0 if mask is not None else dropout)
    query_THD, key_TGD, value_TGD = (tensor.transpose(1, 2)[0] for tensor in (query, key, value))
    attended_TD = attend(query_THD, key_TGD, value_TGD, borders, settings)
    return attended_TD.view(1, *query_THD.shape), None


@dataclass(frozen=True, slots=True)
class Settings:
    """One attention."""

    scale: float
    causal: bool
    window: int | None = None
    """A token sees ``window - 1`` tokens back and, unless causal, as many ahead."""
    mask: noise.Mask | None = None
    """Dropout of the weights by keys."""
    dropout: float = 0.0
    """Dropout of the weights by torch's generator."""

    def pattern(self, borders: Borders) -> native.Pattern:
        """Return the same for native code, which knows no generator."""
        behind = native.EVERYTHING if self.window is None else self.window - 1
        return native.Pattern(
            borders.cumulative_lengths, self.scale, 0 if self.causal else behind, behind, mask=self.mask
        )


def attend(
    query_THD: torch.Tensor, key_TGD: torch.Tensor, value_TGD: torch.Tensor, borders: Borders, settings: Settings
) -> torch.Tensor:
    """Return [T, H * D]: each token's view of its own sequence."""
    if query_THD.is_cpu and not settings.dropout:
        pattern = settings.pattern(borders)
        if native.serves_heads((query_THD, key_TGD, value_TGD), pattern):
            return native.attend(query_THD, key_TGD, value_TGD, pattern)
    if settings.mask is None and variable_length.supports(query_THD, settings.dropout):
        return variable_length.attend(
            query_THD,
            key_TGD,
            value_TGD,
            borders,
            scale=settings.scale,
            causal=settings.causal,
            window=settings.window,
            dropout=settings.dropout,
        ).flatten(1)
    groups = [_attend_group(group, query_THD, key_TGD, value_TGD, settings) for group in borders.groups]
    return torch.cat(groups).flatten(1)


def _attend_group(
    group: Group,
    query_THD: torch.Tensor,
    key_TGD: torch.Tensor,
    value_TGD: torch.Tensor,
    settings: Settings,
) -> torch.Tensor:
    """Return the group's part of the output: [its tokens, H, D]."""
    query_nHLD, key_nHLD, value_nHLD = (_to_block(tensor, group) for tensor in (query_THD, key_TGD, value_TGD))
    num_repeats = query_nHLD.shape[1] // key_nHLD.shape[1]
    if num_repeats > 1:
        key_nHLD, value_nHLD = (tensor.repeat_interleave(num_repeats, dim=1) for tensor in (key_nHLD, value_nHLD))
    mask = _mask(group, settings.causal, settings.window, query_THD.device)
    if group.length <= MATMUL_MAX_LENGTH or settings.mask is not None:
        scores_nHLL = torch.matmul(query_nHLD * settings.scale, key_nHLD.transpose(2, 3))
        if mask is not None:
            scores_nHLL = scores_nHLL.masked_fill(mask, -math.inf)
        weights_nHLL = functional.dropout(torch.softmax(scores_nHLL, dim=-1), settings.dropout)
        if settings.mask is not None:
            weights_nHLL = weights_nHLL * _noise(settings.mask, group, query_nHLD)
        output_nHLD = torch.matmul(weights_nHLL, value_nHLD)
    else:
        allowed = None if mask is None else ~mask
        output_nHLD = functional.scaled_dot_product_attention(
            query_nHLD, key_nHLD, value_nHLD, attn_mask=allowed, dropout_p=settings.dropout, scale=settings.scale
        )
    return _from_block(output_nHLD, group)


def _noise(mask: noise.Mask, group: Group, query_nHLD: torch.Tensor) -> torch.Tensor:
    """Return the factors of a group's weights: [n, H, L, L]."""
    tokens = torch.arange(group.start, group.start + group.num_tokens)
    factors = mask.attention_factors(query_nHLD.shape[1], tokens, group.length).to(query_nHLD)
    if group.gather is not None:
        factors = factors[group.gather]
    return factors.view(group.num_rows, group.length, *factors.shape[1:]).transpose(1, 2)


def _mask(group: Group, causal: bool, window: int | None, device: torch.device) -> torch.Tensor | None:
    """Return what must not be seen, broadcastable to [n, 1, L, L], or None.

    ``window`` follows the convention of the kernels: a token sees ``window - 1`` tokens back
    and, unless causal, as many ahead. Sequences are padded at the end, where causal rows
    never look; no row is ever masked completely, since each token sees itself.
    """
    mask = None
    if causal or (window is not None and window <= group.length):
        position = torch.arange(group.length, device=device)
        distance_LL = position[:, None] - position[None, :]
        mask = distance_LL < 0 if causal else torch.zeros_like(distance_LL, dtype=torch.bool)
        if window is not None:
            mask = mask | (distance_LL.abs() >= window)
        mask = mask[None, None]
    if group.is_padding is not None and (not causal):
        padding_mask = group.is_padding[:, None, None, :]
        mask = padding_mask if mask is None else mask | padding_mask
        if window is not None:
            # A padding query may see nothing within its window: let it see itself.
            mask = mask & ~torch.eye(group.length, dtype=torch.bool, device=device)[None, None]
    return mask


def _to_block(tensor_THD: torch.Tensor, group: Group) -> torch.Tensor:
    """Return the group's tokens as [n, H, L, D]."""
    tokens = tensor_THD[group.start : group.start + group.num_tokens]
    if group.gather is not None:
        tokens = _Pad.apply(tokens, group.gather, group.scatter)  # type: ignore[no-untyped-call]
    return tokens.reshape(group.num_rows, group.length, *tensor_THD.shape[1:]).transpose(1, 2)


def _from_block(block_nHLD: torch.Tensor, group: Group) -> torch.Tensor:
    """Return [n, H, L, D] as [tokens, H, D], without the padding."""
    cells = block_nHLD.transpose(1, 2).reshape(group.num_rows * group.length, *block_nHLD.shape[1::2])
    if group.gather is None:
        return cells
    real: torch.Tensor = _Unpad.apply(  # type: ignore[no-untyped-call]
        cells, group.gather, group.scatter, group.is_padding
    )
    return real


class _Pad(torch.autograd.Function):
    """Gather tokens into padded cells. Padding gets no gradient, so backward is a gather too (no atomics)."""

    @staticmethod
    def forward(ctx: FunctionCtx, tokens: torch.Tensor, gather: torch.Tensor, scatter: torch.Tensor) -> torch.Tensor:
        ctx.scatter = scatter  # type: ignore[attr-defined]
        return tokens.index_select(0, gather)

    @staticmethod
    def backward(ctx: FunctionCtx, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        return gradients[0].index_select(0, ctx.scatter), None, None  # type: ignore[attr-defined]


class _Unpad(torch.autograd.Function):
    """Take the real cells of a padded block. The gradient of padding is zero."""

    @staticmethod
    def forward(
        ctx: FunctionCtx, cells: torch.Tensor, gather: torch.Tensor, scatter: torch.Tensor, is_padding: torch.Tensor
    ) -> torch.Tensor:
        ctx.gather, ctx.is_padding = gather, is_padding  # type: ignore[attr-defined]
        return cells.index_select(0, scatter)

    @staticmethod
    def backward(ctx: FunctionCtx, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        cells = gradients[0].index_select(0, ctx.gather)  # type: ignore[attr-defined]
        padding = ctx.is_padding.reshape(-1, *[1] * (cells.dim() - 1))  # type: ignore[attr-defined]
        return cells.masked_fill(padding, 0), None, None, None
