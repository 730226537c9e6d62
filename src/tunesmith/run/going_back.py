"""A run that is resumed goes back to where it stood."""

from __future__ import annotations

from tunesmith.engine import checkpoint as checkpoints
from tunesmith.engine.config import ComputeConfig
from tunesmith.engine.snapshot import put_back
from tunesmith.run.session import Composed, Progress


def go_back(composed: Composed, compute: ComputeConfig | None = None) -> None:
    """Go back to where the run was paused or to its newest sound checkpoint; without any, start from the beginning.

    ``compute`` are the machine's settings that the run had up to now.
    """
    logbook = composed.logbook
    if (paused := composed.workshop.states.go_on(composed.directory.path)) is not None:
        put_back(composed.training, paused.state)
        logbook.progress = Progress(**paused.state.state["extra"])
        logbook.best, logbook.unsaved_seconds = paused.best, paused.seconds
        return
    found, problems = checkpoints.find(composed.directory.checkpoints)
    for problem in problems:
        composed.note(problem)
    if found is not None:
        checkpoints.restore(composed.training, found, compute)
        logbook.progress = Progress(**found.extra)
