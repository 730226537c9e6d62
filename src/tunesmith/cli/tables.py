"""Tables on the terminal."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tunesmith.cli import terminal
from tunesmith.readable import UNTUNED, Verdict, count, interval, judge, metric_title, number, percent
from tunesmith.types import Interval

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

BAR_WIDTH = 30
WIDE = 105
"""Characters from which on an evaluation shows the baseline's own figures, too."""
_OUTCOME_STYLES = {"better": "green", "worse": "red", "unclear": "dim"}


def stdout_console() -> Console:
    """Return a console for results; without a terminal, lines are as long as they need to be."""
    console = terminal.console()
    return console if console.is_terminal else terminal.console(width=160)


def sets_table(evaluation: Mapping[str, Any]) -> Table | None:
    """Return the main metric of each set of a mixture; None where there is one set."""
    name, sets = evaluation["main_metric"], evaluation.get("sets")
    if not sets:
        return None
    table = new_table("each set apart")
    table.add_column("set")
    for header in ("rows", f"{metric_title(name)} [{percent(evaluation['confidence'])} interval]"):
        table.add_column(header, justify="right", no_wrap=True)
    for one in sets:
        table.add_row(one["name"], count(one["num_rows"]), _estimate(one["metrics"].get(name)))
    return table


def evaluation_table(evaluation: Mapping[str, Any], width: int) -> Table:
    """Return every metric with its interval, beside the baseline's and the difference where there is one.

    On narrow terminals (``width`` in characters) the baseline's own figures give way to the difference.
    """
    baseline = evaluation.get("baseline")
    differences = evaluation.get("difference") or {}
    title, before, gain = (
        f"{evaluation['split']}: {count(evaluation['num_rows'])} rows",
        "baseline",
        "gain over the baseline",
    )
    if baseline and baseline["name"] == UNTUNED:
        title, before, gain = f"{title}; beside the same model before fine-tuning", "before", "gain"
    elif baseline:
        title += f"; the baseline is {baseline['name']}"
    table = new_table(title)
    table.add_column("metric")
    is_wide = width >= WIDE
    rivals = ([before] if is_wide else []) + [gain] if baseline else []
    for header in (f"value [{percent(evaluation['confidence'])} interval]", *rivals):
        table.add_column(header, justify="right", no_wrap=True)
    for name, values in evaluation["metrics"].items():
        cells: list[str | Text] = [metric_title(name), _estimate(values)]
        if baseline and is_wide:
            cells.append(_estimate(baseline["metrics"].get(name)))
        if baseline:
            cells.append(_gain(name, differences.get(name)))
        table.add_row(*cells)
    return table


def runs_table(evaluations: Mapping[str, Mapping[str, Any]]) -> Table:
    """Return the main metric of several runs of one task, by their names, and their losses."""
    first = next(iter(evaluations.values()))
    metric = first["main_metric"]
    table = new_table(f"{first['split']}: {count(first['num_rows'])} rows")
    table.add_column("run")
    for header in (f"{metric_title(metric)} [{percent(first['confidence'])} interval]", "loss"):
        table.add_column(header, justify="right", no_wrap=True)
    for name, evaluation in evaluations.items():
        loss = evaluation["loss"]
        figures = _estimate(evaluation["metrics"].get(metric))
        table.add_row(name, figures, number(loss) if loss is not None else "")
    return table


def _estimate(values: Mapping[str, Any] | None) -> str:
    """Return a metric with its interval, or that it does not exist on these rows."""
    return "undefined" if values is not None and values.get("value") is None else interval(_interval(values))


def _gain(name: str, difference: Mapping[str, Any] | None) -> str | Text:
    from rich.text import Text

    found = _interval(difference)
    if found is None:
        return ""
    verdict: Verdict = judge(name, found)
    return Text(verdict.gain, style=_OUTCOME_STYLES[verdict.outcome])


def _interval(values: Mapping[str, Any] | None) -> Interval | None:
    if values is None:
        return None
    numbers = (values.get(name) for name in ("value", "low", "high"))
    return Interval(*(math.nan if value is None else float(value) for value in numbers))


def new_table(title: str = "", headers: Sequence[str] = ()) -> Table:
    """Return an empty table in the style of all tables here."""
    from rich import box
    from rich.table import Table

    return Table(*headers, title=title or None, title_justify="left", box=box.SIMPLE, pad_edge=False, show_edge=False)


def print_table(console: Console, table: Table) -> None:
    """Print a table with an empty line before it."""
    console.print()
    console.print(table)


def bar(share: float) -> str:
    """Return a bar of ``share`` (0 to 1) of the full width."""
    return "█" * max(round(share * BAR_WIDTH), 1 if share > 0 else 0)
