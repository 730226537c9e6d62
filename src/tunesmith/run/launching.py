"""A training by several processes of this machine, started and looked after by torchrun's own launcher."""

from __future__ import annotations

import logging
import os
import signal
import sys
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith.config.load import dump_yaml
from tunesmith.engine.precision import choose_device
from tunesmith.engine.rank_group import num_cores, num_started, require_room
from tunesmith.types import InputError

if TYPE_CHECKING:
    from tunesmith.run.config import RunConfig

WATCH_SECONDS = 0.1
"""Between two looks whether all processes are alive."""
ENDED = (-signal.SIGTERM, 128 + signal.SIGTERM, 128 + signal.SIGINT)
"""How processes end that were asked to: the launcher asks all where one has failed."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a training by several processes has ended."""

    status: int
    """The exit status that belongs to it."""
    text: str = ""
    """What is to be said of it; nothing where a rank has said it."""


def train_in_ranks(
    config: RunConfig, num_ranks: int, *, resume: bool, overwrite: bool, quiet: bool, max_restarts: int = 0
) -> Ended:
    """Let ``num_ranks`` processes of this machine train as ``config`` says, each by the command line.

    Args:
        config: The complete configuration.
        num_ranks: How many; the cores are divided among them, unless OMP_NUM_THREADS says otherwise.
        resume: Continue an interrupted run in the same folder.
        overwrite: Replace what is in the folder.
        quiet: Show warnings and errors only.
        max_restarts: How often all are begun anew, from the last checkpoint, after one was lost.

    Raises:
        InputError: There are fewer cores or accelerators, or torchrun has started this process itself.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    if num_started() > 1:
        raise InputError("torchrun has started several processes already.", "Leave out --ranks.")
    device = choose_device(config.compute.device)
    require_room(num_ranks, device)
    flags = [flag for flag, wanted in zip(_FLAGS, (resume, overwrite, quiet), strict=True) if wanted]
    surroundings = {"OMP_NUM_THREADS": str(max(1, num_cores() // num_ranks)), "TORCH_CPP_LOG_LEVEL": "ERROR"}
    with tempfile.TemporaryDirectory(prefix="tunesmith-ranks-") as place, _surrounded(surroundings):
        given = Path(place) / "config.yaml"
        given.write_text(dump_yaml(config), encoding="utf-8")
        how = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=num_ranks,
            run_id=uuid.uuid4().hex,
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            local_addr="localhost",
            max_restarts=max_restarts,
            monitor_interval=WATCH_SECONDS,
            logs_specs=DefaultLogsSpecs(log_dir=place),
        )
        try:
            elastic_launch(how, sys.executable)("-m", "tunesmith", "train", str(given), *flags)
        except ChildFailedError as error:
            return _ended(error.failures)
        except SignalException as stopped:
            return Ended(128 + stopped.sigval)
    return Ended(0)


_FLAGS = ("--resume", "--overwrite", "--quiet")


def _ended(failures: dict[int, Any]) -> Ended:
    """Return how it ended, by the process that failed first: others end because of it."""
    number, failure = min(failures.items(), key=lambda one: (_kind(one[1].exitcode), one[1].timestamp, one[0]))
    code = int(failure.exitcode)
    if code > 0:
        return Ended(code)
    name = signal.Signals(-code).name
    hint = " (the system does so where memory runs out)" if -code == signal.SIGKILL else ""
    return Ended(
        1,
        f"Rank {number} (process {failure.pid}) was ended by {name}{hint}, and the others with it.\n  → What was saved "
        "before is untouched; continue with --resume. --max-restarts 3 does so by itself.",
    )


def _kind(code: int) -> int:
    """Return how sure it is, from 0 on, that a process with this status was the cause and not the consequence."""
    if code in ENDED:
        return 3
    if code < 0:
        return 0
    return 1 if code != 1 else 2


@contextmanager
def _surrounded(values: dict[str, str]) -> Iterator[None]:
    """Give variables to the processes begun inside the block, unless they are set, and leave out what is no error."""
    missing = [name for name in values if name not in os.environ]
    before = logging.root.manager.disable
    os.environ.update({name: values[name] for name in missing})
    logging.disable(logging.ERROR)  # who was lost, and how, is said by ``_ended``
    try:
        yield
    finally:
        logging.disable(before)
        for name in missing:
            os.environ.pop(name, None)
