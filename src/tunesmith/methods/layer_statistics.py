"""What adapted linear layers read, and how the loss falls with their weights: over the rows that a method looks at.

A layer's statistics may be larger than its weights. They are made for a group of layers at a time, in as many passes
over the rows as it takes.

Shapes: O outputs and I inputs of a layer, T tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from tunesmith.methods.calibration import Calibration, CalibrationBatch

MOST_BYTES = 1 << 30
"""Memory for the statistics of a group, unless a single layer takes more."""

Layers = Sequence[tuple[str, Any]]
"""Adapted layers of PEFT's by name."""


@dataclass
class InputStatistics:
    """The first two moments of what a layer reads, in float32."""

    total: torch.Tensor
    """[I]: the sum of ``x``."""
    products: torch.Tensor
    """[I, I]: the sum of ``x x'``."""
    num_tokens: int = 0

    def add(self, read_TI: torch.Tensor) -> None:
        """Count the tokens of a batch in."""
        read_TI = read_TI.float()
        self.total += read_TI.sum(0)
        self.products.addmm_(read_TI.T, read_TI)
        self.num_tokens += len(read_TI)

    @property
    def second_moment(self) -> torch.Tensor:
        """[I, I]: the mean of ``x x'``."""
        return self.products / max(self.num_tokens, 1)

    @property
    def covariance(self) -> torch.Tensor:
        """[I, I]: the same about the mean of ``x``."""
        mean_I = self.total / max(self.num_tokens, 1)
        return self.second_moment - torch.outer(mean_I, mean_I)


def input_statistics(layers: Layers, rows: Calibration) -> Iterator[tuple[str, Any, InputStatistics]]:
    """Yield every layer with the moments of what it reads."""
    for group in _groups(layers, lambda layer: layer.in_features**2):
        found = [InputStatistics(*_zeros(layer)) for _, layer in group]
        current: list[CalibrationBatch] = []
        handles = [
            layer.get_base_layer().register_forward_hook(_listener(one, current))
            for (_, layer), one in zip(group, found, strict=True)
        ]
        for batch in rows.batches():
            current[:] = [batch]
            batch.forward()
        for handle in handles:
            handle.remove()
        for (name, layer), one in zip(group, found, strict=True):
            yield name, layer, one


def weight_gradients(layers: Layers, rows: Calibration) -> Iterator[tuple[str, Any, torch.Tensor]]:
    """Yield every layer with the gradient [O, I] of the mean loss with respect to its frozen weight, in float32."""
    for group in _groups(layers, lambda layer: layer.get_base_layer().weight.numel()):
        bases = [layer.get_base_layer() for _, layer in group]
        totals = [torch.zeros_like(base.weight, dtype=torch.float32) for base in bases]
        for base in bases:
            base.weight.requires_grad_(True)
        for batch in rows.batches():
            batch.backward()
            for base, total in zip(bases, totals, strict=True):
                if base.weight.grad is not None:
                    total.add_(base.weight.grad)
                    base.weight.grad = None
        for base in bases:
            base.weight.requires_grad_(False)
        for (name, layer), total in zip(group, totals, strict=True):
            yield name, layer, total if isinstance(layer.get_base_layer(), nn.Linear) else total.T


def _groups(layers: Layers, num_values: Callable[[Any], int]) -> Iterator[Layers]:
    group: list[tuple[str, Any]] = []
    num_bytes = 0
    for name, layer in layers:
        own = 4 * num_values(layer)
        if group and num_bytes + own > MOST_BYTES:
            yield group
            group, num_bytes = [], 0
        group.append((name, layer))
        num_bytes += own
    if group:
        yield group


def _zeros(layer: Any) -> tuple[torch.Tensor, torch.Tensor]:
    device, width = layer.get_base_layer().weight.device, layer.in_features
    return torch.zeros(width, device=device), torch.zeros(width, width, device=device)


def _listener(statistics: InputStatistics, current: list[CalibrationBatch]) -> Callable[..., None]:
    def listen(_module: Any, inputs: tuple[torch.Tensor, ...], _output: Any) -> None:
        statistics.add(current[0].real(inputs[0].detach()))

    return listen
