"""Ranks tell of one that lives and comes no further, and of none that merely waits, or works as long as others."""

from __future__ import annotations

import time

from torch.distributed import HashStore

from tunesmith.engine.rank_watch import RankWatch

TIMEOUT = 0.5


def told_by(first_comes: int, second_comes: int, *, longest_step: float | None = 0.01) -> list[list[str]]:
    """Return what two ranks say, each of which has come so far, in twice the time-out."""
    store, said = HashStore(), ([], [])  # type: ignore[var-annotated]
    watches = [RankWatch(lambda: store, number, 2, timeout=TIMEOUT, tell=said[number].append) for number in range(2)]
    for watch, steps in zip(watches, (first_comes, second_comes), strict=True):
        watch.is_stepping, watch.longest_step = True, longest_step
        for _ in range(steps):
            watch.comes_further()
        watch.start()
    time.sleep(2 * TIMEOUT)
    for watch in watches:
        watch.stop()
    return list(said)


def test_a_rank_that_comes_no_further_is_named_once_by_the_one_that_waits() -> None:
    first, second = told_by(7, 6)
    (text,) = first
    assert text.startswith("Rank 1 (process ")
    assert "has come no further for" in text
    assert "If it stays so for 3 seconds" in text
    assert second == []


def test_ranks_that_are_as_far_as_each_other_say_nothing() -> None:
    assert told_by(7, 7) == [[], []]


def test_nothing_is_said_before_it_is_known_how_long_steps_take() -> None:
    assert told_by(7, 6, longest_step=None) == [[], []]
