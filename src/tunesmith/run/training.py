"""The composition root: from a configuration to a finished run directory, in reading order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from tunesmith.engine import ranks
from tunesmith.files.lock import locked
from tunesmith.files.space import require_writable
from tunesmith.kernels.waiting import cores_shared
from tunesmith.run.composition import compose
from tunesmith.run.config import RunConfig
from tunesmith.run.course import drive
from tunesmith.run.defaults import taken_up
from tunesmith.run.directory import RunDirectory
from tunesmith.run.finish import finish
from tunesmith.run.frozen_states import keep_states, wants_states
from tunesmith.run.group_fairness import weigh_groups
from tunesmith.run.guards import claim
from tunesmith.run.guest import as_guest
from tunesmith.run.memory import reset_peak
from tunesmith.run.mixed_up import mix_up
from tunesmith.run.observers import Observer, Observers
from tunesmith.run.opening import open_run
from tunesmith.run.rank_agreement import check_ranks, require_same_folder, was_begun
from tunesmith.run.readiness import ready_to_step
from tunesmith.run.sharded_training import check_parts, divide
from tunesmith.run.signals import StopRequests, stop_requests
from tunesmith.run.step_settings import settle_steps
from tunesmith.run.teaching import follow_teacher
from tunesmith.run.workshop import Workshop
from tunesmith.types import DiskError, InputError

PASSED_ON_SECONDS = 2.0
"""Where several processes train, each may be sent a signal, and be passed it on by whoever started it."""


@cores_shared()
def train(
    config: RunConfig,
    *,
    resume: bool = False,
    overwrite: bool = False,
    observers: Sequence[Observer] = (),
    workshop: Workshop | None = None,
    until: int | None = None,
    paused_at: int | None = None,
    how_to_resume: str = "",
) -> Path:
    """Train as ``config`` says and return the run directory.

    Inside ``started_by_torchrun`` all processes do so together, and the first one writes the run.

    Args:
        config: The complete configuration.
        resume: Continue an interrupted run in the same folder; the result is bit for bit that
            of a run that was never interrupted (on the CPU).
        overwrite: Replace what is in the folder.
        observers: Told of every step, evaluation and note.
        workshop: What the run has in common with others before and after it in this process; the result is bit for
            bit that of the run alone.
        until: Leave the run unfinished after this step, or earlier if it stops by itself: evaluated and saved, to be
            resumed. Its test rows have not been scored by then.
        paused_at: A step that the run was left at before: if that was lost, it is evaluated there as it was then.
        how_to_resume: What continues the run when it is stopped; its own command when not given.

    Raises:
        InputError: The configuration, data or model cannot be used; nothing was trained.
        RunError: Training could not go on; checkpoints made so far stay.
        Stopped: A signal asked to stop; a checkpoint was saved if training had begun.
    """
    place = directory_of(config)
    with ExitStack() as stack:
        stack.enter_context(as_guest())
        stop = stack.enter_context(stop_requests(PASSED_ON_SECONDS if ranks.size() > 1 else 0.0))
        resume = resume or ranks.shared("restart", lambda: was_begun(place))
        directory = enter(stack, place, config, resume=resume, overwrite=overwrite)
        if directory is None:
            return place.path
        if ranks.size() > 1 and not how_to_resume:
            how_to_resume = f"{directory.how_to_resume} --ranks {ranks.size()}"
        if resume:
            how = how_to_resume or directory.how_to_resume
            stop.advice = f"Stopped before training went on; all is as it was. Continue with: {how}"
        elif directory.final is not None:
            stop.advice = f"Stopped before training began; the run in {place.path} is as it was."
        watching = stack.enter_context(closing(Observers(observers)))
        train_in(
            directory,
            config,
            watching,
            stop,
            workshop or Workshop(keeps_models=False),
            resume=resume,
            until=until,
            paused_at=paused_at,
            how_to_resume=how_to_resume,
        )
    return place.path


def train_in(
    directory: RunDirectory,
    config: RunConfig,
    observers: Observers,
    stop: StopRequests,
    workshop: Workshop,
    *,
    resume: bool,
    until: int | None = None,
    paused_at: int | None = None,
    how_to_resume: str = "",
) -> None:
    """Train as ``config`` says, from its beginning to its end, in a folder that is held (``enter``).

    ``until``, ``paused_at`` and ``how_to_resume`` are those of ``train``, which says what is raised.
    """
    with ExitStack() as stack:
        workshop.reuse.begin_run()
        config = taken_up(config, directory) if resume else config
        composed = compose(config, directory, observers, stop, workshop, how_to_resume=how_to_resume)
        check_ranks(composed)
        check_parts(composed)
        stack.enter_context(_resumable(directory, composed.how_to_resume))
        opened = mix_up(weigh_groups(follow_teacher(open_run(composed, resume=resume))))
        if wants_states(opened):
            opened = keep_states(opened)
        divide(opened, resume=resume)
        ready = ready_to_step(stack, opened, *settle_steps(opened))
        reset_peak(ready.network.device)
        peak_memory = drive(ready, until, paused_at)
        if peak_memory is None:
            if not ready.settings.changes_model:
                workshop.networks.give_back(ready.network, ready.resolved)
        elif ranks.is_first():
            with ranks.whole_machine():
                finish(ready, peak_memory=peak_memory)


def directory_of(config: RunConfig) -> RunDirectory:
    """Return the run directory to be written; ``InputError`` where nothing can be."""
    directory = RunDirectory(Path(config.output or default_output(config)))
    if ranks.is_first():
        require_writable(directory.path)
    return directory


def enter(
    stack: ExitStack, place: RunDirectory, config: RunConfig, *, resume: bool, overwrite: bool
) -> RunDirectory | None:
    """Hold the folder until the stack ends, and make sure that it is ours; return where to write the run.

    That is a folder aside where it is to replace another run, and nowhere (None) where it is finished already. Of
    several processes that train one model the first one holds the folder, and says which it is.
    """

    def hold() -> list[str | None] | None:
        stack.callback(place.remove_if_empty)
        stack.enter_context(locked(place.path))
        found = claim(place, config, resume=resume, overwrite=overwrite)
        return None if found is None else [str(found.path), None if found.final is None else str(found.final)]

    held = ranks.shared("folder", hold)
    if held is None:
        return None
    require_same_folder(place.path)
    path, final = held
    return RunDirectory(Path(str(path)), None if final is None else Path(final))


@contextmanager
def _resumable(directory: RunDirectory, how_to_resume: str) -> Iterator[None]:
    """Say, where the disk takes nothing any more, how to go on with a run that has begun."""
    try:
        yield
    except (DiskError, OSError) as error:
        if isinstance(error, (BrokenPipeError, InputError)):
            raise
        what = error.what if isinstance(error, DiskError) else f"A file could not be read or written: {error}."
        done = "what was saved before is untouched"
        if not directory.config.exists():
            raise DiskError(what, f"Mend that, then run again; {done}.") from error
        raise DiskError(what, f"Mend that, then continue with: {how_to_resume} ({done}).") from error


def default_output(config: RunConfig) -> str:
    """Return a folder name from data, model and method."""
    taught = () if config.teacher is None else ("taught",)
    return output_name(config.data.path, config.model.name, config.method.name, *taught)


def output_name(data: str, *parts: str, kind: str = "") -> str:
    """Return the folder below ``runs`` of something made from data and what else tells it from others."""
    words = filter(None, (kind, Path(data).name.split(".")[0], *parts))
    return "runs/" + "-".join("".join(c if c.isalnum() else "-" for c in word).strip("-") for word in words)
