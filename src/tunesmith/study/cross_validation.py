"""Cross-validation: the same training once for every fold of the rows, each an ordinary run through one workshop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tunesmith.files.atomic import remove_folder
from tunesmith.kernels.waiting import cores_shared
from tunesmith.run import Observer, RunConfig, train
from tunesmith.run.assembly import TaskData
from tunesmith.run.composition import compose
from tunesmith.run.directory import RunDirectory
from tunesmith.run.environment import machine
from tunesmith.run.guards import check_method
from tunesmith.run.observers import Observers
from tunesmith.run.training import output_name
from tunesmith.study.crew import Crew
from tunesmith.study.cross_validation_config import CrossValidationConfig, Fold, check_asked, folds_of
from tunesmith.study.cross_validation_record import CrossValidationRecord
from tunesmith.study.executing import crew_for
from tunesmith.study.folder import RUNS
from tunesmith.study.rate_search import Tried, Yardstick, best_rate, rounds
from tunesmith.study.training_process import Trained
from tunesmith.study.validation_record import best_validation
from tunesmith.study.workplace import HOW_TO_RESUME, Workplace, workplace
from tunesmith.types import DiskError, InputError, RunError

UNTIL_THE_END = 2**62
"""The step up to which a rate is tried: all of the training, short of being judged."""

Watching = Callable[[str], Sequence[Observer]]
"""Gives, for a run's name in words, those who watch it."""


@cores_shared()
def run_cross_validation(
    config: CrossValidationConfig, *, overwrite: bool = False, watching: Watching = lambda _: ()
) -> Path:
    """Train and judge every fold as ``config`` says and return the study's folder.

    One that was killed goes on from where it was when this is called again with the same configuration. A fold that
    cannot go on is recorded with its reason, and the others are trained.

    Raises:
        InputError: The configuration, the data or the model cannot be used, or the rows cannot be cut into so many
            folds; nothing was trained.
        RunError: No fold could be trained; or the disk takes nothing any more, and the same command goes on.
        Stopped: A signal asked to stop; the same command goes on.
    """
    check_asked(config)
    place = Path(config.output or default_output(config))
    config = config.model_copy(update={"output": str(place)})
    check_method(config.run_config())
    with workplace(place, _asked(config), overwrite=overwrite) as work:
        course = _Course(config, work, watching)
        with work.preparing():
            course.prepare()
        runs = [course.folds[0].config(config, str(place))]
        num_jobs = len(course.folds) * config.rates
        with crew_for(config, work, runs, num_jobs) as crew:
            course.crew = crew
            course.go()
    return place


def default_output(config: RunConfig) -> str:
    """Return a folder name from data, model and method."""
    return output_name(config.data.path, config.model.name, config.method.name, kind="cross-validate")


@dataclass
class _Course:
    """Goes through the folds; what the journal tells of is not done again."""

    config: CrossValidationConfig
    work: Workplace
    watching: Watching
    crew: Crew | None = None
    """Those who train besides this process."""
    _ahead: dict[Path, Future[Trained]] = field(default_factory=dict)
    """Trainings that were begun before their turn, by their folder."""

    def prepare(self) -> None:
        """Read the rows of all folds, so that what is wrong with them is known before anything is trained."""
        self.folds = folds_of(self.config)
        rows = [self.work.workshop.data(fold.config(self.config, str(self._place(fold)))) for fold in self.folds]
        task = rows[0].task
        metric = self.config.train.early_stopping.metric or task.main_metric()
        self._chosen_by = (metric, {**task.higher_is_better, "loss": False}[metric])
        num_rows = len(rows[0].prepared.splits.get("validation", ()))
        self._yardstick = Yardstick.of(metric, num_rows or None, higher=self._chosen_by[1])
        _require_validation(self.config, rows)
        self._rates: list[float] = []
        if self.config.rates > 1:
            centre = self.config.train.learning_rate or self._default_rate()
            self._rates = [rate for one in rounds(centre, self.config.rates) for rate in one]
        facts = {
            "task": task.name,
            "model": self.config.model.name,
            "method": self.config.method.name,
            "data": self.config.data.path,
            "machine": self.work.workshop.once(["machine"], machine),
        }
        self.record = CrossValidationRecord(self.config, self.work.folder, self.work.journal, task, facts)

    def go(self) -> None:
        """Train and judge every fold that is not done, and write what came of all."""
        self.record.write()
        self._begin()
        for fold in self.folds:
            if self.record.judged(fold) is None:
                self._judge(fold)
                self.record.write()
        self.work.stop.advice = f"Stopped while the results were computed. Bring it to its end with: {HOW_TO_RESUME}"
        if not self.record.done():
            reasons = dict.fromkeys(event["reason"] for event in self.work.journal.of("judged"))
            raise RunError(f"None of the {len(self.folds)} folds could be trained: {'; '.join(reasons)}.")
        self.record.write(is_over=True)

    def _place(self, fold: Fold, rate: float | None = None) -> Path:
        place = self.work.folder.path / RUNS / fold.name
        return place if rate is None else place / f"rate-{rate:g}"

    def _default_rate(self) -> float:
        fold = self.folds[0]
        config = fold.config(self.config, str(self._place(fold)))
        composed = compose(config, RunDirectory(self._place(fold)), Observers([]), self.work.stop, self.work.workshop)
        rate = composed.config.train.learning_rate
        assert rate is not None
        return rate

    def _judge(self, fold: Fold) -> None:
        """Bring a fold to its end, by the best of its rates where there are several."""
        rate = None
        if self._rates:
            rate = self._best_rate(fold)
            if rate is None:
                reason = next((str(event["reason"]) for event in self._events("tried", fold)), "")
                self._note("judged", fold, reason=f"no learning rate could be followed: {reason}")
                return
            for other in self._rates:
                if other != rate:
                    remove_folder(self._place(fold, other))
        place = self._place(fold, rate)
        reason = self._train(fold, f"{self._words(fold)}", place, rate)
        self._note("judged", fold, rate=rate, reason=reason, folder=place.relative_to(self.work.folder.path).as_posix())

    def _begin(self) -> None:
        """Have others begin with all folds, where there are others: their rates first, then what judges them."""
        if self.crew is None:
            return
        left = [fold for fold in self.folds if self.record.judged(fold) is None]
        for fold in left:
            tried = {event["rate"] for event in self._events("tried", fold)}
            for rate in self._rates:
                if rate not in tried:
                    self._begin_training(fold, rate, UNTIL_THE_END)
        for fold in left:
            best = self._best_rate(fold) if self._rates else None
            if best is not None or not self._rates:
                self._begin_training(fold, best, None)

    def _begin_training(self, fold: Fold, rate: float | None, until: int | None) -> Future[Trained]:
        assert self.crew is not None
        place = self._place(fold, rate)
        self._ahead[place] = self.crew.train(fold.config(self.config, str(place), rate), until)
        return self._ahead[place]

    def _best_rate(self, fold: Fold) -> float | None:
        return best_rate({one: self._try(fold, one) for one in self._rates}, self._yardstick)

    def _try(self, fold: Fold, rate: float) -> Tried:
        """Follow a rate to the end of the training, and see what the validation rows say; the test rows stay closed."""
        known = [event for event in self._events("tried", fold) if event["rate"] == rate]
        if not known:
            place = self._place(fold, rate)
            reason = self._train(fold, f"{self._words(fold)}, rate {rate:g}", place, rate, until=UNTIL_THE_END)
            value, loss = (
                (None, None) if reason else best_validation(place, self._chosen_by[0], higher=self._chosen_by[1])
            )
            known = [self._note("tried", fold, rate=rate, value=value, loss=loss, reason=reason)]
        return Tried(known[0]["value"], known[0]["loss"])

    def _train(self, fold: Fold, words: str, place: Path, rate: float | None, until: int | None = None) -> str:
        """Train, or go on with a training; return why it could not go on."""
        self.work.stop.check()
        self.work.stop.advice = f"Stopped in {words}. Continue with: {HOW_TO_RESUME}"
        if self.crew is not None:
            begun = self._ahead.pop(place, None) or self._begin_training(fold, rate, until)
            self._ahead.pop(place, None)
            return self.crew.wait(begun).reason
        try:
            train(
                fold.config(self.config, str(place), rate),
                resume=RunDirectory(place).has_begun,
                observers=self.watching(words),
                workshop=self.work.workshop,
                until=until,
                how_to_resume=HOW_TO_RESUME,
            )
        except DiskError:
            raise
        except (RunError, InputError) as error:
            return str(error).split("\n", 1)[0].rstrip(".")
        return ""

    def _words(self, fold: Fold) -> str:
        done = self.folds.index(fold) + 1
        return f"fold {fold.number} of repeat {fold.repeat} ({done} of {len(self.folds)})"

    def _events(self, kind: str, fold: Fold) -> list[dict[str, Any]]:
        key = {"repeat": fold.repeat, "fold": fold.number}
        return [event for event in self.work.journal.of(kind) if key.items() <= event.items()]

    def _note(self, kind: str, fold: Fold, **values: Any) -> dict[str, Any]:
        return self.work.journal.add(kind, repeat=fold.repeat, fold=fold.number, **values)


def _require_validation(config: CrossValidationConfig, rows: Sequence[TaskData]) -> None:
    if config.rates > 1 and "validation" not in rows[0].prepared.splits:
        raise InputError(
            "There are no validation rows to choose learning rates by.",
            "Give --data.validation, set --data.validation_fraction above 0, or set --rates 1.",
        )


def _asked(config: CrossValidationConfig) -> dict[str, Any]:
    """Return what makes a cross-validation this one: how it is computed may change."""
    return {"kind": "cross-validation"} | config.asked()
