"""``tunesmith audit``: for whom and where a run fails, and how sure it may be."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tunesmith.cli.asked_texts import columns_of_file
from tunesmith.cli.columns import columns_option

if TYPE_CHECKING:
    from rich.console import Console


@click.command("audit", short_help="Say for whom and where a run fails, and how sure it may be.")
@click.argument("run", metavar="RUN", type=click.Path(path_type=Path))
@click.option(
    "--group",
    "groups",
    metavar="COLUMN",
    multiple=True,
    help="A column whose values are groups to compare; several with commas, crossed ones as gender+region.",
)
@click.option(
    "--swap",
    "swaps",
    metavar="LIST",
    multiple=True,
    help="Ask about the same texts with words changed: gender, names, origins, or a file of pairs (he,she).",
)
@click.option("--data", metavar="FILE", help="Labelled rows to question the run on, instead of its own.")
@columns_option
@click.option(
    "--split", default="test", show_default=True, help="Which rows of the run's own data: train, validation, test."
)
@click.option(
    "--part",
    "parts",
    metavar="PART",
    multiple=True,
    help="Look only at: slices, robustness, sureness, outside, overfitting; none for none of them [all].",
)
@click.option("--outside", metavar="FILE", help="Rows of another kind, that the run should tell from its own.")
@click.option(
    "--min-rows", type=click.IntRange(min=2), default=30, show_default=True, help="A smaller group is not compared."
)
@click.option(
    "--learning-curve",
    "curve",
    is_flag=True,
    help="Train again on 25% and 50% of the rows, and say what twice as many as there are would bring.",
)
@click.option("--json", "as_json", is_flag=True, help="Write what was found as JSON.")
@click.option("--quiet", is_flag=True, help="Show no progress.")
def audit_command(
    run: Path,
    *,
    groups: tuple[str, ...],
    swaps: tuple[str, ...],
    data: str | None,
    columns: tuple[str, ...],
    split: str,
    parts: tuple[str, ...],
    outside: str | None,
    min_rows: int,
    curve: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Question the run in folder RUN: groups, worst slices, disturbed texts, calibration, overfitting.

    Every figure comes with its interval, and every claim that two groups differ with a test that is corrected for all
    that are made.
    """
    mapped = columns_of_file(columns, data)
    from tunesmith.cli.opened import OpenedRun
    from tunesmith.cli.progress import progress
    from tunesmith.cli.terminal import say_json
    from tunesmith.trust.audit import PARTS, audit
    from tunesmith.trust.outside_rows import MANUAL

    chosen = [part for part in _parted(parts) if part != "none"] if parts else list(PARTS)
    with progress(quiet=quiet or as_json) as shown:
        found = audit(
            OpenedRun.open(run),
            data=data,
            split=split,
            columns=mapped,
            groups=_parted(groups),
            swaps=_parted(swaps),
            parts=chosen,
            outside=outside or MANUAL,
            min_rows=min_rows,
            curve=curve,
            working=shown.show,
        )
    if as_json:
        say_json(found, indent=1)
    else:
        _show(found)


def _parted(given: tuple[str, ...]) -> list[str]:
    return [name.strip() for one in given for name in one.split(",") if name.strip()]


def _show(found: Mapping[str, Any]) -> None:
    from tunesmith.cli.tables import stdout_console
    from tunesmith.cli.terminal import say
    from tunesmith.readable import count, metric_title, percent

    console = stdout_console()
    say(
        f"{found['split']}: {count(found['rows'])} rows, {metric_title(found['metric'])} {_value(found['value'])}, "
        f"{percent(found['confidence'])} intervals"
    )
    for report in found.get("groups", ()):
        _show_groups(console, report)
    for report in found.get("thresholds", ()):
        _show_thresholds(console, report)
    for report in found.get("swaps", ()):
        _show_swap(console, report)
    if "slices" in found:
        _show_slices(console, found["slices"])
    if "robustness" in found:
        _show_robustness(console, found["robustness"], found["metric"])
    _show_sureness(console, found)
    if "learning_curve" in found:
        _show_curve(console, found["learning_curve"])
    for note in found["notes"]:
        say(f"Left out: {note}")


def _value(figure: Mapping[str, Any] | None) -> str:
    from tunesmith.readable import MISSING, number

    if figure is None or figure["value"] is None:
        return MISSING
    if figure["low"] is None:
        return number(figure["value"])
    return f"{number(figure['value'])} [{number(figure['low'])}, {number(figure['high'])}]"


def _p(value: float | None) -> str:
    from tunesmith.readable import number

    return "<0.001" if value is not None and value < 0.001 else number(value)


def _show_groups(console: Console, report: Mapping[str, Any]) -> None:
    from tunesmith.cli.tables import new_table, print_table
    from tunesmith.readable import count, metric_title, number

    title = metric_title(report["metric"])
    table = new_table(f"By {report['column']}", ["group", "rows", title, "less that of all others", "p (Holm)"])
    for one in report["groups"]:
        table.add_row(
            one["name"],
            count(one["rows"]),
            _value(one["metrics"][report["metric"]]),
            _value(one["gap"]),
            _p(one["p_holm"]),
        )
    for one in report["too_few"]:
        table.add_row(one["name"], count(one["rows"]), "too few rows", "", "")
    print_table(console, table)
    if "rates" not in report:
        return
    table = new_table(
        f"Who gets what, by {report['column']}", ["label", "criterion", "highest", "lowest", "difference", "p (Holm)"]
    )
    for rate in report["rates"]:
        if rate["difference"] is None:
            table.add_row(rate["label"], rate["criterion"].replace("_", " "), "too few rows", "", "", "")
            continue
        ends = [f"{name} {_value(rate['groups'][name]['rate'])}" for name in (rate["highest"], rate["lowest"])]
        table.add_row(
            rate["label"], rate["criterion"].replace("_", " "), *ends, number(rate["difference"]), _p(rate["p_holm"])
        )
    print_table(console, table)


def _show_thresholds(console: Console, report: Mapping[str, Any]) -> None:
    from tunesmith.cli.tables import new_table, print_table
    from tunesmith.readable import number

    listed = ", ".join(f"{name} {number(value)}" for name, value in report["thresholds"].items())
    table = new_table(
        f"With a threshold for {report['label']} of each {report['column']}: {listed}", ["", "before", "after"]
    )
    table.add_row("accuracy", *(_value(report["accuracy"][when]) for when in ("before", "after")))
    opportunity = report["equal_opportunity"]
    table.add_row("difference of opportunity", *(number(opportunity[when]) for when in ("before", "after")))
    print_table(console, table)


def _show_swap(console: Console, report: Mapping[str, Any]) -> None:
    from tunesmith.cli.tables import new_table, print_table
    from tunesmith.readable import count

    table = new_table(
        f"The same texts with other words ({report['list']}): {count(report['pairs'])} of {count(report['rows'])} rows",
        ["", "from the first side to the second"],
    )
    if "change" in report:
        table.add_row("change of the value", _value(report["change"]))
    else:
        table.add_row("other label", _value(report["flips"]))
        for name, shift in report["shifts"].items():
            table.add_row(f"probability of {name}", _value(shift))
    print_table(console, table)
    for one in report.get("examples", ()):
        console.print(f"  {one['labels'][0]}: {one['first'][:110]}\n  {one['labels'][1]}: {one['second'][:110]}")


def _show_slices(console: Console, report: Mapping[str, Any]) -> None:
    from tunesmith.cli.tables import new_table, print_table
    from tunesmith.readable import count, metric_title

    table = new_table(
        f"Worst of {count(report['looked_at'])} slices: chosen on one half of the rows, tested on the other",
        ["slice", "rows", metric_title(report["metric"]), "less that of all others", "p (Holm)"],
    )
    for one in report["slices"]:
        table.add_row(
            one["name"], count(one["tested_rows"]), _value(one["metric"]), _value(one["gap"]), _p(one["p_holm"])
        )
    print_table(console, table)


def _show_robustness(console: Console, report: list[Mapping[str, Any]], metric: str) -> None:
    from tunesmith.cli.tables import new_table, print_table
    from tunesmith.readable import count, metric_title, number

    table = new_table("Disturbed texts", ["", "texts changed", metric_title(metric), "change", "other answers"])
    for one in report:
        shown = ["", ""] if one["changes_meaning"] else [number(one["metric"]), _value(one["change"])]
        table.add_row(one["name"], count(one["changed_texts"]), *shown, _value(one.get("other_answers")))
    print_table(console, table)


def _show_sureness(console: Console, found: Mapping[str, Any]) -> None:
    from tunesmith.cli.tables import new_table, print_table
    from tunesmith.readable import number, percent

    table = new_table("How sure it may be, and what it learned by heart", ["", ""])
    sure = found.get("sureness", {})
    if "temperature" in sure:
        error = sure["expected_calibration_error"]
        table.add_row("calibration error", _value(error["before"]))
        table.add_row(f"… with temperature {number(sure['temperature'])}", _value(error["after"]))
    if "conformal" in sure:
        conformal = sure["conformal"]
        table.add_row(f"conformal sets, {percent(1 - conformal['alpha'])} promised", _value(conformal["coverage"]))
        size = conformal.get("mean_size")
        width = f"± {number(conformal['half_width'])}" if size is None else f"{_value(size)} labels"
        table.add_row("… of", width)
    if found.get("outside"):
        table.add_row(f"AUROC of {found['outside']['outside']}, by energy", _value(found["outside"]["energy"]))
        table.add_row("… by distance from training rows", _value(found["outside"]["distance"]))
    if "overfitting" in found:
        table.add_row("better on its training rows by", _value(found["overfitting"]["gap"]))
    if table.row_count:
        print_table(console, table)


def _show_curve(console: Console, report: Mapping[str, Any]) -> None:
    from tunesmith.cli.tables import new_table, print_table
    from tunesmith.cli.terminal import say
    from tunesmith.readable import count, is_fraction, metric_title

    table = new_table("By the number of training rows", ["rows", metric_title(report["metric"])])
    for point in report["points"]:
        table.add_row(count(point["rows"]), _value(point["value"]))
    print_table(console, table)
    scale, unit = (100.0, " points") if is_fraction(report["metric"]) else (1.0, "")
    gain = {name: None if value is None else scale * value for name, value in report["next_doubling"].items()}
    say(f"Twice the rows would bring about {_value(gain)}{unit}; other seeds are not in this interval.")
