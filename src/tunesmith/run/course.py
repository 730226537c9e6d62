"""The course of a training: steps, evaluations, checkpoints, and stopping when asked."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from tunesmith.engine import checkpoint as checkpoints
from tunesmith.engine import ranks
from tunesmith.engine.loop import train as train_steps
from tunesmith.engine.predict import predict
from tunesmith.engine.snapshot import take
from tunesmith.run.first_steps import FirstSteps
from tunesmith.run.kept_states import Paused
from tunesmith.run.overfitting import fit_of, watch
from tunesmith.run.rank_agreement import require_same_weights
from tunesmith.run.session import Ready
from tunesmith.run.signals import Stopped
from tunesmith.types import Problem, RunError, StepInfo


class Course:
    """What happens between a session's steps: notes, evaluations, checkpoints."""

    def __init__(self, session: Ready, paused_at: int | None = None) -> None:
        self.session = session
        self._paused_at = paused_at
        self._clock = 0.0
        """Up to when the session's time has been counted."""
        self._saved_step: int | None = None
        self._first_steps = FirstSteps(session)
        self._evaluated_step: int | None = None
        self._values: Mapping[str, float] = {}
        """What the last evaluation gave."""

    def begin(self) -> None:
        """Make the evaluation that was cut short when the session was stopped, if one was."""
        self._clock = time.perf_counter()
        if self.session.progress.evaluation_due:
            self._evaluate()
            self._ask_method()

    def after(self, info: StepInfo) -> None:
        """Take note of the step just made; evaluate and save when it is time to."""
        session, config, progress = self.session, self.session.config.train, self.session.progress
        self._clock = time.perf_counter() - info.seconds
        plan = session.training.plan
        progress.step_seconds += info.seconds
        progress.num_tokens += info.num_tokens
        progress.num_rows += info.num_rows
        progress.num_skipped += bool(info.skipped)
        session.metrics.stepped(info)
        session.observers.stepped(info, plan.total_steps)
        self._first_steps.after(info)
        if info.note:
            session.note(Problem("warning", f"Step {info.step}: {info.note}."))
        if info.skipped:
            session.note(_skip_warning(session, info.step, info.skipped, info.rows))
            require_finite_weights(session)
        if info.idle and progress.num_idle == info.step - 1:
            progress.num_idle = info.step
            _require_something_to_learn(session, info)
        evaluation_due = info.step % (config.evaluate_steps or plan.steps_per_epoch) == 0
        evaluation_due = evaluation_due or info.step == plan.total_steps
        if evaluation_due:
            self._evaluate()
            self._ask_method()
        elif info.step == self._paused_at:  # as ``pause`` did
            self._evaluate()
            evaluation_due = True
        self._count_time()
        if _is_due(info.step, session.config.compute.checkpoint_steps) or (evaluation_due and not self._keep_best()):
            self.save()
        self._count_time()

    def pause(self) -> None:
        """Evaluate, if this step was not, and keep where the training stands: in memory or on disk."""
        if self._evaluated_step != self.session.training.step:
            self._clock = time.perf_counter()
            self._evaluate()
            self._count_time()
        if self._saved_step == self.session.training.step or not self._keep_state():
            self.save()

    def _evaluate(self) -> None:
        self._values = _evaluate(self.session)
        self._evaluated_step = self.session.training.step

    def _ask_method(self) -> None:
        """Show the method the value of the evaluation just made, if there is one; it may end the training."""
        progress, training, (name, higher) = self.session.progress, self.session.training, self.session.metric
        value = self._values.get(name, math.nan)
        if not math.isfinite(value):
            return
        method, total = self.session.config.method, training.plan.total_steps
        value = value if higher else -value
        progress.is_ended = method.should_stop(training.scorer.model, training.step, total, value)

    def _may_wait(self) -> bool:
        """Say whether what was trained since the last checkpoint may be lost; several processes save as configured."""
        return ranks.size() == 1 and self.session.workshop.states.may_wait(self.session.logbook.unsaved_seconds)

    def _keep_best(self) -> bool:
        """Return whether no checkpoint is needed now: hold the weights, where this step is the best before the last."""
        session, training = self.session, self.session.training
        if not self._may_wait():
            return False
        wanted = session.config.train.early_stopping.restore_best and session.progress.best_step == training.step
        if not wanted or training.step == training.plan.total_steps:
            return True
        weights = take(training, {}, only_weights=True)
        if not session.workshop.states.has_room(weights.num_bytes):
            return False
        session.logbook.best = None  # before the next one is there
        session.logbook.best = weights.copied()
        return True

    def _keep_state(self) -> bool:
        """Return whether the training waits in memory to be gone on with; nobody makes a step of it meanwhile."""
        session, training, logbook = self.session, self.session.training, self.session.logbook
        if not session.workshop.states.are_gone_on_with_here or not self._may_wait():
            return False
        session.metrics.sync()
        state = take(training, asdict(session.progress))
        is_best = session.progress.best_step == training.step
        best = replace(state, optimizer=None, drawn=None) if is_best else logbook.best
        paused = Paused(state, best, logbook.unsaved_seconds)
        if not session.workshop.states.has_room(paused.num_bytes):
            return False
        on_host = training.collate.device.type == "cpu"
        session.workshop.states.pause(session.directory.path, paused if on_host else paused.copied())
        return True

    def save(self) -> None:
        """Save a checkpoint, unless there is one of this step already."""
        if self._saved_step == self.session.training.step:
            return
        self._count_time()
        _save(self.session)
        self._saved_step = self.session.training.step
        self.session.logbook.unsaved_seconds = 0.0

    def _count_time(self) -> None:
        now = time.perf_counter()
        self.session.progress.seconds += now - self._clock
        if self._saved_step != self.session.training.step:
            self.session.logbook.unsaved_seconds += now - self._clock
        self._clock = now


def drive(session: Ready, until: int | None = None, paused_at: int | None = None) -> bool:
    """Make the steps; evaluate, save and stop when it is time to. Return whether the run can be finished.

    It cannot where it is to be left ``until`` after that step, or earlier if it stops by itself: then it is evaluated
    and kept, to be gone on with. ``paused_at`` is that of ``train``.
    """
    course = Course(session, paused_at)
    require_same_weights(session.training)
    with session.stop.deferred():
        course.begin()
        _stop_if_asked(course)
        steps = train_steps(session.training)
        while not _should_stop_early(session) and (until is None or session.training.step < until):
            if (info := next(steps, None)) is None:
                break
            course.after(info)
            _stop_if_asked(course)
        if until is not None:
            course.pause()
        ranks.part()
    return until is None


def _stop_if_asked(course: Course) -> None:
    session = course.session
    received = ranks.max(session.stop.received or 0)
    if not received:
        return
    course.save()
    raise Stopped(
        int(received),
        f"Stopped after step {session.training.step} of {session.training.plan.total_steps}; a checkpoint was saved. "
        f"Continue with: {session.how_to_resume}",
    )


def _is_due(step: int, every: int | None) -> bool:
    return every is not None and step % every == 0


def _require_something_to_learn(session: Ready, info: StepInfo) -> None:
    """Raise ``RunError`` where no step so far had anything to learn, and these are as many as the task puts up with."""
    most = session.data.task.most_idle_steps
    if most is not None and info.step >= most:
        raise RunError(f"None of the first {info.step} steps had anything to learn: {info.idle}")


def _evaluate(session: Ready) -> Mapping[str, float]:
    """Evaluate on the validation rows, if there are any, and return every metric and the loss.

    Where a signal cuts that short, it is due on resuming.
    """
    if session.validation is None:
        return {}
    # However long it takes the first of several ranks: the others wait, and decide by the same figures.
    record = ranks.shared(f"evaluation/{session.training.step}", lambda: _scored(session))
    session.progress.evaluation_due = record is None
    if record is None:
        return {}
    session.metrics.evaluated(record)
    session.observers.evaluated(record)
    if (warning := watch(session.progress, record)) is not None:
        session.note(warning)
    values = record["metrics"] if record["loss"] is None else {**record["metrics"], "loss": record["loss"]}
    _judge(session, values)
    return values


def _scored(session: Ready) -> dict[str, Any] | None:
    """Return the line of an evaluation on the validation rows; None where a signal cuts it short."""
    training, task, validation = session.training, session.data.task, session.validation
    assert validation is not None
    try:
        scored = predict(
            training.scorer,
            training.collate,
            task,
            validation,
            session.config.compute.micro_batch_tokens,
            check=session.stop.check,
        )
        fit = fit_of(session, scored)
    except Stopped:
        return None
    measured = task.measure(scored.outputs, scored.targets, np.ones((1, validation.num_data_rows)))
    return {
        "kind": "evaluation",
        "step": training.step,
        "epoch": training.plan.epoch_after(training.step),
        "split": "validation",
        "loss": scored.loss,
        "metrics": {name: float(values[0]) for name, values in measured.items()},
        **({} if fit is None else {"fit": fit}),
    }


def _judge(session: Ready, values: Mapping[str, float]) -> None:
    """Take note of whether this step is the best so far.

    A metric that is undefined (the validation rows have one label, all predictions are the same) is no lack of gain.
    While it has never had a value the loss stands in for it; later on, such an evaluation decides nothing.
    """
    progress, (name, higher) = session.progress, session.metric
    if name != "loss" and math.isnan(values.get(name, math.nan)):
        if progress.judged_by == name:
            _note_undefined(session, name, "this evaluation decides nothing")
            return
        _note_undefined(session, name, "until it has a value, the validation loss decides")
        name, higher = "loss", False
    if name not in values:  # no loss either: the rows have nothing to predict
        _note_undefined(session, name, "this evaluation decides nothing")
        return
    if name != progress.judged_by:
        progress.judged_by, progress.best_value, progress.evaluations_without_gain = name, None, 0
    value, loss = values[name], values.get("loss", math.nan)
    margin = session.config.train.early_stopping.minimum_gain
    best = progress.best_value
    gained = math.isfinite(value) and (best is None or (value - best > margin if higher else best - value > margin))
    if value == best and not margin:
        # A few validation rows give the same figure again and again, while the model still learns.
        gained = progress.best_loss is not None and loss < progress.best_loss
    if gained:
        progress.best_step, progress.best_value = session.training.step, value
        progress.best_loss = loss if math.isfinite(loss) else None
        progress.evaluations_without_gain = 0
    else:
        progress.evaluations_without_gain += 1


def _note_undefined(session: Ready, name: str, consequence: str) -> None:
    """Say once that the metric which decides has no value."""
    message = f"The metric that decides which step is best, {name}, is undefined on the validation rows: {consequence}."
    fix = (
        "It takes rows of at least two labels (or values, or some entities) and predictions that are not all the same; "
        "train.early_stopping.metric chooses another metric."
    )
    if all(problem.message != message for problem in session.logbook.problems):
        session.note(Problem("warning", message, fix))


def _should_stop_early(session: Ready) -> bool:
    patience = session.config.train.early_stopping.patience
    if session.progress.is_ended:
        return True
    return isinstance(patience, int) and session.progress.evaluations_without_gain >= patience


def _save(session: Ready) -> None:
    require_same_weights(session.training)
    ranks.shared(f"checkpoint/{session.training.step}", lambda: _write(session))


def _write(session: Ready) -> None:
    folder, progress = session.directory.checkpoints, session.progress
    session.metrics.sync()  # a checkpoint whose steps are not on record would lose them
    held, best = session.logbook.best, progress.best_step
    on_disk = {session.training.step, *checkpoints.list_weights(folder)}
    if held is not None and held.step == best and best not in on_disk:
        checkpoints.write(held, folder)  # first: who goes on from the checkpoint will ask for it
    checkpoints.save(session.training, folder, asdict(progress))
    keep = {progress.best_step} if progress.best_step is not None else set()
    checkpoints.rotate(folder, session.config.compute.keep_checkpoints, keep)


def require_finite_weights(session: Ready) -> None:
    """Raise ``RunError`` where a weight is not a finite number: no further step can mend that."""
    named = session.network.model.named_parameters()
    if (name := next((name for name, weight in named if not bool(weight.isfinite().all())), None)) is None:
        return
    step = session.training.step
    if step <= session.progress.num_skipped:  # no update was made
        raise RunError(
            f"The model's weights were not finite numbers (NaN or infinity) before anything was trained; the first is "
            f"'{name}'.\n  → Use an intact copy of the model; with bf16 weights, also try --train.precision fp32."
        )
    raise RunError(
        f"Training has diverged: after step {step} weights are not finite numbers (NaN or infinity); the first is "
        f"'{name}'.\n  → Start again with a lower --train.learning_rate (it was {session.training.learning_rate:g})."
    )


def _skip_warning(session: Ready, step: int, reason: str, rows: Sequence[int]) -> Problem:
    places = session.data.prepared.splits["train"]["row"]
    num_rows = len(rows)
    rows = [row for row in rows if row < len(places)]  # the others have no labels
    return Problem(
        "warning",
        f"Step {step} made no update: {reason}.",
        "Look at the rows named; lower train.learning_rate if it happens again.",
        count=num_rows,
        rows=tuple(places[row] for row in rows),
    )
