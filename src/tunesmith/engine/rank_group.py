"""The processes that torchrun has started for one training, found by what it writes into their environment."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
from torch import distributed

from tunesmith.engine import ranks
from tunesmith.engine.config import ComputeConfig
from tunesmith.engine.precision import choose_device
from tunesmith.engine.rank_watch import RankWatch
from tunesmith.files.memory import give_back_as_freed
from tunesmith.types import InputError

_LAUNCH = "Start all of them by torchrun, with one --master-addr and --master-port, or by --ranks."
MEETING = timedelta(minutes=5)
"""How long the processes may take to find each other: they import libraries first, some from a slow disk."""


LARGE = 1 << 18
"""Bytes of blocks that are given back as soon as they are freed, where layers are put together and fall apart."""


def num_started() -> int:
    """Return how many processes torchrun has started for this training; 1 where it has started none.

    Raises ``InputError`` where the environment says what no launcher writes there.
    """
    if "RANK" not in os.environ or "MASTER_ADDR" not in os.environ:
        return 1
    return _given("WORLD_SIZE", "1")


def number_started() -> int:
    """Return this process's number among them, from 0; ``InputError`` as for ``num_started``."""
    size = num_started()
    number = _given("RANK", "0") if size > 1 else 0
    if number >= size:
        raise InputError(f"The environment says that this is rank {number} of {size}: they count from 0.", _LAUNCH)
    return number


def _given(name: str, default: str) -> int:
    value = os.environ.get(name, default)
    if not value.isdecimal():
        raise InputError(
            f"In the environment, {name} is {value!r}: it was to be a number, as torchrun writes it.", _LAUNCH
        )
    return int(value)


def num_restarts() -> int:
    """Return how often torchrun has begun this training anew, after a process was lost."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) if num_started() > 1 else 0


@contextmanager
def started_by_torchrun(
    compute: ComputeConfig, tell: Callable[[str], None], warn: Callable[[str], None] | None = None
) -> Iterator[None]:
    """Make one training inside the block with all processes that torchrun has started; alone where it has started none.

    Args:
        compute: Says on which kind of device.
        tell: Shows people a text, where this process then ends at once because another was lost.
        warn: Shows them a warning: that others wait for a process; ``tell`` when not given.

    Raises:
        InputError: There are more of them than cores or accelerators, or they do not find each other.
    """
    if num_started() == 1:
        yield
        return
    on_cuda = _prepare_device(compute)
    if compute.parallel == "fsdp" and not on_cuda:
        give_back_as_freed(LARGE)
    from torch.distributed import PrefixStore  # type: ignore[attr-defined]

    store = _store()
    watch = RankWatch(
        lambda: _connected(compute.rank_timeout),
        number_started(),
        num_started(),
        timeout=compute.rank_timeout,
        tell=tell,
        warn=warn,
        first_keeps_store=os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True",
    )
    watch.start()
    distributed.init_process_group(
        "nccl" if on_cuda else "gloo",
        store=PrefixStore("sums", store),
        rank=number_started(),
        world_size=num_started(),
        timeout=ranks.LONGEST_SUM,
    )
    try:
        with ranks.joined(PrefixStore("words", store), watch):
            yield
    finally:
        watch.stop()
    distributed.destroy_process_group()  # after an error there may be nobody left to part from


def num_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def require_room(num_here: int, device: torch.device) -> None:
    """Refuse more processes on this machine than it has cores, or accelerators where they compute there."""
    if device.type not in ("cpu", "cuda"):
        raise InputError(
            f"Several processes train on cores or on CUDA, and the device here is {device.type}.",
            "Add --compute.device cpu, or leave out --ranks.",
        )
    there = torch.cuda.device_count() if device.type == "cuda" else num_cores()
    if num_here > there:
        kind = "accelerators" if device.type == "cuda" else "cores"
        raise InputError(
            f"{num_here} ranks were asked for on this machine, which has {there} {kind} for them: each needs one of "
            "its own.",
            f"Ask for at most {there}: --ranks {there}.",
        )


def _prepare_device(compute: ComputeConfig) -> bool:
    """Take this process's own accelerator, where they are used; return whether they are."""
    device = choose_device(compute.device)
    require_room(int(os.environ.get("LOCAL_WORLD_SIZE", "1")), device)
    if device.type != "cuda":
        return False
    if ":" in compute.device:
        raise InputError(
            f"compute.device: {compute.device} is one accelerator, and {num_started()} ranks need one each.",
            "Give --compute.device cuda: each rank takes its own.",
        )
    torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    return True


def _store() -> Any:
    """Return the store that torchrun keeps, or that the first process keeps for all: anew after every restart."""
    from torch.distributed import PrefixStore, rendezvous  # type: ignore[attr-defined]

    try:
        store, _, _ = next(rendezvous("env://", timeout=MEETING))
    except (RuntimeError, ValueError) as error:
        raise InputError(
            f"Rank {number_started()} does not find the others: {str(error).splitlines()[0][:200]}",
            _LAUNCH,
        ) from error
    return PrefixStore(f"tunesmith/{num_restarts()}", store)


def _connected(timeout: float) -> Any:
    """Return a connection of its own to the same store: one thread's waiting is nothing to another's."""
    from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]

    own = TCPStore(
        os.environ["MASTER_ADDR"],
        int(os.environ["MASTER_PORT"]),
        is_master=False,
        wait_for_workers=False,
        timeout=timedelta(seconds=max(3 * timeout, 30)),
    )
    return PrefixStore("watch", PrefixStore(f"tunesmith/{num_restarts()}", own))
