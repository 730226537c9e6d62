"""One trial of a search: a training that is followed to its end, or given up on the way; its test rows stay closed."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tunesmith.files.atomic import remove_folder
from tunesmith.run import Observer, RunConfig, Workshop, train
from tunesmith.run.directory import RunDirectory
from tunesmith.study.validation_record import best_validation
from tunesmith.study.workplace import HOW_TO_RESUME
from tunesmith.types import DiskError, InputError, RunError, StepInfo

UNTIL_THE_END = 2**62
"""The step up to which a trial is trained: all of the training, short of being judged on test rows."""
PARTS = 10
"""A training is looked at in so many parts: trials of other lengths are compared part by part."""

Report = Callable[[int, float], bool]
"""Told of a part of the training, 1 to ``PARTS``, and the best value so far; says whether to give the trial up."""


class PrunedError(BaseException):
    """A trial is given up: not an ``Exception``, so that it passes through the observers and ends the training."""


@dataclass(frozen=True, slots=True)
class TrialEnd:
    """What came of a trial."""

    state: Literal["done", "pruned", "failed"]
    value: float | None
    """The best value on the validation rows; of a trial that was given up, up to then."""
    loss: float | None = None
    """The validation loss beside the value."""
    reason: str = ""
    """Why it failed."""


@dataclass
class Pruning(Observer):
    """Watches a trial and ends it when the search says so."""

    metric: str
    higher: bool
    report: Report
    best: float | None = None
    _total: int = 1
    _told: set[int] = field(default_factory=set)

    def stepped(self, info: StepInfo, total_steps: int) -> None:  # noqa: ARG002
        self._total = total_steps

    def evaluated(self, record: dict[str, Any]) -> None:
        value = {**record["metrics"], "loss": record["loss"]}.get(self.metric)
        if value is None or not math.isfinite(value):
            return
        if self.best is None or (value > self.best if self.higher else value < self.best):
            self.best = value
        part = math.ceil(PARTS * record["step"] / max(self._total, 1))
        if part in self._told:
            return
        self._told.add(part)
        if self.report(part, self.best) and part < PARTS:
            raise PrunedError


def follow_trial(config: RunConfig, workshop: Workshop, metric: str, report: Report, *, higher: bool) -> TrialEnd:
    """Train as ``config`` says, or go on with that, and return what the validation rows say of it.

    What stays of its folder is the configuration and the curve. Raises ``DiskError`` and ``Stopped`` as ``train`` does.
    """
    place = Path(str(config.output))
    watching = Pruning(metric, higher, report)
    try:
        train(
            config,
            resume=RunDirectory(place).has_begun,
            observers=[watching],
            workshop=workshop,
            until=UNTIL_THE_END,
            how_to_resume=HOW_TO_RESUME,
        )
        value, loss = best_validation(place, metric, higher=higher)
    except PrunedError:
        make_small(place)
        return TrialEnd("pruned", watching.best)
    except DiskError:
        raise
    except (RunError, InputError) as error:
        make_small(place)
        return TrialEnd("failed", None, reason=str(error).split("\n", 1)[0].rstrip("."))
    workshop.states.forget(place)
    make_small(place)
    if value is None:
        return TrialEnd("failed", None, reason="the metric that decides has no value")
    return TrialEnd("done", value, loss)


def make_small(place: Path) -> None:
    """Keep of a trial's folder what tells of it, and give back the rest of the disk."""
    for entry in place.iterdir() if place.is_dir() else ():
        if entry.is_dir():
            remove_folder(entry)
