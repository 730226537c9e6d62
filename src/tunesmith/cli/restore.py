"""``tunesmith restore``: a compressed or sparse run as a plain model."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("restore", short_help="Write a compressed or sparse run as a plain model.")
@click.argument("run", metavar="RUN", type=click.Path(path_type=Path))
@click.option("--output", metavar="FOLDER", type=click.Path(path_type=Path), required=True, help="Where it is written.")
@click.option(
    "--data", metavar="FILE", help="Labelled rows to compare on, instead of those that the run was judged on."
)
def restore_command(run: Path, output: Path, data: str | None) -> None:
    """Write the model of RUN, of the method compress or sparse, as plain transformers loads it.

    Its layers have their old sizes again; its scores are compared with those of the run before it is written.
    """
    from tunesmith.cli.opened import OpenedRun
    from tunesmith.cli.terminal import say
    from tunesmith.export import restore
    from tunesmith.readable import count

    found = restore(OpenedRun.open(run), output, data=data)
    say(
        f"{output}: a plain model with the scores of {run} on {count(found.rows)} rows (largest difference "
        f"{found.max_difference:.1g} of the largest score)."
    )
