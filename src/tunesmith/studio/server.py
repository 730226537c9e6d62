"""The studio's server: this machine alone can reach it, and its user alone is answered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from tunesmith.serve.server import listen, run_server, wary_config
from tunesmith.serve.settings import ServeSettings
from tunesmith.studio.workplace import Workplace
from tunesmith.types import MissingExtraError


def studio(root: Path, port: int, *, started: Callable[[str], None]) -> None:
    """Serve the studio for the runs in ``root`` until the process is asked to stop (as ``serve`` is).

    ``started`` is called with the address, key included, when it can be opened. What was started from it (trainings,
    served runs) goes on when it ends. Port 0 takes a free one.

    Raises ``InputError`` for a folder that cannot be written, a port that is taken, and missing libraries.
    """
    for name in ("starlette", "uvicorn"):
        if find_spec(name) is None:
            raise MissingExtraError("The studio", name, "serve")
    import uvicorn

    from tunesmith.studio.application import application

    place = Workplace(root)
    place.prepare()
    settings = ServeSettings(port=port)
    with listen(settings) as listening:
        settings = replace(settings, port=listening.getsockname()[1])
        config = wary_config(application(place, settings), drain_seconds=3, log_level="warning")
        started(f"http://127.0.0.1:{settings.port}/?key={place.key()}")
        run_server(uvicorn.Server(config), listening)
