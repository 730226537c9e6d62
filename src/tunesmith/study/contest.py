"""The contest: methods compared on the user's own rows, with intervals over rows and seeds, and what each costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tunesmith.evaluate import has_baseline, rows_needed
from tunesmith.kernels.waiting import cores_shared
from tunesmith.readable import count, is_fraction
from tunesmith.run import RunConfig
from tunesmith.run.assembly import TaskData
from tunesmith.run.composition import compose
from tunesmith.run.directory import RunDirectory
from tunesmith.run.environment import machine, machine_in_words
from tunesmith.run.forecast import forecast
from tunesmith.run.observers import Observers
from tunesmith.run.session import Composed
from tunesmith.run.training import output_name
from tunesmith.study.board import Board, Cell, Line, Watcher, Watchers
from tunesmith.study.contest_config import AUGMENT, CompareConfig, Contestant, read_contestants, reference_of
from tunesmith.study.contest_course import Course, Settled, seeds_of, settled_from
from tunesmith.study.contest_record import ContestRecord
from tunesmith.study.contest_runs import ContestRuns
from tunesmith.study.contest_statistics import ContestStatistics, Question
from tunesmith.study.crew import Crew
from tunesmith.study.executing import crew_for
from tunesmith.study.openings import Openings
from tunesmith.study.rate_search import Yardstick
from tunesmith.study.time_budget import Cost
from tunesmith.study.workplace import HOW_TO_RESUME, Workplace, workplace
from tunesmith.types import InputError, Problem

RIVAL_TITLES = {
    "tfidf": "TF-IDF",
    "untuned": "the model before fine-tuning",
    "rule": "a simple rule",
    "in_context": "the model before fine-tuning with the rows as examples in its prompt",
}
RIVAL_NAMES = {"classical": "tfidf", "untuned": "untuned", "rule": "rule"}
PROBE_SECONDS = 2.0
"""How long steps of a method are made to see what it costs, where there is a budget."""


@cores_shared()
def run_contest(config: CompareConfig, *, overwrite: bool = False, watchers: Sequence[Watcher] = ()) -> Path:
    """Compare methods as ``config`` says and return the study's folder.

    A contest that was killed goes on from where it was when this is called again with the same configuration.

    Args:
        config: What is compared, on what, and how.
        overwrite: Replace the study that is in the folder.
        watchers: Told of every change.

    Raises:
        InputError: The configuration, the data, the model or a method cannot be used, or there are no test rows;
            nothing was trained.
        DiskError: The disk takes nothing any more; the same command goes on.
        Stopped: A signal asked to stop; the same command goes on.
    """
    contestants, is_lenient = read_contestants(config)
    place = Path(config.output or default_output(config))
    config = config.model_copy(update={"output": str(place)})
    by_name = {one.name: one for one in contestants}
    with closing(Watchers(watchers)) as watching, workplace(place, _asked(config), overwrite=overwrite) as work:
        contest = _Contest(config, by_name, is_lenient, work, watching)
        with work.preparing():
            contest.prepare()
        contest.hold()
    return place


def default_output(config: RunConfig) -> str:
    """Return a folder name from data and model."""
    return output_name(config.data.path, config.model.name, kind="compare")


@dataclass
class _Contest:
    """Puts a contest together: what is asked, who takes part, what is recorded."""

    config: CompareConfig
    contestants: dict[str, Contestant]
    is_lenient: bool
    """Whether methods that do not fit are left out rather than refused."""
    work: Workplace
    watchers: Watchers
    settled: dict[str, Settled] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    """Why methods are left out, by name."""

    @property
    def _first(self) -> Contestant:
        """One whose rows are those of the data alone, where there is one."""
        return min(self.contestants.values(), key=lambda one: one.is_augmented)

    def prepare(self) -> None:
        """Read the rows, see what each method makes of them, and refuse what cannot be compared."""
        self.reference = reference_of(self.config, list(self.contestants.values()))
        self.data = self.work.workshop.data(self.config.run_of(self._first))
        _require_splits(self.config, self.data)
        self.question = self._question(self.data)
        self.board = self._board()
        self._settle()

    def hold(self) -> None:
        """Go through the contest to its end and write what came of it."""
        kinds = [self.config.run_config(method=self.contestants[name].method) for name in self.settled]
        num_jobs = len(kinds) * max(self.config.seeds, self.config.rates if self.config.rates > 1 else 1)
        with crew_for(self.config, self.work, kinds, num_jobs) as crew:
            self._hold(crew)

    def _hold(self, crew: Crew | None) -> None:
        question = self.question
        runs = ContestRuns(
            self.config,
            self.work.folder,
            self.work.journal,
            self.work.workshop,
            question.metric,
            question.tuned_by,
            question.tuned_higher,
            self._stepped,
            question.task.on_texts() is not None,
            self._before_run,
            crew,
        )
        folders = {name: one.folder for name, one in self.contestants.items()}
        record = ContestRecord(
            self.work.folder, self.work.journal, self.board, ContestStatistics(question), folders, self._facts()
        )
        openings = Openings(self.data.prepared.hashes["test"], self.work.folder.path)

        def save(*, is_over: bool = False) -> None:
            self.work.folder.write_result(record.make(course.cuts, self._sharing(), is_over=is_over))

        course = Course(
            config=self.config,
            contestants=self.contestants,
            reference=self.reference,
            runs=runs,
            journal=self.work.journal,
            watchers=self.watchers,
            board=self.board,
            yardstick=Yardstick.of(
                question.tuned_by, question.num_rows.get("validation"), higher=question.tuned_higher
            ),
            saved=save,
            opened=openings.add,
        )
        for problem in (*openings.warning(), *self._notes()):
            course.note(problem)
        for name, reason in self.reasons.items():
            course.leave_out(name, "cut", reason)
        course.go(self.settled)
        self.work.stop.advice = f"Stopped while the results were computed. Bring it to its end with: {HOW_TO_RESUME}"
        self.board.working, self.board.progress = "computing intervals", None
        self.watchers.changed(self.board)
        save(is_over=True)
        self.board.working = ""
        self.watchers.changed(self.board)

    # ---- before the first training ---------------------------------------------------------------

    def _question(self, data: TaskData) -> Question:
        task, config = data.task, self.config
        main = task.main_metric()
        metric = config.metric or main
        if metric not in task.higher_is_better:
            known = ", ".join(task.higher_is_better)
            raise InputError(f"metric: {task.name} has no metric {metric!r}.", f"Choose one of {known}.")
        wanted = config.train.early_stopping.metric or main
        rival = RIVAL_NAMES[task.rival] if task.rival == "untuned" or has_baseline(task) else ""
        rival = rival if config.evaluation.baseline else ""
        if rival == "untuned" and config.data.few_shot is not None and task.writer is not None:
            rival = "untuned" if task.writer.exchanges(data.columns("train")) is None else "in_context"
        return Question(
            task=task,
            metric=metric,
            higher=task.higher_is_better[metric],
            tuned_by=wanted,
            tuned_higher={**task.higher_is_better, "loss": False}[wanted],
            reference=rival if rival == "in_context" and not config.reference else self.reference,
            margin=config.margin,
            num_rows={split: len(rows) for split, rows in data.prepared.splits.items()},
            groups=data.prepared.groups("test"),
            rival=rival,
            twins={name: one.without for name, one in self.contestants.items() if one.is_augmented},
            shots=config.data.few_shot,
            confidence=config.evaluation.confidence,
            seed=config.train.seed,
        )

    def _board(self) -> Board:
        seeds = seeds_of(self.config, self.config.seeds)
        lines = {name: Line(name, name, {seed: Cell() for seed in seeds}) for name, one in self.contestants.items()}
        rival = self.question.rival
        if rival:
            lines[rival] = Line(rival, RIVAL_TITLES[rival], {}, state="done")
        return Board(self.question.metric, self.question.higher, lines, budget=self.config.budget_seconds)

    def _settle(self) -> None:
        """See of every method what its default rate is here, and what it takes; refuse those that do not fit."""
        known = {event["method"]: event for event in self.work.journal.of("settled")}
        refused: list[Problem] = []
        for name, one in list(self.contestants.items()):
            if name not in known:
                self.board.working = f"looking at {name}"
                self.watchers.changed(self.board)
                try:
                    known[name] = self.work.journal.add("settled", method=name, **self._look(one))
                except InputError as error:
                    if self.is_lenient:
                        self.reasons[name] = str(error).split("\n", 1)[0].rstrip(".")
                        continue
                    refused += [_of_method(name, problem) for problem in error.problems]
                    continue
            self.settled[name] = settled_from(known[name])
            self.contestants[name] = replace(one, of_training=known[name].get("train", {}))
        if refused:
            raise InputError(list(dict.fromkeys(refused)))
        if self.reference not in self.settled:
            if not self.settled:
                raise InputError("None of the methods fits this model and these rows.", "Choose another model.")
            before, self.reference = self.reference, next(iter(self.settled))
            if self.question.reference == before:
                self.question = replace(self.question, reference=self.reference)

    def _look(self, one: Contestant) -> dict[str, Any]:
        """Return a method's rate and steps here and, where time matters, what it takes.

        One with made rows makes the steps that it makes without them: more steps are not what is compared.
        """
        place = str(self.work.folder.run(one.folder, 0))
        own: dict[str, Any] = {}
        if one.is_augmented:
            plain = self._compose(self.config.run_of(replace(one, of_data={AUGMENT: None}), output=place))
            steps, names = plain.training.plan.total_steps, ("batch_size", "epochs", "evaluate_steps")
            own = {**{name: getattr(plain.config.train, name) for name in names}, "max_steps": steps}
            one = replace(one, of_training=own)
        config = self.config.run_of(one, output=place)
        if self.board.budget is not None:
            seen = forecast(config, self.work.workshop, stop=self.work.stop, seconds=PROBE_SECONDS)
            cost = Cost(seen.seconds_of_training, seen.seconds_around)
            rate, steps = seen.config.train.learning_rate, seen.timetable.num_steps
        else:
            composed = self._compose(config)
            cost = Cost(0.0, 0.0)
            rate, steps = composed.config.train.learning_rate, composed.training.plan.total_steps
        found = {"rate": rate, "steps": steps, "training": cost.training, "finishing": cost.finishing}
        return found | ({"train": own} if own else {})

    def _compose(self, config: RunConfig) -> Composed:
        directory = RunDirectory(Path(str(config.output)))
        return compose(config, directory, Observers([]), self.work.stop, self.work.workshop)

    def _notes(self) -> list[Problem]:
        """Say what the numbers of rows and seeds allow to be found."""
        notes = []
        num_rows, margin = self.question.num_rows["test"], self.config.margin or 0.01
        if is_fraction(self.question.metric) and num_rows < (needed := rows_needed(margin)):
            message = (
                f"{count(num_rows)} test rows can hardly tell a difference of {100 * margin:g} points: it takes about "
                f"{count(needed)}."
            )
            notes.append(Problem("note", message, "Give more test rows, or a larger --margin."))
        if self.config.seeds == 1:
            message = f"With {self.question.seeds(1)}, what is found speaks of these models, and not of the methods."
            notes.append(Problem("note", message, "Give --seeds 3 or more for a word on the methods."))
        return notes

    # ---- while it goes on ------------------------------------------------------------------------

    def _stepped(self, step: int, total: int) -> None:
        self.board.progress = (step, total)
        self.board.spent = self.work.journal.seconds
        self.watchers.changed(self.board)

    def _before_run(self, advice: str) -> None:
        self.work.stop.check()
        self.work.stop.advice = advice

    def _facts(self) -> dict[str, Any]:
        began = self.work.journal.events[0]["time"] if self.work.journal.events else datetime.now(UTC).isoformat()
        return {
            "task": self.question.task.name,
            "model": self.config.model.name,
            "data": self.config.data.path,
            "seeds": seeds_of(self.config, self.config.seeds),
            "few_shot": self.config.data.few_shot,
            "machine": machine_in_words(self.work.workshop.once(["machine"], machine)),
            "began": began,
        }

    def _sharing(self) -> dict[str, Any]:
        return self.work.workshop.reuse.record()


def _asked(config: CompareConfig) -> Mapping[str, Any]:
    """Return what makes a contest this one: how it is computed, and for how long, may change."""
    return config.asked("budget")


def _require_splits(config: CompareConfig, data: TaskData) -> None:
    """Refuse rows that leave nothing for a final look, or nothing to tune by."""
    splits = data.prepared.splits
    if "test" not in splits:
        raise InputError(
            "There are no test rows: the validation rows choose learning rates and steps, so that they cannot judge as "
            "well.",
            "Give test rows as --data.test, or leave out --data.validation, so that both are cut from the rows.",
        )
    if "validation" not in splits:
        fix = "Give --data.validation, or set --data.validation_fraction above 0."
        if config.rates > 1:
            raise InputError("There are no validation rows to choose learning rates by.", f"{fix} Or set --rates 1.")


def _of_method(name: str, problem: Problem) -> Problem:
    return Problem(problem.severity, f"{name}: {problem.message}", problem.fix or "Leave it out of methods.")
