"""The trainings of a contest: each an ordinary run in a folder of its own, made here in turn or by others."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tunesmith.files.atomic import remove_folder
from tunesmith.run import RunConfig, Workshop, train
from tunesmith.run.directory import RunDirectory
from tunesmith.run.general_text import MANUAL
from tunesmith.study.contest_config import CompareConfig, Contestant
from tunesmith.study.crew import Crew
from tunesmith.study.folder import Journal, StudyFolder
from tunesmith.study.training_process import Trained, WarningsKept
from tunesmith.study.validation_record import best_validation
from tunesmith.study.workplace import HOW_TO_RESUME
from tunesmith.types import DiskError, InputError, RunError, StepInfo

MOST_ATTEMPTS = 3
"""How often a training is begun that ends without a word, before it counts as failed."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a training."""

    value: float | None
    """Of the metric that is compared: of the best step on the validation rows, or on the test rows."""
    loss: float | None
    """Validation loss of the best step."""
    reason: str
    """Why it failed; empty where it did not."""
    is_new: bool
    """Whether it was not in the journal already."""


@dataclass(frozen=True, slots=True)
class Training:
    """A training of a contest."""

    kind: str
    """Of the line that the journal has of it."""
    key: dict[str, Any]
    """What that line tells it by."""
    config: RunConfig
    until: int | None
    """The step that it is followed to; None of one that is brought to its end."""
    read: Callable[[], tuple[float | None, float | None]]
    """Gives its value and the validation loss beside it, once it is there."""
    paused_at: int | None = None
    """The step up to which it was followed before, where it was."""

    @property
    def name(self) -> str:
        """What tells it from others, in a text."""
        return json.dumps([self.kind, self.key])


class Progress(WarningsKept):
    """Tells how far a training is, and keeps what it warns of."""

    def __init__(self, tell: Callable[[int, int], None]) -> None:
        super().__init__()
        self._tell = tell

    def stepped(self, info: StepInfo, total_steps: int) -> None:
        self._tell(info.step, total_steps)


@dataclass
class ContestRuns:
    """Trains for a contest, or finds in its journal what came of a training that was done before."""

    config: CompareConfig
    folder: StudyFolder
    journal: Journal
    workshop: Workshop
    metric: str
    """What the test rows are judged by."""
    tuned_by: str
    """What the validation rows are judged by."""
    higher: bool
    """Whether higher values of ``tuned_by`` are better."""
    tell: Callable[[int, int], None]
    """Told of steps made, and of how many there are."""
    models_texts: bool
    """Whether what a model forgets can be measured."""
    before_run: Callable[[str], None]
    """Told of the words in which to stop, before each training."""
    crew: Crew | None = None
    """Those who train besides this process."""
    _ahead: dict[str, Future[Trained]] = field(default_factory=dict)
    """Trainings that were begun before their turn."""

    def of_rate(
        self, contestant: Contestant, rate: float, until: int, *, whole: bool, paused_at: int | None = None
    ) -> Training:
        """Return the training with a learning rate up to a step, whose worth the validation rows alone tell.

        ``paused_at`` is the step up to which it was followed before.
        """
        key = {"method": contestant.name, "rate": rate, "stage": "whole" if whole else "third"}
        place = self.folder.tuning(contestant.folder, rate)
        evaluation = self.config.evaluation.changed(split="validation", baseline=False, answers=0, training_rows=0)
        config = self.run_config(contestant, rate, self.config.train.seed, place, evaluation=evaluation)

        def read() -> tuple[float | None, float | None]:
            return best_validation(place, self.tuned_by, higher=self.higher)

        return Training("tried", key, config, until, read, paused_at)

    def of_seed(self, contestant: Contestant, rate: float, seed: int) -> Training:
        """Return the training with a seed, whose worth the test rows tell: the one time that they are opened for it."""
        key = {"method": contestant.name, "seed": seed}
        place = self.folder.run(contestant.folder, seed)
        settings = self.config.evaluation
        text = settings.general_text or (MANUAL if self.models_texts else None)
        evaluation = settings.changed(split="test", keep_scores=True, general_text=text)
        config = self.run_config(contestant, rate, seed, place, evaluation=evaluation, cut=seed)
        return Training("judged", key, config, None, lambda: (_judged(place, self.metric), None))

    def begin(self, trainings: Iterable[Training]) -> None:
        """Have others begin with trainings whose turn comes later, where there are others."""
        if self.crew is None:
            return
        for one in trainings:
            if self._known(one) is None and one.name not in self._ahead:
                self._ahead[one.name] = self.crew.train(one.config, one.until, one.paused_at)

    def finish(self, training: Training) -> Outcome:
        """Train unless the journal says what came of it; what fails is kept with its reason."""
        kind, key = training.kind, training.key
        known = self._known(training)
        if known is not None:
            return Outcome(known["value"], known["loss"], known["reason"], is_new=False)
        begun = [event for event in self.journal.of("begun") if event["of"] == kind and key.items() <= event.items()]
        if len(begun) >= MOST_ATTEMPTS:
            value, loss = None, None
            reason = f"its training ended {len(begun)} times without a word, perhaps for lack of memory"
            warnings: Sequence[str] = ()
            seconds = 0.0
        else:
            self.journal.add("begun", of=kind, **key)
            value, loss, reason, warnings, seconds = self._train(training)
        # Of a training that was interrupted, the time up to then counts, too.
        seconds += sum(event.get("lost", 0.0) for event in begun)
        self.journal.add(
            kind, **key, value=value, loss=loss, reason=reason, seconds=seconds, warnings=list(warnings)[:5]
        )
        return Outcome(value, loss, reason, is_new=True)

    def run_config(
        self, contestant: Contestant, rate: float, seed: int, place: Path, *, cut: int | None = None, **sections: Any
    ) -> RunConfig:
        """Return the configuration of a run; ``cut`` gives it rows of its own.

        That are validation rows, where they are cut here, or the training rows, where few are drawn.
        """
        data = self.config.data
        if cut is not None and data.few_shot is None and data.validation is None and data.validation_fraction:
            data = data.changed(validation_seed=(data.split_seed + cut) % 2**32)
        if cut is not None and data.few_shot is not None:
            _, draws = data.draw_numbers
            data = data.changed(draw=f"{cut - self.config.train.seed}/{draws}")
        training = self.config.train.changed(learning_rate=rate, seed=seed)
        return self.config.run_of(contestant, train=training, data=data, output=str(place), **sections)

    def forget_state(self, contestant: Contestant, rate: float) -> None:
        """Give back disk and memory of a run that a rate was tried by, and that nobody goes on with."""
        place = self.folder.tuning(contestant.folder, rate)
        self.workshop.states.forget(place)
        remove_folder(RunDirectory(place).checkpoints)

    def _known(self, training: Training) -> dict[str, Any] | None:
        """Return what the journal says came of a training."""
        key = training.key.items()
        return next((event for event in self.journal.of(training.kind) if key <= event.items()), None)

    def _train(self, training: Training) -> tuple[float | None, float | None, str, Sequence[str], float]:
        place = Path(str(training.config.output))
        self.before_run(f"Stopped in the training in {place}. Continue with: {HOW_TO_RESUME}")
        trained = self._train_here(training) if self.crew is None else self._wait_for(training, self.crew)
        told = trained.warnings, trained.seconds
        if trained.reason:
            return None, None, trained.reason, *told
        try:
            value, loss = training.read()
        except (RunError, InputError) as error:
            return None, None, str(error).split("\n", 1)[0].rstrip("."), *told
        if value is None or not math.isfinite(value):
            return None, loss, "the metric that decides has no value", *told
        return value, loss, "", *told

    def _wait_for(self, training: Training, crew: Crew) -> Trained:
        self.begin([training])
        return crew.wait(self._ahead.pop(training.name))

    def _train_here(self, training: Training) -> Trained:
        watching, began, reason = Progress(self.tell), time.monotonic(), ""
        try:
            train(
                training.config,
                resume=RunDirectory(Path(str(training.config.output))).has_begun,
                observers=[watching],
                workshop=self.workshop,
                until=training.until,
                paused_at=training.paused_at,
                how_to_resume=HOW_TO_RESUME,
            )
        except DiskError:
            raise
        except (RunError, InputError) as error:
            reason = str(error).split("\n", 1)[0].rstrip(".")
        return Trained(reason, tuple(watching.warnings), time.monotonic() - began)


def _judged(place: Path, metric: str) -> float | None:
    evaluation = RunDirectory(place).read_json("evaluation")
    value = evaluation["metrics"].get(metric, {}).get("value")
    return None if value is None else float(value)


def tuning_seconds(journal: Journal, method: str) -> float:
    """Return the seconds that a method's rates have taken so far."""
    return float(sum(event["seconds"] for event in journal.of("tried") if event["method"] == method))
