"""The contract of a model source: where weights and tokenizer come from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from tunesmith.config.base import BY_DATA, Config
from tunesmith.types import HeadSettings

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from tunesmith.models.streaming import StreamSettings

HeadOfRun = Callable[[Mapping[str, Any], Path], HeadSettings | None]
"""Says, of what a run's config.yaml holds and of its path, which head the run's task asked for; nothing where it
names no task."""


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
    is_plain: ClassVar[bool] = True
    """Whether what is saved loads without tunesmith: not where it has built the network itself."""
    default_learning_rate: ClassVar[float | None] = None
    """Peak rate that replaces the method's (models trained from scratch), for steps of ``REFERENCE_ROWS`` rows."""

    max_length: Annotated[int, Field(ge=1)] | None = Field(default=None, json_schema_extra=BY_DATA)
    """Longest row in tokens, special tokens included."""
    dropout: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Dropout probability for every dropout of the model; the model's own when not given."""

    def load(
        self,
        head: HeadSettings,
        texts: Iterable[str],
        seed: int,
        head_of_run: HeadOfRun | None = None,
        *,
        streaming: StreamSettings | None = None,
    ) -> LoadedModel:
        """Return the model with a new head; ``texts`` are the training texts, ``seed`` initialises what is new.

        ``head_of_run`` is asked where the model is a run's adapter, which is merged with the head it was trained
        with; without it, the adapter's own files tell. With ``streaming``, weights stay in their files; not for models
        ``from_scratch``.
        """
        raise NotImplementedError

    def load_again(self, loaded: LoadedModel, seed: int) -> LoadedModel:
        """Return what ``load`` with another seed would give for the head of ``loaded``, which ``load`` has just given.

        Weights that come from files share their memory with those of ``loaded``. Not for models ``from_scratch``.
        """
        raise NotImplementedError

    def load_tokenizer(
        self, head_of_run: HeadOfRun | None = None, head: HeadSettings | None = None
    ) -> PreTrainedTokenizerBase:
        """Return the tokenizer alone or, for a ``head`` that sees, what such a model reads with.

        Not for models ``from_scratch``, whose tokenizer is learned.
        """
        raise NotImplementedError
