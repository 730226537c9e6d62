"""What stands in for a module's ``forward``, and in which order: the only place where one is put or taken away.

A model's code is never edited. What computes in its place stands on the module itself, as its attribute ``forward``,
and has below it what it stands in for. From the authors' code upward:

1. ``KERNEL``: another package's code for a single module (``engine.cuda.liger``);
2. ``BLOCK``: ours for a layer, a dropout, an adapted linear layer, a table of words (``engine.blocks``);
3. ``COMPILED``: a layer compiled from what is below it (``engine.cuda.compile``);
4. ``RECOMPUTED``: a layer that forgets its activations, and runs what is below it again (``engine.recompute``);
5. whatever stands in for the time of one pass (``standing_in``): states that are known, a base model that has run,
   other trainings' adapters, packed weights for writing.

Of each of the first four a module has one at most, and another takes its place; they may come and go in any order and
stand in this one. A model's attention is replaced here too. ``as_written`` makes all of it step aside for a while.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from enum import IntEnum
from types import MethodType
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from tunesmith.models.wrapping import inner

if TYPE_CHECKING:
    from torch import nn

Forward = Callable[..., Any]

OURS = "tunesmith_"
"""How the names of our attention functions begin."""
STANDARD_ATTENTION = "sdpa"
"""What a model has that was never known to have any but ours."""

PASSING = "nothing is put or taken away while a pass is going on"

_RECORD = "tunesmith_stand_ins"
"""Attribute of a module in whose place something stands."""
_ATTENTION = "tunesmith_attention"
"""Attribute of a model whose attention was replaced: the one it had."""


class Tier(IntEnum):
    """How far from the authors' code something stands."""

    KERNEL = 1
    BLOCK = 2
    COMPILED = 3
    RECOMPUTED = 4


class StandIn(Protocol):
    """Something that stands in for a module's ``forward``."""

    def over(self, below: Forward) -> Forward:
        """Return what is to be called in the place of ``below``; asked again whenever that becomes another."""


S = TypeVar("S")


@dataclass(slots=True)
class _Record:
    """What stands in for one module."""

    own: Forward | None
    """A ``forward`` that the module had as its own attribute before."""
    tiers: dict[Tier, StandIn] = field(default_factory=dict)
    num_passes: int = 0
    """How many stand in for the time of a pass, one in the other."""


def put(module: nn.Module, tier: Tier, stand_in: StandIn) -> None:
    """Let ``stand_in`` stand on ``tier`` of ``module``, in the place of what stood there."""
    record = _recorded(module)
    assert not record.num_passes, PASSING
    record.tiers[tier] = stand_in
    _set(module, record)


def take_away(model: nn.Module, *tiers: Tier) -> None:
    """Take away what stands on ``tiers`` of the modules of ``model``; what stands on others stays."""
    for module in model.modules():
        record = _record_of(module)
        if record is not None and not record.tiers.keys().isdisjoint(tiers):
            assert not record.num_passes, PASSING
            for tier in tiers:
                record.tiers.pop(tier, None)
            _set(module, record)


def remove_stand_ins(model: nn.Module) -> nn.Module:
    """Make ``model`` for good what its authors wrote, attention included, and return it."""
    take_away(model, *Tier)
    whole: Any = inner(model)
    whole.set_attn_implementation(_own_attention(whole))
    return model


def stand_in_of(module: nn.Module, kind: type[S]) -> S | None:
    """Return what stands in for ``module`` itself, if it is of a kind."""
    record = _record_of(module)
    if record is None:
        return None
    return next((one for one in record.tiers.values() if isinstance(one, kind)), None)


def has_stand_ins(model: nn.Module, *kinds: type) -> bool:
    """Say whether anything of these kinds stands in for a module of ``model``."""
    return any(stand_in_of(module, kind) is not None for module in model.modules() for kind in kinds)


@contextmanager
def standing_in(module: nn.Module, forward: Forward) -> Iterator[None]:
    """Let ``forward`` stand in for all else that a module has, for one pass, inside the ``with`` block."""
    record, before = _recorded(module), vars(module).get("forward")
    record.num_passes += 1
    vars(module)["forward"] = forward
    try:
        yield
    finally:
        record.num_passes -= 1
        _restore(module, before)
        _forget_empty(module, record)


def set_attention(model: nn.Module, name: str) -> None:
    """Let our attention function that is registered under ``name`` stand in for the model's own."""
    assert name.startswith(OURS)
    whole: Any = inner(model)
    vars(whole)[_ATTENTION] = _own_attention(whole)
    whole.set_attn_implementation(name)


@contextmanager
def attending_by(model: nn.Module, name: str) -> Iterator[None]:
    """Let the attention function ``name`` stand in for the one that the model has, inside the ``with`` block."""
    whole: Any = inner(model)
    before = whole.config._attn_implementation
    whole.set_attn_implementation(name)
    try:
        yield
    finally:
        whole.set_attn_implementation(before)


@contextmanager
def as_written(model: nn.Module) -> Iterator[None]:
    """Let ``model`` be what its authors wrote, attention included, inside the ``with`` block."""
    whole: Any = inner(model)
    with ExitStack() as stack:
        for module in model.modules():
            record = _record_of(module)
            if record is not None:
                stack.callback(_restore, module, vars(module).get("forward"))
                _restore(module, record.own)
        stack.enter_context(attending_by(model, _own_attention(whole)))
        yield


def _own_attention(whole: Any) -> str:
    """Return the attention of a model that is none of ours."""
    now: str = whole.config._attn_implementation
    own: str = vars(whole).get(_ATTENTION, STANDARD_ATTENTION) if now.startswith(OURS) else now
    return own


def _record_of(module: nn.Module) -> _Record | None:
    record: _Record | None = vars(module).get(_RECORD)
    return record


def _recorded(module: nn.Module) -> _Record:
    record = _record_of(module)
    if record is None:
        record = vars(module)[_RECORD] = _Record(vars(module).get("forward"))
    return record


def _forget_empty(module: nn.Module, record: _Record) -> None:
    if not record.tiers and not record.num_passes:
        del vars(module)[_RECORD]


def _set(module: nn.Module, record: _Record) -> None:
    """Make a module's ``forward`` what stands on its tiers, one on the other."""
    forward = record.own
    for _, stand_in in sorted(record.tiers.items()):
        forward = stand_in.over(forward or MethodType(type(module).forward, module))
    _restore(module, forward)
    _forget_empty(module, record)


def _restore(module: nn.Module, forward: Forward | None) -> None:
    if forward is None:
        vars(module).pop("forward", None)
    else:
        vars(module)["forward"] = forward
