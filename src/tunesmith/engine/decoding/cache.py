"""Keys and values of texts that are being written, in memory set aside once.

Shapes: S slots with room for C tokens each, B texts at work (in the first slots), N tokens of a pass, H heads of
queries, G of keys and values (G divides H), D numbers per head, L tokens looked at.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import nn

from tunesmith.kernels import decoding as native
from tunesmith.kernels.attention import Heads, Rotation, rotated, split_heads

LENGTH_STEP = 32
"""Lengths are rounded up to a multiple of it: libraries compile a kernel for every shape."""


@dataclass(frozen=True, slots=True)
class Places:
    """Where the tokens of a pass are kept."""

    slots: torch.Tensor
    """[N] int64."""
    places: torch.Tensor
    """[N] int64: the token's place in its text, from 0."""


@dataclass(frozen=True, slots=True)
class Seeing:
    """How a new token sees those before it."""

    scale: float
    window: int | None = None
    """How many tokens it sees, itself included."""
    rotation: Rotation | None = None
    """Of the new tokens, [B, D], for heads that were not turned to their positions yet."""


@dataclass(frozen=True, slots=True)
class Step:
    """One new token in each of the first B slots."""

    at: Places
    places: torch.Tensor
    """[B] int32."""
    longest: int
    """L: tokens of the longest text, the new one included."""
    _masks: dict[int | None, torch.Tensor] = field(default_factory=dict)

    def mask(self, window: int | None, num_key_heads: int, dtype: torch.dtype, length: int) -> torch.Tensor:
        """Return [B * G, 1, L]: 0 for what a new token sees, minus infinity elsewhere; made once for all layers."""
        if window not in self._masks:
            distance_BL = self.at.places[:, None] - torch.arange(length, device=self.at.places.device)
            hidden_BL = distance_BL < 0 if window is None else (distance_BL < 0) | (distance_BL >= window)
            mask_BL = torch.zeros_like(hidden_BL, dtype=dtype).masked_fill_(hidden_BL, -math.inf)
            self._masks[window] = mask_BL.repeat_interleave(num_key_heads, dim=0)[:, None]
        return self._masks[window]


class Kept:
    """The keys and values of one attention layer, by torch's own operations."""

    def __init__(self, like_NGD: torch.Tensor, num_slots: int, capacity: int) -> None:
        _, num_key_heads, depth = like_NGD.shape
        self._keys, self._values = (like_NGD.new_zeros((num_slots, num_key_heads, capacity, depth)) for _ in range(2))

    def write(
        self, key_NGD: torch.Tensor, value_NGD: torch.Tensor, slots_N: torch.Tensor, places_N: torch.Tensor
    ) -> None:
        """Keep the keys and values of some tokens."""
        self._keys[slots_N, :, places_N] = key_NGD
        self._values[slots_N, :, places_N] = value_NGD

    def read(self, slot: int, length: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the keys and values [length, G, D] of a slot's first tokens."""
        keys, values = (tensor[slot, :, :length].transpose(0, 1) for tensor in (self._keys, self._values))
        return keys, values

    def move(self, source: int, target: int, length: int) -> None:
        """Let the slot ``target`` hold what the slot ``source`` held of ``length`` tokens."""
        for tensor in (self._keys, self._values):
            tensor[target, :, :length] = tensor[source, :, :length]

    def attend(self, heads: Heads, step: Step, seeing: Seeing) -> torch.Tensor:
        """Keep each text's new key and value, and return what its new query sees of the text: [B, H * D]."""
        query, key, value = heads
        self.write(key, value, step.at.slots, step.at.places)
        num_rows, num_heads, depth = query.shape
        num_groups = num_rows * key.shape[1]
        length = min(-(-step.longest // LENGTH_STEP) * LENGTH_STEP, self._keys.shape[2])
        mask = step.mask(seeing.window, key.shape[1], query.dtype, length)
        query_XRD = query.reshape(num_groups, -1, depth)
        keys_XLD, values_XLD = (
            tensor[:num_rows].view(num_groups, -1, depth)[:, :length] for tensor in (self._keys, self._values)
        )
        weights_XRL = torch.baddbmm(mask, query_XRD, keys_XLD.transpose(1, 2), alpha=seeing.scale).softmax(-1)
        return torch.bmm(weights_XRL, values_XLD).view(num_rows, num_heads * depth)

    def attend_packed(self, packed_BP: torch.Tensor, num_heads: int, step: Step, seeing: Seeing) -> torch.Tensor:
        """Do the same with heads side by side, [B, (H + 2 G) * D], queries and keys turned first."""
        query, key, value = split_heads(packed_BP, num_heads, self._keys.shape[3])
        if seeing.rotation is not None:
            query, key = (rotated(tensor, seeing.rotation) for tensor in (query, key))
        return self.attend((query, key, value), step, seeing)


class NativeKept:
    """The same in native code."""

    def __init__(self, like_NGD: torch.Tensor, num_slots: int, capacity: int) -> None:
        self._kept = native.Attention(like_NGD, num_slots, capacity)
        self.write, self.read, self.move = self._kept.write, self._kept.read, self._kept.move

    def attend(self, heads: Heads, step: Step, seeing: Seeing) -> torch.Tensor:
        """Keep each text's new key and value, and return what its new query sees of the text: [B, H * D]."""
        return self._kept(heads, native.Pattern(step.places, seeing.scale, seeing.window, seeing.rotation))

    def attend_packed(self, packed_BP: torch.Tensor, num_heads: int, step: Step, seeing: Seeing) -> torch.Tensor:
        """Do the same with heads side by side, [B, (H + 2 G) * D]."""
        pattern = native.Pattern(step.places, seeing.scale, seeing.window, seeing.rotation)
        return self._kept.packed(packed_BP, num_heads, pattern)


States = Mapping[nn.Module, tuple[torch.Tensor, torch.Tensor]]
"""Keys and values [L, G, D] of the first L tokens of a text, by attention layer."""


class Cache:
    """The keys and values of all attention layers of a model."""

    def __init__(self, num_slots: int, capacity: int) -> None:
        self.num_slots = num_slots
        self.capacity = -(-capacity // LENGTH_STEP) * LENGTH_STEP
        self._layers: dict[nn.Module, Kept | NativeKept] = {}

    def of(self, module: nn.Module, heads: Heads) -> Kept | NativeKept:
        """Return what is kept of the attention layer ``module``, whose heads are like these."""
        found = self._layers.get(module)
        if found is None:
            kind = NativeKept if native.serves(heads) else Kept
            found = self._layers[module] = kind(heads[1], self.num_slots, self.capacity)
        return found

    def known(self, module: nn.Module) -> Kept | NativeKept:
        """Return what is kept of an attention layer that has read prompts."""
        return self._layers[module]

    def read(self, slot: int, length: int) -> States:
        """Return a copy of what a slot holds of its first tokens."""
        found = {module: kept.read(slot, length) for module, kept in self._layers.items()}
        return {module: (keys.clone(), values.clone()) for module, (keys, values) in found.items()}

    def put(self, slot: int, states: States, length: int) -> None:
        """Let a slot hold the first tokens of what ``read`` returned."""
        for module, (keys, values) in states.items():
            places = torch.arange(length, device=keys.device)
            self._layers[module].write(keys[:length], values[:length], torch.full_like(places, slot), places)

    def move(self, source: int, target: int, length: int) -> None:
        """Let the slot ``target`` hold what the slot ``source`` held of ``length`` tokens."""
        for kept in self._layers.values():
            kept.move(source, target, length)
