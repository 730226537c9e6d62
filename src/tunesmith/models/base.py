"""The contract of a model source: where weights and tokenizer come from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from tunesmith.config.base import BY_DATA, Config

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from tunesmith.tasks.base import HeadSettings


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model with the task's head, in float32 on the CPU, and its tokenizer."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    max_length: int
    """Longest row in tokens, special tokens included."""
    source: str
    """What a run records: hub id with revision, package with version, or folder."""


class ModelSource(Config):
    """Where weights and tokenizer come from. One file and one entry of ``MODELS`` each."""

    name: str

    title: ClassVar[str] = ""
    """What such models are called in a sentence; the name that was given when empty."""
    from_scratch: ClassVar[bool] = False
    """Whether the weights are initialised here (then the tokenizer is learned from the training text)."""
    default_learning_rate: ClassVar[float | None] = None
    """Peak rate that replaces the method's (models trained from scratch), for steps of ``REFERENCE_ROWS`` rows."""

    max_length: Annotated[int, Field(ge=1)] | None = Field(default=None, json_schema_extra=BY_DATA)
    """Longest row in tokens, special tokens included."""
    dropout: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Dropout probability for every dropout of the model; the model's own when not given."""

    def load(self, head: HeadSettings, texts: Iterable[str], seed: int) -> LoadedModel:
        """Return the model with a new head; ``texts`` are the training texts, ``seed`` initialises what is new."""
        raise NotImplementedError
