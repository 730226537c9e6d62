"""The composition root: from a configuration to a finished run directory, in reading order."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tunesmith.data.bad_rows import errors_among
from tunesmith.data.encoded import Encoded
from tunesmith.engine.loop import Training
from tunesmith.engine.optimizers import MasterOptimizer, Penalties
from tunesmith.engine.precision import be_deterministic
from tunesmith.engine.prefix import find_prefix
from tunesmith.files.lock import locked
from tunesmith.files.space import require_writable
from tunesmith.kernels.waiting import cores_shared
from tunesmith.models import record
from tunesmith.run.assembly import parameter_counts, resolve
from tunesmith.run.config import RunConfig
from tunesmith.run.defaults import as_record, decide, decisions_of, in_one_line, planned, taken_up
from tunesmith.run.directory import RunDirectory
from tunesmith.run.environment import git_state, machine, versions
from tunesmith.run.finish import finish
from tunesmith.run.frozen_states import keep_states, wants_states
from tunesmith.run.guards import (
    check_method,
    check_same_config,
    check_same_data,
    check_same_model,
    check_session,
    claim,
    other_compute,
    other_surroundings,
)
from tunesmith.run.guest import as_guest
from tunesmith.run.memory import peak_bytes, reset_peak
from tunesmith.run.metrics_file import MetricsFile
from tunesmith.run.observers import Observer, Observers, RunPlan
from tunesmith.run.session import Session, drive, restore
from tunesmith.run.signals import StopRequests, stop_requests
from tunesmith.run.step_settings import settle_steps
from tunesmith.run.tensorboard import TensorBoard
from tunesmith.run.untuned_rival import judge_untuned
from tunesmith.run.workshop import Workshop
from tunesmith.tasks.base import Task
from tunesmith.tasks.left_out import encoding_problems, num_refused
from tunesmith.types import DiskError, InputError, Problem


@cores_shared()
def train(
    config: RunConfig, *, resume: bool = False, overwrite: bool = False, observers: Sequence[Observer] = ()
) -> Path:
    """Train as ``config`` says and return the run directory.

    Args:
        config: The complete configuration.
        resume: Continue an interrupted run in the same folder; the result is bit for bit that
            of a run that was never interrupted (on the CPU).
        overwrite: Replace what is in the folder.
        observers: Told of every step, evaluation and note.

    Raises:
        InputError: The configuration, data or model cannot be used; nothing was trained.
        RunError: Training could not go on; checkpoints made so far stay.
        Stopped: A signal asked to stop; a checkpoint was saved if training had begun.
    """
    place = directory_of(config)
    with ExitStack() as stack:
        stack.enter_context(as_guest())
        stop = stack.enter_context(stop_requests())
        directory = enter(stack, place, config, stop, resume=resume, overwrite=overwrite)
        if directory is None:
            return place.path
        watching = Observers(observers)
        stack.callback(watching.close)
        config = taken_up(config, directory) if resume else config
        session, resolved = compose(config, directory, watching, stop, Workshop())
        stack.enter_context(resumable(directory))
        open_run(session, resolved, resume=resume)
        if wants_states(session):
            keep_states(session)
        session.settled = settle_steps(session)
        record_steps(stack, session)
        reset_peak(session.network.device)
        drive(session)
        finish(session, peak_memory=peak_bytes(session.network.device))
    return place.path


def directory_of(config: RunConfig) -> RunDirectory:
    """Return the run directory to be written; ``InputError`` where nothing can be."""
    directory = RunDirectory(Path(config.output or default_output(config)))
    require_writable(directory.path)
    return directory


def enter(
    stack: ExitStack, place: RunDirectory, config: RunConfig, stop: StopRequests, *, resume: bool, overwrite: bool
) -> RunDirectory | None:
    """Hold the folder until the stack ends, and make sure that it is ours; return where to write the run.

    That is a folder aside where it is to replace another run, and nowhere (None) where it is finished already.
    """
    stack.callback(place.remove_if_empty)
    stack.enter_context(locked(place.path))
    directory = claim(place, config, resume=resume, overwrite=overwrite)
    if directory is None:
        return None
    if resume:
        stop.advice = f"Stopped before training went on; all is as it was. Continue with: {directory.how_to_resume}"
    elif directory.final is not None:
        stop.advice = f"Stopped before training began; the run in {place.path} is as it was."
    return directory


@contextmanager
def resumable(directory: RunDirectory) -> Iterator[None]:
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
        raise DiskError(what, f"Mend that, then continue with: {directory.how_to_resume} ({done}).") from error


def open_run(session: Session, resolved: RunConfig, *, resume: bool) -> None:
    """Write what is known before the first step; go back to where the run stood if it is resumed."""
    directory, started = session.directory, datetime.now(UTC)
    before = directory.read_config().compute if resume else resolved.compute
    if resume:
        check_same_config(directory, resolved)
        check_same_data(session)
        check_same_model(session)
        session.decisions = {**decisions_of(directory), **session.decisions}
    session.stop.advice = f"Stopped before the first step. Begin again with: {directory.how_to_resume}"
    directory.begin(anew=not resume)
    directory.write_config(resolved)  # before everything else: it is what can be resumed
    environment = _environment(session, started)
    if resume and (directory.path / "environment.json").exists():
        recorded = directory.read_json("environment")
        for problem in (*other_surroundings(recorded, environment), *other_compute(before, resolved.compute)):
            session.note(problem)
        environment["card_sha256"] = recorded.get("card_sha256")
    directory.write_json("environment", environment)
    directory.write_rejected(session.data.rejected)
    session.rival = judge_untuned(session)  # before anything is restored
    if resume:
        restore(session, before)


def record_steps(stack: ExitStack, session: Session) -> None:
    """Let every step be recorded in the run directory, until the stack ends, and say what is about to be trained."""
    directory, step = session.directory, session.training.step
    session.metrics = MetricsFile(directory.metrics, step, evaluation_due=session.progress.evaluation_due)
    stack.callback(session.metrics.close)
    session.board = TensorBoard(directory.tensorboard, step)
    session.observers.add(session.board)
    for problem in session.metrics.problems:
        session.note(problem)
    _announce(session)


def default_output(config: RunConfig) -> str:
    """Return a folder name from data, model and method."""
    parts = (Path(config.data.path).name.split(".")[0], config.model.name, config.method.name)
    return "runs/" + "-".join("".join(c if c.isalnum() else "-" for c in part).strip("-") for part in parts)


def compose(
    config: RunConfig, directory: RunDirectory, observers: Observers, stop: StopRequests, workshop: Workshop
) -> tuple[Session, RunConfig]:
    """Build every part; return the session and the resolved configuration."""
    check_method(config)
    _seed_everything(config.train.seed, deterministic=config.compute.deterministic)
    observers.working("reading the data")
    data = workshop.data(config)
    task = data.task
    observers.working("loading the model")
    loaded = workshop.load(config, data)
    notes = task.adapt(loaded.tokenizer)
    torch.manual_seed(config.train.seed)
    network = workshop.network(config, data, loaded)
    observers.working("tokenising")
    splits = {split: workshop.encoded(network, data, split) for split in data.prepared.splits}
    found = [
        problem
        for split, rows in splits.items()
        for problem in encoding_problems(rows, data.columns(split), split, config.data.bad_rows)
    ]
    if errors := errors_among(found):
        raise InputError(errors)
    refused = (Counter(num_refused(rows)) for rows in splits.values())
    data = replace(data, left_out=sum(refused, Counter(data.left_out)))
    encoded, validation = splits["train"], splits.get("validation")
    config, decisions = decide(config, task, network, encoded, validation)
    learning_rate, plan = planned(config.train, encoded.num_samples)
    groups = config.method.parameter_groups(network.model)
    penalties = Penalties(config.train.l1, config.train.l2)
    optimizer = MasterOptimizer(network.model, groups, config.train.optimizer, learning_rate, penalties)
    training = Training(
        scorer=replace(network.scorer, prefix=find_prefix(network.model, optimizer.names)),
        collate=network.collate,
        task=task,
        data=encoded,
        plan=plan,
        optimizer=optimizer,
        learning_rate=learning_rate,
        config=config.train,
        compute=config.compute.model_copy(update={"layout": network.scorer.layout}),
        prepare_step=lambda progress: config.method.update(network.model, progress),
    )
    session = Session(config, directory, data, network, training, validation, observers, stop, [], workshop=workshop)
    session.decisions = decisions
    check_session(session)
    _require_units(encoded, network.max_length)
    lengths = _length_notes(task, encoded, network.max_length)
    for problem in (*data.problems, *notes, *network.notes, *found, *lengths):
        session.note(problem)
    return session, resolve(config, data, network, directory.place)


def _announce(session: Session) -> None:
    network, training = session.network, session.training
    num_parameters, num_trained = parameter_counts(network.model, training.optimizer.names)
    session.observers.started(
        RunPlan(
            task=session.data.task.name,
            model=session.config.model.name,
            method=session.config.method.name,
            layout=network.scorer.layout,
            precision=network.precision,
            device=str(network.device),
            num_parameters=num_parameters,
            num_trained_parameters=num_trained,
            num_rows={split: len(rows) for split, rows in session.data.prepared.splits.items()},
            total_steps=training.plan.total_steps,
            first_step=training.step,
            folder=session.directory.place,
            decided=in_one_line(session.decisions),
        )
    )


def _environment(session: Session, started: datetime) -> dict[str, Any]:
    tokenizer = ["tokenizer_sha256", session.data.task.model_dump(mode="json")]
    return {
        "versions": session.workshop.once(["versions"], versions),
        "machine": session.workshop.once(["machine"], machine),
        "seed": session.config.train.seed,
        "data": {"source": session.config.data.path, "hashes": dict(session.data.prepared.hashes)},
        "model": {
            "source": session.network.source,
            "hub_id": session.network.hub_id,
            **record(session.network.model),
        },
        "tokenizer": {"sha256": session.workshop.once(tokenizer, lambda: session.network.tokenizer_sha256)},
        "defaults": as_record(session.decisions),
        "git": session.workshop.once(["git"], lambda: git_state(Path.cwd())),
        "started": started.isoformat(timespec="seconds"),
    }


def _length_notes(task: Task, encoded: Encoded, max_length: int) -> list[Problem]:
    if not encoded.num_truncated:
        return []
    num_rows = max(len(encoded), encoded.num_data_rows)  # some may have been left out, some cut into several
    share = encoded.num_truncated / num_rows
    return [
        Problem(
            "warning" if share > 0.05 else "note",
            f"{encoded.num_truncated:,} of {num_rows:,} training rows ({share:.1%}) are longer than {max_length} "
            f"tokens and {task.shortening}.",
            "Raise --model.max_length if the model allows it.",
            count=encoded.num_truncated,
        )
    ]


def _require_units(encoded: Encoded, max_length: int) -> None:
    """Refuse rows of which truncation or masking left nothing to learn from."""
    if encoded.reads is not None and not len(encoded.reads.values):
        raise InputError(
            f"Nothing is left to learn from: none of the {len(encoded):,} training rows, cut to {max_length} tokens, "
            "holds a token that is trained.",
            "Raise --model.max_length, or look at the rows with: tunesmith data inspect FILE --model M --show-mask",
        )


def _seed_everything(seed: int, *, deterministic: bool) -> None:
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 (other libraries draw from it)
    torch.manual_seed(seed)
    be_deterministic(wanted=deterministic)
