"""What is known of one device: its maker's figures, and what products reach where somebody has measured it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from tunesmith.config.base import Config

REACHED = 0.8
"""Of the datasheet's rate by large products, where nobody has published a measurement: what H100 and H200 reach."""
KEPT_FREE = 0.08
"""Of a device's memory, which context, libraries and gaps between tensors take."""
HERE = "here"
"""The machine that is asked, measured."""

Positive = Annotated[float, Field(gt=0)]


class Device(Config):
    """One accelerator, or the share of a machine's cores that a process has; see ``machines.yaml`` for the units."""

    name: str
    also: tuple[str, ...] = ()
    """Further names."""
    peak: Positive
    """TFLOP/s of dense products, by the datasheet."""
    products: Positive | None = None
    """TFLOP/s of large products, measured; ``REACHED`` of the peak when not given."""
    products_source: str = ""
    memory: Positive
    """GB."""
    bandwidth: Positive
    """GB/s of its memory."""
    link: Positive
    """GB/s to the others of its machine, one way."""
    per_machine: Annotated[int, Field(ge=1)] = 1
    """How many devices a machine has whose ``network`` this is."""
    network: Positive = 100
    """Gb/s from such a machine to others."""
    element_bytes: Annotated[int, Field(ge=1, le=8)] = 2
    """Of a weight and an activation as they are computed with: 2 in bf16, 4 in fp32."""
    source: str = ""

    @property
    def product_rate(self) -> float:
        """Operations a second of large products."""
        return 1e12 * (self.products or REACHED * self.peak)

    @property
    def usable_memory(self) -> int:
        """Bytes for a training."""
        return int(1e9 * self.memory * (1 - KEPT_FREE))
