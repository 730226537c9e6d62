"""Scoring without dropout for a while, whatever mode a model's modules are in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Set every module to ``eval`` inside the ``with`` block, and each back to what it was."""
    training = [module for module in model.modules() if module.training]
    if training:  # setting hundreds of modules takes longer than asking them
        model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
