"""Dropout whose mask is a hash of where an element is, instead of the next numbers of a generator.

An element's fate depends on the step's seed, the row of data, the token's place in its row, the element's place in
the token, and which dropout of the model it is: never on how rows were put into batches. A step made of eight
micro-batches therefore drops what the same step made of one drops, and runs trained side by side drop what each
would alone. It is also a small fraction of the cost, since each number is computed where it is needed, in any order,
by all cores (Salmon et al. 2011 on counter-based generators).

The hash is a 32-bit mixer of two multiplications (constants of Wellons' search for low bias); native code and
``factors`` below agree bit for bit.

Shapes: T tokens, D numbers each.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from tunesmith.kernels.library import address, kernel, serves

if TYPE_CHECKING:
    from torch.autograd.function import FunctionCtx

_STRIDE = 0x9E3779B9
_HEAD_STRIDE = 0x85EBCA6B

_AT_ONCE = 2**18
"""Numbers that torch mixes at once."""


@dataclass(frozen=True, slots=True)
class _Noise:
    keys: tuple[torch.Tensor, ...]
    visits: dict[int, int] = field(default_factory=dict)
    """How often each site was asked in this pass: layers may be run at several depths."""


_noise: ContextVar[_Noise | None] = ContextVar("noise", default=None)


@contextmanager
def keyed_by(*keys: torch.Tensor) -> Iterator[None]:
    """Let dropout inside the ``with`` block take its noise from these keys.

    Args:
        keys: int32 [T]: of the tokens of the flat row; then of other things that vectors may stand for, such as
            rows (int32 [B]). Which of them a tensor is about is told by its size.

    A pass that is computed once more (activation checkpointing) must be surrounded by ``as_now`` of its beginning.
    """
    with _repeating(_Noise(keys)):
        yield


def as_now() -> AbstractContextManager[None]:
    """Return a context in which dropout draws what it is about to draw here."""
    noise = _noise.get()
    return nullcontext() if noise is None else _repeating(_Noise(noise.keys, dict(noise.visits)))


@contextmanager
def _repeating(noise: _Noise) -> Iterator[None]:
    token = _noise.set(noise)
    try:
        yield
    finally:
        _noise.reset(token)


def token_keys(seed: int, rows: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]) -> npt.NDArray[np.int32]:
    """Return a key for every token of rows laid out one after the other.

    Args:
        seed: Of the step.
        rows: [B]: what identifies each row, whatever else is in the batch.
        lengths: [B]: its tokens.
    """
    with np.errstate(over="ignore"):
        low, high = np.uint32(seed & 0xFFFFFFFF), np.uint32(seed >> 32 & 0xFFFFFFFF)
        row_keys = _mix(_mix(rows.astype(np.uint32) ^ low) + high)
        starts = np.repeat(np.cumsum(lengths) - lengths, lengths)
        places = (np.arange(len(starts)) - starts).astype(np.uint32)
        return _mix(np.repeat(row_keys, lengths) + places * np.uint32(_STRIDE)).view(np.int32)


@dataclass(frozen=True, slots=True)
class Mask:
    """The noise of one dropout in one step."""

    keys: torch.Tensor
    """[T] int32."""
    call: int
    """Which dropout of the model it is, mixed to 32 bits."""
    probability: float

    @property
    def threshold(self) -> int:
        """Elements whose hash is below it are dropped."""
        return min(int(self.probability * 2**32), 2**32 - 1)

    @property
    def scale(self) -> float:
        return 1 / (1 - self.probability)

    def of(self, tokens: torch.Tensor | slice) -> Mask:
        """Return the noise of some of the tokens."""
        return replace(self, keys=self.keys[tokens])

    def factors(self, width: int) -> torch.Tensor:
        """Return what each number is multiplied by, float32 [T, D]: 0 or ``scale``."""
        return self._factors(self._starts()[:, None], width)

    def attention_factors(self, num_heads: int, tokens_Q: torch.Tensor, length: int) -> torch.Tensor:
        """Return the factors of the weights with which tokens see the first ``length`` ones of their row: [Q, H, L]."""
        heads = np.arange(num_heads, dtype=np.uint32) * np.uint32(_HEAD_STRIDE)
        with np.errstate(over="ignore"):
            starts_QH = _mix(self._starts()[tokens_Q.numpy()][:, None] + heads)
        return self._factors(starts_QH[..., None], length)

    def _starts(self) -> npt.NDArray[np.uint32]:
        return _mix(self.keys.cpu().numpy().view(np.uint32) ^ np.uint32(self.call))

    def _factors(self, starts: npt.NDArray[np.uint32], width: int) -> torch.Tensor:
        columns = torch.from_numpy((np.arange(width, dtype=np.uint32) * np.uint32(_STRIDE)).view(np.int32))
        rows = torch.from_numpy(starts.view(np.int32))
        factors = torch.empty((*rows.shape[:-1], width), dtype=torch.float32)
        step = max(1, _AT_ONCE * len(rows) // max(1, factors.numel()))
        # By all cores, piece by piece: what is needed on the way to the factors stays small.
        for part, to in zip(torch.split(rows, step), torch.split(factors, step), strict=True):
            # torch compares no unsigned numbers; signed ones have their order once the highest bit is turned.
            hashes = _mix_in_place(part + columns).bitwise_xor_(-(2**31))
            torch.mul(hashes >= self.threshold - 2**31, self.scale, out=to)
        return factors.to(self.keys.device)


class NativeNoise(ctypes.Structure):
    """``Noise`` of native/vectors.h."""

    _fields_ = [
        ("keys", ctypes.c_void_p),
        ("call", ctypes.c_uint32),
        ("threshold", ctypes.c_uint32),
        ("scale", ctypes.c_float),
    ]

    @classmethod
    def of(cls, mask: Mask | None) -> NativeNoise:
        if mask is None:
            return cls(None, 0, 0, 1.0)
        return cls(mask.keys.data_ptr(), mask.call, mask.threshold, mask.scale)


def arguments(mask: Mask | None) -> tuple[Any, ...]:
    """Return a mask as the four arguments that kernels of rows take."""
    noise = NativeNoise.of(mask)
    return (
        ctypes.c_void_p(noise.keys),
        ctypes.c_uint32(noise.call),
        ctypes.c_uint32(noise.threshold),
        ctypes.c_float(noise.scale),
    )


def draw(site: int, probability: float) -> Mask | None:
    """Return the noise of the dropout known as ``site``; None when nothing is dropped or no keys are set."""
    noise = _noise.get()
    return _mask(noise, noise.keys[0], site, probability) if noise is not None and probability else None


def dropout(x: torch.Tensor, site: int, probability: float) -> torch.Tensor:
    """Drop numbers of ``x`` [..., T, D] by the keys that are set, or by torch's generator where none fit it."""
    width = x.shape[-1]
    noise = _noise.get()
    fitting = (keys for keys in noise.keys if len(keys) * width == x.numel()) if noise is not None else iter(())
    keys = next(fitting, None)
    if noise is None or keys is None:
        return functional.dropout(x, probability)
    return drop(x, _mask(noise, keys, site, probability))


def drop(x: torch.Tensor, mask: Mask) -> torch.Tensor:
    """Return ``x`` [..., T, D] with the mask applied."""
    if serves(x):
        dropped: torch.Tensor = _Dropout.apply(x, mask)  # type: ignore[no-untyped-call]
        return dropped
    return x * mask.factors(x.shape[-1]).to(x.dtype).view(x.shape)


def _mask(noise: _Noise, keys: torch.Tensor, site: int, probability: float) -> Mask:
    visits = noise.visits
    visits[site] = visits.get(site, 0) + 1
    with np.errstate(over="ignore"):
        call = _mix(_mix(np.array([site], dtype=np.uint32)) + np.uint32(visits[site]))
    return Mask(keys, int(call[0]), probability)


class _Dropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, x: torch.Tensor, mask: Mask) -> torch.Tensor:
        ctx.mask = mask  # type: ignore[attr-defined]
        return _dropped(x, mask)

    @staticmethod
    def backward(ctx: FunctionCtx, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        return _dropped(gradients[0].contiguous(), ctx.mask), None  # type: ignore[attr-defined]


def _dropped(x: torch.Tensor, mask: Mask) -> torch.Tensor:
    result = torch.empty_like(x)
    width = x.shape[-1]
    kernel("dropout", x.dtype)(
        ctypes.c_int64(x.numel() // width), ctypes.c_int64(width), address(x), *arguments(mask), address(result)
    )
    return result


def _mix_in_place(x: torch.Tensor) -> torch.Tensor:
    """Do what ``_mix`` does to the bits of int32, whose shifts to the right keep the sign unless it is masked away."""
    high = torch.empty_like(x)  # once: new memory takes longer than all the rest
    x.bitwise_xor_(torch.bitwise_right_shift(x, 16, out=high).bitwise_and_(0xFFFF)).mul_(0x7FEB352D)
    x.bitwise_xor_(torch.bitwise_right_shift(x, 15, out=high).bitwise_and_(0x1FFFF)).mul_(0x846CA68B - 2**32)
    return x.bitwise_xor_(torch.bitwise_right_shift(x, 16, out=high).bitwise_and_(0xFFFF))


def _mix(x: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint32]:
    x = (x ^ (x >> np.uint32(16))) * np.uint32(0x7FEB352D)
    x = (x ^ (x >> np.uint32(15))) * np.uint32(0x846CA68B)
    return x ^ (x >> np.uint32(16))
