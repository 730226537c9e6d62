"""``tunesmith data inspect``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import click

from tunesmith.cli.flags import ConfigCommand, FlagTree, build_config, flags_of
from tunesmith.cli.inspect_json import PERCENTILES
from tunesmith.cli.suggestions import SuggestingGroup
from tunesmith.cli.terminal import say_json
from tunesmith.readable import count, percent
from tunesmith.types import ColumnChoice, ColumnProfile, Guess, InputError, Problem

if TYPE_CHECKING:
    from rich.console import Console

    from tunesmith.cli.inspect_config import InspectConfig
    from tunesmith.data import PreparedData, RawData
    from tunesmith.data.rows import Rows
    from tunesmith.run.rows import FoundRows
    from tunesmith.tasks import Task

MAX_LABELS = 20
MAX_CHARACTERS = 100
NUM_EXAMPLES = 3


@click.group(cls=SuggestingGroup, short_help="Look at a data set as tunesmith sees it.")
def data_group() -> None:
    """Look at a data set as tunesmith sees it."""


class InspectCommand(ConfigCommand):
    """Takes the keys of the data and of the task as flags."""

    def flag_tree(self) -> FlagTree:
        from tunesmith.cli.inspect_config import InspectConfig

        return FlagTree(InspectConfig)


@data_group.command("inspect", cls=InspectCommand, short_help="Say what was found in a data set, and why.")
@click.argument("file", metavar="FILE")
@click.option(
    "--show-mask", is_flag=True, help="Show rows as --model reads them, the tokens that are trained coloured."
)
@click.option("--rows", type=click.IntRange(min=1), default=NUM_EXAMPLES, show_default=True, help="Rows to show.")
@click.option("--json", "as_json", is_flag=True, help="Print what was found as one JSON object.")
@click.pass_context
def inspect_command(context: click.Context, file: str, *, show_mask: bool, rows: int, as_json: bool) -> None:
    """Say what FILE holds as tunesmith reads it: format, columns, task, splits, labels, lengths, problems.

    FILE is anything that --data takes: a file, a folder, hub:owner/name or sample:NAME. The exit status
    is 2 where the data cannot be used.
    """
    from tunesmith.cli.inspect_config import InspectConfig
    from tunesmith.cli.tables import stdout_console

    settings = build_config(InspectConfig, flags_of(context), {"data": file})
    if show_mask and settings.model is None:
        raise InputError("--show-mask needs a model: it shows the rows in its tokens.", "Add --model NAME.")
    if as_json:
        _say_as_json(settings, rows, show_mask=show_mask)
        return
    console = stdout_console()
    looked = _look(settings, console)
    prepared = looked.prepared
    _show_splits(console, prepared)
    _show_labels(console, prepared, looked.task)
    _show_lengths(console, prepared, looked.task)
    _show_examples(console, prepared.splits["train"], rows)
    problems = looked.problems
    if show_mask and settings.model is not None:
        from tunesmith.cli.mask import show_masks

        first = {name: values[:rows] for name, values in prepared.splits["train"].columns().items()}
        problems = [*problems, *show_masks(console, looked.task, first, settings.model)]
    _show_problems(console, problems)


def _say_as_json(settings: InspectConfig, num_rows: int, *, show_mask: bool) -> None:
    """Print what was found as JSON; of data that cannot be used, what is known of it, before the error is told."""
    from tunesmith.cli.inspect_json import details, masks, what_is_known

    try:
        looked = _look(settings)
        found = looked.to_json() | details(looked.found, looked.prepared, looked.task, num_rows)
        if show_mask:
            columns = looked.prepared.splits["train"].columns()
            found |= masks(looked.task, {name: values[:num_rows] for name, values in columns.items()}, settings)
    except InputError as error:
        say_json(what_is_known(settings, error), indent=2)
        raise
    say_json(found, indent=2)


@dataclass(frozen=True, slots=True)
class _Looked:
    """What a look at the data found."""

    found: FoundRows
    prepared: PreparedData
    task: Task
    """Bound to the labels of the training rows."""
    problems: Sequence[Problem]

    @property
    def labels(self) -> list[str]:
        """The classes, or the types of entities; none for numbers and texts."""
        return [*self.task.label_names]

    def to_json(self) -> dict[str, Any]:
        from tunesmith.cli.inspect_json import problems
        from tunesmith.data import left_out_of

        columns: dict[str, str] = {}
        for choice in self.prepared.choices:
            columns[choice.role] = ",".join(filter(None, (columns.get(choice.role), choice.column)))
        return {
            "task": self.task.name,
            "columns": columns,
            "rows": {split: len(rows) for split, rows in self.prepared.splits.items()},
            "labels": self.labels,
            "left_out": left_out_of(self.found.raw, self.prepared),
            "guesses": _guesses_by_name(_guesses(self.found, self.prepared)),
            "unused": {choice.column: choice.reason for choice in self.found.unused},
            "problems": problems(self.problems),
        }


def _look(settings: InspectConfig, console: Console | None = None) -> _Looked:
    """Read, prepare and check the data, showing on the way what is known; errors come with the notes found so far."""
    from tunesmith.data import prepare
    from tunesmith.run.rows import find_rows

    found = find_rows(settings.data, settings.task)
    if console is not None:
        _show_sources(console, found.raw)
        _show_columns(console, found.profiles)
        _show_roles(console, found.task, found.choices, found.reasons or ["chosen by you"])
        _show_unused(console, found)
    notes: list[Problem] = list(found.problems)
    try:
        prepared = prepare(found.raw, found.data, found.choices, found.form)
        if console is not None:
            _show_guesses(console, _guesses(found, prepared))
        notes += prepared.problems
        columns = {split: table.columns() for split, table in prepared.splits.items()}
        task = found.task.bind(columns["train"])
        checked = [one for split, table in columns.items() for one in task.check(split, table)]
        if errors := [problem for problem in checked if problem.severity == "error"]:
            raise InputError(errors)
    except InputError as error:
        raise InputError([*error.problems, *notes]) from error
    return _Looked(found, prepared, task, [*notes, *checked])


def _guesses(found: FoundRows, prepared: PreparedData) -> list[Guess]:
    return [*found.raw.guesses, *prepared.guesses]


def _guesses_by_name(guesses: Sequence[Guess]) -> dict[str, dict[str, Any]]:
    """Return guesses by name; where files of one set were read differently, the others' names have the file."""
    named: dict[str, dict[str, Any]] = {}
    for guess in guesses:
        entry = {"chosen": guess.chosen, "explained": guess.explained, "alternatives": dict(guess.alternatives)}
        first = named.setdefault(guess.name, entry)
        if first["chosen"] != guess.chosen:
            named[f"{guess.name} ({guess.source})"] = entry
    return named


def _show_guesses(console: Console, guesses: Sequence[Guess]) -> None:
    from tunesmith.cli.tables import new_table, print_table

    if not guesses:
        return
    table = new_table("Chosen by what explains most rows", ["what", "chosen", "rows", "instead (rows)", "change it by"])
    shown = set()
    for guess in guesses:
        others = ", ".join(f"{reading} ({number:,})" for reading, number in guess.alternatives)
        row = (guess.name, guess.chosen, count(guess.explained), others, guess.flag)
        if row not in shown:
            table.add_row(*row)
            shown.add(row)
    print_table(console, table)


def _show_unused(console: Console, found: FoundRows) -> None:
    from tunesmith.cli.tables import new_table, print_table

    if found.unused:
        table = new_table("Columns not used", ["column", "why"])
        for choice in found.unused:
            table.add_row(choice.column, choice.reason)
        print_table(console, table)


def _show_sources(console: Console, raw: RawData) -> None:
    from tunesmith.cli.tables import new_table, print_table

    table = new_table("Read from", ["source", "split", "format", "encoding", "rows"])
    for source in raw.sources:
        table.add_row(source.name, source.split, source.format, source.encoding, count(source.num_rows))
    print_table(console, table)
    if raw.rejected:
        console.print(f"{len(raw.rejected):,} rows could not be read; the first: {raw.rejected[0].place}", markup=False)


def _show_columns(console: Console, profiles: Mapping[str, ColumnProfile]) -> None:
    from tunesmith.cli.tables import new_table, print_table

    table = new_table("Columns", ["column", "kind", "distinct", "missing", "example"])
    for name, column in profiles.items():
        example = _shorten(column.examples[0], 40) if column.examples else ""
        counts = (count(column.num_distinct), count(column.num_missing))
        table.add_row(name, column.kind, *counts, example)
    print_table(console, table)


def _show_roles(console: Console, task: Task, choices: Sequence[ColumnChoice], reasons: Sequence[str]) -> None:
    from tunesmith.cli.tables import new_table, print_table

    console.print(f"\nTask: {task.name}", style="bold")
    for reason in reasons:
        console.print(f"  {reason}", markup=False)
    table = new_table("Columns used", ["role", "column", "why"])
    for choice in choices:
        table.add_row(choice.role, choice.column, choice.reason)
    print_table(console, table)


def _show_splits(console: Console, prepared: PreparedData) -> None:
    from tunesmith.cli.tables import new_table, print_table

    total = sum(len(rows) for rows in prepared.splits.values())
    table = new_table("Splits after cleaning", ["split", "rows", "share"])
    for name, rows in prepared.splits.items():
        table.add_row(name, count(len(rows)), percent(len(rows) / max(total, 1)))
    print_table(console, table)


def _show_labels(console: Console, prepared: PreparedData, task: Task) -> None:
    from tunesmith.cli.tables import bar, new_table, print_table

    rows = prepared.splits["train"]
    texts = task.texts(rows.columns())
    name = next((name for name in task.truths if name in rows.column_names and name not in texts), None)
    if name is None or not len(rows) or task.writer is not None:  # texts are no labels to be counted
        return
    labels = [label for value in rows[name] for label in (value if isinstance(value, list) else [value])]
    if any(isinstance(label, dict) for label in labels):
        return  # places in a text, of which each is another
    counted = Counter(labels)
    if all(isinstance(label, float) for label in counted) or len(counted) > len(labels) / 2:
        numbers = sorted(label for label in labels if isinstance(label, (int, float)))
        if numbers:
            _show_percentiles(console, "Target values of the training rows", {"label": numbers})
            return
    total = len(labels) if task.reads == "token" else len(rows)
    title = f"{name.capitalize().removesuffix('s')}s of the training rows ({len(counted)})"
    table = new_table(title, [name.removesuffix("s"), f"{task.reads}s", "share", ""])
    for label, number in counted.most_common(MAX_LABELS):
        share = number / total
        table.add_row(str(label), count(number), percent(share), bar(share))
    if len(counted) > MAX_LABELS:
        table.add_row(f"… {len(counted) - MAX_LABELS} more", "", "", "")
    print_table(console, table)


def _show_lengths(console: Console, prepared: PreparedData, task: Task) -> None:
    rows = prepared.splits["train"]
    texts = task.texts(rows.columns())
    lengths: dict[str, Sequence[float]] = {
        name: sorted(len(text or "") for text in column) for name, column in texts.items()
    }
    if len(rows) and lengths:
        _show_percentiles(console, "Characters per text", lengths)


def _show_percentiles(console: Console, title: str, columns: Mapping[str, Sequence[float]]) -> None:
    """Show nearest-rank percentiles of sorted values."""
    from tunesmith.cli.tables import new_table, print_table

    names = ["smallest", *(f"{percentile}%" for percentile in PERCENTILES[1:-1]), "largest"]
    table = new_table(title, ["", *names])
    for name, values in columns.items():
        ranks = (min(len(values) - 1, len(values) * percentile // 100) for percentile in PERCENTILES)
        table.add_row(name, *(f"{values[rank]:,}" for rank in ranks))
    print_table(console, table)


def _show_examples(console: Console, rows: Rows, num_rows: int) -> None:
    console.print("\nExamples", style="bold")
    for row in islice(rows, num_rows):
        console.print(f"  {row['row']}", style="dim", markup=False)
        for name, value in row.items():
            if name not in ("row", "starts") and value is not None:
                console.print(f"    {name}: {_shorten(value, MAX_CHARACTERS)}", markup=False, soft_wrap=True)


def _shorten(value: object, length: int) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= length else f"{text[: length - 1]}…"


def _show_problems(console: Console, problems: Sequence[Problem]) -> None:
    if any(problem.severity == "error" for problem in problems):
        raise InputError(problems)  # what else was noticed may be what explains the error
    console.print(
        "\nNotes and warnings" if problems else "\nNothing to complain about.", style="bold" if problems else ""
    )
    colors = {"warning": "yellow", "note": "cyan"}
    for problem in problems:
        console.print(f"{problem.severity.capitalize()}: ", style=colors[problem.severity], end="")
        console.print(str(problem), markup=False, soft_wrap=True)
