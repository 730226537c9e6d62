"""The keys that ``tunesmith data inspect`` takes: those of a run that concern the data."""

from __future__ import annotations

from typing import Annotated

from pydantic import SerializeAsAny

from tunesmith.config.base import Choice, Config
from tunesmith.data.config import DataConfig
from tunesmith.models import MODELS, OTHER_MODELS
from tunesmith.models.base import ModelSource
from tunesmith.tasks import TASKS
from tunesmith.tasks.base import Task


class InspectConfig(Config):
    """What is looked at, and as what."""

    data: Annotated[DataConfig, Choice("data", {}, default=DataConfig, key="path")]
    task: Annotated[SerializeAsAny[Task] | None, Choice("task", TASKS)] = None
    """What is to be learned; found by looking at the data when not given."""
    model: Annotated[SerializeAsAny[ModelSource] | None, Choice("model", MODELS, default=OTHER_MODELS)] = None
    """Whose tokens rows are shown in with --show-mask."""
