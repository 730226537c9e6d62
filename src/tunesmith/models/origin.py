"""Where a loaded model came from: carried by the model itself, for methods and records to read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tunesmith.models.sentence_folder import SentenceSettings
from tunesmith.models.wrapping import inner

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a loaded model came from."""

    name: str
    """Hub id or folder from which plain ``transformers`` can load the same base weights."""
    revision: str | None = None
    """Commit of the hub repository."""
    new_parameters: frozenset[str] = frozenset()
    """Names of the model's own parameters that the weight files lacked and that were initialised."""
    weights_sha256: str | None = None
    """What tells these weights from others: a hash of the files that they come from."""
    sentences: SentenceSettings | None = None
    """How its folder says that one vector is made of a text."""


def set_origin(model: PreTrainedModel, origin: Origin) -> None:
    """Attach ``origin`` to a freshly loaded model."""
    vars(model)["tunesmith_origin"] = origin


def origin(model: nn.Module) -> Origin | None:
    """Return what ``set_origin`` attached, or nothing for a model built by hand."""
    found = vars(inner(model)).get("tunesmith_origin")
    assert found is None or isinstance(found, Origin)
    return found
