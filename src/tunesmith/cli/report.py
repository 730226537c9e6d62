"""``tunesmith report``."""

from __future__ import annotations

from pathlib import Path

import click


@click.command(short_help="Write an HTML report of one or more runs, or of a study.")
@click.argument("runs", metavar="RUN...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--output",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Page to write [default: RUN/report.html, or report.html].",
)
@click.option("--overwrite", is_flag=True, help="Replace the file given as --output even if it is no report.")
def report_command(runs: tuple[Path, ...], output: Path | None, *, overwrite: bool) -> None:
    """Write one self-contained HTML page about the runs in the folders RUN; several are set side by side.

    The folder of a study, given alone, becomes a page about the whole study.
    """
    from tunesmith.cli.terminal import say
    from tunesmith.report import write_report

    if output is None:
        output = runs[0] / "report.html" if len(runs) == 1 else Path("report.html")
    say(write_report(list(runs), output, overwrite=overwrite))
