"""A run for use elsewhere: its model in the form of another program, shown to give the run's scores there."""

from tunesmith.export.exporting import TARGETS, Exported, export, merge
from tunesmith.export.target import Target

__all__ = ["TARGETS", "Exported", "Target", "export", "merge"]
