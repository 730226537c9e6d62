"""Networks that a run leaves to the next one of the same method, seed and rows, set back to what they were at first.

Trials of learning rates begin at the same weights. To load the model, put the method into it, prove its layout and put
layers in their places takes as long as many steps of a small model; to copy the first weights back takes a moment.

Only what is certain to be the network that it was at first is passed on: on the CPU, of methods that do nothing
but train weights, and only while everything that is not trained is what it was, the same tensors never written to.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from tunesmith.methods.base import Method
from tunesmith.methods.hooks import StepHooks
from tunesmith.run.assembly import Network, TaskData
from tunesmith.run.config import RunConfig
from tunesmith.run.kept_states import has_room
from tunesmith.tasks.base import Task
from tunesmith.types import Problem

HOOKS = [name for name, value in vars(StepHooks).items() if callable(value) and name != "has"]
PARTS = ("model", "compute")
OWN_WAYS = ("settled", "should_stop", "decisions", "num_calibration_rows", "calibrate", "take_calibration")
"""What methods that do more than to train weights have of their own, beside hooks."""


@dataclass(frozen=True, slots=True)
class Assembled:
    """What composing a run gives of its network."""

    name: str
    """By which it is known that others use it again."""
    method: Method
    """As it was settled."""
    task: Task
    """As it suits the model."""
    network: Network
    notes: tuple[Problem, ...]


@dataclass(frozen=True, slots=True)
class _First:
    """What a network was before its first step."""

    weights: Mapping[str, torch.Tensor]
    """Of trained parameters."""
    exact: Mapping[str, torch.Tensor]
    """Their values before they were rounded, where they were."""
    buffers: Mapping[str, torch.Tensor]
    frozen: Mapping[str, tuple[nn.Parameter, int, int]]
    """Parameters that are not trained, with the place of their memory and how often that was written to; -1 of memory
    that is shared, to which nobody may write."""
    parts: tuple[tuple[str, int, bool], ...]
    """Modules by name and identity, and whether they are set to train."""
    random: tuple[Any, Any, torch.Tensor]

    @classmethod
    def of(cls, network: Network, shared: Collection[int]) -> _First:
        model = network.model
        parameters = dict(model.named_parameters())
        own = {name: parameters[name] for name in network.trained}
        return cls(
            weights={name: one.detach().clone() for name, one in own.items()},
            exact={name: vars(one)["exact"].clone() for name, one in own.items() if "exact" in vars(one)},
            buffers={name: one.clone() for name, one in model.named_buffers()},
            frozen={name: _mark(one, shared) for name, one in parameters.items() if name not in own},
            parts=tuple((name, id(module), module.training) for name, module in model.named_modules()),
            random=(random.getstate(), np.random.get_state(), torch.get_rng_state()),  # noqa: NPY002
        )

    @property
    def num_bytes(self) -> int:
        """The bytes of its tensors."""
        return sum(one.nbytes for part in (self.weights, self.exact, self.buffers) for one in part.values())

    def is_still(self, model: nn.Module) -> bool:
        """Say whether nothing of a model has become another but the values of what it trains."""
        parameters, buffers = dict(model.named_parameters()), dict(model.named_buffers())
        same_parts = [part[:2] for part in self.parts] == [(name, id(one)) for name, one in model.named_modules()]
        if not same_parts or parameters.keys() != self.weights.keys() | self.frozen.keys():
            return False
        return (
            buffers.keys() == self.buffers.keys()
            and all(parameters[name].requires_grad for name in self.weights)
            and all(_is_still(parameters[name], *mark) for name, mark in self.frozen.items())
        )

    def put_back(self, model: nn.Module) -> None:
        """Give a model its first values, in memory of their own: who holds the last ones keeps them."""
        for name, parameter in model.named_parameters():
            parameter.grad = None
            if name in self.weights:
                parameter.data = self.weights[name].clone()
                torch.autograd.graph.increment_version(parameter)  # what was made of the last ones is out of date
                if name in self.exact:
                    parameter.exact = self.exact[name].clone()  # type: ignore[attr-defined]
        modules = dict(model.named_modules())
        for name, buffer in self.buffers.items():
            path, _, own = name.rpartition(".")
            modules[path]._buffers[own] = buffer.clone()
        for name, _, is_training in self.parts:
            modules[name].training = is_training
        numbers, arrays, tensors = self.random
        random.setstate(numbers)
        np.random.set_state(arrays)  # noqa: NPY002
        torch.set_rng_state(tensors)


@dataclass(slots=True)
class _Lent:
    """A network that a run has, or had."""

    rows: list[Any]
    """The task and the rows that it was made for."""
    given: Mapping[str, Any]
    """What was configured of it."""
    resolved: Mapping[str, Any]
    """The same with what was open filled in: with that, resumed runs begin."""
    assembled: Assembled
    first: _First

    def suits(self, rows: list[Any], wanted: Mapping[str, Any]) -> bool:
        """Say whether a run would make the same."""
        return rows == self.rows and _is_either(wanted, self.given, self.resolved)


@dataclass
class IdleNetworks:
    """Networks that no run uses now."""

    is_open: bool = False
    """Whether there are runs to come that may begin as others did."""
    share: float = 1.0
    """That of ``has_room``."""
    _idle: list[_Lent] = field(default_factory=list)
    _lent: _Lent | None = None
    """That of the run under way."""

    @property
    def num_bytes(self) -> int:
        """The host's memory that they take beside weights that they share with others."""
        idle = sum(2 * one.first.num_bytes for one in self._idle)
        return idle + (0 if self._lent is None else self._lent.first.num_bytes)

    def take(self, config: RunConfig, data: TaskData) -> Assembled | None:
        """Return the network that a run begins with, as it was made for one before; None where there is none."""
        self._lent = None  # of a run that has not given its own back, nobody knows what became of it
        rows, wanted = _rows_of(data), _parts_of(config)
        found = next((one for one in self._idle if one.suits(rows, wanted)), None)
        if found is None:
            return None
        self._idle.remove(found)
        self._lent = found
        found.first.put_back(found.assembled.network.model)
        # What is lent settles nothing of its method, so that this is the run's own: with other rates, perhaps.
        return replace(found.assembled, method=config.method)

    def lend(
        self,
        config: RunConfig,
        data: TaskData,
        assembled: Assembled,
        shared: Collection[int],
    ) -> None:
        """Take note of what a new network is, before its first step: the run may give it back.

        ``shared`` are places of memory that it has in common with others.
        """
        if self.is_open and _only_trains(config, assembled):
            given, first = _parts_of(config), _First.of(assembled.network, shared)
            self._lent = _Lent(_rows_of(data), given, given, assembled, first)

    def give_back(self, network: Network, resolved: RunConfig) -> None:
        """Leave a network to runs to come, if it is certain what it is, and there is memory for it."""
        lent, self._lent = self._lent, None
        if lent is None or network.model is not lent.assembled.network.model or not lent.first.is_still(network.model):
            return
        wanted = 2 * lent.first.num_bytes
        while self._idle and not has_room(wanted, self.num_bytes, self.share):
            self._idle.pop(0)  # that was given back first
        if has_room(wanted, self.num_bytes, self.share):
            lent.resolved = _parts_of(resolved)
            self._idle.append(lent)

    def close(self) -> None:
        """Give back all memory: runs to come begin otherwise."""
        self.is_open = False
        self._idle.clear()
        self._lent = None


def _only_trains(config: RunConfig, assembled: Assembled) -> bool:
    """Say whether a run does nothing to its network but to change the values of what it trains."""
    method, task = config.method, assembled.task
    own = any(method.has(hook) for hook in HOOKS)
    own = own or any(getattr(type(method), name) is not getattr(Method, name) for name in OWN_WAYS)
    plain = config.teacher is None and config.privacy is None and not config.model.from_scratch
    on_host = assembled.network.device.type == "cpu" and config.compute.checkpointing != "always"
    return plain and on_host and not own and not method.changes_sizes and not task.draws and task.reference is None


def _rows_of(data: TaskData) -> list[Any]:
    return [data.task.model_dump(mode="json"), dict(data.prepared.hashes)]


def _parts_of(config: RunConfig) -> dict[str, Any]:
    """Return what a network follows from, beside rows and task; learning rates are no part of it."""
    parts: dict[str, Any] = {name: getattr(config, name).model_dump(mode="json") for name in PARTS}
    return parts | {
        "method": config.method.without_rates(),
        "train": {"seed": config.train.seed, "precision": config.train.precision},
    }


def _is_either(wanted: Any, given: Any, resolved: Any) -> bool:
    """Say whether every value is as it was given or as it was resolved."""
    if isinstance(wanted, Mapping) and isinstance(given, Mapping) and isinstance(resolved, Mapping):
        return wanted.keys() == given.keys() == resolved.keys() and all(
            _is_either(value, given[name], resolved[name]) for name, value in wanted.items()
        )
    return any(wanted == known for known in (given, resolved))


def _mark(parameter: nn.Parameter, shared: Collection[int]) -> tuple[nn.Parameter, int, int]:
    place = parameter.data_ptr()
    return parameter, place, -1 if place in shared else parameter._version


def _is_still(now: nn.Parameter, before: nn.Parameter, place: int, version: int) -> bool:
    return now is before and now.data_ptr() == place and version in (-1, now._version)
