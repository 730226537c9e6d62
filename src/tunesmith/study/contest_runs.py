"""The trainings of a contest: each an ordinary run in a folder of its own, one after the other through one workshop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunesmith.files.atomic import remove_folder
from tunesmith.run import Observer, RunConfig, Workshop, train
from tunesmith.run.directory import RunDirectory
from tunesmith.run.general_text import MANUAL
from tunesmith.study.contest_config import CompareConfig, Contestant
from tunesmith.study.folder import Journal, StudyFolder
from tunesmith.study.validation_record import best_validation
from tunesmith.study.workplace import HOW_TO_RESUME
from tunesmith.types import DiskError, InputError, Problem, RunError, StepInfo

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


class Progress(Observer):
    """Tells how far a training is, and keeps what it warns of."""

    def __init__(self, tell: Callable[[int, int], None]) -> None:
        self._tell = tell
        self.warnings: list[str] = []

    def stepped(self, info: StepInfo, total_steps: int) -> None:
        self._tell(info.step, total_steps)

    def noted(self, problem: Problem) -> None:
        if problem.severity == "warning":
            self.warnings.append(problem.message)


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

    def try_rate(
        self, contestant: Contestant, rate: float, until: int, *, whole: bool, paused_at: int | None = None
    ) -> Outcome:
        """Train with a learning rate up to a step, and see what came of it on the validation rows alone.

        ``paused_at`` is the step up to which it was followed before.
        """
        key = {"method": contestant.name, "rate": rate, "stage": "whole" if whole else "third"}
        place = self.folder.tuning(contestant.folder, rate)
        evaluation = self.config.evaluation.changed(split="validation", baseline=False, answers=0)
        config = self.run_config(contestant, rate, self.config.train.seed, place, evaluation=evaluation)
        return self._trained(
            "tried",
            key,
            config,
            until,
            lambda: best_validation(place, self.tuned_by, higher=self.higher),
            paused_at=paused_at,
        )

    def judge(self, contestant: Contestant, rate: float, seed: int) -> Outcome:
        """Train with a seed, and see what came of it on the test rows: the one time that they are opened for it."""
        key = {"method": contestant.name, "seed": seed}
        place = self.folder.run(contestant.folder, seed)
        settings = self.config.evaluation
        text = settings.general_text or (MANUAL if self.models_texts else None)
        evaluation = settings.changed(split="test", keep_scores=True, general_text=text)
        config = self.run_config(contestant, rate, seed, place, evaluation=evaluation, cut=seed)
        return self._trained("judged", key, config, None, lambda: (_judged(place, self.metric), None))

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
        return self.config.run_config(
            method=contestant.method, train=training, data=data, output=str(place), **sections
        )

    def forget_state(self, contestant: Contestant, rate: float) -> None:
        """Give back disk and memory of a run that a rate was tried by, and that nobody goes on with."""
        place = self.folder.tuning(contestant.folder, rate)
        self.workshop.states.forget(place)
        remove_folder(RunDirectory(place).checkpoints)

    def _trained(
        self,
        kind: str,
        key: dict[str, Any],
        config: RunConfig,
        until: int | None,
        read: Callable[[], tuple[float | None, float | None]],
        *,
        paused_at: int | None = None,
    ) -> Outcome:
        """Train unless the journal says what came of it; what fails is kept with its reason."""
        known = [event for event in self.journal.of(kind) if key.items() <= event.items()]
        if known:
            return Outcome(known[0]["value"], known[0]["loss"], known[0]["reason"], is_new=False)
        begun = [event for event in self.journal.of("begun") if event["of"] == kind and key.items() <= event.items()]
        began = time.monotonic()
        if len(begun) >= MOST_ATTEMPTS:
            value, loss = None, None
            reason = f"its training ended {len(begun)} times without a word, perhaps for lack of memory"
            warnings: Sequence[str] = ()
        else:
            self.journal.add("begun", of=kind, **key)
            value, loss, reason, warnings = self._train(config, until, read, paused_at)
        # Of a training that was interrupted, the time up to then counts, too.
        seconds = time.monotonic() - began + sum(event.get("lost", 0.0) for event in begun)
        self.journal.add(
            kind, **key, value=value, loss=loss, reason=reason, seconds=seconds, warnings=list(warnings)[:5]
        )
        return Outcome(value, loss, reason, is_new=True)

    def _train(
        self,
        config: RunConfig,
        until: int | None,
        read: Callable[[], tuple[float | None, float | None]],
        paused_at: int | None,
    ) -> tuple[float | None, float | None, str, Sequence[str]]:
        watching = Progress(self.tell)
        place = RunDirectory(Path(str(config.output)))
        self.before_run(f"Stopped in the training in {place.path}. Continue with: {HOW_TO_RESUME}")
        try:
            train(
                config,
                resume=place.has_begun,
                observers=[watching],
                workshop=self.workshop,
                until=until,
                paused_at=paused_at,
                how_to_resume=HOW_TO_RESUME,
            )
            value, loss = read()
        except DiskError:
            raise
        except (RunError, InputError) as error:
            return None, None, str(error).split("\n", 1)[0].rstrip("."), watching.warnings
        if value is None or not math.isfinite(value):
            return None, loss, "the metric that decides has no value", watching.warnings
        return value, loss, "", watching.warnings


def _judged(place: Path, metric: str) -> float | None:
    evaluation = RunDirectory(place).read_json("evaluation")
    value = evaluation["metrics"].get(metric, {}).get("value")
    return None if value is None else float(value)
