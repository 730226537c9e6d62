"""``tunesmith gate``: whether a new run may replace an old one, for people's own pipelines."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tunesmith.cli.columns import columns_option, parse_columns

if TYPE_CHECKING:
    from tunesmith.study.gate import Gate

STATUS = {"passed": 0, "failed": 1, "undecided": 3}


@click.command("gate", short_help="Say whether a new run may replace an old one.")
@click.argument("run", metavar="RUN", type=click.Path(path_type=Path))
@click.option("--against", metavar="RUN", required=True, type=click.Path(path_type=Path), help="The run in use now.")
@click.option(
    "--margin",
    type=click.FloatRange(min=0),
    help="How much worse counts as no worse: in points of accuracy and other shares, else in units of the metric "
    "[1 point, or a hundredth of the old value].",
)
@click.option("--metric", metavar="NAME", help="What decides [the task's main metric].")
@click.option("--data", metavar="FILE", help="Labelled rows to judge both on, instead of the new run's own.")
@click.option(
    "--by",
    metavar="COLUMN",
    help="Judge the rows of each value of a column for themselves, too: one that is shown to be worse fails the gate.",
)
@columns_option
@click.option("--json", "as_json", is_flag=True, help="Write what was found as JSON.")
@click.pass_context
def gate_command(
    context: click.Context,
    run: Path,
    *,
    against: Path,
    margin: float | None,
    metric: str | None,
    data: str | None,
    by: str | None,
    columns: tuple[str, ...],
    as_json: bool,
) -> None:
    """Say whether RUN may take the place of another run: it is no worse, on the same rows, than a margin allows.

    Exit status: 0 it may; 1 it is worse; 3 these rows do not decide; 2 the runs or rows cannot be used.
    """
    from tunesmith.cli.application import show_problems
    from tunesmith.cli.opened import OpenedRun
    from tunesmith.cli.terminal import say, say_json
    from tunesmith.study.gate import gate

    found = gate(
        OpenedRun.open(run),
        OpenedRun.open(against),
        margin=margin,
        metric=metric,
        data=data,
        columns=parse_columns(columns),
        by=by,
    )
    show_problems(found.problems)
    if as_json:
        record = asdict(found)
        record["problems"] = [str(problem) for problem in found.problems]
        say_json(record, indent=1)
    else:
        say(sentence(found, run, against))
        if found.slices is not None:
            show_slices(found)
    context.exit(STATUS[found.verdict])


def sentence(found: Gate, run: Path, against: Path) -> str:
    """Return the verdict in plain words."""
    from tunesmith.readable import count, is_fraction, metric_phrase, number, percent

    scale, unit = (100.0, " points") if is_fraction(found.metric) else (1.0, "")
    change, low, high = (number(scale * found.change[name], decimals=2) for name in ("value", "low", "high"))
    what = (
        f"{metric_phrase(found.metric)} {number(found.new)} beside {number(found.old)} on {count(found.rows)} rows: "
        f"{change}{unit} [{low}, {high}], {percent(found.confidence)} interval; "
        f"margin {number(scale * found.margin)}{unit}"
    )
    words = {
        "passed": f"{run} may replace {against}",
        "failed": f"{run} is worse than {against}{_where(found)}",
        "undecided": f"Whether {run} may replace {against} is undecided",
    }[found.verdict]
    more = f" About {count(found.rows_needed)} rows would decide." if found.rows_needed else ""
    return f"{words}: {what}.{more}"


def _where(found: Gate) -> str:
    """Name the slices that fail a gate."""
    worse = found.slices.failed if found.slices is not None else ()
    return f" where {found.slices.by} is {', '.join(one.value for one in worse)}" if found.slices and worse else ""


def show_slices(found: Gate) -> None:
    """Print what the rows of each value show."""
    from tunesmith.cli.tables import new_table, print_table, stdout_console
    from tunesmith.readable import count, is_fraction, metric_title, number, percent

    assert found.slices is not None
    by, slices, level = found.slices.by, found.slices.slices, found.slices.confidence
    scale, unit = (100.0, " points") if is_fraction(found.metric) else (1.0, "")
    table = new_table(f"{metric_title(found.metric)} by {by}", [by, "rows", "new", "old", "change", ""])
    for one in slices:
        change = ""
        if one.change is not None:
            value, low, high = (number(scale * one.change[name], decimals=2) for name in ("value", "low", "high"))
            change = f"{value}{unit} [{low}, {high}]"
        figures = [number(figure) if figure is not None else "" for figure in (one.new, one.old)]
        table.add_row(one.value, count(one.rows), *figures, change, one.verdict)
    console = stdout_console()
    print_table(console, table)
    compared = sum(one.change is not None for one in slices)
    console.print(f"Intervals hold {percent(level, decimals=2)} each, so that all {compared} hold together.")
