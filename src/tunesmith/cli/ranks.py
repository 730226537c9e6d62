"""One training by several processes: how each speaks, and what is shown of all of them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from tunesmith.cli.terminal import say
from tunesmith.types import InputError, RunError

if TYPE_CHECKING:
    from tunesmith.run import RunConfig

TURN_SECONDS = 2.0
"""How long a rank but the first waits with its words: where all fail alike, those of the first are enough, and all are
ended before."""


@contextmanager
def one_of_several(config: RunConfig) -> Iterator[bool]:
    """Train inside the block with the processes that torchrun has started, if it has; say whether this is the first."""
    from tunesmith.engine import rank_group
    from tunesmith.run import Stopped

    number, count = rank_group.number_started(), rank_group.num_started()
    try:
        with rank_group.started_by_torchrun(config.compute, tell=_tell_of_loss, warn=_warn):
            yield number == 0
    except (InputError, RunError) as error:
        if number == 0:
            raise
        time.sleep(TURN_SECONDS)
        said = f"Rank {number} of {count}: "
        if isinstance(error, InputError):
            problems = [replace(problem, message=said + problem.message) for problem in error.problems]
            raise InputError(problems) from error
        raise RunError(f"{said}{error}") from error
    except Stopped as stopped:
        if number == 0:
            raise
        time.sleep(TURN_SECONDS)
        raise SystemExit(stopped.exit_code) from stopped


def _tell_of_loss(text: str) -> None:
    say("Error: ", err=True, end="", fg="red", bold=True)
    say(text, err=True)


def _warn(text: str) -> None:
    say("Warning: ", err=True, end="", fg="yellow", bold=True)
    say(text, err=True)


def train_in_ranks(
    config: RunConfig, num_ranks: int, *, resume: bool, overwrite: bool, quiet: bool, max_restarts: int
) -> int:
    """Let several processes train, each of which is this program, and return the exit status."""
    from tunesmith.run.launching import train_in_ranks as launch

    ended = launch(config, num_ranks, resume=resume, overwrite=overwrite, quiet=quiet, max_restarts=max_restarts)
    if ended.text:
        _tell_of_loss(ended.text)
    return ended.status
