"""A bidirectional LSTM trained from scratch: the classic baseline of text classification."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from tunesmith.models.scratch import ScratchSource

if TYPE_CHECKING:
    from transformers import PretrainedConfig


class Lstm(ScratchSource):
    """Embeddings, stacked (bi)directional LSTMs, pooling, linear head (Hochreiter & Schmidhuber 1997)."""

    name: Literal["lstm"] = "lstm"

    title: ClassVar[str] = "LSTM"

    hidden_size: Annotated[int, Field(ge=1)] = 128
    """Size of the state, in each direction."""
    num_layers: Annotated[int, Field(ge=1)] = 1
    """LSTMs on top of each other."""
    bidirectional: bool = True
    """Whether the text is also read backwards."""
    pooling: Literal["max", "mean", "last", "attention"] = "max"
    """How a row's token vectors become one: largest value (Conneau et al. 2017), mean, the last states,
    or a learned weighting (Yang et al. 2016)."""

    def network_config(self, settings: dict[str, Any]) -> PretrainedConfig:
        from tunesmith.models.lstm_network import LstmConfig

        return LstmConfig(
            embedding_size=self.embedding_size,
            hidden_size=self.hidden_size,
            num_layers=self.num_layers,
            bidirectional=self.bidirectional,
            pooling=self.pooling,
            **settings,
        )
