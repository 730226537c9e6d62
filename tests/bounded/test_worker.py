"""The process with limits: answers, and an end to whatever asks for too much."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from tunesmith.bounded import StoppedError, Worker
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
        os.kill(one._process.pid, signal.SIGINT)
        answers: dict[int, bytes] = {}

        def work(number: int) -> None:
            answers[number] = one.ask(f"{number}-".encode() * 1000, seconds=5, max_bytes=MEMORY)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert answers == {number: (f"{number}-".encode() * 1000)[::-1] for number in range(8)}


def test_it_ends_with_its_owner() -> None:
    one = worker("reversed_bytes")
    one.ask(b"x", seconds=5, max_bytes=MEMORY)
    process = one._process
    assert process is not None
    del one
    assert process.poll() is not None
