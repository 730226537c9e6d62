"""A small encoder-decoder trained from scratch: the Transformer as it was first described, in plain Marian form."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from tunesmith.models.scratch import ScratchSource
from tunesmith.models.scratch_tokenizer import BEGIN, END, SPECIAL_TOKENS, TokenizerKind

if TYPE_CHECKING:
    from transformers import PretrainedConfig

FEWEST_PLACES = 512
"""Places for tokens that a model has at least, so that answers may be longer than anything it was trained on."""


class Transformer(ScratchSource):
    """Encoder and decoder with attention, for texts that are made of texts (Vaswani et al. 2017).

    What is saved is a Marian model with a tokenizer of its own, which plain ``transformers`` loads.
    """

    name: Literal["transformer"] = "transformer"

    title: ClassVar[str] = "Transformer"
    is_plain: ClassVar[bool] = True
    writes: ClassVar[bool] = True
    default_learning_rate: ClassVar[float | None] = 1e-3

    tokenizer: TokenizerKind = "bytes"
    """How text is split: bytes (byte-pair encoding of bytes, which can write any text), bpe, word, character, or
    auto."""
    vocabulary_size: Annotated[int, Field(ge=len(SPECIAL_TOKENS) + 257)] = 8_000
    """Most tokens in the vocabulary, which sources and targets share."""
    lowercase: bool = False
    """Whether upper and lower case are the same: in what is written, too."""
    embedding_size: Annotated[int, Field(ge=1)] = 256
    """Numbers per token, in every layer."""
    num_layers: Annotated[int, Field(ge=1)] = 3
    """Layers of the encoder, and of the decoder."""
    num_heads: Annotated[int, Field(ge=1)] = 4
    """Heads of attention; `embedding_size` is divided among them."""
    feedforward_size: Annotated[int, Field(ge=1)] = 1024
    """Numbers per token inside a layer."""

    def network_config(self, settings: dict[str, Any]) -> PretrainedConfig:
        from transformers import MarianConfig

        from tunesmith.types import InputError

        if self.embedding_size % (2 * self.num_heads):
            raise InputError(
                f"model.embedding_size is {self.embedding_size}, which {self.num_heads} heads cannot share evenly.",
                f"Choose a multiple of {2 * self.num_heads}.",
            )
        return MarianConfig(
            d_model=self.embedding_size,
            encoder_layers=self.num_layers,
            decoder_layers=self.num_layers,
            encoder_attention_heads=self.num_heads,
            decoder_attention_heads=self.num_heads,
            encoder_ffn_dim=self.feedforward_size,
            decoder_ffn_dim=self.feedforward_size,
            max_position_embeddings=max(FEWEST_PLACES, self.max_length or 0),
            scale_embedding=True,
            activation_function="relu",
            eos_token_id=SPECIAL_TOKENS.index(END),
            decoder_start_token_id=SPECIAL_TOKENS.index(BEGIN),
            forced_eos_token_id=None,
            **{"dropout": 0.1, **settings},
        )
