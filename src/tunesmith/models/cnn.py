"""A convolutional network trained from scratch: TextCNN, the fastest of the classic baselines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from tunesmith.models.scratch import ScratchSource

if TYPE_CHECKING:
    from transformers import PretrainedConfig


class Cnn(ScratchSource):
    """Embeddings, parallel convolutions, maximum over time, linear head (Kim 2014)."""

    name: Literal["cnn"] = "cnn"

    widths: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)] = (3, 4, 5)
    """Lengths of the windows that are looked at, in tokens."""
    num_channels: Annotated[int, Field(ge=1)] = 100
    """Filters of each width."""

    def network_config(self, settings: dict[str, Any]) -> PretrainedConfig:
        from tunesmith.models.cnn_network import CnnConfig

        return CnnConfig(
            embedding_size=self.embedding_size,
            widths=self.widths,
            num_channels=self.num_channels,
            **settings,
        )
