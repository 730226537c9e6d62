"""What the blocks of all kinds of layers share: when they compute, and what they are told of the batch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from tunesmith.engine.attention import ATTENTION_SITES, Settings, attend, current_borders
from tunesmith.engine.batch import Borders
from tunesmith.engine.blocks.packing import PackedLinear, current_packing
from tunesmith.engine.blocks.projection import Layer, layer_of
from tunesmith.engine.stand_ins import Forward
from tunesmith.kernels import attention as native
from tunesmith.kernels import noise
from tunesmith.kernels.rows import Activation


@dataclass(frozen=True, slots=True)
class Reading:
    """The tokens of a flat row whose last hidden states are read; those of others need not be computed."""

    tokens: torch.Tensor
    """[Q] int64, ascending."""
    queries: native.Queries

    @classmethod
    def of(cls, tokens: torch.Tensor, borders: Borders) -> Reading:
        """Return the reading of ``tokens`` (int64 [Q], ascending)."""
        starts = borders.cumulative_lengths
        sequences = torch.searchsorted(starts, tokens.to(starts.dtype), right=True) - 1
        ends = torch.searchsorted(tokens.to(starts.dtype), starts)
        return cls(tokens, native.Queries(ends.int(), (tokens - starts[sequences]).int()))


_reading: ContextVar[Reading | None] = ContextVar("reading", default=None)


@contextmanager
def reading(read: Reading | None) -> Iterator[None]:
    """Let the last layer compute nothing but what is read, inside the ``with`` block."""
    token = _reading.set(read)
    try:
        yield
    finally:
        _reading.reset(token)


class _NoMaskError(Exception):
    """Something is to be dropped for which there are no keys."""


@dataclass
class Block:
    """Stands in for a layer's ``forward``, and calls it wherever it is not made for what comes."""

    layer: Any
    index: int
    """From the bottom, 0 first."""
    is_last: bool
    sites: Mapping[nn.Module, int]
    """Names of the model's modules that drop."""
    activation: Activation
    window: int | None = None
    """How many tokens back a token sees, itself included, as the layer tells its attention."""
    shared: dict[str, Any] = field(default_factory=dict)
    """Of all blocks of a model: what is prepared once a batch."""

    def over(self, below: Forward) -> Forward:
        self.below = below
        return self.forward

    def forward(self, hidden_states: torch.Tensor, *arguments: Any, **settings: Any) -> Any:
        """Compute the layer on a flat row [1, T, D]; anything else goes to the layer's own code."""
        borders = current_borders()
        if borders is not None and settings.get("past_key_values") is None and len(hidden_states) == 1:
            read = _reading.get() if self.is_last else None
            try:
                computed = self._computed(hidden_states[0].contiguous(), borders, read, settings)
            except _NoMaskError:
                computed = None
            if computed is not None:
                return computed[None]
        return self.below(hidden_states, *arguments, **settings)

    def _computed(
        self, hidden_TD: torch.Tensor, borders: Borders, read: Reading | None, settings: Mapping[str, Any]
    ) -> torch.Tensor | None:
        if current_packing() is not None and not self.layer.training and hidden_TD.dtype == torch.float32:
            predicted = self.predict(hidden_TD, borders, read, settings)
            if predicted is not None:
                return predicted
        return self.compute(hidden_TD, borders, read, settings)

    def predict(
        self, hidden_TD: torch.Tensor, borders: Borders, read: Reading | None, settings: Mapping[str, Any], /
    ) -> torch.Tensor | None:
        """Return the same as ``compute`` with packed weights, and without gradients; None where that is not known."""
        raise NotImplementedError

    @staticmethod
    def packed(*groups: Any) -> list[PackedLinear] | None:
        """Return packed layers, those of one group side by side; None where one of them cannot be packed.

        A group is a sequence of modules, or one of them with the activation that follows it.
        """
        packing = current_packing()
        assert packing is not None
        found = [
            packing.linear(group[0], activation=group[1]) if isinstance(group[-1], str) else packing.linear(*group)
            for group in groups
        ]
        known = [one for one in found if one is not None]
        return known if len(known) == len(found) else None

    def compute(
        self, hidden_TD: torch.Tensor, borders: Borders, read: Reading | None, settings: Mapping[str, Any], /
    ) -> torch.Tensor | None:
        """Return the layer's output [T, D]; None where it is made of parts that the block does not know."""
        raise NotImplementedError

    def linear(self, *modules: nn.Module) -> list[Layer] | None:
        """Return what linear modules compute; None when one of them is of an unknown kind."""
        layers = [layer_of(module, self.sites) for module in modules]
        known = [layer for layer in layers if layer is not None]
        return known if len(known) == len(layers) else None

    def mask(self, module: nn.Module) -> noise.Mask | None:
        """Return the noise of a dropout module."""
        return self._draw(self.sites[module], module.p if module.training else 0.0)  # type: ignore[arg-type]

    def attention_mask(self, probability: float) -> noise.Mask | None:
        """Return the noise of attention weights."""
        return self._draw(ATTENTION_SITES + self.index, probability if self.layer.training else 0.0)

    @staticmethod
    def of_few(
        read: Reading | None,
        hidden_TD: torch.Tensor,
        heads: tuple[int, int, int],
        settings: Settings,
        borders: Borders,
        *,
        rotation: native.Rotation | None = None,
    ) -> native.Pattern | None:
        """Return how native code attends for the tokens that are read alone; None where all tokens have to ask.

        ``heads`` are the numbers of those of queries, those of keys, and numbers per head.
        """
        if read is None or not hidden_TD.is_cpu:
            return None
        pattern = replace(settings.pattern(borders), rotation=rotation, queries=read.queries)
        return pattern if native.serves(hidden_TD, *heads, pattern) else None

    @staticmethod
    def attend(
        packed_TP: torch.Tensor,
        num_heads: int,
        depth: int,
        settings: Settings,
        borders: Borders,
        *,
        rotation: native.Rotation | None = None,
    ) -> torch.Tensor:
        """Attend with queries, keys and values that lie side by side: [T, (H + 2 G) * D] to [T, H * D]."""
        if packed_TP.is_cpu:
            pattern = replace(settings.pattern(borders), rotation=rotation)
            if native.serves_packed(packed_TP, num_heads, depth, pattern):
                return native.attend_packed(packed_TP, num_heads, depth, pattern)
        query, key, value = native.split_heads(packed_TP, num_heads, depth)
        if rotation is not None:
            query, key = (native.rotated(tensor, rotation) for tensor in (query, key))
        return attend(query, key, value, borders, settings)

    @staticmethod
    def _draw(site: int, probability: float) -> noise.Mask | None:
        mask = noise.draw(site, probability)
        if probability and mask is None:
            raise _NoMaskError
        return mask
