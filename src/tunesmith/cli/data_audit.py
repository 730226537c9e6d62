"""``tunesmith data audit``: what is wrong with a data set, before training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tunesmith.cli.data import data_group
from tunesmith.cli.flags import ConfigCommand, FlagTree, build_config, flags_of
from tunesmith.readable import count, percent
from tunesmith.types import InputError

if TYPE_CHECKING:
    from tunesmith.data.personal.detecting import Detector
    from tunesmith.data_audit import AuditOptions, DataAudit
    from tunesmith.data_audit.fixing import Fixed

NUM_SHOWN = 5


class AuditCommand(ConfigCommand):
    """Takes the keys of the data and of the task as flags."""

    def flag_tree(self) -> FlagTree:
        from tunesmith.cli.inspect_config import InspectConfig

        return FlagTree(InspectConfig, ("data", "task"))


@data_group.command("audit", cls=AuditCommand, short_help="Find what is wrong with a data set before training.")
@click.argument("file", metavar="FILE")
@click.option("--checks", metavar="NAMES", help="Only these, with commas: near_duplicate,label_error,...")
@click.option(
    "--similarity",
    type=click.FloatRange(0.5, 1),
    default=0.8,
    show_default=True,
    help="Least share of n-grams that near duplicates have in common.",
)
@click.option(
    "--precision",
    type=click.FloatRange(0, 1),
    default=0.5,
    show_default=True,
    help="Least estimated share of wrong labels among the rows that are said to have one.",
)
@click.option(
    "--toxic-words",
    metavar="FILE",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Words that no text should have, one a line.",
)
@click.option(
    "--detector",
    type=click.Choice(["rules", "presidio"]),
    default="rules",
    show_default=True,
    help="What finds personal data; presidio looks for names and places in English with a model, too.",
)
@click.option("--fix", metavar="NEW", type=click.Path(path_type=Path), help="Write what stays to this new file.")
@click.option(
    "--personal-data",
    type=click.Choice(["report", "mask", "replace"]),
    default="report",
    show_default=True,
    help="What --fix does about it: nothing, [KIND] in its place, or a stand-in, the same for the same value.",
)
@click.option(
    "--label-errors",
    type=click.Choice(["report", "drop"]),
    default="report",
    show_default=True,
    help="The same of them.",
)
@click.option(
    "--toxic",
    type=click.Choice(["report", "drop"]),
    default="report",
    show_default=True,
    help="The same of such words.",
)
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Draws folds, halves, stand-ins."
)
@click.option("--overwrite", is_flag=True, help="Replace what --fix wrote before.")
@click.option("--json", "as_json", is_flag=True, help="Print all findings, with all rows, as one JSON object.")
@click.option("--quiet", is_flag=True, help="Show the result only.")
@click.pass_context
def audit_command(context: click.Context, /, *, file: str, as_json: bool, quiet: bool, **given: Any) -> None:
    """Look through FILE, which is anything that --data takes, and say what would harm a training.

    Near and exact duplicates, contradicting and probably wrong labels, labels that a word or a column gives away,
    imbalance, languages, damaged texts, boilerplate, personal data. Nothing is changed; --fix writes a new file, and
    a log of what was done to which row.

    \b
    tunesmith data audit reviews.csv
    tunesmith data audit reviews.csv --fix audited.csv --personal-data replace
    tunesmith data audit reviews.csv --checks label_error,leak --json
    """  # noqa: D301
    from tunesmith.cli.inspect_config import InspectConfig
    from tunesmith.cli.terminal import say_json
    from tunesmith.data_audit import audit_data

    settings = build_config(InspectConfig, flags_of(context), {"data": file})
    if given["fix"] is None:
        _refuse_without_fix(given)
    options = _options(given)
    is_silent = quiet or as_json
    with _progress(is_silent) as (working, watch):
        audit = audit_data(settings.data, settings.task, options, working=working, watch=watch)
        fixed = None if given["fix"] is None else _fix(audit, given, options.detector)
    if as_json:
        wrote = {} if fixed is None else {"fixed": _fixed_json(fixed)}
        say_json({**audit.to_json(), **wrote}, indent=1)
        return
    _show(audit)
    if fixed is not None:
        _show_fixed(fixed)


def _options(given: dict[str, Any]) -> AuditOptions:
    from tunesmith.data.personal.detecting import both, find_personal_data
    from tunesmith.data.personal.presidio import presidio_detector
    from tunesmith.data_audit import CHECKS, AuditOptions

    detector: Detector = find_personal_data
    if given["detector"] == "presidio":
        detector = both([find_personal_data, presidio_detector()])
    named = [name.strip() for name in (given["checks"] or "").split(",") if name.strip()]
    return AuditOptions(
        checks=tuple(named) or CHECKS,
        asked=bool(named),
        similarity=given["similarity"],
        precision=given["precision"],
        words=() if given["toxic_words"] is None else _read_words(given["toxic_words"]),
        detector=detector,
        seed=given["seed"],
    )


def _read_words(path: Path) -> tuple[str, ...]:
    try:
        words = tuple(line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip())
    except UnicodeDecodeError:
        raise InputError(f"--toxic-words {path} is no UTF-8.", "Save it as UTF-8, a word a line.") from None
    if not words:
        raise InputError(f"--toxic-words {path} holds no words.", "Write one a line.")
    return words


def _refuse_without_fix(given: dict[str, Any]) -> None:
    for name in ("personal_data", "label_errors", "toxic"):
        if given[name] != "report":
            option = f"--{name.replace('_', '-')} {given[name]}"
            raise InputError(f"{option} says what a new file is to hold, and none is written.", "Add --fix NEW.")


def _fix(audit: DataAudit, given: dict[str, Any], detector: Detector) -> Fixed:
    from tunesmith.data_audit.fixing import FixOptions, fix_rows
    from tunesmith.files.space import require_writable

    output: Path = given["fix"]
    require_writable(output.parent)
    options = FixOptions(
        given["personal_data"],
        given["label_errors"] == "drop",
        given["toxic"] == "drop",
        given["overwrite"],
        given["seed"],
    )
    return fix_rows(audit, output, options, detector)


class _progress:  # noqa: N801 (used like a function)
    """Says what is being done, on standard error; nothing where it is to be silent."""

    def __init__(self, is_silent: bool) -> None:
        self._is_silent = is_silent
        self._said = 0

    def __enter__(self) -> tuple[Callable[[str], None], Callable[[int, int], None]]:
        return self._working, self._watch

    def __exit__(self, *_: object) -> None: ...

    def _working(self, what: str) -> None:
        from tunesmith.cli.terminal import say

        if not self._is_silent:
            say(f"{what} …", err=True, dim=True)

    def _watch(self, done: int, total: int) -> None:
        if total >= 100_000 and done * 10 // total > self._said:
            self._said = done * 10 // total
            self._working(f"{count(done)} of {count(total)} rows")


def _show(audit: DataAudit) -> None:
    from tunesmith.cli.terminal import say

    sizes = ", ".join(f"{count(len(rows))} {name}" for name, rows in audit.rows.splits.items())
    say(f"Looked through {sizes} rows (task {audit.rows.found.task.name}).")
    for finding in audit.findings:
        say()
        say(f"{finding.kind}: ", end="", bold=True)
        say(finding.message)
        shown = audit.rows.places(finding.rows[:NUM_SHOWN])
        if finding.partners is not None:
            others = audit.rows.places(finding.partners[:NUM_SHOWN])
            shown = [f"{place} = {other}" for place, other in zip(shown, others, strict=True)]
        if shown:
            more = len(finding.rows) - len(shown)
            say(f"  {', '.join(shown)}" + (f" and {count(more)} more" if more else ""), dim=True)
        say(f"  → {finding.remedy}")
    if not audit.findings:
        say("Nothing was found.")
    for check, reason in audit.skipped.items():
        say()
        say(f"Not looked for, {check}: {reason}", dim=True)


def _show_fixed(fixed: Fixed) -> None:
    from tunesmith.cli.terminal import say

    say()
    total = fixed.num_rows + fixed.num_left_out
    say(
        f"{', '.join(map(str, fixed.files))}: {count(fixed.num_rows)} of {count(total)} rows; "
        f"{count(fixed.num_left_out)} left out ({percent(fixed.num_left_out / max(total, 1))}), "
        f"{count(fixed.num_changed)} changed. What was done to which row, and why: {fixed.log}"
    )


def _fixed_json(fixed: Fixed) -> dict[str, Any]:
    return {
        "files": [str(path) for path in fixed.files],
        "log": str(fixed.log),
        "rows": fixed.num_rows,
        "left_out": fixed.num_left_out,
        "changed": fixed.num_changed,
    }
