"""What it takes, besides a model, that answers are written in the steps of its training, and are judged."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tunesmith.data.encoded import Array, Encoded, Ragged

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Messages = Sequence[Mapping[str, Any]]

Judge = Callable[[Sequence[Messages], Sequence[str]], "npt.NDArray[np.float64]"]
"""From what was asked, and an answer to each: a score of each."""


@dataclass(frozen=True)
class Answering:
    """Given to tasks that ``draw`` answers, by whoever knows the model's tokenizer and other models."""

    decode: Callable[[Sequence[Sequence[int]]], list[str]]
    """From ids to texts."""
    stop_tokens: frozenset[int]
    pad_token_id: int
    judges: Mapping[str, Judge] = field(default_factory=dict)
    """Those of ``Objective.judges``, by name."""
    refer: Callable[[Encoded], Mapping[str, Array | Ragged]] | None = None
    """What the model as it was before training says of answers, where the loss reads that."""
