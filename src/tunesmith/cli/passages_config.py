"""The keys that ``tunesmith data passages`` takes: those of a model, in whose tokens passages can be measured."""

from __future__ import annotations

from typing import Annotated

from pydantic import SerializeAsAny

from tunesmith.config.base import Choice, Config
from tunesmith.models import MODELS, OTHER_MODELS
from tunesmith.models.base import ModelSource


class PassagesConfig(Config):
    """What lengths are measured by."""

    model: Annotated[SerializeAsAny[ModelSource] | None, Choice("model", MODELS, default=OTHER_MODELS)] = None
    """Measure passages in this model's tokens rather than in words."""
