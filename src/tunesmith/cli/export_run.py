"""``tunesmith export``: a run in the form of another program."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from tunesmith.export import Checked, Exported


@click.command("export", short_help="Write a run for another program, proven equal there.")
@click.argument("run", metavar="RUN", type=click.Path(path_type=Path))
@click.option(
    "--to",
    metavar="TARGET",
    help="safetensors (transformers, vLLM), sentence-transformers, onnx (ONNX Runtime), gguf (llama.cpp) or torchao.",
)
@click.option(
    "--output",
    metavar="FOLDER",
    type=click.Path(path_type=Path),
    help="Folder to create; of several forms, one below it each [beside the run: RUN-TARGET-FORM].",
)
@click.option(
    "--form",
    metavar="FORM",
    help="How numbers are kept: fp32, bf16, fp16; onnx fp32, int8; gguf f16, q8_0, q4_k_m and others; torchao int8, "
    "int4. Several: fp32,int8.",
)
@click.option("--quantize", metavar="FORM", help="The same as --form, as other programs call it: q4_k_m.")
@click.option(
    "--check",
    "only_check",
    is_flag=True,
    help="Only compare, and keep nothing: each form of --to, or the export that is in --output.",
)
@click.option(
    "--data", metavar="FILE", help="Labelled rows to compare on, instead of those that the run was judged on."
)
@click.option(
    "--rows", "num_rows", type=click.IntRange(min=1), default=500, show_default=True, help="Of them, at most."
)
@click.option("--overwrite", is_flag=True, help="Replace an export that is in the folder.")
@click.option("--json", "as_json", is_flag=True, help="Write what was compared as JSON, as in export.json.")
@click.pass_context
def export_command(
    context: click.Context,
    run: Path,
    *,
    to: str | None,
    output: Path | None,
    form: str | None,
    quantize: str | None,
    only_check: bool,
    data: str | None,
    num_rows: int,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Write the run in folder RUN in the form of another program.

    What was written is loaded by that program and compared with the run on rows; the folder is there only if they
    agree. Exit status of --check: 1 where a form differs by more than it explains.
    """
    from tunesmith.cli.opened import OpenedRun
    from tunesmith.export import export, require_target, usual_output

    forms = _forms(form, quantize)
    if only_check:
        checked = _checked(OpenedRun.open(run), to, forms, output, data=data, num_rows=num_rows)
        _show_checked(checked, run, as_json=as_json)
        context.exit(1 if any(one.refused for one in checked) else 0)
    target = _required_target(to)
    opened = OpenedRun.open(run)
    records = []
    for one in forms or (None,):
        require_target(opened, target, one)
    for one in forms or (None,):
        place = usual_output(run, target, one) if output is None else output
        if output is not None and one is not None and len(forms) > 1:
            place = output / one
        found = export(opened, target, place, form=one, data=data, num_rows=num_rows, overwrite=overwrite)
        records.append({"folder": str(place), **asdict(found)})
        if not as_json:
            show_export(found, run, place)
    if as_json:
        _say_records(records)


def _forms(*given: str | None) -> list[str]:
    """Return the forms that were asked for, once each; ``InputError`` where both flags say something else."""
    from tunesmith.types import InputError

    said = [text for text in given if text is not None]
    if len(set(said)) > 1:
        raise InputError(
            f"--form {said[0]} and --quantize {said[1]} both say how numbers are kept.", "Give one of the two."
        )
    return list(dict.fromkeys(name.strip().lower() for name in ",".join(said[:1]).split(",") if name.strip()))


def _required_target(to: str | None) -> str:
    from tunesmith.export import TARGETS
    from tunesmith.types import InputError

    if to is None:
        raise InputError("It was not said for which program the run is written.", f"Give --to {'|'.join(TARGETS)}.")
    return to


def _checked(
    run: Any, to: str | None, forms: Sequence[str], folder: Path | None, *, data: str | None, num_rows: int
) -> list[Checked]:
    from tunesmith.export import check, check_folder
    from tunesmith.types import InputError

    if folder is not None:
        if to is not None or forms:
            raise InputError(
                "--check was given both --output, an export that is there, and how to write another.",
                "Leave out --to and --form to compare that export, or --output to compare without keeping anything.",
            )
        return [check_folder(run, folder, data=data, num_rows=num_rows)]
    return check(run, _required_target(to), forms, data=data, num_rows=num_rows)


def _say_records(records: Sequence[dict[str, Any]]) -> None:
    """Write one record as itself, several as a list."""
    from tunesmith.cli.terminal import say_json

    say_json(records[0] if len(records) == 1 else list(records), indent=1)


def show_export(found: Exported, run: Path, output: Path) -> None:
    """Say what was written and how it was compared."""
    from tunesmith.cli.tables import new_table, print_table, stdout_console
    from tunesmith.cli.terminal import say
    from tunesmith.readable import count, metric_title, number, percent, size

    say(f"{run} was written to {output} ({found.target}, {found.form}).")
    table = new_table(f"Compared on {count(found.rows)} rows", ["", "run", "exported", "difference"])
    change = _change(found)
    table.add_row(metric_title(found.metric), number(found.metric_before), number(found.metric_after), change)
    table.add_row("scores", "", "", f"{found.max_difference:.1g} of the largest")
    table.add_row("same answers", "", "", percent(found.same_answers))
    if found.same_texts is not None:
        table.add_row("same texts written", "", "", percent(found.same_texts))
    table.add_row("size", size(found.size_before), size(found.size), "")
    for title, before, after, times in _times(found):
        table.add_row(title, before, after, times)
    print_table(stdout_console(), table)
    for note in found.notes:
        say(note)


def _change(found: Exported) -> str:
    from tunesmith.readable import bounds, number
    from tunesmith.types import Interval

    change = Interval(*(found.metric_change[name] for name in ("value", "low", "high")))
    return f"{number(change.value)} {bounds(change)}"


def _times(found: Exported) -> list[tuple[str, str, str, str]]:
    """Return what one row and a batch take, before and after, and how many times as fast that is."""
    from tunesmith.readable import count, latency

    return [
        (
            "time of one row" if name == "row" else f"time of {count(int(one['rows']))} rows",
            latency(one["before"]),
            latency(one["after"]),
            f"{one['before'] / max(one['after'], 1e-9):.2g} times as fast",
        )
        for name, one in (found.latency or {}).items()
    ]


def _show_checked(checked: Sequence[Checked], run: Path, *, as_json: bool) -> None:
    from tunesmith.cli.tables import new_table, print_table, stdout_console
    from tunesmith.cli.terminal import say
    from tunesmith.readable import count, metric_title, number, percent, size

    if as_json:
        _say_records([{**asdict(one.found), "refused": one.refused} for one in checked])
        return
    first = checked[0].found
    headers = ["target", "form", "size", "largest difference", "same answers", "before", "after", "change", "verdict"]
    title = f"{run} on {count(first.rows)} rows, {metric_title(first.metric)} before and after"
    table = new_table(title, headers)
    for one in checked:
        found = one.found
        table.add_row(
            found.target,
            found.form,
            size(found.size),
            f"{found.max_difference:.1g}",
            percent(found.same_answers),
            number(found.metric_before),
            number(found.metric_after),
            _change(found),
            "refused" if one.refused else "equal",
        )
    print_table(stdout_console(), table)
    for one in checked:
        for sentence in (*one.found.notes, *([one.refused] if one.refused else ())):
            say(f"{one.found.form}: {sentence}")
