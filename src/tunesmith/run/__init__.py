"""Runs: one training from configuration to run directory, and the finished run opened again."""

from tunesmith.run.config import EvaluationConfig, RunConfig
from tunesmith.run.finished_run import Run
from tunesmith.run.observers import Observer, RunPlan
from tunesmith.run.several_runs import SomeRunsFailedError, train_several
from tunesmith.run.signals import Stopped
from tunesmith.run.training import train
from tunesmith.run.workshop import Workshop
from tunesmith.run.written_answers import Writing

__all__ = [
    "EvaluationConfig",
    "Observer",
    "Run",
    "RunConfig",
    "RunPlan",
    "SomeRunsFailedError",
    "Stopped",
    "Workshop",
    "Writing",
    "train",
    "train_several",
]
