"""How the threads of OpenMP wait for one another: spinning on an idle machine, asleep on a busy one.

A region of parallel work ends when its last thread does. GCC's OpenMP, which torch brings along on Linux, lets the
others spin for some milliseconds meanwhile: the quickest way on to the next region, as long as every thread has a core
of its own. Where another process holds one of the cores, a thread waits for its turn there while the rest spin away the
time slices that it, or they a moment later, could have used: two cores beside one busy process then make a quarter of
their speed. Threads that sleep while they wait make 0.6 of it there, but lose a tenth on an idle machine.

So both are needed, and which one is decided while the work goes on (``cores_shared``). The environment cannot do it: it
is read once, when torch is imported. But the library itself spins for an instant only while it has more threads in its
care than there are cores. A further thread that once asked for a team of its own is enough for that: its team sleeps,
costs nothing, and goes when it does. How many threads take part in the work, and which part each does, stays as it was,
so that no result changes by a bit.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

import torch

WINDOW_SECONDS = 0.1
"""How often the threads' waiting for a core is looked at."""
BUSY_WINDOWS, BUSY_SHARE = 5, 0.1
"""A thread that stood in line for a core for more than this share of the last windows shows that cores are shared."""
IDLE_WINDOWS, IDLE_SHARE = 10, 0.03
"""Less than this share, over more windows, shows that they are not: what wakes up for an instant now and then, as
something always does, shall change nothing."""
RESCAN_WINDOWS = 10
"""The process's threads are listed anew after so many windows."""

TASKS = Path("/proc/self/task")


class BriefWaits:
    """Lets the threads of GCC's OpenMP sleep when they wait, between ``begin`` and ``end``."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library
        self._release: threading.Event | None = None

    @property
    def is_on(self) -> bool:
        """Whether threads sleep when they wait."""
        return self._release is not None

    def begin(self) -> None:
        """Put more threads into the library's care than there are cores."""
        assert self._release is None
        release, started = threading.Event(), threading.Event()
        num_threads = max(2, len(os.sched_getaffinity(0)) - torch.get_num_threads() + 2)

        def hold() -> None:
            # A region that does nothing, free(NULL), by a team that the library keeps for as long as this thread lives.
            self._library.GOMP_parallel(ctypes.cast(_libc().free, ctypes.c_void_p), None, num_threads, 0)
            started.set()
            release.wait()

        threading.Thread(target=hold, name="holds a team of threads", daemon=True).start()
        started.wait()
        self._release = release

    def end(self) -> None:
        """Let threads spin again."""
        assert self._release is not None
        self._release.set()
        self._release = None


class CoreQueues:
    """Tells how long the threads of this process stood in line for a core (Linux's ``schedstat``)."""

    def __init__(self) -> None:
        self._files: dict[str, int] = {}
        self._waited: dict[str, int] = {}
        self._num_looks = 0

    def longest_wait(self) -> float:
        """Return the seconds that the thread that waited longest has waited since the last look."""
        if self._num_looks % RESCAN_WINDOWS == 0:
            self._list_threads()
        self._num_looks += 1
        longest = 0
        for name, file in list(self._files.items()):
            try:
                waited = int(os.pread(file, 64, 0).split()[1])
            except (OSError, IndexError, ValueError):  # the thread has ended
                os.close(self._files.pop(name))
                self._waited.pop(name, None)
                continue
            longest = max(longest, waited - self._waited.get(name, waited))
            self._waited[name] = waited
        return longest / 1e9

    def _list_threads(self) -> None:
        for task in TASKS.iterdir():
            if task.name not in self._files:
                try:
                    self._files[task.name] = os.open(task / "schedstat", os.O_RDONLY | os.O_CLOEXEC)
                except OSError:  # it ended in between
                    continue

    def close(self) -> None:
        """Let go of the files that the kernel tells it through."""
        for file in self._files.values():
            os.close(file)
        self._files.clear()


class _Keeper:
    """Watches for shared cores while at least one piece of work is under way."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._num_users = 0
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def enter(self) -> None:
        with self._lock:
            self._num_users += 1
            library = openmp()
            if self._num_users == 1 and library is not None and torch.get_num_threads() > 1:
                self._stop = threading.Event()
                thread = threading.Thread(
                    target=_watch, args=(self._stop, BriefWaits(library)), name="watches the cores", daemon=True
                )
                with suppress(RuntimeError):  # the system gives no more threads: it is about speed only
                    thread.start()
                    self._thread = thread

    def leave(self) -> None:
        with self._lock:
            self._num_users -= 1
            if self._num_users == 0 and self._thread is not None:
                self._stop.set()
                self._thread.join()
                self._thread = None


def _watch(stop: threading.Event, waits: BriefWaits) -> None:
    queues = CoreQueues()
    shares: deque[float] = deque([0.0] * IDLE_WINDOWS, maxlen=IDLE_WINDOWS)
    try:
        queues.longest_wait()
        while not stop.wait(WINDOW_SECONDS):
            shares.append(queues.longest_wait() / WINDOW_SECONDS)
            if not waits.is_on and sum(list(shares)[-BUSY_WINDOWS:]) > BUSY_WINDOWS * BUSY_SHARE:
                with suppress(RuntimeError):  # no more threads
                    waits.begin()
            elif waits.is_on and sum(shares) < IDLE_WINDOWS * IDLE_SHARE:
                waits.end()
    finally:
        queues.close()
        if waits.is_on:
            waits.end()


_KEEPER = _Keeper()


@contextmanager
def cores_shared() -> Iterator[None]:
    """Let OpenMP's threads wait as suits the machine, inside the block; nothing but the speed changes."""
    _KEEPER.enter()
    try:
        yield
    finally:
        _KEEPER.leave()


@cache
def openmp() -> ctypes.CDLL | None:
    """Return GCC's OpenMP as torch has loaded it; None where torch uses another one, or Linux does not tell enough."""
    if not (TASKS / str(os.getpid()) / "schedstat").exists():
        return None
    beside_torch = Path(torch.__file__).parent / "lib"
    for place in _loaded():
        if place.name.startswith("libgomp") and (place.parent == beside_torch or "torch" in place.parts):
            return _with_parallel(place)
    return None


def _loaded() -> list[Path]:
    """Return the shared libraries that are part of this process."""
    lines = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace").splitlines()
    return [Path(name) for name in dict.fromkeys(line.split(maxsplit=5)[5] for line in lines if line.count("/"))]


def _with_parallel(place: Path) -> ctypes.CDLL | None:
    try:
        library = ctypes.CDLL(str(place))
        library.GOMP_parallel.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
        library.GOMP_parallel.restype = None
    except (OSError, AttributeError):
        return None
    return library


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None)
