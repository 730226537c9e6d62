"""A run for use elsewhere: its model in the form of another program, shown to give the run's scores there."""

from tunesmith.export.exporting import (
    TARGETS,
    Checked,
    check,
    check_folder,
    export,
    merge,
    require_target,
    restore,
    usual_output,
)
from tunesmith.export.record import Exported
from tunesmith.export.target import Target

__all__ = [
    "TARGETS",
    "Checked",
    "Exported",
    "Target",
    "check",
    "check_folder",
    "export",
    "merge",
    "require_target",
    "restore",
    "usual_output",
]
