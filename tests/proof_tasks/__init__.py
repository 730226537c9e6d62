"""Tasks written for the tests alone: what a task with several sequences a row takes is one file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from proof_tasks.pair_ranking import PairRanking
from tunesmith.tasks import TASKS


@contextmanager
def registered() -> Iterator[None]:
    """Let the configuration know these tasks inside of the block."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(TASKS, "pair_ranking", PairRanking)
        yield
