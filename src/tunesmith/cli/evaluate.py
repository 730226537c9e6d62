"""``tunesmith evaluate``."""

from __future__ import annotations

import json
from pathlib import Path

import click


@click.command(short_help="Measure a run on its test rows or on other data.")
@click.argument("run", metavar="RUN", type=click.Path(path_type=Path))
@click.option("--data", metavar="FILE", help="Labelled rows to measure on, instead of the run's own.")
@click.option(
    "--split", default="test", show_default=True, help="Which rows of the run's own data: train, validation, test."
)
@click.option("--answers", type=click.IntRange(min=0), help="Have answers written to this many rows and compare them.")
@click.option("--json", "as_json", is_flag=True, help="Write the figures as JSON, as in evaluation.json.")
def evaluate_command(run: Path, data: str | None, split: str, answers: int | None, *, as_json: bool) -> None:
    """Measure the run in folder RUN; every figure comes with its confidence interval."""
    from tunesmith.cli.opened import OpenedRun
    from tunesmith.cli.tables import evaluation_table, print_table, stdout_console

    evaluation = OpenedRun.open(run).evaluate(data, split, answers=answers)
    if as_json:
        click.echo(json.dumps(evaluation, ensure_ascii=False, indent=1))
    else:
        console = stdout_console()
        print_table(console, evaluation_table(evaluation, console.width))
