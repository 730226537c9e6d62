"""The runs behind one server, by their names."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

from tunesmith.run import Run
from tunesmith.serve.errors import RefusedError
from tunesmith.serve.predicting import PredictingRun
from tunesmith.serve.settings import ServeSettings
from tunesmith.serve.writing import WritingRun
from tunesmith.types import InputError

Hosted = PredictingRun | WritingRun


class House:
    """All runs that are served; each has its thread, and one computes at a time."""

    def __init__(self, folders: Sequence[Path], settings: ServeSettings) -> None:
        """Open the runs and load their models. Raises ``InputError`` for what is no finished run."""
        self.settings = settings
        computing = threading.Lock()
        runs = [Run.open(folder) for folder in folders]
        for run in runs:
            _require_no_files(run)
        self.hosted: dict[str, Hosted] = {}
        for run, name in zip(runs, _names(folders), strict=True):
            run.predictor.load()
            kind = WritingRun if run.task.chats else PredictingRun
            self.hosted[name] = kind(name, run, settings, computing)

    def find(self, name: str | None, *tasks: str) -> Hosted:
        """Return the run that a request names; the only one of the ``tasks`` where it names none.

        Raises ``RefusedError`` where there is none, or it does something else.
        """
        if name is None:
            fitting = [one for one in self.hosted.values() if not tasks or one.run.task.name in tasks]
            if len(fitting) != 1:
                raise RefusedError(400, f"Say which model is asked ({', '.join(self.hosted)}).", "no_model")
            return fitting[0]
        if name not in self.hosted:
            raise RefusedError(
                404, f"There is no model '{name}'. There are: {', '.join(self.hosted)}.", "model_not_found"
            )
        found = self.hosted[name]
        if tasks and found.run.task.name not in tasks:
            raise RefusedError(
                400,
                f"'{name}' was trained for {found.run.task.title.lower()} ({found.run.task.name}); this route is for "
                f"{', '.join(tasks)}.",
                "other_task",
            )
        return found

    def waiting(self) -> dict[str, int]:
        """Return how many requests wait or are at work, by model."""
        return {name: one.num_waiting for name, one in self.hosted.items()}

    def close(self) -> None:
        """Let every thread come to the end of what it has begun."""
        for one in self.hosted.values():
            one.close(self.settings.drain_seconds)


def _require_no_files(run: Run) -> None:
    """Refuse runs whose rows name files: whoever asks could have any file of this machine looked at."""
    if run.task.head().reads_images:
        raise InputError(
            f"The run in {run.folder} looks at images ({run.task.name}): a request would name files of this machine.",
            "Use 'tunesmith predict', or Run.predict in a program of your own.",
        )


def _names(folders: Sequence[Path]) -> list[str]:
    names = [folder.resolve().name for folder in folders]
    if len(set(names)) < len(names):
        names = [f"{folder.resolve().parent.name}/{folder.resolve().name}" for folder in folders]
    if len(set(names)) < len(names):
        raise InputError(
            f"Two of the runs have the same name: {', '.join(names)}.",
            "Serve each once, from folders of different names.",
        )
    return names
