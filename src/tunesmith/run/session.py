"""A run in its stages: composed, opened, ready. Each is made of the one before it; none of them changes.

``compose`` puts all parts together, ``open_run`` begins on disk, ``ready_to_step`` settles how steps are made and opens
the files that grow with them. What does change while a training goes on is in two places: the engine's ``Training``,
which is what a checkpoint holds, and the ``Logbook``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

from tunesmith.data.encoded import Array, Encoded, Ragged
from tunesmith.engine.memory_plan import MemoryPlan
from tunesmith.engine.snapshot import Snapshot
from tunesmith.engine.step import Training
from tunesmith.evaluate import Baseline
from tunesmith.models.origin import origin
from tunesmith.run.assembly import Network, TaskData
from tunesmith.run.computed_columns import ComputedColumns, Kept
from tunesmith.run.config import RunConfig
from tunesmith.run.defaults import Decision
from tunesmith.run.directory import RunDirectory
from tunesmith.run.fair_rows import FairRows
from tunesmith.run.metrics_file import MetricsFile
from tunesmith.run.observers import Observer, Observers
from tunesmith.run.signals import StopRequests
from tunesmith.run.teacher import Teacher
from tunesmith.run.workshop import Workshop
from tunesmith.types import Problem


@dataclass
class Progress:
    """Where a training stands beyond its weights; part of every checkpoint."""

    best_step: int | None = None
    best_value: float | None = None
    judged_by: str = ""
    """The metric that ``best_value`` is of: another than the one asked for, where that is undefined."""
    best_loss: float | None = None
    """The validation loss of ``best_step``, which decides between steps of the same value."""
    evaluations_without_gain: int = 0
    evaluation_due: bool = False
    """The evaluation of the checkpoint's step was cut short by a signal and is made on resuming."""
    seconds: float = 0.0
    """Wall time of training so far: steps, evaluations, checkpoints."""
    step_seconds: float = 0.0
    num_tokens: int = 0
    num_rows: int = 0
    num_skipped: int = 0
    num_idle: int = 0
    """Steps from the first one on that had nothing to learn, every one of them."""
    is_ended: bool = False
    """Whether the method has ended the training."""
    fit: dict[str, Any] = field(default_factory=dict)
    """What is remembered of earlier evaluations, by which overfitting is told (``overfitting``)."""
    predicted: dict[str, Any] | None = None
    """What the run said of itself after its first steps (``first_steps``)."""
    compression: dict[str, dict[str, float]] | None = None
    """What the model cost before and after a method made it smaller."""


@dataclass
class Logbook:
    """What changes while a run goes on, and is not the engine's: where it stands, and what was noticed."""

    observers: Observers
    progress: Progress = field(default_factory=Progress)
    problems: list[Problem] = field(default_factory=list)
    best: Snapshot | None = None
    """The weights of a step that was the best so far, where they are not in a checkpoint."""
    unsaved_seconds: float = 0.0
    """Of training, that no checkpoint on disk holds."""

    def note(self, problem: Problem) -> None:
        """Keep a note or warning for the run's record, and tell the observers."""
        self.problems.append(problem)
        self.observers.noted(problem)


@dataclass(frozen=True, kw_only=True)
class Composed:
    """All parts of a run, put together and checked; nothing of it is on disk yet."""

    config: RunConfig
    """As given, with what nobody gave decided."""
    resolved: RunConfig
    """The same with all that was detected or chosen: what ``config.yaml`` holds."""
    decisions: Mapping[str, Decision]
    """What of the configuration nobody gave, by key."""
    directory: RunDirectory
    data: TaskData
    network: Network
    training: Training
    validation: Encoded | None
    workshop: Workshop
    """What other runs of this process have in common with it."""
    teacher: Teacher | None
    """Whom it learns from besides the labels."""
    columns: ComputedColumns
    """What its model made of rows before training."""
    referred: Mapping[str, Mapping[str, Array | Ragged]] = field(default_factory=dict)
    """What its reference says of the rows of a split, as further targets, where its loss reads that."""
    fair: FairRows | None = None
    """The training rows by group, where these are to be served alike."""
    logbook: Logbook
    stop: StopRequests
    how_to_resume: str
    """The command that continues it."""

    @property
    def observers(self) -> Observers:
        """Who watches."""
        return self.logbook.observers

    @property
    def progress(self) -> Progress:
        """Where training stands."""
        return self.logbook.progress

    @property
    def metric(self) -> tuple[str, bool]:
        """The metric that decides, and whether higher is better."""
        directions = {**self.data.task.higher_is_better, "loss": False}
        name = self.config.train.early_stopping.metric or self.data.task.main_metric()
        return name, directions[name]

    @property
    def judged_split(self) -> str:
        """The split that the final figures come from."""
        return self.data.judged_split(self.config.evaluation.split)

    @property
    def bytes_beside(self) -> int:
        """The memory that other runs and the weights of the best step take on its device, which are no part of it."""
        best = self.logbook.best
        held = best.num_bytes if best is not None and self.network.device.type == "cpu" else 0
        return self.workshop.bytes_beside(self.network) + held

    @property
    def model_key(self) -> list[Any]:
        """What the model follows from before its first step, but for weights that a seed makes, as JSON values."""
        method, network, known = self.config.method, self.network, origin(self.network.model)
        weights = None if known is None else known.weights_sha256
        tokens = [self.workshop.tokenizer_sha256(network), network.max_length]
        return [
            self.config.model.model_dump(mode="json"),
            weights,
            method.name,
            method.shape(),
            network.precision,
            tokens,
        ]

    def encoded(self, split: str) -> Encoded:
        """Return the tokens of a split, with what the reference says of them."""
        encoded, referred = self.workshop.encoded(self.network, self.data, split), self.referred.get(split)
        return encoded if referred is None else encoded.with_targets(referred)

    def note(self, problem: Problem) -> None:
        """Keep a note or warning for the run's record, and tell the observers."""
        self.logbook.note(problem)


@dataclass(frozen=True, kw_only=True)
class Opened(Composed):
    """A run that has begun on disk: it can be resumed, and stands where it stood if it was."""

    rival: Baseline | None
    """The model before its first step, where that is what it is judged against."""
    taught_by: Baseline | None = None
    """What its teacher answers for the judged rows."""
    general: Kept | None
    """What it made of general text."""


@dataclass(frozen=True, slots=True)
class StepSettings:
    """How steps are made on the device at hand."""

    memory: MemoryPlan
    num_compiled: int = 0
    """Layers that are compiled."""
    has_graphs: bool = False

    @property
    def changes_model(self) -> bool:
        """Whether they have put something into the model."""
        return self.memory.checkpointing or bool(self.num_compiled) or self.has_graphs

    def record(self) -> dict[str, Any]:
        """Return the entries of ``training.json``."""
        return {
            "predicted_memory_bytes": self.memory.predicted_bytes,
            "micro_batch_tokens": self.memory.micro_batch_tokens,
            "checkpointing": self.memory.checkpointing,
            "compiled_layers": self.num_compiled,
            "cuda_graphs": self.has_graphs,
            "streamed_bytes": self.memory.needs.streamed,
        }


@dataclass(frozen=True, kw_only=True)
class Ready(Opened):
    """A run whose next step can be made, and is recorded."""

    settings: StepSettings
    metrics: MetricsFile
    """Where steps and evaluations are recorded."""
    board: Observer
    """Who writes them for TensorBoard."""

    def close_records(self) -> None:
        """Let go of the files that grew with every step: nothing is added to them any more."""
        self.metrics.sync()
        self.metrics.close()
        self.observers.part_with(self.board)

    def working(self, what: str) -> None:
        """Say what is being done after the last step, to observers and to whoever stops it."""
        step, total = self.training.step, self.training.plan.total_steps
        saved = "" if self.logbook.unsaved_seconds else ", which is saved"
        self.stop.advice = (
            f"Stopped while {what}, after step {step} of {total}{saved}; the run is not complete. "
            f"Bring it to its end with: {self.how_to_resume}"
        )
        self.observers.working(what)


Stage = TypeVar("Stage", bound=Composed)


def next_stage(stage: type[Stage], before: Composed, **added: Any) -> Stage:
    """Return a run in its next stage: with all that it has in the one before, and what is ``added``."""
    return stage(**{one.name: getattr(before, one.name) for one in fields(before)} | added)
