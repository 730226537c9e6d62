"""A run as commands open it."""

from __future__ import annotations

from functools import cached_property

from tunesmith.cli import collecting
from tunesmith.run import Run
from tunesmith.run.predictor import Predictor


class OpenedRun(Run):
    """Once its model is there, and everything that loading it imports, garbage is collected as usual again."""

    @cached_property
    def predictor(self) -> Predictor:
        predictor = super().predictor
        predictor.load()
        collecting.settle()
        return predictor
