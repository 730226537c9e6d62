"""What a run would take, told before it is made: a few real steps of it, thrown away, and what follows from them.

The steps are those of the run: its model, its rows, its method, the same code. They are made on a copy that is then
forgotten, and nothing of it is written into a run's folder.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch

from tunesmith.data.encoded import Encoded
from tunesmith.engine.batch import IntArray
from tunesmith.engine.free_memory import memory_of
from tunesmith.engine.loop import train as train_steps
from tunesmith.engine.memory_plan import MemoryPlan
from tunesmith.engine.order import StepPlan, micro_batches
from tunesmith.engine.predict import forward_tokens, scored_parts
from tunesmith.engine.step import Training
from tunesmith.engine.work import Work
from tunesmith.kernels.waiting import cores_shared
from tunesmith.methods.choosing import Trained
from tunesmith.models.anatomy import Anatomy
from tunesmith.models.modes import evaluating
from tunesmith.models.quiet import quiet
from tunesmith.run.assembly import TaskData, count_parameters
from tunesmith.run.calibration import calibrated
from tunesmith.run.composition import compose
from tunesmith.run.directory import RunDirectory
from tunesmith.run.frozen_states import states_of, wants_states
from tunesmith.run.guest import as_guest
from tunesmith.run.memory import peak_bytes, reset_peak
from tunesmith.run.observers import Observers
from tunesmith.run.overfitting import scored_rows
from tunesmith.run.pace import SAVING_BYTES, Pace, StepsSeen, Timetable
from tunesmith.run.session import Composed, Opened, next_stage
from tunesmith.run.signals import StopRequests
from tunesmith.run.step_settings import settle_steps
from tunesmith.run.training import default_output

if TYPE_CHECKING:
    from tunesmith.run.config import RunConfig
    from tunesmith.run.workshop import Workshop

CPU = torch.device("cpu")

PROBE_SECONDS = 8.0
"""How long a probe makes steps, about."""
FEWEST_STEPS, MOST_STEPS = 3, 12
"""Steps that are timed."""
WARM_UP = 2
"""Steps before them: what is made once (buffers, primitives) is no part of the others."""
PART = 4
"""A first look is taken at steps of so many times fewer rows."""
ENDLESS = 1000
"""Steps of the trainings that probes are the beginning of."""
SCORED_BATCHES = 4
"""Micro-batches that are scored, of which the first is not timed."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a run is going to take."""

    config: RunConfig
    """The run's, with what nobody gave decided."""
    timetable: Timetable
    seconds_of_training: float
    """What ``training.json`` will call its seconds, if it makes all of its steps."""
    seconds_around: float
    """What comes before and after: loading, tokenising, states of frozen layers, saving, scoring the judged rows; not
    written answers and baselines."""
    peak_memory: int
    """Bytes at the peak of the training, in a process of its own: of the device, or of all of it on a CPU."""
    memory: MemoryPlan
    """How its steps are made to fit into the memory that there is now, and what they need."""
    disk: int
    """Bytes of the saved model, without its tokenizer."""
    disk_while_training: int
    """Bytes of checkpoints besides."""
    trained: Trained
    data: TaskData
    rows: Encoded
    """The training rows."""
    work: Work
    probe_seconds: float
    """What the forecast itself took."""

    @property
    def num_tokens(self) -> int:
        """Of the training rows, once."""
        return int(self.rows.lengths.sum())

    @property
    def seconds(self) -> float:
        """Of the whole run."""
        return self.seconds_of_training + self.seconds_around

    def seconds_of_steps(self, num_steps: int) -> float:
        """Return what the first so many steps take, with the evaluations and checkpoints among them."""
        return self.timetable.seconds_of_steps(num_steps)


@cores_shared()
def forecast(
    config: RunConfig,
    workshop: Workshop,
    *,
    observers: Observers | None = None,
    stop: StopRequests | None = None,
    seconds: float = PROBE_SECONDS,
) -> Forecast:
    """Return what a run of ``config`` takes, from a probe of about so many ``seconds``.

    Nothing is changed or written but the cache. Rows, tokens and the loaded model are the workshop's, and stay there
    for the run. Raises what ``train`` does before its first step.
    """
    began = time.perf_counter()
    libraries = _Libraries.needed_by(config)
    with as_guest():
        directory = RunDirectory(Path(config.output or default_output(config)))
        watching = observers or Observers(())
        composed = compose(config, directory, watching, stop or StopRequests(), workshop)
        composing = time.perf_counter() - began
        watching.working("making a few steps")
        with tempfile.TemporaryDirectory(prefix="tunesmith-") as name:
            columns = replace(composed.columns, folder=Path(name), common=None, once=lambda _, make: make())
            calibrating = calibrated(replace(composed, columns=columns))
            opened = next_stage(Opened, calibrating, rival=None, general=None)
            found = _probe(opened, seconds)
        beside = workshop.bytes_beside(opened.network) + libraries.bytes_beside
        memory = replace(found.memory, in_use_bytes=found.memory.in_use_bytes - beside)
        found = replace(found, memory=memory, peak=found.peak - beside)
    return _forecast(opened, found, composing, began)


@dataclass(slots=True)
class _Libraries:
    """What a process holds of libraries that only some runs import."""

    bytes_of_adapters: ClassVar[int] = 0
    """What the import of PEFT took, where a forecast was the first to need it."""
    bytes_beside: int
    """Of those that a run does not need, and the process has because of another one."""

    @classmethod
    def needed_by(cls, config: RunConfig) -> _Libraries:
        """Import what a run needs, and give back memory that is not in use: both would be counted as the run's."""
        gc.collect()
        with suppress(OSError, AttributeError):  # glibc's
            ctypes.CDLL(None).malloc_trim(0)
        if not config.method.needs_base:
            return cls(cls.bytes_of_adapters)
        if "peft" not in sys.modules:
            before, _ = memory_of(CPU)
            with quiet():
                importlib.import_module("peft")
            cls.bytes_of_adapters = max(memory_of(CPU)[0] - before, 0)
        return cls(0)


@dataclass(frozen=True, slots=True)
class _Probed:
    """What the probe found."""

    training: Training
    """On the rows of the probe."""
    memory: MemoryPlan
    peak: int
    work: Work
    pace: Pace
    seconds_of_states: float
    """For all rows."""


def _forecast(opened: Opened, found: _Probed, composing: float, began: float) -> Forecast:
    training = replace(opened.training, token_budget=found.training.token_budget)
    timetable = Timetable.of(training, found.work, found.pace, scored_rows(opened))
    split, judged = opened.judged_split, 0.0
    if split in opened.data.prepared.splits:
        plain = Work.of(training.scorer, training.data, training.optimizer.names)
        budget = opened.config.compute.micro_batch_tokens
        judged = plain.of_scoring(opened.encoded(split), training.collate, budget)
    model, optimizer = opened.network.model, training.optimizer
    head = set(Anatomy.of(model).head_parameter_names)
    masters = zip(optimizer.names, optimizer.masters, strict=True)
    outside = sum(master.numel() for name, master in masters if name not in head)
    disk = _saved_bytes(opened)
    return Forecast(
        config=opened.config,
        timetable=timetable,
        seconds_of_training=timetable.seconds + opened.progress.seconds,
        seconds_around=composing + found.seconds_of_states + judged * found.pace.of_forward + disk / SAVING_BYTES,
        peak_memory=found.peak,
        memory=found.memory,
        disk=disk,
        disk_while_training=(opened.config.compute.keep_checkpoints + 1) * timetable.checkpoint_bytes,
        trained=Trained(optimizer.num_trained, outside, count_parameters(model)),
        data=opened.data,
        rows=opened.training.data,
        work=found.work,
        probe_seconds=time.perf_counter() - began,
    )


def _saved_bytes(composed: Composed) -> int:
    """Return the bytes of the model's files in the run's folder."""
    model, optimizer = composed.network.model, composed.training.optimizer
    if not composed.config.method.needs_base:
        return sum(one.numel() * one.element_size() for one in model.parameters())
    pairs = zip(optimizer.parameters, optimizer.masters, strict=True)
    return sum(master.numel() * parameter.element_size() for parameter, master in pairs)


def _probe(opened: Opened, seconds: float) -> _Probed:
    """Make a few steps on rows of the first ones, and score a few rows."""
    training = opened.training
    data = training.data if training.data.keeps_rows else training.data.select(_rows_of_probe(training))
    states = _States.of(opened, data) if wants_states(opened) and not training.data.keeps_rows else None
    data = data if states is None else states.data
    probed, settings = settle_steps(replace(opened, training=replace(training, data=data)))
    work = Work.of(probed.scorer, data, probed.optimizer.names)
    pace, seen = _time_steps(probed, work, seconds)
    device = probed.collate.device
    if states is not None:
        peak = seen.peak_of_all(settings.memory, peak_bytes(device))
        return _Probed(probed, settings.memory, peak, work, replace(pace, of_forward=states.of_forward), states.seconds)
    if opened.validation is not None:
        scoring = _time_scoring(probed, opened.validation, work)
        pace = replace(pace, of_scoring=scoring, of_forward=scoring)
    peak = seen.peak_of_all(settings.memory, peak_bytes(device))
    return _Probed(probed, settings.memory, peak, work, pace, 0.0)


@dataclass(frozen=True, slots=True)
class _States:
    """What frozen layers make of the rows of a probe, and what that takes."""

    data: Encoded
    of_forward: float
    """Seconds for a unit of work of these layers."""
    seconds: float
    """For all training and validation rows."""

    @classmethod
    def of(cls, opened: Opened, data: Encoded) -> _States:
        training = opened.training
        budget = training.compute.micro_batch_tokens
        work = Work.of(training.scorer, training.data, training.optimizer.names)
        few = data.select(np.arange(min(training.plan.batch_size, data.num_samples)))
        states_of(opened, few)  # what is made once
        began = time.perf_counter()
        joined = states_of(opened, data)
        took = time.perf_counter() - began
        of_forward = took / work.of_scoring(data, training.collate, budget)
        splits = [training.data] + ([] if opened.validation is None else [opened.validation])
        every = sum(work.of_scoring(split, training.collate, budget) for split in splits)
        return cls(joined, of_forward, of_forward * every)


def _rows_of_probe(training: Training) -> IntArray:
    """Return the samples of the first steps, each once, and the longest one: memory is planned with it."""
    steps = range(min(WARM_UP + MOST_STEPS, training.plan.total_steps))
    samples = np.concatenate([training.plan.samples_of(step) for step in steps])
    return np.unique(np.append(samples, int(training.data.sample_lengths.argmax())))


def _time_steps(training: Training, work: Work, seconds: float) -> tuple[Pace, StepsSeen]:
    """Return the pace of the steps of a training, which is spent by this, and the largest of those that were made.

    From here on the peak of memory is measured anew.
    """
    rows = training.plan.batch_size
    few = max(rows // PART, 1)
    reset_peak(training.collate.device)
    trial = _made(training, work, few, range(2))
    whole = trial.seconds[-1] * rows / few
    if (FEWEST_STEPS + 1) * whole <= seconds:
        timed = int(min(max(seconds / max(whole, 1e-9), FEWEST_STEPS), MOST_STEPS))
        made = _made(training, work, rows, range(WARM_UP + timed))
        per_work = made.seconds_of_work(WARM_UP)
        return Pace(per_work, per_work, per_work), made
    if few == rows or 2 * trial.seconds[-1] > seconds:
        per_work = trial.seconds_of_work(1)
        return Pace(per_work, per_work, per_work), trial
    twice = _made(training, work, 2 * few, range(2, 3))
    longer, more = twice.seconds[0], twice.works[0]
    per_work = max((longer - trial.seconds[-1]) / (more - trial.works[-1]), longer / more / 2)
    pace = Pace(per_work, per_work, per_work, max(longer - per_work * more, 0.0))
    return pace, twice


def _made(training: Training, work: Work, rows: int, steps: range) -> StepsSeen:
    """Make steps of so many rows each, spread over the whole training; return what they took."""
    data = training.data
    training.plan = StepPlan(data.num_samples, rows, ENDLESS * rows / data.num_samples, training.plan.seed)
    seen = StepsSeen(training, work)
    for step in steps:
        training.step = step * training.plan.total_steps // steps.stop  # what a method does may change on the way
        seen.add(training.step, next(train_steps(training)).seconds)
    return seen


def _time_scoring(training: Training, data: Encoded, work: Work) -> float:
    """Return the seconds for a unit of work in a pass forward alone, of some micro-batches of ``data``."""
    scorer, collate, task = training.scorer, training.collate, training.task
    budget = forward_tokens(training.compute.micro_batch_tokens, collate.device)
    every = np.arange(data.num_samples)
    batches = list(micro_batches(data, every, collate.layout, budget))
    chosen = np.linspace(0, len(batches) - 1, min(SCORED_BATCHES, len(batches))).round().astype(int)
    works, took = [], []
    with torch.inference_mode(), evaluating(scorer.model):
        for index in (chosen[-1], *chosen):
            began = time.perf_counter()
            sequences = batches[index]
            rows = task.corrupt(data, sequences, None) if task.corrupts else data
            batch = collate(rows, np.arange(len(sequences)) if task.corrupts else sequences)
            for scores, targets, units in scored_parts(scorer, task, batch):
                float(task.loss_sum(scores, targets, units) if targets else scores.sum())
            took.append(time.perf_counter() - began)
            works.append(work.of_batch(data, sequences))
    return sum(took[1:]) / sum(works[1:])
