"""What methods would take on machines that are not at hand: from the model's config and the rows, by arithmetic."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from tunesmith.data.encoded import Encoded
from tunesmith.files.jsons import finite
from tunesmith.models.description import Description, describe
from tunesmith.models.model_checks import length_for
from tunesmith.readable import count, size
from tunesmith.run import Observer, Workshop
from tunesmith.run.advisor import situation_before
from tunesmith.run.assembly import TaskData
from tunesmith.run.defaults import Amount, amount_of
from tunesmith.run.guest import as_guest
from tunesmith.run.observers import Observers
from tunesmith.study.contest_config import Contestant
from tunesmith.study.costs.estimate import Parallel, Rows, Setting, Step, estimate, step_of
from tunesmith.study.costs.machines import Machines, find_machines
from tunesmith.study.costs.shape import Shape, shape_of
from tunesmith.study.plan_config import PlanConfig
from tunesmith.types import InputError, Problem

if TYPE_CHECKING:
    from tunesmith.run import RunConfig

SAMPLED_ROWS = 1000
"""Rows that stand for all: they are tokenised, and no others."""
BYTES_OF_A_TOKEN = 4.0
"""Of a text, where there is no tokenizer."""
SPREAD = 1.5
"""The mean of squared lengths over the square of the mean, where lengths are guessed."""
LOADED_BYTES = 1e9
"""Bytes of weights that are read and put into place in a second."""
WAYS: tuple[Parallel, ...] = ("data", "fsdp")


@dataclass(frozen=True, slots=True)
class Choice:
    """A method by one way of using the devices, and what that takes."""

    method: str
    parallel: Parallel
    step: Step | None
    """None where the method cannot be used."""
    reason: str
    """Why it cannot, or does not fit."""
    trained: int = 0
    """Weights."""
    seconds: float = 0.0
    """Of the whole run, with its evaluations, loaded and saved."""
    mfu: float = 0.0
    """Operations of the model a second, over the datasheet's rate."""
    price: float | None = None

    @property
    def fits(self) -> bool:
        """Whether it can be trained so."""
        return self.step is not None and self.step.fits

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        values: dict[str, Any] = {"method": self.method, "parallel": self.parallel, "fits": self.fits}
        values |= {"reason": self.reason}
        if self.step is None:
            return values
        one = self.step
        parts = ("products", "attention", "memory", "queueing", "exchange", "update")
        return values | {
            "seconds": self.seconds,
            "price": self.price,
            "seconds_of_step": one.seconds,
            "parts_of_step": {name: getattr(one, name) for name in parts},
            "tokens_per_second": one.tokens_per_second,
            "memory_per_device": one.bytes_needed,
            "micro_batch_tokens": one.micro_batch_tokens,
            "recomputes": one.recomputes,
            "trained_parameters": self.trained,
            "mfu": self.mfu,
        }


@dataclass(frozen=True, slots=True)
class ClusterPlan:
    """What methods take on some machines, and the one to take."""

    machines: Machines
    model: str
    num_weights: int
    steps: int
    rows: Rows
    choices: tuple[Choice, ...]
    notes: tuple[Problem, ...]
    seconds: float
    """What the plan itself took."""

    def cheapest(self, method: str) -> Choice | None:
        """Return the quicker way that fits a method; None where none does."""
        found = [one for one in self.choices if one.method == method and one.fits]
        return min(found, key=lambda one: one.seconds, default=None)

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as JSON values."""
        device, machines = self.machines.device, self.machines
        found: dict[str, Any] = finite(
            {
                "machine": {
                    "device": device.name,
                    "per_machine": machines.per_machine,
                    "machines": machines.num_machines,
                    "product_rate": device.product_rate,
                    "bandwidth": 1e9 * device.bandwidth,
                    "memory": 1e9 * device.memory,
                    "link": machines.link_bytes,
                    "network": machines.network_bytes,
                    "source": device.source,
                    "products_source": device.products_source,
                },
                "model": {"name": self.model, "weights": self.num_weights},
                "steps": self.steps,
                "rows_per_step": self.rows.rows,
                "tokens_per_row": self.rows.length,
                "choices": [one.to_dict() for one in self.choices],
                "notes": [str(problem) for problem in self.notes],
            }
        )
        return found


def plan_for_machines(config: PlanConfig, *, observers: Sequence[Observer] = ()) -> ClusterPlan:
    """Return what the methods in question take on the machines of ``config.machine``.

    No weights are loaded and nothing is tried: modules of the model's config are counted, and a thousand rows
    tokenised. Raises ``InputError`` where machine, data or model cannot be used, or no method fits the model.
    """
    began = time.monotonic()
    assert config.machine is not None
    machines = find_machines(config.machine, config.nodes, config.network)
    with as_guest(), closing(Observers(observers)) as watching, Workshop() as workshop:
        watching.working("reading the data")
        data = workshop.data(config.run_config())
        watching.working("looking at the model")
        described = describe(config.model, data.task.head())
        rows, notes = rows_of(config, data, described)
        amount = amount_of(
            config,
            data.task,
            rows.rows,
            len(data.prepared.splits.get("validation", ())),
            has_validation="validation" in data.prepared.splits,
        )
        rows = replace(rows, rows=amount.plan.batch_size)
        course = _Course(config, machines, data, described, rows, amount)
        choices = [choice for one in config.contestants() for choice in course.choices(one)]
    if all(one.step is None for one in choices):
        raise InputError([Problem("error", f"{one.method}: {one.reason}") for one in choices])
    if described.title != config.model.name:
        notes.append(Problem("note", f"The size {config.model.name} stands for {described.title}."))
    return ClusterPlan(
        machines, described.title, course.num_weights, amount.plan.total_steps, rows, tuple(choices),
        (*notes, *course.notes()), time.monotonic() - began,
    )  # fmt: skip


def rows_of(config: RunConfig, data: TaskData, described: Description) -> tuple[Rows, list[Problem]]:
    """Return the training rows (all of them) by their lengths in tokens, from some of them."""
    columns, total = data.columns("train"), len(data.prepared.splits["train"])
    picked = np.unique(np.linspace(0, total - 1, min(total, SAMPLED_ROWS)).round().astype(int))
    some = {name: [column[int(index)] for index in picked] for name, column in columns.items()}
    if described.tokenizer is None:
        texts = [len(text.encode()) for text in data.task.vocabulary_texts(some)]
        length = max(sum(texts) / len(picked) / BYTES_OF_A_TOKEN, 1.0)
        limit = config.model.max_length or math.inf
        length = min(length, limit)
        note = Problem("note", f"Rows are taken for {length:.0f} tokens in the mean: four bytes of text to a token.")
        return Rows(total, length, SPREAD * length**2), [note]
    task = data.task
    task.adapt(described.tokenizer)
    model = described.bare_model()
    most = length_for(model, described.tokenizer, config.model.max_length, task.head())
    encoded = task.encode(some, described.tokenizer, most)
    lengths = encoded.sample_lengths.astype(float)
    samples = round(total * encoded.num_samples / len(picked))
    return Rows(samples, float(lengths.mean()), float((lengths**2).mean()), _read_share(encoded)), []


def _read_share(encoded: Encoded) -> float:
    return 1.0 if encoded.reads is None else len(encoded.reads.values) / max(int(encoded.lengths.sum()), 1)


@dataclass
class _Course:
    """Goes through methods and ways."""

    config: PlanConfig
    machines: Machines
    data: TaskData
    described: Description
    rows: Rows
    amount: Amount
    num_weights: int = 0

    def choices(self, one: Contestant) -> list[Choice]:
        """Return what a method takes by every way."""
        try:
            shape = self._shape(one)
        except InputError as error:
            return [Choice(one.name, "data", None, error.problems[0].message.rstrip("."))]
        self.num_weights = max(self.num_weights, shape.weights - shape.added)
        ways = WAYS if self.machines.num_devices > 1 else WAYS[:1]
        return [self._choice(one.name, shape, way) for way in ways]

    def _shape(self, one: Contestant) -> Shape:
        model = self.described.bare_model()
        run_config = self.config.run_config(method=one.method)
        method = one.method.settled(model, situation_before(run_config, self.data, model))
        try:
            return shape_of(model, method, is_causal=_is_causal(model), reads_tokens=self.data.task.reads == "token")
        except NotImplementedError as error:  # what a method computes of weights cannot be had of none
            raise InputError(
                f"what {one.name} trains is found from the weights themselves, which are not loaded"
            ) from error

    def _choice(self, name: str, shape: Shape, way: Parallel) -> Choice:
        compute = self.config.compute
        wish = {"auto": None, "never": False, "always": True}[compute.checkpointing]
        setting = Setting(way, compute.micro_batch_tokens, wish)
        step = estimate(shape, self.machines, self.rows, setting)
        device = self.machines.device
        seconds = self._seconds(shape, step)
        hours = seconds / 3600 * self.machines.num_machines
        price = None if self.config.price_per_hour is None else hours * self.config.price_per_hour
        lacking = f"needs {size(step.bytes_needed)} of a device, which has {size(device.usable_memory)} to use"
        reason = "" if step.fits else lacking
        if self.machines.num_devices > self.rows.rows:
            reason = (
                f"a step has {count(self.rows.rows)} rows, and there are {count(self.machines.num_devices)} devices: "
                "raise --train.batch_size"
            )
            step = replace(step, fits=False)
        mfu = step.operations / step.seconds / (1e12 * device.peak)
        return Choice(name, way, step, reason, shape.trained, seconds, mfu, price)

    def _seconds(self, shape: Shape, step: Step) -> float:
        """Return the seconds of the whole run: steps, evaluations by the first device, loading and saving."""
        plan, train = self.amount.plan, self.config.train
        every = train.evaluate_steps or self.amount.evaluate_steps[0]
        evaluations = math.ceil(plan.total_steps / every)
        scored = len(self.data.prepared.splits.get("validation", ()))
        alone = replace(self.machines, per_machine=1, num_machines=1)
        forward = step_of(shape, alone, replace(self.rows, rows=max(scored, 1)), Setting(micro_batch_tokens=2**15))
        scoring = (forward.products + forward.attention + forward.memory) / 3 if scored else 0.0
        loading = 2 * shape.weights * self.machines.device.element_bytes / LOADED_BYTES
        return plan.total_steps * step.seconds + evaluations * scoring + loading

    def notes(self) -> tuple[Problem, ...]:
        """Say what the figures stand on where that is not a measurement."""
        device = self.machines.device
        found = []
        if device.products is None:
            message = (
                f"Nobody has published what products of {device.name} reach: 80% of the datasheet's "
                f"{device.peak:g} TFLOP/s are taken."
            )
            found.append(Problem("note", message))
        if self.machines.num_machines > 1 and self.config.network is None:
            rate = 8e-9 * self.machines.network_bytes
            found.append(Problem("note", f"Between machines {rate:g} Gb/s are taken.", "Say otherwise by --network."))
        return tuple(found)


def _is_causal(model: Any) -> bool:
    return any(getattr(module, "is_causal", False) for module in model.modules())
