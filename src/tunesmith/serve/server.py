"""The server itself: a socket, the application, and an end that loses no request that was taken."""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from tunesmith.run.signals import hang_ups
from tunesmith.serve.house import House
from tunesmith.serve.settings import ServeSettings
from tunesmith.serve.watching import Watch
from tunesmith.types import InputError

if TYPE_CHECKING:
    import uvicorn
    from starlette.types import ASGIApp


def serve(
    folders: Sequence[Path],
    settings: ServeSettings,
    *,
    started: Callable[[House, int], None],
    tell: Callable[[str], None] = lambda _: None,
) -> None:
    """Serve the runs in ``folders``, or in folders of runs, until the process is asked to stop.

    It is by SIGINT, SIGTERM, and a terminal that closes (SIGHUP, unless that is ignored, as by ``nohup``).

    Requests at work then have ``drain_seconds`` to come to their end; new ones are refused. ``started`` is called with
    the port when the models are loaded, ``tell`` with what is taken up later (``ServeSettings.watch_seconds``).

    Raises ``InputError`` for runs that cannot be opened, a port that is taken, an address of others without a token,
    and missing libraries.
    """
    if missing := [name for name in ("starlette", "uvicorn") if find_spec(name) is None]:
        raise InputError(
            f"Serving needs {' and '.join(missing)}, not installed here.", "pip install 'tunesmith[serve]'"
        )
    if not settings.is_local and not settings.token:
        raise InputError(
            f"Everybody who reaches {settings.host} could ask the models.",
            "Give --token TEXT, or listen on this machine alone (--host 127.0.0.1).",
        )
    import uvicorn

    with listen(settings) as listening, ExitStack() as stack:
        house = House(folders, settings)
        started(house, listening.getsockname()[1])
        if settings.watch_seconds is not None:
            stack.enter_context(Watch(house, settings.watch_seconds, tell))
        run_server(uvicorn.Server(uvicorn_config(house)), listening)


def run_server(server: uvicorn.Server, listening: socket.socket) -> None:
    """Run a server until it is asked to stop. A terminal that closes ends it as SIGTERM does, its work done."""

    def ends(number: int, _: FrameType | None) -> None:
        received.append(number)
        server.should_exit = True

    received: list[int] = []
    is_main = threading.current_thread() is threading.main_thread()
    before = {number: signal.signal(number, ends) for number in (hang_ups() if is_main else ())}
    try:
        server.run(sockets=[listening])
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
    for number in received[:1]:  # as the server itself does with the other signals: its end says why
        signal.raise_signal(number)


def uvicorn_config(house: House) -> uvicorn.Config:
    """Return how uvicorn serves a house."""
    from tunesmith.serve.application import application

    settings = house.settings
    return wary_config(
        application(house), drain_seconds=settings.drain_seconds, log_level="error", limit_concurrency=1024
    )


def wary_config(application: ASGIApp, *, drain_seconds: float, **further: Any) -> uvicorn.Config:
    """Return how uvicorn serves an application to whoever comes: no web sockets, no long heads, no endless ones."""
    import uvicorn

    from tunesmith.serve.connections import MAX_HEAD_BYTES, ImpatientProtocol

    return uvicorn.Config(
        application,
        http=ImpatientProtocol,
        ws="none",
        access_log=False,
        server_header=False,
        timeout_keep_alive=10,
        timeout_graceful_shutdown=int(drain_seconds),
        h11_max_incomplete_event_size=MAX_HEAD_BYTES,
        **further,
    )


def listen(settings: ServeSettings) -> socket.socket:
    """Return a socket that listens; ``InputError`` where the address cannot be had."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((settings.host, settings.port))
        listening.listen(128)
    except OSError as error:
        listening.close()
        raise InputError(
            f"Nothing can listen on {settings.host}, port {settings.port}: {error.strerror or error}.",
            "Choose another port (--port), or end the program that uses it.",
        ) from None
    return listening
