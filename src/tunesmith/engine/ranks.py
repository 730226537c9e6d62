"""What the processes that make the same steps say to one another; what was given where a process makes its own.

A process is alone, whatever others there are in ``torch.distributed``, until it has ``joined`` them: whoever started
those may well let each of them train a model of its own. All of them must then ask for the same things in the same
order.

What takes as long as a step is summed by ``torch.distributed``. What the first rank does for all, however long it takes
(an evaluation, a checkpoint, what a frozen model makes of the rows), the others wait for at a store of torch's, which
has no time-out; that the first is still alive is ``rank_watch``'s to know.
"""

from __future__ import annotations

import builtins
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import distributed

from tunesmith.types import RunError

if TYPE_CHECKING:
    from tunesmith.engine.rank_watch import RankWatch

T = TypeVar("T")

LONGEST_SUM = timedelta(minutes=30)
"""How long a sum may take before steps have shown how long they take: a first step compiles and fills caches."""
SUM_STEPS = 40
"""A sum may take as long as so many of the longest steps, but no less than ``SHORTEST_SUM``: where there is a watch, it
has given up whoever is waited for before."""
SHORTEST_SUM = timedelta(seconds=120)
WARM_UP_STEPS = 3
"""Steps after which the longest says how long a sum may take."""
_LOST_TOUCH = ("gloo", "nccl", "connection", "process group", "processgroup")
"""One of these stands in every error of a connection, in large or small letters."""
LONGEST_PAUSE = 0.02
"""Seconds between two looks for what another rank leaves at the store."""


class RankLostError(RunError):
    """Another process that makes the same steps cannot be reached any more."""


@dataclass
class Group:
    """The processes joined with."""

    processes: Any
    """The group of ``torch.distributed``."""
    number: int
    """This one's, from 0."""
    size: int
    store: Any = None
    """Where they leave each other words; None where nobody leaves any."""
    watch: RankWatch | None = None
    num_steps: int = 0
    longest_step: float = 0.0
    """Seconds."""

    @property
    def limit(self) -> timedelta:
        """How long a sum may take."""
        if self.num_steps < WARM_UP_STEPS:
            return LONGEST_SUM
        shortest = SHORTEST_SUM if self.watch is None else builtins.max(SHORTEST_SUM, 2 * self.watch.patience)
        return builtins.max(shortest, timedelta(seconds=SUM_STEPS * self.longest_step))


_group: ContextVar[Group | None] = ContextVar("ranks", default=None)
"""None of a process that is alone."""


@contextmanager
def joined(store: Any = None, watch: RankWatch | None = None) -> Iterator[None]:
    """Make the steps inside the block together with all processes of ``torch.distributed``, if there are several.

    ``store`` is one of torch's, for them alone; without it they can sum, but the first cannot do things for all.
    """
    several = distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1
    group = None
    if several:
        world = distributed.group.WORLD
        group = Group(world, distributed.get_rank(), distributed.get_world_size(), store, watch)
    token = _group.set(group)
    try:
        yield
    finally:
        _group.reset(token)


def number() -> int:
    """Return this process's number among those that make the same steps, from 0."""
    group = _group.get()
    return 0 if group is None else group.number


def size() -> int:
    """Return how many processes make the same steps."""
    group = _group.get()
    return 1 if group is None else group.size


def size_here() -> int:
    """Return how many of them are on this machine."""
    return builtins.min(size(), int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def is_first() -> bool:
    """Say whether this process writes and shows what all have made."""
    return number() == 0


# ---- sums: of a step, by torch.distributed -----------------------------------------------------------


def sum(value: float) -> float:  # noqa: A001 (always used as ranks.sum)
    """Return the sum of the ranks' values."""
    return value if _group.get() is None else sums(value)[0]


def sums(*values: float) -> tuple[float, ...]:
    """Return the sums of the ranks' values, one by one."""
    if _group.get() is None:
        return values
    return tuple(_reduced(values, distributed.ReduceOp.SUM).tolist())


def max(value: float) -> float:  # noqa: A001
    """Return the largest of the ranks' values."""
    return value if _group.get() is None else _reduced((value,), distributed.ReduceOp.MAX).item()


def maxima(values: Sequence[float]) -> list[float]:
    """Return the largest of the ranks' values, one by one."""
    if _group.get() is None:
        return list(values)
    found: list[float] = _reduced(values, distributed.ReduceOp.MAX).tolist()
    return found


def any(value: bool) -> bool:  # noqa: A001
    """Say whether the value of any rank is true."""
    return value if _group.get() is None else max(float(value)) > 0


def of_each(value: float) -> list[float]:
    """Return every rank's value, in their order."""
    places = [0.0] * size()
    places[number()] = value
    return list(sums(*places))


def summer() -> Callable[[torch.Tensor, torch.dtype], Callable[[], torch.Tensor]]:
    """Return what begins to sum a tensor over all ranks, in numbers of a kind, in whatever thread; that returns a wait.

    The wait returns the sum, which may be the tensor itself. A tensor in shorter numbers travels in these.
    """
    group = _joined_group()

    def begin(tensor: torch.Tensor, dtype: torch.dtype) -> Callable[[], torch.Tensor]:
        if tensor.dtype == dtype:
            with _explained(group):
                work = distributed.all_reduce(tensor, distributed.ReduceOp.SUM, group.processes, async_op=True)
            return lambda: _waited(group, work, tensor)
        found = [torch.empty_like(tensor) for _ in range(group.size)]
        with _explained(group):
            bits = [one.view(torch.uint8) for one in found]
            work = distributed.all_gather(bits, tensor.view(torch.uint8), group.processes, async_op=True)

        def wait() -> torch.Tensor:
            _wait(group, work)
            total = found[0].to(dtype)
            for one in found[1:]:
                total += one
            return total

        return wait

    return begin


def gathered(tensor: torch.Tensor) -> list[torch.Tensor]:
    """Return every rank's ``tensor``, of one shape and kind for all, in their order."""
    group = _joined_group()
    found = [torch.empty_like(tensor) for _ in range(group.size)]
    with _explained(group):
        work = distributed.all_gather(found, tensor.contiguous(), group.processes, async_op=True)
    _wait(group, work)
    return found


def on_first(tensor: torch.Tensor) -> list[torch.Tensor] | None:
    """Return every rank's ``tensor``, of one shape and kind for all, in their order, on the first; None on others."""
    group = _joined_group()
    found = [torch.empty_like(tensor) for _ in range(group.size)] if group.number == 0 else None
    with _explained(group):
        work = distributed.gather(tensor.contiguous(), found, 0, group.processes, async_op=True)
    _wait(group, work)
    return found


@contextmanager
def passing() -> Iterator[None]:
    """Say in words, where torch itself sums or gathers inside the block and cannot, who may have been lost."""
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, RunError) or not _speaks_of(_LOST_TOUCH, error):
            raise
        with _explained(_joined_group()):
            raise


def sign() -> Callable[[], None]:
    """Return what lets the others know, in whatever thread, that this rank has begun another layer of a common pass."""
    group = _joined_group()
    return (lambda: None) if group.watch is None else group.watch.comes_further


def step_took(seconds: float) -> None:
    """Take note of how long a step took: a sum that takes many times as long has lost a rank."""
    if (group := _group.get()) is not None:
        group.num_steps += 1
        group.longest_step = builtins.max(group.longest_step, seconds)
        if group.watch is not None:
            group.watch.is_stepping = True
            group.watch.longest_step = group.longest_step if group.num_steps >= WARM_UP_STEPS else None
            group.watch.has_made(group.num_steps)


# ---- words: for as long as it takes, by torch's store --------------------------------------------------


def shared(name: str, compute: Callable[[], T]) -> T:
    """Return what the first rank computes, which JSON can hold; the others wait for it.

    ``name`` tells it from all else that is ever shared.
    """
    group = _group.get()
    if group is None:
        return compute()
    if group.number == 0:
        with whole_machine():
            value = compute()
        say(name, value)
        return value
    found: T = heard(name)
    return found


@contextmanager
def after_first(name: str) -> Iterator[None]:
    """Let the first rank go through the block before all others, who find what it has left on the disk."""
    group = _group.get()
    if group is None:
        yield
        return
    if group.number == 0:
        with whole_machine():
            yield
        say(name, None)
        return
    heard(name)
    yield


def say(name: str, value: Any) -> None:
    """Leave a value, which JSON can hold, for the other ranks."""
    store = _joined_group().store
    assert store is not None, "somebody has to be told"
    store.set(name, json.dumps(value))


def heard(name: str) -> Any:
    """Return what a rank has left, once it has."""
    store = _joined_group().store
    assert store is not None, "somebody has to be listened to"
    pause = LONGEST_PAUSE / 16
    while not store.check([name]):
        time.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE)
    return json.loads(store.get(name))


@contextmanager
def whole_machine() -> Iterator[None]:
    """Compute with the threads of all ranks of this machine, which wait meanwhile."""
    before = torch.get_num_threads()
    torch.set_num_threads(before * size_here())
    try:
        yield
    finally:
        torch.set_num_threads(before)


def part() -> None:
    """Take leave of the others, once all are here: from now on nobody minds who of them ends."""
    if (group := _group.get()) is not None:
        sum(0.0)
        if group.watch is not None:
            group.watch.stop()


# ---- how it is done --------------------------------------------------------------------------------------


def _joined_group() -> Group:
    group = _group.get()
    assert group is not None, "this process is alone"
    return group


def _reduced(values: Sequence[float], operation: Any) -> torch.Tensor:
    group = _joined_group()
    tensor = torch.tensor(values, dtype=torch.float64, device=_device())
    with _explained(group):
        work = distributed.all_reduce(tensor, operation, group.processes, async_op=True)
    _wait(group, work)
    return tensor


def _wait(group: Group, work: Any) -> None:
    if group.watch is not None:
        group.watch.comes_further()
    with _explained(group):
        work.wait(group.limit)


def _waited(group: Group, work: Any, tensor: torch.Tensor) -> torch.Tensor:
    _wait(group, work)
    return tensor


@contextmanager
def _explained(group: Group) -> Iterator[None]:
    """Say in words, where a sum fails, who may have been lost."""
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, RunError):
            raise
        known = "" if group.watch is None else group.watch.who_is_lost()
        reason = str(error).strip().splitlines()[0][:200]
        raise RankLostError(
            f"The processes that train together have lost touch. {known or 'Which of them was lost is not known here'} "
            f"(rank {group.number} of {group.size} was told: {reason}).\n  → What was saved before is untouched; "
            "continue with --resume."
        ) from error


def _speaks_of(words: Sequence[str], error: RuntimeError) -> bool:
    text = str(error).lower()
    return builtins.any(word in text for word in words)


def _device() -> str:
    """Return where the group's backend takes tensors."""
    return "cuda" if distributed.get_backend(_joined_group().processes) == "nccl" else "cpu"
