"""Several LoRA runs on one base model, trained in one pass over it; each is the run that it is alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from tunesmith.engine import ranks
from tunesmith.engine.loop import require_updates
from tunesmith.engine.together import Member, make_steps, obstacle
from tunesmith.kernels.waiting import cores_shared
from tunesmith.run.composition import compose
from tunesmith.run.config import RunConfig
from tunesmith.run.course import Course
from tunesmith.run.defaults import taken_up
from tunesmith.run.directory import RunDirectory
from tunesmith.run.finish import finish
from tunesmith.run.frozen_states import keep_states, wants_states
from tunesmith.run.guest import as_guest
from tunesmith.run.memory import peak_bytes, reset_peak
from tunesmith.run.observers import Observer, Observers
from tunesmith.run.opening import open_run
from tunesmith.run.readiness import ready_to_step
from tunesmith.run.session import Composed, Ready
from tunesmith.run.signals import Stopped, StopRequests, stop_requests
from tunesmith.run.step_settings import settle_steps_of_several
from tunesmith.run.training import directory_of, enter, resumable, train
from tunesmith.run.workshop import Workshop
from tunesmith.types import InputError, Problem, RunError, StepInfo

SAME_COMPUTE = ("layout", "device", "kernels", "keep_states", "deterministic", "checkpointing")
"""What decides, besides the model, the precision and what the method names, how the frozen base is computed. Everything
else may differ."""


class SomeRunsFailedError(RunError):
    """Some of the runs gave up; the others are finished."""

    def __init__(self, message: str, finished: Sequence[Path]) -> None:
        super().__init__(message)
        self.finished = list(finished)
        """The run directories of the others."""


@dataclass(frozen=True, slots=True)
class _Planned:
    """A run that is to be trained now."""

    config: RunConfig
    directory: RunDirectory
    observers: Sequence[Observer]
    resume: bool


@dataclass(frozen=True, slots=True)
class _Entrant:
    """A run that is being trained."""

    session: Ready
    course: Course
    member: Member


@cores_shared()
def train_together(
    configs: Sequence[RunConfig],
    *,
    resume: bool = False,
    overwrite: bool = False,
    observers: Sequence[Sequence[Observer]] = (),
) -> list[Path]:
    """Train LoRA runs that share a base model in one pass over it; return their run directories, in order.

    Each is the run that ``train`` makes of its config: the same rows in the same order, the same steps (up to the
    rounding of matrix products of other sizes), the same folder. Rates, schedules, ranks, seeds, numbers of steps and
    the data and their split may differ; the model, its settings (``max_length`` among them) and where it is adapted
    must not, and what must be equal is said when it is not. A run that ends earlier, or gives up, leaves the others to
    go on.

    Args:
        configs: The complete configurations, each with an ``output`` of its own.
        resume: Continue those of the runs that were interrupted and start those that never began.
        overwrite: Replace what is in the folders.
        observers: For each run, in the order of ``configs``, those who are told of its steps, evaluations and notes.

    Raises:
        InputError: The runs cannot be trained together, or one of them not at all; nothing was trained.
        SomeRunsFailedError: Some of the runs could not go on; the others are finished.
        RunError: None of them could.
        Stopped: A signal asked to stop; a checkpoint of every run was saved if training had begun.
    """
    if len(configs) == 1:
        own = observers[0] if observers else ()
        return [train(configs[0], resume=resume, overwrite=overwrite, observers=own)]
    directories = [directory_of(config) for config in configs]
    _require_one_base(configs, directories)
    with ExitStack() as stack:
        stack.enter_context(as_guest())
        stop = stack.enter_context(stop_requests())
        begun = [resume and directory.has_begun for directory in directories]
        if resume and not any(begun):
            _refuse_to_resume(directories)
        planned = []
        for config, place, own, again in zip(
            configs, directories, observers or [()] * len(configs), begun, strict=True
        ):
            directory = enter(stack, place, config, stop, resume=again, overwrite=overwrite)
            if directory is not None:
                planned.append(_Planned(taken_up(config, directory) if again else config, directory, own, again))
        if resume:
            stop.advice = "Stopped before training went on; all is as it was."
        failures = _train(_compose(stack, planned, stop), stop) if planned else {}
    if failures:
        _give_account(failures, directories)
    return [directory.path for directory in directories]


def _compose(stack: ExitStack, planned: Sequence[_Planned], stop: StopRequests) -> list[Ready]:
    """Build every run, then open them all: what cannot be trained is found before anything is written."""
    composed = _compose_all(stack, planned, stop)
    _require_members(composed)
    opened = []
    for one, run in zip(planned, composed, strict=True):
        stack.enter_context(resumable(run.directory))
        opened.append(open_run(run, resume=one.resume))
    stop.advice = "Stopped before the first step. Begin again with the same command and --resume."
    if any(map(wants_states, opened)):
        opened = list(map(keep_states, opened))
    trainings, settings = settle_steps_of_several(opened)
    message = f"Trained in one pass over the base model with {len(opened) - 1} other runs; times are its share."
    ready = []
    for run, training in zip(opened, trainings, strict=True):
        if len(opened) > 1:
            run.note(Problem("note", message))
        ready.append(ready_to_step(stack, run, training, settings))
    return ready


def _compose_all(stack: ExitStack, planned: Sequence[_Planned], stop: StopRequests) -> list[Composed]:
    """Build every run, on the frozen weights of the first."""
    workshop = Workshop()
    Observers(list(planned[0].observers)).working("reading the data")
    tasks = sorted({workshop.data(one.config).task.name for one in planned})
    if len(tasks) > 1:
        message = f"Runs that are trained together need the same task; here it is {', '.join(tasks)}."
        raise InputError(message, "Choose one with --task.")
    composed: list[Composed] = []
    for one in planned:
        watching = Observers(list(one.observers))
        stack.callback(watching.close)
        like = composed[0].network if composed else None
        how_to_resume = "the same command and --resume"
        composed.append(
            compose(one.config, one.directory, watching, stop, workshop, like=like, how_to_resume=how_to_resume)
        )
    workshop.release()
    return composed


def _train(sessions: Sequence[Ready], stop: StopRequests) -> dict[Path, RunError]:
    """Make all steps and finish every run; return why runs gave up, by their folders."""
    device = sessions[0].network.device
    reset_peak(device)
    failures = _drive(sessions, stop)
    for session in sessions:
        if session.directory.place in failures:
            continue
        try:
            with resumable(session.directory):
                finish(session, peak_memory=peak_bytes(device))
        except RunError as error:
            failures[session.directory.place] = error
    return failures


def _drive(sessions: Sequence[Ready], stop: StopRequests) -> dict[Path, RunError]:
    """Make the steps of all runs, one of each at a time; a run that ends or gives up leaves."""
    failures: dict[Path, RunError] = {}
    active = [_Entrant(session, Course(session), Member.of(session.training)) for session in sessions]
    with stop.deferred():
        for entrant in active:
            entrant.course.begin()
        _stop_if_asked(active, stop)
        while active := [
            one for one in active if not one.course.is_over and one.session.directory.place not in failures
        ]:
            for one, made in zip(active, _make_steps(active), strict=True):
                try:
                    if isinstance(made, RunError):
                        raise made
                    with resumable(one.session.directory):
                        one.course.after(made)
                    require_updates(one.session.training, made)
                except RunError as error:
                    failures[one.session.directory.place] = error
                    one.session.note(Problem("error", str(error), "The other runs go on."))
            _stop_if_asked(active, stop)
    return failures


def _make_steps(active: Sequence[_Entrant]) -> list[StepInfo | RunError]:
    """Make the next step of every run, together or, where memory does not suffice for that, one after the other.

    What a run has no memory for even alone is no reason for the others to end. It is left with a checkpoint of the
    step before, to be resumed where there is more memory.
    """
    trainings = [one.session.training for one in active]
    budgets = [training.token_budget for training in trainings]
    try:
        return list(make_steps([one.member for one in active]))
    except RunError as error:
        lack = error
    made: list[StepInfo | RunError] = []
    for one, training, budget in zip(active, trainings, budgets, strict=True):
        training.token_budget = budget  # micro-batches that were made smaller in vain
        try:
            made += [lack] if len(active) == 1 else make_steps([one.member])
        except RunError as error:
            made.append(error)
        if isinstance(made[-1], RunError):
            training.token_budget = budget
            one.course.save()
    return made


def _stop_if_asked(active: Sequence[_Entrant], stop: StopRequests) -> None:
    """Save a checkpoint of every run that is being trained and stop, if a signal has asked for it."""
    received = ranks.max(stop.received or 0)
    if not received:
        return
    for one in active:
        one.course.save()
    steps = [one.session.training.step for one in active]
    reached = f"step {steps[0]}" if len(set(steps)) == 1 else f"steps {min(steps)} to {max(steps)}"
    raise Stopped(
        int(received),
        f"Stopped after {reached}; a checkpoint of every run under way ({len(active)}) was saved. "
        "Continue with the same command and --resume.",
    )


def _require_one_base(configs: Sequence[RunConfig], directories: Sequence[RunDirectory]) -> None:
    """Refuse configurations that cannot have one base, or would write into one folder."""
    problems = []
    if others := sorted({config.method.name for config in configs if config.method.same_in_one_pass is None}):
        problems.append(
            Problem(
                "error",
                f"Runs are trained together on one frozen base, which the method '{others[0]}' does not leave frozen.",
                "Use --method lora, or train the runs one by one.",
            )
        )
    if scratch := sorted({config.model.name for config in configs if config.model.from_scratch}):
        problems.append(
            Problem(
                "error",
                f"Runs are trained together on one pretrained base; the model '{scratch[0]}' is trained from scratch.",
                "Choose a pretrained model, or train the runs one by one.",
            )
        )
    first, *rest = [_base_of(config) for config in configs]
    for key, value in {} if problems else first.items():
        values = list(dict.fromkeys(map(str, (value, *(one.get(key) for one in rest)))))
        if len(values) > 1:
            problems.append(
                Problem(
                    "error",
                    f"Runs that are trained together need the same {key}; here it is {', '.join(values)}.",
                    f"Give all of them one {key}, or train them one by one.",
                )
            )
    folders = [directory.path.resolve() for directory in directories]
    if twice := sorted({str(folder) for folder in folders if folders.count(folder) > 1}):
        problems.append(
            Problem("error", f"Several runs would be written into {twice[0]}.", "Give each an output of its own.")
        )
    if problems:
        raise InputError(problems)


def _base_of(config: RunConfig) -> dict[str, Any]:
    """Return what must be equal, by key."""
    values = config.model_dump(mode="json")
    return {
        **{f"model.{key}": value for key, value in values["model"].items()},
        **{f"method.{key}": values["method"].get(key) for key in config.method.same_in_one_pass or ()},
        "train.precision": values["train"]["precision"],
        **{f"compute.{key}": values["compute"][key] for key in SAME_COMPUTE},
    }


def _require_members(runs: Sequence[Composed]) -> None:
    """Refuse runs that turn out not to fit into one pass."""
    problems = []
    for run in runs:
        padded = run.network.scorer.layout != "flat"
        reason = f"its layout is padded ({run.network.layout_reason})" if padded else obstacle(run.training)
        if reason:
            problems.append(
                Problem(
                    "error",
                    f"The run in {run.directory.place} cannot be trained in one pass with others: {reason}.",
                    "Train the runs one by one.",
                )
            )
    if problems:
        raise InputError(problems)


def _refuse_to_resume(directories: Sequence[RunDirectory]) -> NoReturn:
    folders = ", ".join(str(directory.path) for directory in directories)
    raise InputError(f"There is nothing to resume: none of {folders} holds a config.yaml.", "Leave out --resume.")


def _give_account(failures: Mapping[Path, RunError], directories: Sequence[RunDirectory]) -> NoReturn:
    """Raise what says which runs gave up and why."""
    finished = [directory.path for directory in directories if directory.path not in failures]
    reasons = "\n".join(f"{path}: {error}" for path, error in failures.items())
    if not finished:
        raise RunError(f"None of the {len(directories)} runs could go on.\n{reasons}")
    message = f"{len(failures)} of {len(directories)} runs could not go on; the others are finished.\n{reasons}"
    raise SomeRunsFailedError(message, finished)
