"""States of trainings that are kept in memory instead of on disk, where little would be lost with them.

A checkpoint costs as much as many steps of a short training. A study makes hundreds of those, and what a kill takes
away of them is made again by the same command, to the same bits. So a study writes a checkpoint only once a minute of
training would be lost without it; what was trained since, of the training under way and of those that wait to be gone
on with, is in memory until then.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import torch

from tunesmith.engine.free_memory import memory_of
from tunesmith.engine.snapshot import Snapshot

MOST_LOST = 60.0
"""Seconds of training that a killed study may have to make again. A checkpoint of MiniLM with its optimizer takes half
a second: less than one in a hundred."""
ROOM = 0.05
"""Share of the free memory that what is kept between runs may take, each kind of it, in all processes together."""


@dataclass(frozen=True, slots=True)
class Paused:
    """A training that waits to be gone on with."""

    state: Snapshot
    best: Snapshot | None
    """The weights of its best step, where that is another one."""
    seconds: float
    """Of training, that are lost with it."""

    def copied(self) -> Self:
        """Return it with tensors of its own, in the host's memory."""
        return replace(self, state=self.state.copied(), best=None if self.best is None else self.best.copied())

    @property
    def num_bytes(self) -> int:
        """The bytes that it takes."""
        return self.state.num_bytes + (0 if self.best is None else self.best.num_bytes)


class KeptStates:
    """The states of paused trainings, by their folders, and how much may be lost with what is in memory."""

    def __init__(self, most_lost: float = 0.0, share: float = 1.0) -> None:
        """Begin with none; ``most_lost`` is in seconds of training. With 0 everything is written to disk.

        ``share`` is that of ``has_room``.
        """
        self._most_lost = most_lost
        self._share = share
        self._paused: dict[Path, Paused] = {}
        self.are_gone_on_with_here = True
        """Whether it is this process that goes on with what is paused in it; others find what is on disk alone."""

    @property
    def num_bytes(self) -> int:
        """The host's memory that they take."""
        return sum(one.num_bytes for one in self._paused.values())

    def may_wait(self, seconds: float) -> bool:
        """Say whether that much training may be in memory alone, beside what is already."""
        return seconds + sum(one.seconds for one in self._paused.values()) < self._most_lost

    def has_room(self, num_bytes: int) -> bool:
        """Say whether there is memory for so much more."""
        return has_room(num_bytes, self.num_bytes, self._share)

    def pause(self, folder: Path, paused: Paused) -> None:
        """Keep the state of a training whose run is in ``folder``; nobody changes its tensors any more."""
        self._paused[folder.absolute()] = paused

    def go_on(self, folder: Path) -> Paused | None:
        """Return the state of a training that goes on now, which it may change; None where there is none in memory."""
        return self._paused.pop(folder.absolute(), None)

    def forget(self, folder: Path) -> None:
        """Give back the memory of a training that nobody goes on with."""
        self._paused.pop(folder.absolute(), None)

    def clear(self) -> None:
        """Give back all memory."""
        self._paused.clear()


def has_room(num_bytes: int, num_kept: int, share: float) -> bool:
    """Say whether there is memory of the host for so much more of what is kept between runs, beside what is already.

    ``share`` is the part of the machine that is this process's, where several train for a study.
    """
    _, available = memory_of(torch.device("cpu"))
    return num_bytes + num_kept <= ROOM * share * (available + num_kept)
