"""Linear layers of few tokens in native code, in float32, without gradients; their weights are packed once.

A matrix library lays weights out anew at every call, which with few tokens takes as long as the product.

Shapes: N tokens, K inputs, O outputs.
"""

from __future__ import annotations

import ctypes

import torch

from tunesmith.kernels.library import library
from tunesmith.kernels.library import serves as rows_serve
from tunesmith.kernels.rows import KINDS, Activation

_NO_ACTIVATION = -1

NARROWEST_PANEL = 16
"""Outputs side by side that vectors of AVX2 make (32 with AVX-512). With those of NEON or SSE2 there are fewer: the
code is right, too, but nobody has measured that it is quicker than a matrix library."""


def can_pack(weight_OK: torch.Tensor) -> bool:
    """Say whether native code takes such weights, and is worth it on this processor."""
    native = library()
    if native is None or weight_OK.dtype != torch.float32 or not weight_OK.is_cpu:
        return False
    return int(native.linear_panel()) >= NARROWEST_PANEL


def packed(weight_OK: torch.Tensor) -> torch.Tensor:
    """Return weights in the order that ``Linear`` reads them in; needs what ``can_pack`` asks for."""
    native = library()
    assert native is not None
    weight_OK = weight_OK.contiguous()
    num_outputs, num_inputs = weight_OK.shape
    width = int(native.linear_panel())
    panels = weight_OK.new_empty((-(-num_outputs // width), num_inputs, width))
    native.linear_pack(
        ctypes.c_int64(num_outputs),
        ctypes.c_int64(num_inputs),
        ctypes.c_void_p(weight_OK.data_ptr()),
        ctypes.c_void_p(panels.data_ptr()),
    )
    return panels


class Linear:
    """``activation(x W' + b)``."""

    def __init__(
        self,
        panels: torch.Tensor,
        num_outputs: int,
        bias_O: torch.Tensor | None = None,
        activation: Activation | None = None,
    ) -> None:
        """Take what ``packed`` returned."""
        native = library()
        assert native is not None
        assert bias_O is None or rows_serve(panels, bias_O)
        self._kept = panels, bias_O
        self.num_inputs, self.num_outputs = panels.shape[1], num_outputs
        self._kind = _NO_ACTIVATION if activation is None else KINDS[activation]
        self._addresses = panels.data_ptr(), None if bias_O is None else bias_O.data_ptr()
        self._kernel = native["linear_forward"]
        self._kernel.argtypes, self._kernel.restype = [ctypes.c_void_p], None

    def __call__(self, x_NK: torch.Tensor) -> torch.Tensor:
        """Return [N, O]; ``x`` is float32 on the CPU."""
        x_NK = x_NK.contiguous()
        num_rows, num_inputs = x_NK.shape
        if num_inputs != self.num_inputs or x_NK.dtype != torch.float32 or not x_NK.is_cpu:
            raise ValueError(f"expected float32 [N, {self.num_inputs}] on the CPU, got {x_NK.dtype} {x_NK.shape}")
        y_NO = x_NK.new_empty((num_rows, self.num_outputs))
        panels, bias = self._addresses
        native = _Native(
            num_rows, self.num_outputs, num_inputs, x_NK.data_ptr(), panels, bias, self._kind, y_NO.data_ptr()
        )
        self._kernel(ctypes.addressof(native))
        return y_NO


class _Native(ctypes.Structure):
    """``Linear`` of native/linear.h."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("num_rows", "outputs", "inputs")),
        *((name, ctypes.c_void_p) for name in ("x", "panels", "bias")),
        ("kind", ctypes.c_int),
        ("y", ctypes.c_void_p),
    ]
