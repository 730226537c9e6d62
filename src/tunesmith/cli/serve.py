"""``tunesmith serve``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from tunesmith.serve.house import House


@click.command("serve", short_help="Answer requests over HTTP with finished runs.")
@click.argument("runs", metavar="RUN...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; others need a token.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0 takes a free one.")
@click.option("--token", envvar="TUNESMITH_TOKEN", help="What 'Authorization: Bearer' must hold [TUNESMITH_TOKEN].")
@click.option("--allow-origin", "origins", metavar="URL", multiple=True, help="A site whose pages may ask; repeatable.")
@click.option("--allow-host", "hosts", metavar="NAME", multiple=True, help="A name that this machine is asked by.")
@click.option("--slots", type=click.IntRange(1, 64), default=8, show_default=True, help="Answers written at a time.")
@click.option("--context", type=click.IntRange(min=16), help="Tokens of prompt and answer [the model's, at most 4096].")
@click.option("--timeout", type=click.FloatRange(min=1), default=120.0, show_default=True, help="Seconds of a request.")
@click.option("--max-waiting", type=click.IntRange(min=1), default=256, show_default=True, help="Requests of a model.")
@click.option(
    "--prefix-cache", "cache", type=click.IntRange(min=0), default=256, show_default=True, help="MB of a model."
)
@click.option("--watch", is_flag=True, help="Take up runs that are added or replaced while it serves.")
def serve_command(
    runs: tuple[Path, ...],
    *,
    host: str,
    port: int,
    token: str | None,
    origins: tuple[str, ...],
    hosts: tuple[str, ...],
    slots: int,
    context: int | None,
    timeout: float,
    max_waiting: int,
    cache: int,
    watch: bool,
) -> None:
    """Answer requests over HTTP with the finished runs in folders RUN, each by the name of its folder.

    A folder of runs stands for all that are finished in it.

    Models that write and that embed are asked as OpenAI's API is; the others by /v1/classify, /v1/tag, /v1/answer,
    /v1/translate or /v1/predict. /openapi.json describes it all.
    """
    from tunesmith.cli import collecting
    from tunesmith.cli.terminal import say
    from tunesmith.serve import ServeSettings, serve

    settings = ServeSettings(
        host=host,
        port=port,
        token=token,
        allowed_origins=origins,
        allowed_hosts=hosts,
        num_slots=slots,
        context=context,
        timeout_seconds=timeout,
        max_waiting=max_waiting,
        beginning_bytes=cache * 1_000_000,
        watch_seconds=2.0 if watch else None,
    )

    def started(house: House, at: int) -> None:
        collecting.settle()
        where = f"[{host}]" if ":" in host else host
        say(f"Serving {', '.join(house.hosted)} on http://{where}:{at}")

    serve(runs, settings, started=started, tell=say)
