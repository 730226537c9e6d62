"""What attention is told of a pass that writes: the cache, and where the pass's tokens go."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tunesmith.engine.attention import Settings, attend
from tunesmith.engine.batch import Borders
from tunesmith.engine.decoding.cache import Cache, Places, Seeing, Step
from tunesmith.engine.decoding.continued import Continued
from tunesmith.models.observation import VARIANTS

if TYPE_CHECKING:
    import torch
    from torch import nn

CACHED_ATTENTION = "tunesmith_cached"
"""Name under which the function is registered with ``transformers``."""


@dataclass(frozen=True, slots=True)
class Work:
    """One pass: whole prompts, laid out as a flat row, or one new token for each text."""

    cache: Cache
    at: Places
    borders: Borders | None
    """Of prompts."""
    step: Step | None
    """Of new tokens."""
    continued: Continued | None = None
    """Of prompts whose beginnings are kept already."""


_work: ContextVar[Work | None] = ContextVar("work", default=None)


def current_work() -> Work:
    """Return the pass that is going on."""
    work = _work.get()
    assert work is not None, "attention to a cache outside of working()"
    return work


@contextmanager
def working(work: Work) -> Iterator[None]:
    """Make ``work`` the pass that attention sees inside the ``with`` block."""
    token = _work.set(work)
    try:
        yield
    finally:
        _work.reset(token)


def register() -> None:
    """Make the function known to ``transformers`` (harmless when repeated), which then builds no mask for it."""
    from transformers import AttentionInterface

    AttentionInterface.register(CACHED_ATTENTION, cached_attention)


def cached_attention(  # noqa: PLR0917 (the interface of transformers)
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,  # noqa: ARG001 (part of the interface)
    dropout: float = 0.0,  # noqa: ARG001
    scaling: float | None = None,
    is_causal: bool | None = None,
    sliding_window: int | None = None,
    **unsupported: Any,
) -> tuple[torch.Tensor, None]:
    """Attend within each text, to its cached tokens too.

    ``query`` is [1, H, N, D]; ``key`` and ``value`` are [1, G, N, D] where G divides H. Returns [1, N, H, D] and no
    weights. Raises ``NotImplementedError`` for variants that it does not compute.
    """
    work = current_work()
    for name in VARIANTS:
        if unsupported.get(name) is not None:
            raise NotImplementedError(f"attention to a cache does not compute '{name}'")
    if not (getattr(module, "is_causal", True) if is_causal is None else is_causal):
        raise NotImplementedError("attention to a cache is causal")
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    query_NHD, key_NGD, value_NGD = (tensor.transpose(1, 2)[0] for tensor in (query, key, value))
    kept = work.cache.of(module, (query_NHD, key_NGD, value_NGD))
    if work.step is not None:
        attended = kept.attend((query_NHD, key_NGD, value_NGD), work.step, Seeing(scale, sliding_window))
    else:
        assert work.borders is not None
        kept.write(key_NGD, value_NGD, work.at.slots, work.at.places)
        if work.continued is not None:
            attended = work.continued.attend(query_NHD, kept, Seeing(scale, sliding_window))
        else:
            settings = Settings(scale, causal=True, window=sliding_window)
            attended = attend(query_NHD, key_NGD, value_NGD, work.borders, settings)
    return attended.view(1, *query_NHD.shape), None
