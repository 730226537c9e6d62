"""The process with limits: answers, and an end to whatever asks for too much."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from tunesmith.bounded import StoppedError, Worker, child
from tunesmith.types import InputError, RunError

MEMORY = 256 << 20


def worker(name: str) -> Worker:
    return Worker(f"bounded.functions:{name}")


def test_it_answers_again_and_again_in_one_process() -> None:
    with worker("reversed_bytes") as one:
        answers = [one.ask(bytes([number]) * 3 + b"!", seconds=5, max_bytes=MEMORY) for number in range(50)]
        assert answers == [b"!" + bytes([number]) * 3 for number in range(50)]
        first = one._process
        long = os.urandom(3_000_000)
        assert one.ask(long, seconds=5, max_bytes=MEMORY) == long[::-1]
        assert one._process is first


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("endless_loop", r"takes more than 0\.3 seconds"),
        ("endless_in_c", r"takes more than 0\.3 seconds"),
        ("much_memory", "asks for more than 256 MB"),
        ("ends_itself", r"breaks off \(status 7\)"),
        ("killed", "breaks off .*SIGKILL"),
        ("fails", "breaks off: KeyError"),
        ("writes_much", "breaks off: (OSError|FileNotFoundError)"),
    ],
)
def test_what_asks_for_too_much_is_ended_and_the_next_is_answered(name: str, words: str) -> None:
    with worker("by_name") as one:
        with pytest.raises(StoppedError, match=words):
            one.ask(name.encode(), seconds=0.3, max_bytes=MEMORY)
        assert one.ask(b"good", seconds=5, max_bytes=MEMORY) == b"good"


def test_errors_of_the_user_come_across_whole() -> None:
    with worker("by_name") as one:
        with pytest.raises(InputError) as caught:
            one.ask(b"refuses", seconds=5, max_bytes=MEMORY)
        (problem,) = caught.value.problems
        assert (problem.message, problem.fix, problem.rows) == ("no good", "make it good", ("a:1", "b:2"))
        with pytest.raises(RunError, match="disk full"):
            one.ask(b"disk", seconds=5, max_bytes=MEMORY)


def test_it_knows_nothing_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    with worker("by_name") as one:
        assert b"secret" not in one.ask(b"environment", seconds=5, max_bytes=MEMORY)


def test_threads_share_it_and_ctrl_c_does_not_reach_it() -> None:
    with worker("reversed_bytes") as one:
        one.ask(b"x", seconds=5, max_bytes=MEMORY)
        assert one._process is not None
        assert os.getpgid(one._process.pid) != os.getpgid(0)  # a terminal sends Ctrl-C to the whole group
        os.kill(one._process.pid, signal.SIGINT)
        os.kill(one._process.pid, signal.SIGTERM)
        answers: dict[int, bytes] = {}

        def work(number: int) -> None:
            answers[number] = one.ask(f"{number}-".encode() * 1000, seconds=5, max_bytes=MEMORY)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert answers == {number: (f"{number}-".encode() * 1000)[::-1] for number in range(8)}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_a_forked_copy_does_not_wait_for_its_parents_threads() -> None:
    one = worker("reversed_bytes")
    with one._lock:  # as if another thread was asking
        child_id = os.fork()
        if child_id == 0:
            signal.alarm(200)
            os._exit(0 if one.ask(b"ab", seconds=5, max_bytes=MEMORY) == b"ba" else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child_id, 0)[1]) == 0


def test_it_ends_with_its_owner() -> None:
    one = worker("reversed_bytes")
    one.ask(b"x", seconds=5, max_bytes=MEMORY)
    process = one._process
    assert process is not None
    del one
    assert process.poll() is not None


def test_what_a_scheduler_ends_is_asked_again(tmp_path: Path) -> None:
    place = tmp_path / "waits"
    with Worker("bounded.functions:waits_once") as one:

        def end() -> None:
            while not place.exists() or one._process is None:
                time.sleep(0.01)
            os.kill(one._process.pid, signal.SIGTERM)

        ending = threading.Thread(target=end)
        ending.start()
        assert one.ask(os.fsencode(place), seconds=5, max_bytes=MEMORY, max_file_bytes=100) == b"again"
        ending.join()


def test_one_that_ended_while_idle_is_started_again() -> None:
    with worker("reversed_bytes") as one:
        assert one.ask(b"ab", seconds=5, max_bytes=MEMORY) == b"ba"
        first = one._process
        assert first is not None
        assert first.stdin is not None
        first.stdin.close()  # as if it had waited for longer than it does
        first.wait()
        assert one.ask(b"cd", seconds=5, max_bytes=MEMORY) == b"dc"
        assert one._process is not first


def test_it_waits_only_so_long(monkeypatch: pytest.MonkeyPatch) -> None:
    read, write = os.pipe()
    with os.fdopen(read, "rb") as requests, os.fdopen(write, "wb", buffering=0) as parent:
        monkeypatch.setattr(child, "IDLE_SECONDS", 0.01)
        assert not child._is_asked(requests)
        parent.write(b"x")
        assert child._is_asked(requests)


def test_what_cannot_be_started_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RunError, match="could not be started: it ended at once"):
        Worker("bounded.nothing:here").ask(b"x", seconds=5, max_bytes=MEMORY)
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(RunError, match="could not be started: No such file"):
        worker("reversed_bytes").ask(b"x", seconds=5, max_bytes=MEMORY)
    monkeypatch.setattr(sys, "executable", "")
    with pytest.raises(RunError, match="no Python interpreter"):
        worker("reversed_bytes").ask(b"x", seconds=5, max_bytes=MEMORY)
