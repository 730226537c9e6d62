"""Trackers: programs of others that are told of a run as it goes on, beside TensorBoard. None unless asked for."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING

from tunesmith.run.trackers.to_mlflow import MLflow
from tunesmith.run.trackers.to_trackio import Trackio
from tunesmith.run.trackers.to_wandb import WeightsAndBiases
from tunesmith.run.trackers.tracker import RECORD, Tracker
from tunesmith.types import MissingExtraError

if TYPE_CHECKING:
    from tunesmith.run.config import RunConfig
    from tunesmith.run.directory import RunDirectory

__all__ = ["RECORD", "TRACKERS", "Tracker", "check_trackers", "trackers_of"]

TRACKERS: Mapping[str, type[Tracker]] = {"wandb": WeightsAndBiases, "mlflow": MLflow, "trackio": Trackio}
"""Every tracker by its name in the configuration, which is that of its package, too."""


def check_trackers(config: RunConfig) -> None:
    """Raise ``InputError`` where the package of a tracker that is asked for is not installed."""
    for name in config.tracker.to if config.tracker is not None else ():
        if find_spec(name) is None:
            raise MissingExtraError(f"tracker: {name}", name, name)


def trackers_of(config: RunConfig, directory: RunDirectory) -> list[Tracker]:
    """Return who is told of the run in ``directory``, as far as anybody is asked for; ``config`` is what they show."""
    asked = config.tracker
    return [] if asked is None else [TRACKERS[name](name, asked, config, directory) for name in asked.to]
