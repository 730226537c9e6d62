"""The composition root: from a configuration to a finished run directory, in reading order."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tunesmith.data.encoded import Encoded
from tunesmith.engine import checkpoint as checkpoints
from tunesmith.engine.loop import Training
from tunesmith.engine.loop import train as train_steps
from tunesmith.engine.optimizers import MasterOptimizer, Penalties
from tunesmith.engine.order import StepPlan
from tunesmith.engine.predict import predict
from tunesmith.files.atomic import sweep
from tunesmith.files.lock import locked
from tunesmith.files.space import require_space, require_writable
from tunesmith.models import tokenizer_hash
from tunesmith.run.assembly import Network, TaskData, load_data, make_network, parameter_counts, resolve, texts_of
from tunesmith.run.config import RunConfig
from tunesmith.run.directory import RunDirectory
from tunesmith.run.environment import git_state, machine, versions
from tunesmith.run.finish import finish
from tunesmith.run.memory import peak_bytes, reset_peak
from tunesmith.run.observers import MetricsFile, Observer, Observers, RunPlan, TensorBoard
from tunesmith.run.signals import Stopped, StopRequests, stop_requests
from tunesmith.types import InputError, Problem, RunError


@dataclass
class Progress:
    """Where a training stands beyond its weights; part of every checkpoint."""

    best_step: int | None = None
    best_value: float | None = None
    evaluations_without_gain: int = 0
    evaluation_due: bool = False
    """The evaluation of the checkpoint's step was cut short by a signal and is made on resuming."""
    seconds: float = 0.0
    """Wall time of training so far: steps, evaluations, checkpoints."""
    step_seconds: float = 0.0
    num_tokens: int = 0
    num_rows: int = 0
    num_skipped: int = 0


@dataclass
class Session:
    """One training as it goes on; composed by ``train``, driven by ``_drive``."""

    config: RunConfig
    directory: RunDirectory
    data: TaskData
    network: Network
    training: Training
    validation: Encoded | None
    observers: Observers
    stop: StopRequests
    problems: list[Problem]
    progress: Progress = field(default_factory=Progress)

    @property
    def metric(self) -> tuple[str, bool]:
        """The metric that decides, and whether higher is better."""
        directions = {**self.data.task.higher_is_better, "loss": False}
        name = self.config.train.early_stopping.metric or self.data.task.main_metric()
        return name, directions[name]

    def note(self, problem: Problem) -> None:
        self.problems.append(problem)
        self.observers.noted(problem)


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
    directory = RunDirectory(Path(config.output or default_output(config)))
    require_writable(directory.path)
    with ExitStack() as stack:
        stop = stack.enter_context(stop_requests())
        stack.callback(directory.remove_if_empty)
        stack.enter_context(locked(directory.path))
        if resume and directory.is_finished:
            return directory.path
        _claim(directory, resume=resume, overwrite=overwrite)
        watching = Observers(list(observers))
        stack.callback(watching.close)
        session, resolved = _compose(config, directory, watching, stop)
        started = datetime.now(UTC)
        if resume:
            _check_same_config(directory, resolved)
            _check_same_data(session)
            _restore(session)
        directory.write_json("environment", _environment(session, started))
        directory.write_config(resolved)
        recorders = [
            MetricsFile(directory.metrics, session.training.step),
            TensorBoard(directory.tensorboard, session.training.step),
        ]
        for recorder in recorders:
            stack.callback(recorder.close)
        session.observers = Observers([*recorders, watching])
        _announce(session)
        reset_peak(session.network.device)
        _drive(session)
        finish(session, peak_memory=peak_bytes(session.network.device))
    return directory.path


def default_output(config: RunConfig) -> str:
    """Return a folder name from data, model and method."""
    parts = (Path(config.data.path).name.split(".")[0], config.model.name, config.method.name)
    return "runs/" + "-".join("".join(c if c.isalnum() else "-" for c in part).strip("-") for part in parts)


def _compose(
    config: RunConfig, directory: RunDirectory, observers: Observers, stop: StopRequests
) -> tuple[Session, RunConfig]:
    """Build every part; return the session and the resolved configuration."""
    _seed_everything(config.train.seed, deterministic=config.train.deterministic)
    observers.working("reading the data")
    data = load_data(config)
    task = data.task
    observers.working("loading the model")
    train_columns = data.columns("train")
    loaded = config.model.load(task.head(), texts_of(train_columns), config.train.seed)
    torch.manual_seed(config.train.seed)
    network = make_network(loaded, config, task, config.method.apply)
    observers.working("tokenising")
    hashes = data.prepared.hashes
    encoded = network.encode_cached(task, train_columns, hashes["train"])
    has_validation = "validation" in data.prepared.splits
    validation = (
        network.encode_cached(task, data.columns("validation"), hashes["validation"]) if has_validation else None
    )
    learning_rate = (
        config.train.learning_rate or config.model.default_learning_rate or config.method.default_learning_rate
    )
    plan = StepPlan(
        num_rows=len(encoded),
        batch_size=config.train.batch_size,
        epochs=config.train.epochs,
        seed=config.train.seed,
        max_steps=config.train.max_steps,
    )
    groups = config.method.parameter_groups(network.model)
    penalties = Penalties(config.train.l1, config.train.l2)
    training = Training(
        scorer=network.scorer,
        collate=network.collate,
        task=task,
        data=encoded,
        plan=plan,
        optimizer=MasterOptimizer(network.model, groups, config.train.optimizer, learning_rate, penalties),
        learning_rate=learning_rate,
        config=config.train,
        prepare_step=lambda progress: config.method.update(network.model, progress),
    )
    session = Session(config, directory, data, network, training, validation, observers, stop, [])
    _check_session(session)
    for problem in (*data.problems, *_length_notes(encoded, network.max_length)):
        session.note(problem)
    if data.rejected:
        directory.write_rejected(data.rejected)
    return session, resolve(config, data, network, learning_rate, directory.path)


def _check_session(session: Session) -> None:
    """Refuse what can be seen to fail before hours are spent."""
    config, task = session.config, session.data.task
    metric = config.train.early_stopping.metric
    known = [*task.higher_is_better, "loss"]
    if metric is not None and metric not in known:
        raise InputError(
            f"train.early_stopping.metric: '{metric}' is no metric of the task {task.name}.",
            f"Choose one of {', '.join(known)}.",
        )
    if config.train.early_stopping.patience is not None and session.validation is None:
        raise InputError(
            "Early stopping needs validation rows, and there are none.",
            "Give --data.validation FILE, or set --data.validation_fraction above 0.",
        )
    if config.train.layout == "flat" and session.network.scorer.layout != "flat":
        raise InputError(
            f"train.layout: flat was asked for, but {session.network.layout_reason}.", "Use --train.layout auto."
        )
    num_checkpoints = config.train.keep_checkpoints + 2
    require_space(session.directory.path, num_checkpoints * checkpoints.size_of(session.training))


def _drive(session: Session) -> None:
    """Make the steps; evaluate, save and stop when it is time to."""
    training, config, progress = session.training, session.config.train, session.progress
    evaluate_steps = config.evaluate_steps or training.plan.steps_per_epoch
    clock = time.perf_counter()

    def save() -> None:
        nonlocal clock
        now = time.perf_counter()
        progress.seconds, clock = progress.seconds + now - clock, now
        _save(session)

    with session.stop.deferred():
        if progress.evaluation_due and not _evaluate(session):
            save()
            _stop(session)
        steps = train_steps(training)
        while not _should_stop_early(session) and (info := next(steps, None)) is not None:
            progress.step_seconds += info.seconds
            progress.num_tokens += info.num_tokens
            progress.num_rows += info.num_rows
            progress.num_skipped += bool(info.skipped)
            session.observers.stepped(info, training.plan.total_steps)
            if info.note:
                session.note(Problem("warning", f"Step {info.step}: {info.note}."))
            if info.skipped:
                session.note(_skip_warning(session, info.step, info.skipped, info.rows))
            is_last = info.step == training.plan.total_steps
            evaluation_due = info.step % evaluate_steps == 0 or is_last
            if evaluation_due:
                _evaluate(session)
            if evaluation_due or session.stop.received or _is_due(info.step, config.checkpoint_steps):
                save()
            if session.stop.received:
                _stop(session)
        progress.seconds += time.perf_counter() - clock


def _is_due(step: int, every: int | None) -> bool:
    return every is not None and step % every == 0


def _evaluate(session: Session) -> bool:
    """Evaluate on the validation rows; return False if a signal cut it short."""
    progress, training, task = session.progress, session.training, session.data.task
    if session.validation is None:
        return True
    try:
        scored = predict(
            training.scorer,
            training.collate,
            task,
            session.validation,
            session.config.train.micro_batch_tokens,
            check=session.stop.check,
        )
    except Stopped:
        progress.evaluation_due = True
        return False
    progress.evaluation_due = False
    ones = np.ones((1, session.validation.num_data_rows))
    measured = task.measure(scored.outputs, session.validation.data_targets, ones)
    metrics = {name: float(values[0]) for name, values in measured.items()}
    record = {
        "kind": "evaluation",
        "step": training.step,
        "epoch": training.plan.epoch_after(training.step),
        "split": "validation",
        "loss": scored.loss,
        "metrics": metrics,
    }
    session.observers.evaluated(record)
    _judge(session, {**metrics, "loss": scored.loss if scored.loss is not None else float("nan")})
    return True


def _judge(session: Session, values: dict[str, float]) -> None:
    """Take note of whether this step is the best so far."""
    progress, (name, higher) = session.progress, session.metric
    value = values[name]
    margin = session.config.train.early_stopping.minimum_gain
    best = progress.best_value
    gained = not math.isnan(value) and (best is None or (value - best > margin if higher else best - value > margin))
    if gained:
        progress.best_step, progress.best_value = session.training.step, value
        progress.evaluations_without_gain = 0
    else:
        progress.evaluations_without_gain += 1


def _should_stop_early(session: Session) -> bool:
    patience = session.config.train.early_stopping.patience
    return patience is not None and session.progress.evaluations_without_gain >= patience


def _save(session: Session) -> None:
    folder, progress = session.directory.checkpoints, session.progress
    checkpoints.save(session.training, folder, asdict(progress))
    keep = {progress.best_step} if progress.best_step is not None else set()
    checkpoints.rotate(folder, session.config.train.keep_checkpoints, keep)


def _stop(session: Session) -> None:
    assert session.stop.received is not None
    folder = session.directory.path
    raise Stopped(
        session.stop.received,
        f"Stopped after step {session.training.step} of {session.training.plan.total_steps}; a checkpoint was saved. "
        f"Continue with: tunesmith train {session.directory.config} --output {folder} --resume",
    )


def _restore(session: Session) -> None:
    """Go back to the newest sound checkpoint, or start from the beginning if there is none."""
    found, problems = checkpoints.find(session.directory.checkpoints)
    for problem in problems:
        session.note(problem)
    if found is not None:
        checkpoints.restore(session.training, found)
        session.progress = Progress(**found.extra)


def _claim(directory: RunDirectory, *, resume: bool, overwrite: bool) -> None:
    """Make sure that the folder is ours to write in."""
    path = directory.path
    sweep(path)
    sweep(directory.checkpoints)
    holds = sorted(entry.name for entry in path.iterdir() if not entry.name.startswith("."))
    if resume:
        if not directory.config.exists():
            raise InputError(f"There is nothing to resume in {path}: it holds no config.yaml.", "Leave out --resume.")
        return
    if not holds:
        return
    if not overwrite:
        what = (
            "a finished run"
            if directory.is_finished
            else "a run that did not finish"
            if directory.config.exists()
            else f"files ({', '.join(holds[:3])}, …)"
        )
        raise InputError(
            f"{path} already holds {what}.",
            "Choose another folder with --output, replace the run with --overwrite, or continue one with --resume.",
        )
    if not directory.config.exists():
        raise InputError(
            f"{path} holds files that are not a run ({', '.join(holds[:3])}, …); --overwrite does not delete those.",
            "Choose another folder with --output.",
        )
    directory.clear()


def _check_same_config(directory: RunDirectory, resolved: RunConfig) -> None:
    """Refuse to resume a run as another one."""
    before = directory.read_config().model_dump(mode="json")
    now = resolved.model_dump(mode="json")
    free = {"output", "evaluation"}
    changed = [
        f"{section}.{key}" if isinstance(value, dict) else section
        for section, value in now.items()
        if section not in free
        for key in (value if isinstance(value, dict) else [""])
        if (before[section] or {}).get(key) != value.get(key)
    ]
    if changed:
        raise InputError(
            f"The run in {directory.path} was started with other values of {', '.join(changed)}.",
            f"Resume it unchanged (tunesmith train {directory.config} --resume), or start a new run with --output.",
        )


def _check_same_data(session: Session) -> None:
    """Refuse to go on with rows other than those of the steps already made."""
    before = session.directory.read_json("environment")["data"]["hashes"]
    now = dict(session.data.prepared.hashes)
    if changed := sorted(split for split in {*before, *now} if before.get(split) != now.get(split)):
        raise InputError(
            f"The data has changed since the run in {session.directory.path} was started: its {', '.join(changed)} "
            "rows are others.",
            "Restore the data, or start a new run with --output.",
        )


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
            folder=session.directory.path,
        )
    )


def _environment(session: Session, started: datetime) -> dict[str, Any]:
    return {
        "versions": versions(),
        "machine": machine(),
        "seed": session.config.train.seed,
        "data": {"source": session.config.data.path, "hashes": dict(session.data.prepared.hashes)},
        "model": {"source": session.network.source, "hub_id": session.network.hub_id},
        "tokenizer": {"sha256": tokenizer_hash(session.network.tokenizer)},
        "git": git_state(Path.cwd()),
        "started": started.isoformat(timespec="seconds"),
    }


def _skip_warning(session: Session, step: int, reason: str, rows: Sequence[int]) -> Problem:
    places = session.data.prepared.splits["train"]["row"]
    return Problem(
        "warning",
        f"Step {step} made no update: {reason}.",
        "Look at the rows named; lower train.learning_rate if it happens again.",
        count=len(rows),
        rows=tuple(places[row] for row in session.training.data.data_rows(rows)),
    )


def _length_notes(encoded: Encoded, max_length: int) -> list[Problem]:
    if not encoded.num_truncated:
        return []
    share = encoded.num_truncated / len(encoded)
    return [
        Problem(
            "warning" if share > 0.05 else "note",
            f"{encoded.num_truncated:,} of {len(encoded):,} training rows ({share:.1%}) are longer than {max_length} "
            "tokens and lose their end.",
            "Raise --model.max_length if the model allows it.",
            count=encoded.num_truncated,
        )
    ]


def _seed_everything(seed: int, *, deterministic: bool) -> None:
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 (other libraries draw from it)
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(deterministic)


__all__ = ["Progress", "RunError", "Session", "Stopped", "default_output", "train"]
