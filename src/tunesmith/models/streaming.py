"""Frozen weights that stay in their files: a layer's come into memory when it computes, and go again.

A model that is larger than the memory can be trained where its own weights are left as they are (LoRA and its kin).
Two ways, by where it computes:

- **Mapped** (on the CPU, where the files hold the numbers in the format of the run): a weight *is* its place in the
  file. The system reads what a layer touches; it is told which layer comes next, and which one is done. Every weight
  can be read at any time, as if it were in memory.
- **Brought in** (elsewhere, and in another format): between its passes, a layer's weights are hollow, of the right
  shape and all NaN, and take no memory. They are copied to the device before its forward pass and before its backward
  pass. What autograd keeps of them is a note of where they were, so that it holds no layer in memory.

In either way, two layers' weights are there at once: the one that computes and the one before it.

Where each of several processes is to hold a part of every weight, trained ones among them, a model is streamed until it
is divided (``engine.sharding``): then each reads its part, and the stream stands aside.

Modules tell when they are called, by hooks: these come before whatever stands in for a ``forward``, so that a model as
its authors wrote it is streamed, too. A tensor that a layer gave tells when its gradient is due.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.autograd.graph import saved_tensors_hooks

from tunesmith.models.anatomy import Anatomy
from tunesmith.models.weight_files import MappedFile, Stored
from tunesmith.models.wrapping import inner

NUM_AT_ONCE = 2
"""Layers whose weights are in memory at the same time."""

_STREAM = "tunesmith_stream"
"""Attribute of a model whose weights are streamed."""


@dataclass(frozen=True, slots=True)
class StreamSettings:
    """How a model's weights are to be streamed."""

    dtype: torch.dtype
    """What the run computes in."""
    is_mapped: bool
    """Whether it computes on the CPU, with the weights where they are in their files."""
    is_pinned: bool = False
    """Whether they rest in the host's memory, ready to be copied to a device, rather than in their files."""
    until_divided: bool = False
    """Whether it is for no longer than until each of several processes reads its part of them."""

    def key(self) -> list[Any]:
        """Return what tells models that were loaded in this way from others: JSON values."""
        return [str(self.dtype), self.is_mapped, self.is_pinned, self.until_divided]


@dataclass(slots=True, eq=False)
class _Weight:
    """A weight that is streamed."""

    name: str
    """In the model as it was loaded."""
    parameter: nn.Parameter
    stored: Stored
    resting: torch.Tensor
    """What the parameter is between passes."""
    held: torch.Tensor | None = None
    """It in the host's memory, where it rests there."""

    @property
    def is_resting(self) -> bool:
        return self.parameter.data_ptr() == self.resting.data_ptr()


@dataclass(frozen=True, slots=True)
class _Note:
    """Which part of a weight autograd asked to keep."""

    weight: _Weight
    size: torch.Size
    stride: tuple[int, ...]
    offset: int


@dataclass(slots=True, eq=False)
class _Layer:
    """A layer's weights."""

    weights: list[_Weight]
    places: list[tuple[MappedFile, int, int]] = field(default_factory=list)
    """Where they are in their files, side by side ones together."""

    @property
    def num_bytes(self) -> int:
        return sum(one.parameter.numel() * one.parameter.element_size() for one in self.weights)


class Stream:
    """The weights of one model that come from files and stay frozen."""

    def __init__(self, model: nn.Module, stored: Mapping[nn.Parameter, Stored], settings: StreamSettings) -> None:
        """Let the weights in ``stored`` be streamed; until ``rest`` is called, they are what they are.

        Raises ``ValueError`` where the model has no layers.
        """
        self.settings = settings
        self.is_mapped = False
        self._is_aside = False
        self._stored = dict(stored)
        modules = Anatomy.of(model).layer_modules
        if not modules:
            raise ValueError("it has no layers")
        num_owners: dict[nn.Parameter, int] = {}
        for module in modules:
            for parameter in set(module.parameters()):
                num_owners[parameter] = num_owners.get(parameter, 0) + 1
        every = {
            one: _Weight(name, one, stored[one], one.data) for name, one in model.named_parameters() if one in stored
        }
        self._layers = [
            _layer([every[one] for one in module.parameters() if one in every and num_owners[one] == 1])
            for module in modules
        ]
        within = {one.parameter for layer in self._layers for one in layer.weights}
        self._outside = [one for parameter, one in every.items() if parameter not in within]
        self._present: list[int] = []
        """Layers whose weights are in memory, the one that came last at the end."""
        self._slabs: dict[int, _Weight] = {}
        """Weights that were copied, by where the copies are."""
        self._keeping: dict[int, saved_tensors_hooks] = {}
        """What is asked when autograd keeps a tensor, by the layer under way."""
        for number, module in enumerate(modules):
            module.register_forward_pre_hook(partial(self._enter, number))
            module.register_forward_hook(partial(self._leave, number), always_call=True)
        vars(inner(model))[_STREAM] = self

    @property
    def parameters(self) -> frozenset[nn.Parameter]:
        """All weights that come from files, those outside of layers among them."""
        return frozenset(self._stored)

    @property
    def num_bytes(self) -> int:
        """Of the layers' weights in the run's format: what is never in memory as a whole."""
        return sum(layer.num_bytes for layer in self._layers)

    @property
    def bytes_at_once(self) -> int:
        """The most of it that is in memory at any one time."""
        return sum(sorted(layer.num_bytes for layer in self._layers)[-NUM_AT_ONCE:])

    @property
    def place(self) -> str:
        """The folder of the files."""
        return str(next(iter(self._stored.values())).file.path.parent)

    def is_in_file(self, parameter: nn.Parameter) -> bool:
        """Say whether a weight takes no memory of the process now, mapped or hollow."""
        if parameter not in self._stored:
            return False
        return parameter.untyped_storage().nbytes() <= parameter.element_size() or (
            self.is_mapped and self._stored[parameter].tensor().data_ptr() == parameter.data_ptr()
        )

    def lost(self, model: nn.Module) -> list[str]:
        """Return the names of the layers' weights that ``model`` has no more, or has others in the place of."""
        self.let_go()
        there = set(model.parameters())
        every = (one for layer in self._layers for one in layer.weights)
        return [one.name for one in every if one.parameter not in there or not one.is_resting]

    def of(self, parameters: Iterable[nn.Parameter]) -> dict[nn.Parameter, Stored]:
        """Return, of another model's parameters that use the memory of this one's, where they are in files."""
        self.let_go()
        known = {parameter.untyped_storage().data_ptr(): stored for parameter, stored in self._stored.items()}
        found = ((one, known.get(one.untyped_storage().data_ptr())) for one in parameters)
        return {parameter: stored for parameter, stored in found if stored is not None}

    @torch.no_grad()
    def rest(self, device: torch.device, dtype: torch.dtype) -> None:
        """Let all weights be ready for passes on ``device`` in ``dtype``."""
        self._forget()
        self.is_mapped = self.settings.is_mapped and device.type == "cpu" and dtype == self.settings.dtype
        is_held = self.settings.is_pinned and device.type != "cpu"
        for one in (one for layer in self._layers for one in layer.weights):
            stored = one.stored.tensor()
            one.held = stored.to(dtype).pin_memory() if is_held else None
            one.resting = _in_place(one.stored) if self.is_mapped else _hollow(one.stored.shape, device, dtype)
            one.parameter.data = one.resting
        for one in self._outside:
            one.resting = _in_place(one.stored) if self.is_mapped else one.stored.tensor().to(device, dtype, copy=True)
            one.parameter.data = one.resting

    @contextmanager
    def aside(self, device: torch.device, dtype: torch.dtype) -> Iterator[None]:
        """Let a model be brought to ``device`` and ``dtype`` in the block; what is streamed follows at its end."""
        self._forget()
        for parameter in self._stored:
            parameter.data = torch.empty(0, dtype=parameter.dtype)
        yield
        self.rest(device, dtype)

    def stand_aside(self, model: nn.Module) -> dict[nn.Parameter, Stored]:
        """Bring in nothing any more, until ``come_back``; return the weights that are in files now, and where."""
        self.let_go()
        self._is_aside = True
        vars(inner(model)).pop(_STREAM)
        self._stored = {one: stored for one, stored in self._stored.items() if self.is_in_file(one)}
        self._outside = [one for one in self._outside if one.parameter in self._stored]  # others take memory
        return dict(self._stored)

    def come_back(self, model: nn.Module, parameters: Collection[nn.Parameter]) -> None:
        """Stream those of the weights that ``model`` still has, or has again, as before."""
        self._stored = {one: stored for one, stored in self._stored.items() if one in parameters}
        kept = [[one for one in layer.weights if one.parameter in self._stored] for layer in self._layers]
        self._layers = [_layer(weights) for weights in kept]
        self._outside = [one for one in self._outside if one.parameter in self._stored]
        self._is_aside = False
        vars(inner(model))[_STREAM] = self
        if (one := next(iter(self._stored), None)) is not None:
            self.rest(one.device, one.dtype)

    @torch.no_grad()
    def let_go(self) -> None:
        """Take all layers' weights out of memory."""
        while self._present:
            self._take_out(self._present.pop())

    @torch.no_grad()
    def _bring_in(self, number: int) -> None:
        """Let a layer's weights be in memory, and take out those of others."""
        before = self._present[-1] if self._present else -1
        if number == before:
            return
        if number in self._present:
            self._present.remove(number)
        elif not self.is_mapped:
            self._copy(self._layers[number])
        self._present.append(number)
        while len(self._present) > NUM_AT_ONCE:
            self._take_out(self._present.pop(0))
        following = number + (1 if number > before else -1)
        if 0 <= following < len(self._layers):
            for file, start, end in self._layers[following].places:
                file.is_needed(start, end)

    def _copy(self, layer: _Layer) -> None:
        with torch.inference_mode(mode=False):
            for one in layer.weights:
                kind = one.resting
                source = one.stored.tensor() if one.held is None else one.held
                one.parameter.data = source.to(kind.device, kind.dtype, non_blocking=one.held is not None, copy=True)
                self._slabs[one.parameter.data_ptr()] = one

    def _take_out(self, number: int) -> None:
        layer = self._layers[number]
        if not self.is_mapped:
            for one in layer.weights:
                self._slabs.pop(one.parameter.data_ptr(), None)
                one.parameter.data = one.resting
        for file, start, end in layer.places:
            file.is_done(start, end)

    def _forget(self) -> None:
        self._present.clear()
        self._slabs.clear()

    def _enter(self, number: int, _module: nn.Module, _arguments: Any) -> None:
        if self._is_aside:
            return
        self._bring_in(number)
        if torch.is_grad_enabled() and not self.is_mapped:
            keeping = saved_tensors_hooks(self._noted, partial(self._found, number))
            keeping.__enter__()
            self._keeping[number] = keeping

    def _leave(self, number: int, _module: nn.Module, _arguments: Any, output: Any) -> None:
        keeping = self._keeping.pop(number, None)
        if keeping is not None:
            keeping.__exit__()
        for tensor in () if self._is_aside else tensors_of(output):
            if tensor.requires_grad:
                tensor.register_hook(partial(self._gradient_due, number))  # type: ignore[no-untyped-call]

    def _gradient_due(self, number: int, _gradient: torch.Tensor) -> None:
        self._bring_in(number)

    def _noted(self, tensor: torch.Tensor) -> torch.Tensor | _Note:
        if tensor.layout != torch.strided:
            return tensor
        weight = self._slabs.get(tensor.untyped_storage().data_ptr())
        if weight is None:
            return tensor
        return _Note(weight, tensor.size(), tensor.stride(), int(tensor.storage_offset()))

    def _found(self, number: int, kept: torch.Tensor | _Note) -> torch.Tensor:
        if not isinstance(kept, _Note):
            return kept
        self._bring_in(number)
        return kept.weight.parameter.data.as_strided(kept.size, kept.stride, kept.offset)


def stream_of(model: nn.Module) -> Stream | None:
    """Return the stream of a model's weights; None for a model that is all in memory."""
    found: Stream | None = vars(inner(model)).get(_STREAM)
    return found


def let_go(model: nn.Module) -> None:
    """Take what is streamed out of memory, so that whoever reads weights finds all layers alike: mapped, or hollow."""
    stream = stream_of(model)
    if stream is not None:
        stream.let_go()


def brought_to(model: nn.Module, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """Return ``model`` on ``device`` in ``dtype``, as ``model.to`` does; what is streamed is not loaded for it."""
    stream = stream_of(model)
    if stream is None:
        return model.to(device=device, dtype=dtype)
    with stream.aside(device, dtype):
        return model.to(device=device, dtype=dtype)


def in_memory(model: nn.Module) -> list[tuple[str, nn.Parameter]]:
    """Return the parameters, with their names, that are not left in files."""
    stream = stream_of(model)
    named = model.named_parameters()
    return [(name, one) for name, one in named if stream is None or not stream.is_in_file(one)]


def _layer(weights: list[_Weight]) -> _Layer:
    places: list[tuple[MappedFile, int, int]] = []
    for one in sorted((weight.stored for weight in weights), key=lambda one: (str(one.file.path), one.start)):
        if places and places[-1][0] is one.file and places[-1][2] == one.start:
            places[-1] = (one.file, places[-1][1], one.end)
        else:
            places.append((one.file, one.start, one.end))
    return _Layer(weights, places)


def _in_place(stored: Stored) -> torch.Tensor:
    """Return a weight where it is in its file; what lies there badly, which is small, in memory."""
    mapped = stored.tensor()
    return mapped if stored.is_aligned else mapped.clone()


def _hollow(shape: tuple[int, ...], device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    """Return a tensor of one number in memory: NaN, so that nobody takes it for weights."""
    return torch.full((), torch.nan, device=device, dtype=dtype).expand(shape)


def hollow(shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Return what stands for a weight that has not been read: all NaN, without the memory."""
    return _hollow(shape, torch.device("cpu"), dtype)


def tensors_of(output: Any) -> Iterator[torch.Tensor]:
    """Yield the tensors of what a module gives."""
    if isinstance(output, torch.Tensor):
        yield output
    elif isinstance(output, (tuple, list)):
        for one in output:
            yield from tensors_of(one)
    elif isinstance(output, Mapping):
        for one in output.values():
            yield from tensors_of(one)
