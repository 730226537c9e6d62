"""``tunesmith evaluate``."""

from __future__ import annotations

from pathlib import Path

import click

from tunesmith.cli.asked_texts import columns_of_file
from tunesmith.cli.columns import columns_option
from tunesmith.cli.progress import progress


@click.command(short_help="Measure a run on its test rows or on other data.")
@click.argument("run", metavar="RUN", type=click.Path(path_type=Path))
@click.option("--data", metavar="FILE", help="Labelled rows to measure on, instead of the run's own.")
@columns_option
@click.option(
    "--split", default="test", show_default=True, help="Which rows of the run's own data: train, validation, test."
)
@click.option("--answers", type=click.IntRange(min=0), help="Have answers written to this many rows and compare them.")
@click.option("--json", "as_json", is_flag=True, help="Write the figures as JSON, as in evaluation.json.")
@click.option("--quiet", is_flag=True, help="Show no progress.")
def evaluate_command(
    run: Path,
    *,
    data: str | None,
    columns: tuple[str, ...],
    split: str,
    answers: int | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Measure the run in folder RUN; every figure comes with its confidence interval.

    Answers that a model writes are kept while it writes them: where that is broken off, the same command goes on.
    """
    from tunesmith.cli.opened import OpenedRun
    from tunesmith.cli.tables import evaluation_table, print_table, stdout_console
    from tunesmith.cli.terminal import say_json

    mapped = columns_of_file(columns, data)
    with progress(quiet=quiet or as_json) as shown:
        opened = OpenedRun.open(run)
        evaluation = opened.evaluate(data, split, answers=answers, columns=mapped, working=shown.show)
    if as_json:
        say_json(evaluation, indent=1)
    else:
        console = stdout_console()
        print_table(console, evaluation_table(evaluation, console.width))
