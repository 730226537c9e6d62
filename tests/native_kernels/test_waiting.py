"""Threads that sleep rather than spin when they wait, and only while other processes want the cores."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch

from tunesmith.kernels import waiting
from tunesmith.kernels.waiting import BriefWaits, CoreQueues, cores_shared, openmp


@pytest.fixture
def library() -> Iterator[ctypes.CDLL]:
    """Return GCC's OpenMP, with torch using two threads of it: the suite as a whole uses one."""
    found, num_threads = openmp(), torch.get_num_threads()
    if found is None or len(os.sched_getaffinity(0)) < 2:
        pytest.skip("there is one core, or torch works without GCC's OpenMP")
    torch.set_num_threads(2)
    yield found
    torch.set_num_threads(num_threads)


def seconds_of_processor(num_regions: int = 40) -> float:
    """Return what the threads of short regions take of the processor while all that is left to do is to wait."""
    values = torch.randn(300_000)
    values.add_(1.0)  # the team is there
    started = time.process_time()
    for _ in range(num_regions):
        values.add_(1.0)
        time.sleep(0.005)
    return time.process_time() - started


def test_threads_give_their_cores_up_while_they_wait(library: ctypes.CDLL) -> None:
    spinning = min(seconds_of_processor() for _ in range(3))
    waits = BriefWaits(library)
    waits.begin()
    try:
        sleeping = min(seconds_of_processor() for _ in range(3))
    finally:
        waits.end()
    assert sleeping < spinning / 2
    wait_until(lambda: min(seconds_of_processor() for _ in range(3)) > 1.5 * sleeping)  # as before


def test_results_are_the_same_bits_whichever_way_threads_wait(library: ctypes.CDLL) -> None:
    torch.manual_seed(0)
    left, right = torch.randn(257, 1031), torch.randn(1031, 513)

    def result() -> list[torch.Tensor]:
        weights = right.clone().requires_grad_()
        loss = (left @ weights).log_softmax(-1).sum()
        loss.backward()
        return [loss.detach(), weights.grad]  # type: ignore[list-item]

    before = result()
    waits = BriefWaits(library)
    waits.begin()
    try:
        during = result()
    finally:
        waits.end()
    for one, other in zip(before, during, strict=True):
        assert torch.equal(one, other)


@contextmanager
def busy(num_processes: int) -> Iterator[None]:
    others = [subprocess.Popen([sys.executable, "-S", "-c", "while True: pass"]) for _ in range(num_processes)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def wait_until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.perf_counter() + seconds
    while not condition():
        assert time.perf_counter() < end, "it never came to that"


@pytest.mark.usefixtures("library")
def test_other_processes_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    began: list[BriefWaits] = []
    original = BriefWaits.begin

    def begin(self: BriefWaits) -> None:
        original(self)
        began.append(self)

    monkeypatch.setattr(BriefWaits, "begin", begin)
    values = torch.randn(1_000_000)
    with busy(2 * torch.get_num_threads()), cores_shared():
        wait_until(lambda: bool(values.add_(1.0).numel() and began))
        assert began[0].is_on
    assert not began[0].is_on, "nothing stays behind when the work is done"


@pytest.mark.usefixtures("library")
def test_blocks_within_one_another_share_one_watch() -> None:
    with cores_shared():
        first = waiting._KEEPER._thread
        with cores_shared():
            assert waiting._KEEPER._thread is first
        assert first is not None
        assert first.is_alive()
    assert not first.is_alive()


def test_time_in_line_is_counted_for_threads_that_come_and_go() -> None:
    if openmp() is None:
        pytest.skip("the system does not tell how long threads wait")
    queues = CoreQueues()
    assert queues.longest_wait() == 0, "what was before the first look does not count"
    with busy(2 * torch.get_num_threads() + 2):
        deadline = time.perf_counter() + 60
        longest = 0.0
        while longest < 0.02:
            assert time.perf_counter() < deadline
            sum(range(200_000))
            longest = max(longest, queues.longest_wait())
    queues.close()


def test_work_goes_on_where_the_system_tells_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "openmp", lambda: None)
    with cores_shared():
        assert waiting._KEEPER._thread is None
