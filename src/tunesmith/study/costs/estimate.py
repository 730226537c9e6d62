"""How long a step takes and what memory it needs on given machines, by arithmetic: ``docs/scale.md`` has the formulas.

A device multiplies (``products``), attends, passes hidden states to and from its memory, and waits for the program that
queues its work; then gradients or weights are exchanged, and the optimizer passes over what is trained. Four constants
stand for everything that is not in a datasheet. They are the same for every model, device and number of devices;
``docs/scale.md`` says which published runs they were found by, and how far they are from the others.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

from tunesmith.study.costs.machines import Machines
from tunesmith.study.costs.shape import Shape

ATTENTION = 0.35
"""Of the rate of large products: what products of queries, keys and values reach in kernels that keep no scores."""
BACKWARD_ATTENTION = 2.5
"""Products of such a kernel's backward pass, in forward passes (Dao 2023: scores are computed again)."""
PASSED = 245.0
"""Hidden states that a layer reads and writes for a token in both passes: norms, gates, rotations, sums, casts."""
PASSED_BY_ADAPTER = 70.0
"""The same for every linear map that an adapter stands beside."""
QUEUED = 1.0e-3
"""Seconds of the program to queue what a layer does in both passes of a micro-batch, and again for its adapters."""
ADAPTERS_OF_LAYER = 7
"""Linear maps of a layer, where adapters stand beside all of them."""
UPDATE_BYTES = 28.0
"""Read and written for every trained weight of a step: gradient, master, two moments, weight (AdamW)."""
LINKS = 0.8
"""Of a link's rate, what collective operations reach."""
STATE_BYTES = 12
"""Of a trained weight: master and two moments in fp32; where weights are fp32, their own master."""
SCORE_BYTES, MOST_SCORES = 12, 2**27
"""Of a score at the peak of the loss, and how many are there at once."""

Parallel = Literal["data", "fsdp"]


@dataclass(frozen=True, slots=True)
class Rows:
    """What a step works on."""

    rows: int
    """Of the whole step."""
    length: float
    """Tokens of a row, in the mean."""
    squared: float
    """The mean of their squares: attention grows with it."""
    read: float = 1.0
    """Share of tokens that are scored."""

    @classmethod
    def alike(cls, rows: int, length: int, read: float = 1.0) -> Rows:
        """Return rows of one length."""
        return cls(rows, float(length), float(length) ** 2, read)


@dataclass(frozen=True, slots=True)
class Step:
    """What a step takes on the slowest device, in seconds, and what memory each device needs, in bytes."""

    products: float
    attention: float
    memory: float
    """Hidden states on their way to and from memory."""
    queueing: float
    exchange: float
    """What of it no computation hides."""
    update: float
    tokens: float
    """Of the whole step."""
    operations: float
    """Of the model, without what is computed twice, for each device."""
    micro_batch_tokens: int
    recomputes: bool
    bytes_needed: int
    fits: bool

    @property
    def seconds(self) -> float:
        """All of it."""
        return self.products + self.attention + self.memory + self.queueing + self.exchange + self.update

    @property
    def tokens_per_second(self) -> float:
        """Of all devices."""
        return self.tokens / self.seconds

    @property
    def bound_by(self) -> str:
        """Name what takes most of it."""
        parts = {
            "products": self.products + self.attention,
            "memory": self.memory + self.update,
            "queueing": self.queueing,
            "exchange": self.exchange,
        }
        return max(parts, key=lambda name: parts[name])


@dataclass(frozen=True, slots=True)
class Setting:
    """How it is computed, as far as that is chosen."""

    parallel: Parallel = "data"
    micro_batch_tokens: int = 4096
    recomputes: float | None = None
    """Share of the layers' work that is done again for the backward pass (True: all of it); where it has to be, when
    not given."""
    reduced_bytes: int = 4
    """Of a gradient on its way between sharded devices."""


def estimate(shape: Shape, machines: Machines, rows: Rows, setting: Setting) -> Step:
    """Return what a step takes, in the largest micro-batches that fit; the smallest where none does.

    The micro-batch is made smaller before activations are computed again, as the engine does.
    """
    longest = max(rows.length, 1.0)
    of_device = math.ceil(rows.rows / machines.num_devices) * longest
    tokens, sizes = max(min(setting.micro_batch_tokens, of_device), longest), []
    while tokens > longest:
        sizes.append(tokens)
        tokens /= 2
    again = (False, True) if setting.recomputes is None else (setting.recomputes,)
    tried = [(size, recomputes) for recomputes in again for size in (*sizes, longest)]
    found = (
        step_of(shape, machines, rows, replace(setting, micro_batch_tokens=round(size), recomputes=recomputes))
        for size, recomputes in tried
    )
    step = next(found)
    while not step.fits and (smaller := next(found, None)) is not None:
        step = smaller
    return step


def step_of(shape: Shape, machines: Machines, rows: Rows, setting: Setting) -> Step:
    """Return what a step takes in exactly such micro-batches, whether they fit or not."""
    device, again = machines.device, float(setting.recomputes or 0.0)
    is_sharded = setting.parallel == "fsdp" and machines.num_devices > 1
    tokens = math.ceil(rows.rows / machines.num_devices) * rows.length
    num_passes = math.ceil(tokens / setting.micro_batch_tokens)
    rate = device.product_rate
    pairs = 4.0 * shape.attended * shape.num_layers * rows.squared / rows.length * (0.5 if shape.is_causal else 1.0)
    products = tokens * _operations(shape, rows, again) / rate
    attention = tokens * pairs * (1 + again + BACKWARD_ATTENTION * shape.backward) / (ATTENTION * rate)
    passed = _passed(shape, again) * shape.hidden * device.element_bytes
    memory = 1e-9 * tokens * passed / device.bandwidth
    queued = shape.num_layers * (1 + 2 * shape.backward + again) / 3 + shape.num_added / ADAPTERS_OF_LAYER
    backward = (products + attention + memory) * 2 / 3 / num_passes
    bytes_needed = _memory(shape, machines, rows, setting, is_sharded=is_sharded)
    owned = shape.trained / (machines.num_devices if is_sharded else 1)
    return Step(
        products=products,
        attention=attention,
        memory=memory,
        queueing=num_passes * QUEUED * queued,
        exchange=_exchange(shape, machines, setting, num_passes, backward),
        update=1e-9 * owned * UPDATE_BYTES / device.bandwidth,
        tokens=rows.rows * rows.length,
        operations=tokens * (_operations(shape, rows, 0.0) + pairs * (1 + 2 * shape.backward)),
        micro_batch_tokens=setting.micro_batch_tokens,
        recomputes=again > 0,
        bytes_needed=bytes_needed,
        fits=bytes_needed <= device.usable_memory,
    )


def _operations(shape: Shape, rows: Rows, again: float) -> float:
    """Return the operations of linear maps for a token, in both passes."""
    layers = 2.0 * shape.products * (1 + again + shape.backward) + 2.0 * shape.trained_products
    added = 2.0 * shape.added * (3 + again)
    head = rows.read * 2.0 * shape.outputs * shape.hidden * (3 if shape.trained_products else 1 + shape.backward)
    return layers + added + head


def _passed(shape: Shape, again: float) -> float:
    """Return how many hidden states are read and written for a token, a third of them in a forward pass."""
    share = (1 + again + 2 * shape.backward) / 3
    return share * (PASSED * shape.num_layers + PASSED_BY_ADAPTER * shape.num_added)


def _exchange(shape: Shape, machines: Machines, setting: Setting, num_passes: int, backward: float) -> float:
    """Return the seconds of exchange that nothing hides.

    Sharded weights are gathered for the forward and the backward pass of every micro-batch, and gradients reduced to
    their owners after each: counted in full, since kernels of both kinds want the same memory and processors.
    Gradients of whole copies set out while the last backward pass still goes on, and what takes longer is waited for.
    """
    if machines.num_devices == 1:
        return 0.0
    if setting.parallel == "fsdp":
        gathered = 2.0 * _all_to_all(shape.weights * machines.device.element_bytes, machines)
        reduced = _all_to_all(shape.trained * setting.reduced_bytes, machines)
        return num_passes * (gathered + reduced)
    gradient_bytes = shape.trained * max(machines.device.element_bytes, 4 if machines.num_devices > 4 else 2)
    whole = 2.0 * _all_to_all(gradient_bytes, machines)
    return max(whole - backward, whole / max(shape.num_layers, 1))


def _all_to_all(num_bytes: float, machines: Machines) -> float:
    """Return the seconds until every device has the ``num_bytes`` of which each has had an equal part.

    The way within a machine and the way between machines are used at the same time; the slower one decides.
    """
    here, there = machines.per_machine, machines.num_machines
    inside = num_bytes * (here - 1) / here / machines.link_bytes if here > 1 else 0.0
    between = num_bytes * (there - 1) / there / machines.network_bytes if there > 1 else 0.0
    return max(inside, between) / LINKS


def _memory(shape: Shape, machines: Machines, rows: Rows, setting: Setting, *, is_sharded: bool) -> int:
    """Return the bytes that a device needs at the peak of a step."""
    size = machines.device.element_bytes
    owners = machines.num_devices if is_sharded else 1
    tokens = setting.micro_batch_tokens
    accumulates = math.ceil(rows.rows / machines.num_devices) * rows.length > tokens
    states = STATE_BYTES if size < 4 else STATE_BYTES - 4
    gradients = 4 if accumulates or size == 4 else size
    held = shape.weights * size + shape.trained * (states + gradients)
    layer = shape.products / max(shape.num_layers, 1) * size
    gathered = 2 * layer + (shape.weights - shape.products) * size if is_sharded else 0.0
    kept = size * shape.kept / max(shape.num_layers, 1)
    of_token = (
        size * shape.hidden * shape.num_layers + kept
        if setting.recomputes
        else kept * max(shape.num_layers * shape.backward, 1.0)
    )
    scores = min(rows.read * tokens * shape.outputs, MOST_SCORES) * SCORE_BYTES
    return int(held / owners + gathered + tokens * of_token + scores)
