"""``tunesmith studio``."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("studio", short_help="Do all of this in the browser.")
@click.option("--port", type=click.IntRange(0, 65535), default=8765, show_default=True, help="0 takes a free one.")
@click.option("--no-browser", is_flag=True, help="Show the address only; open no browser.")
@click.option(
    "--root",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("runs"),
    show_default=True,
    help="Folder of the runs and studies that are shown, and where new ones go.",
)
def studio_command(*, port: int, no_browser: bool, root: Path) -> None:
    """Choose data, train, compare, try and use models in the browser of this machine.

    What is started from the studio runs by itself: trainings go on when the page, the browser or the studio is
    closed, and are found again. The studio answers this machine alone, and needs no network.
    """
    import webbrowser

    from tunesmith.cli.terminal import say
    from tunesmith.studio import studio

    def started(address: str) -> None:
        say(f"The studio is at {address}")
        say("Its trainings go on when it is stopped (Ctrl-C).", err=True)
        if not no_browser:
            webbrowser.open(address)

    studio(root, port, started=started)
