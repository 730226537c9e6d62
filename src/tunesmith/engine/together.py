"""Several LoRA trainings in one pass over one frozen base.

Each training makes the very step that it would make alone: its own rows in its own micro-batches,
its own loss, clipping, schedule and optimizer. Only the frozen base is run once for all of them:
their micro-batches are laid end to end in one flat row, and each adapted layer adds, to every slice
of that row, the product of the adapter whose tokens they are (the idea of S-LoRA's and PLoRA's
batched adapters, for training and with gradients equal to those of single runs).

Tokens of different trainings never meet: linear layers and norms work token by token, attention
within a sequence, heads and losses on one training's slice. What goes wrong in one (a loss of nan)
therefore stays there.

Shapes: T tokens of all micro-batches of a pass, D inputs and K outputs of a layer, R the rank.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate, pairwise, zip_longest
from typing import Any

import numpy as np
import torch
from torch import nn

from tunesmith.data.encoded import Units
from tunesmith.engine.batch import Batch, Borders
from tunesmith.engine.blocks.install import dropout_sites
from tunesmith.engine.blocks.projection import Guest, Layer, adapters_of, project, visited
from tunesmith.engine.cuda.transfer import to_device
from tunesmith.engine.loop import Step, Training, begin_step, finish_step, within_memory
from tunesmith.engine.stand_ins import standing_in
from tunesmith.models.anatomy import Anatomy, is_linear
from tunesmith.types import StepInfo

ADAPTER = "default"
"""PEFT's name of the only adapter that a model here has."""


@dataclass(frozen=True)
class Member:
    """A training that shares its frozen base with others."""

    training: Training
    layers: tuple[nn.Module, ...]
    """PEFT's adapted layers that run with the base, in an order that is the same for all members."""
    sites: Mapping[nn.Module, int]
    """Names of the modules that drop."""

    @classmethod
    def of(cls, training: Training) -> Member:
        """Return ``training`` as a member; see ``obstacle`` for what cannot be one."""
        model = training.scorer.model
        layers = (
            layer for name, layer in adapted_layers(Anatomy.of(model).base).items() if not name.startswith("pooler.")
        )
        return cls(training, tuple(layers), dropout_sites(model))


def adapted_layers(model: nn.Module) -> dict[str, nn.Module]:
    """Return PEFT's LoRA layers by name."""
    return {name: module for name, module in model.named_modules() if hasattr(module, "lora_A")}


def obstacle(training: Training) -> str:
    """Return why a training cannot share a pass over its base with others; nothing if it can.

    What is trained must either be a plain adapter beside a linear layer, or work on one row or token for itself,
    after the base has run: the head, and a pooler.
    """
    scorer = training.scorer
    if scorer.layout != "flat":
        return "its layout is padded"
    free: set[int] = {id(parameter) for parameter in scorer.head_parameters()}
    pooler = Anatomy.of(scorer.model).pooler
    if pooler is not None:
        free |= {id(parameter) for parameter in pooler.parameters()}
    layers: dict[str, Any] = dict(adapted_layers(scorer.model))
    for name, layer in layers.items():
        if layer.lora_variant or ADAPTER not in layer.lora_A or not is_linear(layer.base_layer):
            return f"its adapter at {name} adds more than a product of two matrices"
        adapters: list[Any] = [layer.lora_A, layer.lora_B]
        free |= {id(parameter) for module in adapters for parameter in module.parameters()}
    others = [
        name
        for name, parameter in zip(training.optimizer.names, training.optimizer.parameters, strict=True)
        if id(parameter) not in free
    ]
    return f"it trains weights of the base itself ({others[0]})" if others else ""


def make_steps(members: Sequence[Member]) -> list[StepInfo]:
    """Make the next step of every member, and return what came of each, in their order.

    All must have the same frozen base (the same tensors), adapted at the same layers, and steps left. A pass holds at
    most as many tokens as the largest micro-batch may (``compute.micro_batch_tokens``), and at most one micro-batch of
    each member. Each member's ``seconds`` are its share of the time by its tokens.
    """
    started = time.perf_counter()
    steps = [begin_step(member.training) for member in members]
    within_memory(steps, lambda: _compute(members, steps))
    infos = [finish_step(step) for step in steps]
    seconds = (time.perf_counter() - started) / sum(info.num_tokens for info in infos)
    return [replace(info, seconds=seconds * info.num_tokens) for info in infos]


@dataclass(frozen=True, slots=True)
class _Entry:
    """A member's micro-batch in a pass."""

    member: Member
    step: Step
    batch: Batch

    @property
    def num_tokens(self) -> int:
        """Tokens in the flat row, filler included."""
        assert self.batch.borders is not None
        return int(self.batch.inputs["position_ids"].shape[1])


def _compute(members: Sequence[Member], steps: Sequence[Step]) -> None:
    """Fill the gradients of all members' masters, in as few passes as ``compute.micro_batch_tokens`` allows."""
    for entries in _passes(members, steps):
        _run(entries)


def _passes(members: Sequence[Member], steps: Sequence[Step]) -> Iterator[list[_Entry]]:
    """Yield the micro-batches of each pass: the first of every member, then the second ones, and so on."""
    budget = max(step.training.token_budget for step in steps)
    for batches in zip_longest(*(step.batches for step in steps)):
        entries: list[_Entry] = []
        total = 0
        for member, step, batch in zip(members, steps, batches, strict=True):
            if batch is None:
                continue
            entry = _Entry(member, step, to_device(batch, step.training.collate.device))
            if entries and total + entry.num_tokens > budget:
                yield entries
                entries, total = [], 0
            entries.append(entry)
            total += entry.num_tokens
        if entries:
            yield entries


def _run(entries: Sequence[_Entry]) -> None:
    """Make one pass, forward and backward; the first entry's model is the one whose base runs."""
    conductor = entries[0].member
    scorer, device = conductor.training.scorer, conductor.training.collate.device
    sizes = [entry.num_tokens for entry in entries]
    whole = to_device(join([entry.batch for entry in entries]), device)
    with scorer.surrounding(whole), _conducting(conductor, [entry.member for entry in entries], sizes):
        with entries[0].step.randomness():
            hidden_1TD = scorer.base(whole)
        parts = torch.split(hidden_1TD, sizes, dim=1)
        losses = [_loss(entry, part_1TD, device) for entry, part_1TD in zip(entries, parts, strict=True)]
        torch.autograd.backward(losses)
    for entry, loss in zip(entries, losses, strict=True):
        entry.step.add(loss)


def _loss(entry: _Entry, hidden_1TD: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Return what a member's own head and loss make of its part of the hidden states."""
    own, batch = entry.member.training.scorer, to_device(entry.batch, device)
    with own.noise_of(batch), own.having_run(hidden_1TD), entry.step.randomness():
        return entry.step.mean_loss(batch)


def join(batches: Sequence[Batch]) -> Batch:
    """Return flat batches laid end to end, as far as the base model needs them: all but targets."""
    if len(batches) == 1:
        return batches[0]
    sizes = [int(batch.inputs["position_ids"].shape[1]) for batch in batches]
    starts = [0, *accumulate(sizes)][:-1]
    found = [batch.borders for batch in batches]
    borders = [one for one in found if one is not None]
    keys = [batch.noise_keys for batch in batches if batch.noise_keys is not None]
    reads = [batch.read_tokens for batch in batches if batch.read_tokens is not None]
    states = [batch.states for batch in batches if batch.states is not None]
    assert len(borders) == len(batches)
    assert len(states) in (0, len(batches)), "some of the batches come with states of the frozen layers, some without"
    return Batch(
        sequences=np.concatenate([batch.sequences for batch in batches]),
        units=Units.joined([batch.units for batch in batches]),
        inputs={name: torch.cat([batch.inputs[name] for batch in batches], dim=1) for name in batches[0].inputs},
        targets={},
        first_tokens=_shifted([batch.first_tokens for batch in batches], starts),
        last_tokens=_shifted([batch.last_tokens for batch in batches], starts),
        num_tokens=sum(sizes),
        borders=Borders(
            groups=tuple(
                replace(group, start=group.start + start)
                for one, start in zip(borders, starts, strict=True)
                for group in one.groups
            ),
            cumulative_lengths=torch.cat(
                [
                    borders[0].cumulative_lengths[:1],
                    _shifted([one.cumulative_lengths[1:] for one in borders], starts),
                ]
            ),
            max_length=max(one.max_length for one in borders),
        ),
        read_tokens=_shifted(reads, starts) if reads else None,
        states=torch.cat(states, dim=1) if states else None,
        noise_keys=torch.cat(keys) if keys else None,
    )


def _shifted(tensors: Sequence[torch.Tensor], starts: Sequence[int]) -> torch.Tensor:
    return torch.cat([tensor + start for tensor, start in zip(tensors, starts, strict=True)])


@contextmanager
def _conducting(conductor: Member, members: Sequence[Member], sizes: Sequence[int]) -> Iterator[None]:
    """Let the conductor's layers have every member's adapters, each on its tokens, inside the block."""
    slices = [slice(start, end) for start, end in pairwise([0, *accumulate(sizes)])]
    guests = [
        [Guest(layer, tokens, member.sites) for layer, tokens, member in zip(own, slices, members, strict=True)]
        for own in zip(*(member.layers for member in members), strict=True)
    ]
    with visited(conductor.layers, guests), ExitStack() as stack:
        for layer, visitors in zip(conductor.layers, guests, strict=True):
            stack.enter_context(standing_in(layer, partial(_forward, layer, visitors)))
        yield


def _forward(layer: Any, guests: Sequence[Guest], inputs: torch.Tensor) -> torch.Tensor:
    """Stand in for the ``forward`` of one of PEFT's linear layers, [1, T, D] to [1, T, K], where no block does."""
    inputs_TD, base = inputs[0], layer.base_layer
    adapters = adapters_of(layer, {})
    if type(base) is nn.Linear and adapters is not None:
        return project(inputs_TD, [Layer(base.weight, base.bias, adapters)])[None]
    if adapters is None:  # no keys: dropout by torch's generator
        dropped = [_layer(guest).lora_dropout[ADAPTER](inputs_TD[guest.tokens]) for guest in guests]
    else:
        dropped = [adapter.read(inputs_TD) for adapter in adapters]
    products = [
        _layer(guest).lora_B[ADAPTER](_layer(guest).lora_A[ADAPTER](part)) * _layer(guest).scaling[ADAPTER]
        for guest, part in zip(guests, dropped, strict=True)
    ]
    summed: torch.Tensor = base(inputs_TD) + torch.cat(products)
    return summed[None]


def _layer(guest: Guest) -> Any:
    return guest.layer
