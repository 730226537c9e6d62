"""Trackio: into its own folder on this machine (``TRACKIO_DIR``), or where its environment variables say."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from typing import Any

from tunesmith.run.trackers.tracker import Figures, Tracker, silenced


class Trackio(Tracker):
    """Tells Trackio; what it measures of the machine by itself is off, and what it prints is held back."""

    _run: Any = None

    def begin(self, known: Mapping[str, str]) -> Mapping[str, str]:
        with silenced(), redirect_stdout(io.StringIO()):
            import trackio

            self._run = trackio.init(
                project=self.asked.project,
                name=known.get("name", self.title),
                config=self.facts(),
                resume="allow" if known else "never",
                embed=False,
                auto_log_gpu=False,
                auto_log_cpu=False,
            )
        return {"name": str(self._run.name), "project": self.asked.project}

    def send(self, figures: Sequence[Figures]) -> None:
        for step, values in figures:
            self._run.log(dict(values), step=step)

    def end(self, figures: Mapping[str, float], *, is_finished: bool) -> None:
        del is_finished  # a run that was stopped looks the same there
        if figures:
            self._run.log(dict(figures), step=int(figures.get("run/steps", 0)))
        with redirect_stdout(io.StringIO()):
            self._run.finish()
