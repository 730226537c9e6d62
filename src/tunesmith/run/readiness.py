"""The last preparations before a run's first step: from here on every step is recorded."""

from __future__ import annotations

from contextlib import ExitStack

from tunesmith.engine import ranks
from tunesmith.engine.step import Training
from tunesmith.run.assembly import count_parameters
from tunesmith.run.defaults import in_one_line
from tunesmith.run.metrics_file import MetricsFile, NoMetricsFile
from tunesmith.run.observers import Observer, RunPlan
from tunesmith.run.session import Opened, Ready, StepSettings, next_stage
from tunesmith.run.tensorboard import TensorBoard
from tunesmith.run.trackers import trackers_of


def ready_to_step(stack: ExitStack, opened: Opened, training: Training, settings: StepSettings) -> Ready:
    """Let every step be recorded in the run directory, until the stack ends, and say what is about to be trained."""
    directory = opened.directory
    metrics: MetricsFile = NoMetricsFile()
    board: Observer = Observer()
    if ranks.is_first():
        metrics = MetricsFile(directory.metrics, training.step, evaluation_due=opened.progress.evaluation_due)
        board = TensorBoard(directory.tensorboard, training.step)
    stack.callback(metrics.close)
    opened.observers.add(board)
    for tracker in trackers_of(opened.resolved, directory) if ranks.is_first() else ():
        opened.observers.add(tracker)
    for problem in metrics.problems:
        opened.note(problem)
    ready = next_stage(Ready, opened, training=training, settings=settings, metrics=metrics, board=board)
    ready.observers.started(_plan(ready))
    return ready


def _plan(ready: Ready) -> RunPlan:
    network, training = ready.network, ready.training
    num_parameters = count_parameters(network.model)
    return RunPlan(
        task=ready.data.task.name,
        model=ready.config.model.name,
        method=ready.config.method.name,
        layout=network.scorer.layout,
        precision=network.precision,
        device=str(network.device),
        num_parameters=num_parameters,
        num_trained_parameters=training.optimizer.num_trained,
        num_rows={split: len(rows) for split, rows in ready.data.prepared.splits.items()},
        total_steps=training.plan.total_steps,
        first_step=training.step,
        folder=ready.directory.place,
        decided=in_one_line(ready.decisions),
        num_ranks=ranks.size(),
    )
