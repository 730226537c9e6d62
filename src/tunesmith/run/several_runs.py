"""Several runs, one after the other: each is the run that it is alone, and what they share is made once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from tunesmith.kernels.waiting import cores_shared
from tunesmith.run.config import RunConfig
from tunesmith.run.directory import RunDirectory
from tunesmith.run.guards import check_method
from tunesmith.run.guest import as_guest
from tunesmith.run.observers import Observer, Observers
from tunesmith.run.signals import StopRequests, stop_requests
from tunesmith.run.teacher import Teacher, with_task_of
from tunesmith.run.training import directory_of, enter, train, train_in
from tunesmith.run.workshop import Workshop
from tunesmith.types import InputError, Problem, RunError

HOW_TO_RESUME = "the same command and --resume"


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


@cores_shared()
def train_several(
    configs: Sequence[RunConfig],
    *,
    resume: bool = False,
    overwrite: bool = False,
    observers: Sequence[Sequence[Observer]] = (),
) -> list[Path]:
    """Train runs one after the other, of whatever methods, models and data; return their run directories, in order.

    Each is, to the bit, the run that ``train`` makes of its config. What several have in common (rows, tokens, a model
    as it was loaded, what frozen layers make of the rows, baselines) is made once. Before anything is trained every
    folder is held and the rows of every run are read, so that what is wrong there is known at once; what a run's model
    or its method does not allow is found when its turn comes. A run that cannot go on does not hold up the others.

    Args:
        configs: The complete configurations, each with an ``output`` of its own.
        resume: Leave the runs that are finished as they are, continue the one that was interrupted, and train those
            that never began.
        overwrite: Replace what is in the folders.
        observers: For each run, in the order of ``configs``, those who are told of its steps, evaluations and notes.

    Raises:
        InputError: Folders, settings or data of some runs cannot be used, or none of the runs fits its model; nothing
            was trained.
        SomeRunsFailedError: Some of the runs could not go on; the others are finished.
        RunError: None of them could.
        Stopped: A signal asked to stop; a checkpoint of the run under way was saved if its training had begun.
    """
    if len(configs) == 1:
        own = observers[0] if observers else ()
        return [train(configs[0], resume=resume, overwrite=overwrite, observers=own)]
    directories = [directory_of(config) for config in configs]
    _require_own_folders(directories)
    _require_each(configs, check_method)
    if resume and not any(directory.has_begun for directory in directories):
        _refuse_to_resume(directories)
    with ExitStack() as stack:
        stack.enter_context(as_guest())
        stop = stack.enter_context(stop_requests())
        planned = []
        for config, place, own in zip(configs, directories, observers or [()] * len(configs), strict=True):
            again = resume and place.has_begun and not place.awaits_replacement
            replaces = overwrite or (resume and place.awaits_replacement)
            directory = enter(stack, place, config, resume=again, overwrite=replaces)
            if directory is not None:
                planned.append(_Planned(config, directory, own, again))
        if resume:
            stop.advice = f"Stopped before training went on; all is as it was. Continue with: {HOW_TO_RESUME}"
        elif any(one.directory.final is not None for one in planned):
            stop.advice = "Stopped before training began; the runs in the folders are as they were."
        failures = _train_all(planned, stop) if planned else {}
    if failures:
        _give_account(failures, directories)
    return [directory.path for directory in directories]


def _require_own_folders(directories: Sequence[RunDirectory]) -> None:
    folders = [directory.path.resolve() for directory in directories]
    if twice := sorted({str(folder) for folder in folders if folders.count(folder) > 1}):
        raise InputError(f"Several runs would be written into {twice[0]}.", "Give each an output of its own.")


def _refuse_to_resume(directories: Sequence[RunDirectory]) -> NoReturn:
    folders = ", ".join(str(directory.path) for directory in directories)
    raise InputError(f"There is nothing to resume: none of {folders} holds a config.yaml.", "Leave out --resume.")


def _require_each(configs: Sequence[RunConfig], check: Callable[[RunConfig], object]) -> None:
    """Refuse configurations that do not pass ``check``, with all that is wrong with them, each thing once."""
    problems: list[Problem] = []
    for config in configs:
        try:
            check(config)
        except InputError as error:
            problems += [problem for problem in error.problems if problem not in problems]
    if problems:
        raise InputError(problems)


def _train_all(planned: Sequence[_Planned], stop: StopRequests) -> dict[Path, RunError | InputError]:
    """Train one run after the other; return why some could not go on, by their folders."""
    failures: dict[Path, RunError | InputError] = {}
    with Workshop() as workshop:
        Observers(planned[0].observers).working("reading the data of all runs")
        _require_each(
            [one.config for one in planned], lambda config: workshop.data(with_task_of(Teacher.of(config), config))
        )
        for one in planned:
            if one.directory.final is not None and not one.resume:
                one.directory.begin(anew=True)  # to be known as one to come if all are resumed before its turn
        for number, one in enumerate(planned):
            if number:
                stop.advice = (
                    f"Stopped before the turn of the run in {one.directory.place}. Continue with: {HOW_TO_RESUME}"
                )
            if (failure := _train_one(one, workshop, stop)) is not None:
                failures[one.directory.place] = failure
            if all(other.config.model != one.config.model for other in planned[number + 1 :]):
                workshop.release()
    return failures


def _train_one(one: _Planned, workshop: Workshop, stop: StopRequests) -> RunError | InputError | None:
    """Train a run from its beginning to its end; return why it could not go on, if so."""
    with closing(Observers(one.observers)) as watching:
        try:
            train_in(
                one.directory, one.config, watching, stop, workshop, resume=one.resume, how_to_resume=HOW_TO_RESUME
            )
        except (RunError, InputError) as error:
            found = error.problems if isinstance(error, InputError) else [Problem("error", str(error))]
            for problem in found:
                watching.noted(problem)
            return _without_frames(error)
    return None


def _without_frames(error: RunError | InputError) -> RunError | InputError:
    """Return an error without what holds on to the model that was trained when it was raised."""
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)


def _give_account(failures: Mapping[Path, RunError | InputError], directories: Sequence[RunDirectory]) -> NoReturn:
    """Raise what says which runs could not go on, and why."""
    finished = [directory.path for directory in directories if directory.path not in failures]
    refusals = [error for error in failures.values() if isinstance(error, InputError)]
    if len(refusals) == len(directories):
        raise InputError(dict.fromkeys(problem for error in refusals for problem in error.problems))
    reasons = "\n".join(f"{path}: {error}" for path, error in failures.items())
    if not finished:
        raise RunError(f"None of the {len(directories)} runs could go on.\n{reasons}")
    message = f"{len(failures)} of {len(directories)} runs could not go on; the others are finished.\n{reasons}"
    raise SomeRunsFailedError(message, finished)
