"""The tensors of a model as memory: how many weights they hold, and where they lie."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import nn


@torch.no_grad()
def align(model: nn.Module) -> None:
    """Move every parameter and buffer that is mapped from a file into memory of its own.

    Where a tensor lies in a file decides its alignment, and alignment decides which kernels read
    it: equal weights from different files would differ in the last bit of what they compute.
    """
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.data_ptr() % 64:
            tensor.data = tensor.data.clone()


def num_weights(parameter: nn.Parameter) -> int:
    """Return how many weights a parameter holds: in 4 bits there are two in every byte."""
    quantised = getattr(parameter, "quant_state", None)
    return parameter.numel() if quantised is None else math.prod(quantised.shape)
