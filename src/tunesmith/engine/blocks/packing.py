"""Linear layers of a model that only predicts: side by side where they read the same tokens, their weights packed once.

Packed weights are a copy: of models that leave enough memory alone (``MAX_PACKED_SHARE``), shared by models on the same
weights. Before every prediction the weights are compared with what they were: where they have changed (a training, a
merged adapter), all of it is packed anew. What cannot be compared, or belongs to another model, is not packed.

Shapes: N tokens, K inputs, O outputs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary, WeakValueDictionary

import torch
from torch import nn

from tunesmith.engine.blocks.projection import Layer, layer_of
from tunesmith.engine.free_memory import memory_of
from tunesmith.kernels import linear as native
from tunesmith.kernels.rows import Activation
from tunesmith.models.streaming import stream_of

MAX_PACKED_SHARE = 1 / 3
"""Share of the free memory that packed weights may take; larger models are used as they are."""

NUM_PROBES = 16
"""Numbers of each weight that are compared: whoever writes through ``weight.data`` leaves no other trace."""

FEWEST_INPUTS = 32
"""Of smaller layers the product is not what takes the time."""


@dataclass(frozen=True, slots=True)
class PackedLinear:
    """Linear layers that read the same tokens, as one: ``activation(x W' + b + (x A') B')``."""

    linear: native.Linear
    adapters: tuple[tuple[slice, torch.Tensor, torch.Tensor], ...] = ()
    """Outputs, A' and B' with its scale, of each."""

    def __call__(self, x_NK: torch.Tensor) -> torch.Tensor:
        """Return [N, O]."""
        made_NO = self.linear(x_NK)
        for outputs, down, up in self.adapters:
            made_NO[:, outputs].addmm_(torch.mm(x_NK, down), up)
        return made_NO


class Packing:
    """What is packed of one model."""

    def __init__(self, model: nn.Module) -> None:
        """Begin with nothing, and watch all weights of ``model``, which must fit (``_fits``)."""
        self._parameters = list(model.parameters())  # kept, so that no other tensor gets the id of one of them
        self._watched = set(map(id, self._parameters))
        self._made: dict[tuple[Any, ...], tuple[tuple[Any, ...], PackedLinear | None]] = {}
        self._versions = self._versions_now()
        self._probes = [_probe(one) for one in self._parameters]
        self._probed = torch.cat(self._probes)
        self._has_met_others = False

    def is_true_of(self, model: nn.Module) -> bool:
        """Say whether the weights are what they were."""
        if self._has_met_others and self._watched != set(map(id, model.parameters())):
            return False
        return self._versions == self._versions_now() and torch.equal(self._probed, torch.cat(self._probes))

    def linear(self, *modules: nn.Module, activation: Activation | None = None) -> PackedLinear | None:
        """Return what modules compute that read the same tokens; None where one of them is of an unknown kind."""
        key, parts = (*modules, activation), _parts(modules)
        made_of, found = self._made.get(key, (None, None))
        if made_of != parts:
            layers = [layer_of(module, {}) for module in modules]
            known = [layer for layer in layers if layer is not None]
            if not all(id(weight) in self._watched for layer in known for weight in _weights(layer)):
                self._has_met_others = True
                return None
            found = _packed(known, activation) if len(known) == len(layers) else None
            self._made[key] = parts, found
        return found

    def _versions_now(self) -> list[tuple[int, int]]:
        return [(one.data_ptr(), one._version) for one in self._parameters]


def _probe(weight: torch.Tensor) -> torch.Tensor:
    return weight.detach().view(-1)[:: max(weight.numel() // NUM_PROBES, 1)]


_packings: WeakKeyDictionary[nn.Module, Packing] = WeakKeyDictionary()
_current: ContextVar[Packing | None] = ContextVar("packing", default=None)


def current_packing() -> Packing | None:
    """Return what is packed of the model that predicts; None outside of ``packed_for``."""
    return _current.get()


@contextmanager
def packed_for(model: nn.Module) -> Iterator[None]:
    """Let blocks use packed weights inside the ``with`` block; they stay for the next time, while the model lives."""
    packing = _packings.get(model)
    if packing is not None and not packing.is_true_of(model):
        packing = None
        del _packings[model]
    if packing is None and _fits(model):
        packing = _packings[model] = Packing(model)
    token = _current.set(packing)
    try:
        yield
    finally:
        _current.reset(token)


def _fits(model: nn.Module) -> bool:
    if stream_of(model) is not None:
        return False  # what is streamed from files shall not be in memory as a copy
    parameters = list(model.parameters())
    if not parameters or not all(map(_can_watch, parameters)) or not native.can_pack(parameters[0]):
        return False
    _, available = memory_of(parameters[0].device)
    return sum(one.nbytes for one in parameters) <= MAX_PACKED_SHARE * available


def _can_watch(weight: torch.Tensor) -> bool:
    """Say whether a weight is float32 on the CPU and changes of it can be noticed."""
    is_plain = weight.is_cpu and weight.dtype == torch.float32 and weight.layout == torch.strided
    return is_plain and weight.is_contiguous() and not weight.is_inference()


def _parts(modules: Sequence[nn.Module]) -> tuple[Any, ...]:
    """Return which weights modules have now, and what is switched on of adapters around them."""
    found: list[Any] = []
    for module in modules:
        peft: Any = module
        if type(module) is not nn.Linear and hasattr(peft, "lora_A"):
            names = peft.active_adapters
            found += [peft.disable_adapters, bool(peft.merged), *names, *peft.scaling.items()]
            found += [
                id(getattr(one[name], "weight", None))
                for one in (peft.lora_A, peft.lora_B)
                for name in names
                if name in one
            ]
        found += [id(getattr(peft, "weight", None)), id(getattr(peft, "bias", None))]
    return tuple(found)


def _weights(layer: Layer) -> Iterator[torch.Tensor]:
    yield layer.weight
    if layer.bias is not None:
        yield layer.bias
    for one in layer.adapters:
        yield from (one.down, one.up)


def _packed(layers: Sequence[Layer], activation: Activation | None) -> PackedLinear | None:
    weights = [layer.weight.detach() for layer in layers]
    if len({layer.bias is None for layer in layers}) > 1:
        return None
    if not all(native.can_pack(one) and one.shape[1] >= FEWEST_INPUTS for one in weights):
        return None
    adapters = tuple(_adapters(layers))
    if adapters and activation is not None:
        return None  # which comes after the adapters
    biases = [layer.bias.detach() for layer in layers if layer.bias is not None]
    bias = torch.cat(biases) if biases else None
    num_outputs = sum(len(one) for one in weights)
    return PackedLinear(native.Linear(_panels(weights), num_outputs, bias, activation), adapters)


def _adapters(layers: Sequence[Layer]) -> Iterator[tuple[slice, torch.Tensor, torch.Tensor]]:
    begin = 0
    for layer in layers:
        end = begin + len(layer.weight)
        for one in layer.adapters:
            yield slice(begin, end), one.down.detach().t().contiguous(), (one.up.detach().t() * one.scale).contiguous()
        begin = end


_known: WeakValueDictionary[tuple[Any, ...], torch.Tensor] = WeakValueDictionary()
"""Panels in use, by the memory, version and some numbers of the weights that they were made of."""


def _panels(weights: Sequence[torch.Tensor]) -> torch.Tensor:
    key = tuple((one.data_ptr(), one._version, one.shape, *_some(one)) for one in weights)
    found = _known.get(key)
    if found is None:
        found = _known[key] = native.packed(torch.cat(list(weights)) if len(weights) > 1 else weights[0])
    return found


def _some(weight: torch.Tensor) -> list[float]:
    numbers: list[float] = _probe(weight).tolist()
    return numbers
