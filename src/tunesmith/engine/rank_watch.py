"""Whether the other processes of a training are alive: each gives a sign of life, and looks for those of the others.

A process that dies is noticed at once by whoever started it (torchrun), and by its connections. One that is stopped or
whose machine hangs keeps its connections and says nothing; a sum would wait for it for ever. So each rank writes a
counter to torch's store every little while, from a thread of its own. One of which nothing was heard for as long as the
time-out is given up: the first of the others says so, ends it if it can, and all end themselves, so that torchrun
begins them anew or ends, too.

A process may also live on and come no further: its main thread waits for what never comes, or loops. Then it gives
signs, but its place in the order of sums and passes stays behind that of the others, who wait for it. That is told
after the time-out, since much can hold up a rank for a while (a disk, a service that is told of steps); it is given up
where it stays so for several times as long, and for many times as long as steps take.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

BEATS, LONGEST_PAUSE = 8, 1.25
"""Signs of life within the time-out, at least; seconds between two, at most."""
PATIENCE_BEFORE_STEPS = 12
"""Before the first step a rank may be silent for so many times as long: libraries that read a large model do not let
other threads run meanwhile."""
PATIENCE_BEHIND = 6
"""A rank that gives signs may come no further for so many times as long, while others wait for it."""
STEPS_BEHIND = 20
"""And for as long as so many of the longest steps."""
EXIT_STATUS = 1


@dataclass
class _Other:
    """What is known of another rank."""

    beat: int = -1
    process: int = 0
    host: str = ""
    place: int = 0
    """How far it has come: how many sums and passes of layers it has begun."""
    moved: float = field(default_factory=time.monotonic)
    """When that last changed, by this process's clock."""
    heard: float = field(default_factory=time.monotonic)
    """When its counter last changed, by this process's clock."""
    num_looks_ended: int = 0
    """How often it was found to have ended: once may be at the common end, just before this process hears of that."""


class RankWatch:
    """Gives a sign of life and looks for those of the others, from ``start`` to ``stop``."""

    def __init__(
        self,
        connect: Callable[[], Any],
        number: int,
        size: int,
        *,
        timeout: float,
        tell: Callable[[str], None],
        warn: Callable[[str], None] | None = None,
        first_keeps_store: bool = False,
    ) -> None:
        """Prepare to watch.

        Args:
            connect: Returns a store of torch's, for this watch alone.
            number: This rank's number.
            size: How many ranks there are.
            timeout: Seconds of silence after which a rank is given up, once steps are made.
            tell: Shows a text to people before the process ends.
            warn: Shows them a warning; ``tell`` when not given.
            first_keeps_store: Whether the first rank keeps the store, and not whoever has started all.
        """
        self.is_stepping = False
        """Whether steps are made by now."""
        self.longest_step: float | None = None
        """Seconds that the longest of several steps took; None before these are made."""
        self._place, self._moved = 0, time.monotonic()
        self._connect, self._number, self._timeout, self._tell = connect, number, timeout, tell
        self._warn = warn or tell
        self._first_keeps_store = first_keeps_store
        self._pause = min(timeout / BEATS, LONGEST_PAUSE)
        self._others = {other: _Other() for other in range(size) if other != number}
        self._beat = 0
        self._told_of: tuple[int, int] | None = None
        """The rank, at its place, that was last said to be behind."""
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._asked: float | None = None
        """When the store was last asked something that it has not answered yet."""
        self._thread = threading.Thread(target=self._run, name="watches the ranks", daemon=True)
        self._minder = threading.Thread(target=self._mind_store, name="watches the store", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()
        self._minder.start()

    def stop(self) -> None:
        """Give no more signs and look for none."""
        self._stop.set()
        for thread in (self._thread, self._minder):
            if thread.is_alive():
                thread.join(timeout=2 * self._pause)

    @property
    def patience(self) -> timedelta:
        """How long a rank that gives signs may be behind, at least."""
        return timedelta(seconds=PATIENCE_BEHIND * self._timeout)

    def comes_further(self) -> None:
        """Take note that this rank has begun another sum, or another layer of a pass that all make."""
        self._place += 1
        self._moved = time.monotonic()

    def has_made(self, num_steps: int) -> None:
        """Take note of how many steps this rank has made: where all have made as many, none of them is behind."""
        self._place = num_steps << 24
        self._moved = time.monotonic()

    def who_is_lost(self) -> str:
        """Say which ranks have ended, are silent or have not come as far as this one; nothing where none is known."""
        time.sleep(2 * self._pause)  # until whoever started them knows, and the last signs are read
        now, found = time.monotonic(), []
        with self._lock:
            for number, other in self._others.items():
                named = f"rank {number} (process {other.process} on {other.host})"
                if _has_ended(other):
                    found.append(f"{named} has ended")
                elif other.beat >= 0 and now - other.heard > 4 * self._pause:
                    found.append(f"nothing was heard of {named} for {now - other.heard:.0f} seconds")
                elif other.place < self._place:
                    found.append(f"{named} has not come as far as the others")
        return ("; ".join(found)).capitalize()

    def _run(self) -> None:
        try:
            store = self._connect()
            while not self._stop.is_set():
                began = self._asked = time.monotonic()
                self._give_sign(store)
                self._look(store)
                self._asked = None
                self._stop.wait(self._pause)
                if time.monotonic() - began > self._timeout / 2:
                    self._listen_anew()  # this process was stopped itself, or the machine was: nobody else is to blame
        except RuntimeError as error:  # the store's connection
            if not self._stop.is_set():
                self._give_up_store(str(error).strip().splitlines()[0][:200])

    def _mind_store(self) -> None:
        """Look whether the store answers: where whoever keeps it is stopped, an answer is waited for without end."""
        while not self._stop.is_set():
            began = time.monotonic()
            self._stop.wait(self._pause)
            limit = self._timeout * (1 if self.is_stepping else PATIENCE_BEFORE_STEPS)
            if time.monotonic() - began > self._timeout / 2:
                self._asked = self._asked and time.monotonic()  # this process was stopped itself
            elif self._asked and time.monotonic() - self._asked > limit and not self._stop.is_set():
                self._give_up_store(f"no answer for {time.monotonic() - self._asked:.0f} seconds")

    def _give_up_store(self, reason: str) -> None:
        if self._first_keeps_store and 0 in self._others:
            self._give_up(0, f"the store that it keeps for all cannot be reached any more ({reason})")
        self._end(f"The process that started the ranks cannot be reached any more: {reason}.")

    def _give_sign(self, store: Any) -> None:
        self._beat += 1
        sign = {"beat": self._beat, "process": os.getpid(), "host": socket.gethostname(), "place": self._place}
        store.set(_key(self._number), json.dumps(sign))

    def _look(self, store: Any) -> None:
        limit = self._timeout * (1 if self.is_stepping else PATIENCE_BEFORE_STEPS)
        for number, other in self._others.items():
            if store.check([_key(number)]):
                sign = json.loads(store.get(_key(number)))
                with self._lock:
                    if sign["beat"] != other.beat:
                        other.heard = time.monotonic()
                    if sign["place"] != other.place:
                        other.moved = time.monotonic()
                    other.beat, other.process = sign["beat"], sign["process"]
                    other.host, other.place = sign["host"], sign["place"]
            silence = time.monotonic() - other.heard
            other.num_looks_ended += _has_ended(other)
            if (silence > limit or other.num_looks_ended > 1) and not self._stop.is_set():
                ended = other.num_looks_ended > 0
                self._give_up(number, "it has ended" if ended else f"nothing was heard of it for {silence:.0f} seconds")
            self._look_whether_behind(number, other)

    def _look_whether_behind(self, number: int, other: _Other) -> None:
        """Say that this rank waits for another, which gives signs, once that is behind for long; give it up later."""
        if self.longest_step is None or other.place >= self._place or self._stop.is_set():
            return
        held_up = time.monotonic() - max(other.moved, self._moved)
        patience = max(self.patience.total_seconds(), STEPS_BEHIND * self.longest_step)
        if held_up > patience:
            self._give_up(number, f"it lives, but has come no further for {held_up:.0f} seconds, for which others wait")
        elif held_up > self._timeout and self._told_of != (number, other.place) and self._speaks_without(number):
            self._told_of = number, other.place
            self._warn(
                f"{_named(number, other)} has come no further for {held_up:.0f} seconds, and the others wait for it. "
                f"If it stays so for {patience:.0f} seconds, all ranks end.\n  → What it does is told by: py-spy dump "
                f"--pid {other.process}. compute.rank_timeout says how long others wait."
            )

    def _speaks_without(self, number: int) -> bool:
        """Say whether this rank is the first of all but one."""
        return all(self._number < one for one in self._others if one != number)

    def _listen_anew(self) -> None:
        for other in self._others.values():
            other.heard = other.moved = time.monotonic()

    def _give_up(self, number: int, why: str) -> None:
        other = self._others[number]
        if other.process and not other.num_looks_ended and other.host == socket.gethostname():
            with suppress(OSError):
                os.kill(other.process, signal.SIGKILL)  # one that is stopped, or loops, would not obey torchrun
        self._end(
            f"{_named(number, other)} is lost: {why}. All ranks end.\n  → What was saved "
            "before is untouched; continue with --resume. compute.rank_timeout says how long a rank may be silent.",
            lost=number,
        )

    def _end(self, text: str, lost: int = -1) -> None:
        """End this process; one speaks for all."""
        living = [number for number, other in self._others.items() if number != lost and not _has_ended(other)]
        if all(self._number < number for number in living):
            self._tell(text)
        else:
            time.sleep(1.0)  # until it has
        os._exit(EXIT_STATUS)


def _named(number: int, other: _Other) -> str:
    return f"Rank {number}" + (f" (process {other.process} on {other.host})" if other.process else "")


def _key(number: int) -> str:
    return f"alive/{number}"


def _has_ended(other: _Other) -> bool:
    """Say whether a process of this machine has ended."""
    import psutil

    if not other.process or other.host != socket.gethostname():
        return False
    try:
        return bool(psutil.Process(other.process).status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD))
    except psutil.NoSuchProcess:
        return True
