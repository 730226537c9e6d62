"""A server that is a process of its own, and what ends it: a terminal that closes, unless that is ignored."""

from __future__ import annotations

import http.client
import json
import re
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest

from forked_process import ForkedProcess
from serve.running import chunks, messages

pytest.importorskip("uvicorn")
pytest.importorskip("starlette")


def served(folder: str, *, ignored: bool) -> None:
    """Serve a run as the command line does; with SIGHUP ``ignored``, as ``nohup`` has it."""
    from tunesmith.cli.application import run

    signal.signal(signal.SIGHUP, signal.SIG_IGN if ignored else signal.SIG_DFL)
    raise SystemExit(run(["serve", folder, "--port", "0"]))


def begun(folder: Path, *, ignored: bool) -> tuple[ForkedProcess, http.client.HTTPConnection]:
    process = ForkedProcess(_Serving(ignored=ignored), str(folder))
    for _ in range(6000):
        with suppress(FileNotFoundError):  # it has not begun to write
            if found := re.search(r"on http://127\.0\.0\.1:(\d+)", process.stdout):
                return process, http.client.HTTPConnection("127.0.0.1", int(found[1]), timeout=60)
        assert process.is_alive, process.stderr
        time.sleep(0.01)
    raise AssertionError(process.stderr)


class _Serving:
    """``served`` with its wishes: something that is sent to another process."""

    def __init__(self, *, ignored: bool) -> None:
        self.ignored = ignored

    def __call__(self, folder: str) -> None:
        served(folder, ignored=self.ignored)


def test_a_terminal_that_closes_lets_a_server_end_what_it_has_begun(folders: dict[str, Path]) -> None:
    process, client = begun(folders["chat"], ignored=False)
    asked = {"messages": messages("what great 3?"), "max_tokens": 220, "temperature": 3.0, "seed": 1, "stream": True}
    client.request("POST", "/v1/chat/completions", json.dumps(asked))
    answer = client.getresponse()
    text = answer.read(20).decode()
    process.send_signal(signal.SIGHUP)
    process.send_signal(signal.SIGHUP)  # the system and the shell both tell of it
    events = chunks(text + answer.read().decode())
    assert events[-1]["choices"][0]["finish_reason"] in ("stop", "length")
    client.close()
    assert process.wait() == -signal.SIGHUP
    assert "Traceback" not in process.stderr


def test_a_server_begun_by_nohup_goes_on_without_its_terminal(folders: dict[str, Path]) -> None:
    process, client = begun(folders["labels"], ignored=True)
    process.send_signal(signal.SIGHUP)
    for _ in range(2):
        client.request("GET", "/health")
        answer = client.getresponse()
        assert (answer.status, bool(answer.read())) == (200, True)
        time.sleep(0.3)  # it looks ten times a second whether it is to end
    client.close()
    process.send_signal(signal.SIGTERM)
    assert process.wait() == -signal.SIGTERM
