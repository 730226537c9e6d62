"""Operations on one new token of each text, in native code, without gradients; what can be is prepared once.

Shapes: B texts, S slots with room for C tokens each (S >= B), H heads of queries, G heads of keys and values (G
divides H), D numbers per head.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

import torch

from tunesmith.kernels.attention import DEPTH_STEP, EVERYTHING, Heads, Rotation, is_list
from tunesmith.kernels.library import DTYPES, kernel, library
from tunesmith.kernels.library import serves as rows_serve
from tunesmith.kernels.rows import KINDS, Activation, add_rms_norm, gated

TILE = 32
"""Tokens whose keys lie side by side."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """What attention does besides its products."""

    places: torch.Tensor
    """[B] int32: the new tokens' places in their texts, from 0."""
    scale: float
    window: int | None = None
    """How many tokens a token sees, itself and those before it."""
    rotation: Rotation | None = None
    """Of the new tokens: [B, D]."""


def serves(heads: Heads) -> bool:
    """Say whether native code takes queries [N, H, D], keys and values [N, G, D] like these."""
    query, key, value = heads
    return (
        key.is_cpu
        and key.dtype in DTYPES
        and query.dtype == key.dtype == value.dtype
        and query.shape[2] == key.shape[2]
        and key.shape == value.shape
        and key.shape[2] % DEPTH_STEP == 0
        and query.shape[1] % key.shape[1] == 0
        and library() is not None
    )


class Attention:
    """One attention layer's keys and values, to which new tokens are added."""

    def __init__(self, like_NGD: torch.Tensor, num_slots: int, capacity: int) -> None:
        """Set aside room for ``num_slots`` texts of ``capacity`` tokens, a multiple of 32, with keys like these."""
        _, num_key_heads, depth = like_NGD.shape
        assert capacity % TILE == 0
        keys = self.keys = like_NGD.new_zeros((num_slots, num_key_heads, capacity // TILE, depth, TILE))
        """[S, G, C / 32, D, 32]: tokens side by side, tile after tile; what was not written yet is 0."""
        values = self.values = like_NGD.new_zeros((num_slots, num_key_heads, capacity, depth))
        self._kernel = kernel("decoding", keys.dtype)
        self._kernel.argtypes = [ctypes.c_void_p] * 7
        self._native = _Native(num_key_heads=num_key_heads, depth=depth, capacity=capacity)
        self._address = ctypes.addressof(self._native)
        self._kept = keys.data_ptr(), values.data_ptr()

    def write(
        self, key_NGD: torch.Tensor, value_NGD: torch.Tensor, slots_N: torch.Tensor, places_N: torch.Tensor
    ) -> None:
        """Keep the keys and values of some tokens at places of slots."""
        self.keys[slots_N, :, places_N // TILE, :, places_N % TILE] = key_NGD
        self.values[slots_N, :, places_N] = value_NGD

    def read(self, slot: int, length: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the keys and values [length, G, D] of a slot's first tokens."""
        num_tiles = -(-length // TILE)
        tiles = self.keys[slot, :, :num_tiles].permute(1, 3, 0, 2)  # [tiles, 32, G, D]
        return tiles.reshape(num_tiles * TILE, *tiles.shape[2:])[:length], self.values[slot, :, :length].transpose(0, 1)

    def move(self, source: int, target: int, length: int) -> None:
        """Let the slot ``target`` hold what the slot ``source`` held of ``length`` tokens."""
        num_tiles = -(-length // TILE)
        self.keys[target, :, :num_tiles] = self.keys[source, :, :num_tiles]
        self.values[target, :, :length] = self.values[source, :, :length]

    def __call__(self, heads: Heads, pattern: Pattern) -> torch.Tensor:
        """Return what each new query sees, [B, H * D], once the new keys and values are kept in the first B slots."""
        query, key, value = (tensor if tensor.stride(2) == 1 else tensor.contiguous() for tensor in heads)
        native = self._native
        expected = len(query), native.num_key_heads, native.depth
        if not (serves(heads) and key.dtype == self.keys.dtype and key.shape == expected):
            raise ValueError("the new tokens' heads are not like those that are kept")
        native.num_rows, native.num_heads, depth = query.shape
        native.query_stride, native.query_head_stride, _ = query.stride()
        native.key_stride, native.key_head_stride, _ = key.stride()
        native.value_stride, native.value_head_stride, _ = value.stride()
        return self._run((query.data_ptr(), key.data_ptr(), value.data_ptr()), query, native.num_heads * depth, pattern)

    def packed(self, packed_BP: torch.Tensor, num_heads: int, pattern: Pattern) -> torch.Tensor:
        """Do the same with queries, keys and values side by side: [B, (H + 2 G) * D], contiguous."""
        native = self._native
        num_rows, width = packed_BP.shape
        depth = native.depth
        wide_enough = width == (num_heads + 2 * native.num_key_heads) * depth
        if not (wide_enough and packed_BP.dtype == self.keys.dtype and packed_BP.is_contiguous()):
            raise ValueError("the new tokens' heads are not like those that are kept")
        native.num_rows, native.num_heads = num_rows, num_heads
        native.query_stride = native.key_stride = native.value_stride = width
        native.query_head_stride = native.key_head_stride = native.value_head_stride = depth
        start, size = packed_BP.data_ptr(), packed_BP.element_size()
        first_value = num_heads + native.num_key_heads
        places = start, start + size * num_heads * depth, start + size * first_value * depth
        return self._run(places, packed_BP, num_heads * depth, pattern)

    def _run(self, given: tuple[int, int, int], like: torch.Tensor, width: int, pattern: Pattern) -> torch.Tensor:
        native, rotation = self._native, pattern.rotation
        if not is_list(pattern.places, native.num_rows) or native.num_rows > len(self.keys):
            raise ValueError("every new token needs a place, and a slot")
        if rotation is not None and not rotation.serves(native.num_rows, native.depth):
            raise ValueError("the rotation is not that of the new tokens")
        native.places = pattern.places.data_ptr()
        native.scale = pattern.scale
        native.behind = EVERYTHING if pattern.window is None else pattern.window - 1
        native.cosines = None if rotation is None else rotation.cosines.data_ptr()
        native.sines = None if rotation is None else rotation.sines.data_ptr()
        output = like.new_empty((native.num_rows, width))
        self._kernel(self._address, *given, *self._kept, output.data_ptr())
        return output


class RmsNorm:
    """``add_rms_norm`` without anything to add, and without gradients: with few tokens, calling it takes longest."""

    def __init__(self, gain_D: torch.Tensor, epsilon: float) -> None:
        self.gain_D, self.epsilon = gain_D, epsilon
        self._kernel = None
        native = library()
        if native is not None and rows_serve(gain_D):
            self._kernel = native[f"rms_norm_forward_{DTYPES[gain_D.dtype]}"]
            pointer, size = ctypes.c_void_p, ctypes.c_int64
            self._kernel.argtypes = [size, size, pointer, pointer, pointer, ctypes.c_float, pointer, pointer, pointer]
            self._kernel.restype = None

    def __call__(self, x_ND: torch.Tensor) -> torch.Tensor:
        """Return the norm of ``x`` [N, D], contiguous."""
        if self._kernel is None or x_ND.dtype != self.gain_D.dtype:
            return add_rms_norm(x_ND, None, self.gain_D, self.epsilon)[1]
        number, width = x_ND.shape
        result, inverses = torch.empty_like(x_ND), torch.empty(number)
        x = x_ND.data_ptr()
        self._kernel(
            number,
            width,
            x,
            None,
            self.gain_D.data_ptr(),
            self.epsilon,
            x,
            result.data_ptr(),
            inverses.data_ptr(),
        )
        return result


class Gate:
    """``gated`` without gradients."""

    def __init__(self, kind: Activation, like: torch.Tensor) -> None:
        self.kind = kind
        self._kernel = None
        native = library()
        if native is not None and rows_serve(like):
            self._kernel = native[f"gated_forward_{DTYPES[like.dtype]}"]
            self._kernel.argtypes = [ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p]
            self._kernel.restype = None
        self._dtype = like.dtype

    def __call__(self, x_NW: torch.Tensor) -> torch.Tensor:
        """Return [N, W / 2] of gates and values side by side, [N, W], contiguous."""
        if self._kernel is None or x_NW.dtype != self._dtype:
            return gated(x_NW, self.kind)
        number, width = len(x_NW), x_NW.shape[1] // 2
        result = x_NW.new_empty((number, width))
        self._kernel(number, width, x_NW.data_ptr(), KINDS[self.kind], result.data_ptr())
        return result


class _Native(ctypes.Structure):
    """``Decoding`` of native/decoding.h."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("num_rows", "num_heads", "num_key_heads", "depth", "capacity")),
        ("places", ctypes.c_void_p),
        *((f"{name}_stride", ctypes.c_int64) for name in ("query", "key", "value")),
        *((f"{name}_head_stride", ctypes.c_int64) for name in ("query", "key", "value")),
        ("scale", ctypes.c_float),
        ("behind", ctypes.c_int64),
        ("cosines", ctypes.c_void_p),
        ("sines", ctypes.c_void_p),
    ]
