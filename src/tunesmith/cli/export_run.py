"""``tunesmith export``: a run in the form of another program."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from tunesmith.export import Exported


@click.command("export", short_help="Write a run for another program, proven equal there.")
@click.argument("run", metavar="RUN", type=click.Path(path_type=Path))
@click.option(
    "--to",
    metavar="TARGET",
    required=True,
    help="safetensors (transformers, vLLM), sentence-transformers, or onnx (ONNX Runtime).",
)
@click.option("--output", metavar="FOLDER", required=True, type=click.Path(path_type=Path), help="Folder to create.")
@click.option("--form", metavar="FORM", help="How numbers are kept: fp32, bf16, fp16; of onnx fp32 or int8.")
@click.option(
    "--data", metavar="FILE", help="Labelled rows to compare on, instead of those that the run was judged on."
)
@click.option(
    "--rows", "num_rows", type=click.IntRange(min=1), default=500, show_default=True, help="Of them, at most."
)
@click.option("--overwrite", is_flag=True, help="Replace an export that is in the folder.")
@click.option("--json", "as_json", is_flag=True, help="Write what was compared as JSON, as in export.json.")
def export_command(
    run: Path,
    *,
    to: str,
    output: Path,
    form: str | None,
    data: str | None,
    num_rows: int,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Write the run in folder RUN in the form of another program.

    What was written is loaded by that program and compared with the run on rows; the folder is there only if they
    agree.
    """
    from tunesmith.cli.opened import OpenedRun
    from tunesmith.cli.terminal import say_json
    from tunesmith.export import export

    found = export(OpenedRun.open(run), to, output, form=form, data=data, num_rows=num_rows, overwrite=overwrite)
    if as_json:
        say_json(asdict(found), indent=1)
    else:
        show_export(found, run, output)


def show_export(found: Exported, run: Path, output: Path) -> None:
    """Say what was written and how it was compared."""
    from tunesmith.cli.tables import new_table, print_table, stdout_console
    from tunesmith.cli.terminal import say
    from tunesmith.readable import bounds, count, metric_title, number, percent, size
    from tunesmith.types import Interval

    say(f"{run} was written to {output} ({found.target}, {found.form}).")
    table = new_table(f"Compared on {count(found.rows)} rows", ["", "run", "exported", "difference"])
    change = Interval(*(found.metric_change[name] for name in ("value", "low", "high")))
    moved = f"{number(change.value)} {bounds(change)}"
    table.add_row(metric_title(found.metric), number(found.metric_before), number(found.metric_after), moved)
    table.add_row("scores", "", "", f"{found.max_difference:.1g} of the largest")
    table.add_row("same answers", "", "", percent(found.same_answers))
    table.add_row("size", size(found.size_before), size(found.size), "")
    print_table(stdout_console(), table)
