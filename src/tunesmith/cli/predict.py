"""``tunesmith predict``."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tunesmith.cli.columns import columns_option, parse_columns
from tunesmith.cli.results import writer_for
from tunesmith.cli.terminal import to_json
from tunesmith.cli.writing import TEXT_FLAGS, text_input, writing_options
from tunesmith.types import InputError

if TYPE_CHECKING:
    from tunesmith.run import Run, Writing

Row = dict[str, Any]


@click.command(short_help="Apply a run to texts or to a file.")
@click.argument("run", metavar="RUN", type=click.Path(path_type=Path))
@click.option(TEXT_FLAGS[0], "texts", metavar="TEXT", multiple=True, help="A text; may be given several times.")
@click.option(TEXT_FLAGS[1], "text_pairs", metavar="TEXT", multiple=True, help="The second text to each --text.")
@click.option(
    "--data", metavar="FILE", help="A file with one row per prediction; - reads one text per line from stdin."
)
@columns_option
@click.option(
    "--output", metavar="FILE", type=click.Path(path_type=Path), help="A .jsonl, .csv or .parquet file to write."
)
@click.option("--overwrite", is_flag=True, help="Replace the file given as --output if there is one.")
@click.option("--probabilities", is_flag=True, help="Add the probability of every label.")
@writing_options
def predict_command(
    run: Path,
    *,
    texts: tuple[str, ...],
    text_pairs: tuple[str, ...],
    data: str | None,
    columns: tuple[str, ...],
    output: Path | None,
    overwrite: bool,
    probabilities: bool,
    **options: Any,
) -> None:
    """Apply the run in folder RUN: one prediction per text, as JSON lines on stdout or in a file."""
    _check_inputs(texts, text_pairs, data)
    mapped = parse_columns(columns)
    if mapped and data in (None, "-"):
        raise InputError("--columns is for the columns of --data FILE; there is no such file.", "Leave it out.")
    inputs = [data] if data and data != "-" else []
    writer = writer_for(output, FORMATS, _shown, inputs=inputs, overwrite=overwrite)
    from tunesmith.cli.opened import OpenedRun
    from tunesmith.run import Writing

    opened, writing = OpenedRun.open(run), Writing(**options)
    if data is not None and data != "-":
        found = opened.predict_file(data, writing, columns=mapped)
        rows: list[Row] = [{"row": number, **row} for number, row in enumerate(found, start=1)]
    else:
        if data == "-":
            with text_input():
                texts = tuple(sys.stdin.read().splitlines())
        rows = _predict(opened, texts, text_pairs, writing)
    if not probabilities:
        rows = [{name: value for name, value in row.items() if name != "probabilities"} for row in rows]
    writer(rows)


def _check_inputs(texts: Sequence[str], text_pairs: Sequence[str], data: str | None) -> None:
    if bool(texts) == (data is not None):
        raise InputError(
            "Give either --text or --data." if texts else "There is nothing to predict.",
            "tunesmith predict RUN --text 'a text', or --data FILE.",
        )
    if text_pairs and len(text_pairs) != len(texts):
        raise InputError(f"There are {len(texts)} --text and {len(text_pairs)} --text-pair.", "Give one to each other.")


def _predict(run: Run, texts: Sequence[str], text_pairs: Sequence[str], writing: Writing) -> list[Row]:
    predictions = run.predict(texts, text_pairs or None, writing)
    given = [(text, *pair) for text, *pair in zip(texts, *([text_pairs] if text_pairs else []), strict=True)]
    return [dict(zip(run.inputs, one, strict=True)) | row for one, row in zip(given, predictions, strict=True)]


def to_jsonl(rows: Sequence[Row]) -> str:
    """Return one line of JSON per prediction."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def to_csv(rows: Sequence[Row]) -> str:
    """Return the predictions as CSV; lists and the like are JSON in their cell."""
    flat = [{name: _cell(value) for name, value in flatten(row).items()} for row in rows]
    buffer = io.StringIO(newline="")
    writer = csv.DictWriter(buffer, fieldnames=_columns(flat), lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
    return buffer.getvalue()


def to_parquet(rows: Sequence[Row]) -> bytes:
    """Return the predictions as a Parquet file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    flat = [flatten(row) for row in rows]
    table = pa.table({name: [row.get(name) for row in flat] for name in _columns(flat)})
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    data: bytes = sink.getvalue().to_pybytes()
    return data


def flatten(row: Row) -> Row:
    """Give every label's probability its own column, ``p:<label>``, as in predictions.parquet."""
    flat = {name: value for name, value in row.items() if name != "probabilities"}
    return flat | {f"p:{label}": value for label, value in row.get("probabilities", {}).items()}


def _columns(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row))


def _cell(value: object) -> object:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, (list, dict)) else value


def _shown(rows: Sequence[Row]) -> str:
    return "".join(to_json(row) + "\n" for row in rows)


FORMATS: Mapping[str, Callable[[list[Row]], bytes]] = {
    ".jsonl": lambda rows: to_jsonl(rows).encode("utf-8"),
    ".csv": lambda rows: to_csv(rows).encode("utf-8"),
    ".parquet": to_parquet,
}
