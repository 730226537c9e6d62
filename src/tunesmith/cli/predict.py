"""``tunesmith predict``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tunesmith.cli.asked_texts import columns_of_file, require_texts, text_options
from tunesmith.cli.columns import columns_option
from tunesmith.cli.prediction_files import FORMATS, Row, shown, write_file
from tunesmith.cli.progress import progress
from tunesmith.cli.results import place_of
from tunesmith.cli.terminal import write
from tunesmith.cli.writing import beam_options, text_input, writing_options
from tunesmith.readable import count

if TYPE_CHECKING:
    from tunesmith.run import Run, Writing
    from tunesmith.run.file_predictions import FilePredictions


@click.command(short_help="Apply a run to texts or to a file.")
@click.argument("run", metavar="RUN", type=click.Path(path_type=Path))
@text_options
@click.option(
    "--data", metavar="FILE", help="A file with one row per prediction; - reads one text per line from stdin."
)
@columns_option
@click.option(
    "--output", metavar="FILE", type=click.Path(path_type=Path), help="A .jsonl, .csv or .parquet file to write."
)
@click.option("--overwrite", is_flag=True, help="Replace the file given as --output if there is one.")
@click.option("--probabilities", is_flag=True, help="Add the probability of every label.")
@beam_options
@writing_options
@click.option("--quiet", is_flag=True, help="Show no progress.")
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
    quiet: bool,
    **options: Any,
) -> None:
    """Apply the run in folder RUN: one prediction per text, as JSON lines on stdout or in a file.

    A file's predictions are written as they are made. Where the work on --output is broken off, the same command goes
    on with it.
    """
    require_texts(texts, text_pairs, data, to="predict")
    mapped = columns_of_file(columns, data)
    inputs = [data] if data and data != "-" else []
    place = None if output is None else place_of(output, FORMATS, inputs=inputs, overwrite=overwrite)
    from tunesmith.cli.opened import OpenedRun
    from tunesmith.run import Writing

    opened, writing = OpenedRun.open(run), Writing(**options)
    if data is not None and data != "-":
        found = opened.predictions(data, writing, columns=mapped)
        with progress(quiet=quiet) as shown_progress:
            _predict_file(found, place, shown_progress.show, probabilities=probabilities)
        return
    if data == "-":
        with text_input():
            texts = tuple(sys.stdin.read().splitlines())
    rows = [_kept(row, probabilities=probabilities) for row in _predict(opened, texts, text_pairs, writing)]
    if place is None:
        write("".join(map(shown, rows)))
    else:
        write_file(place, lambda: rows)


def _predict(run: Run, texts: Sequence[str], text_pairs: Sequence[str], writing: Writing) -> list[Row]:
    predictions = run.predict(texts, text_pairs or None, writing)
    given = [(text, *pair) for text, *pair in zip(texts, *([text_pairs] if text_pairs else []), strict=True)]
    return [dict(zip(run.inputs, one, strict=True)) | row for one, row in zip(given, predictions, strict=True)]


def _predict_file(
    found: FilePredictions, place: Path | None, notify: Callable[[str], None], *, probabilities: bool
) -> None:
    """Write the predictions on a file, part by part, to ``place`` or to standard output."""

    def numbered(first: int) -> Iterator[list[Row]]:
        for part in found.parts(first, notify):
            rows = enumerate(part, start=first + 1)
            yield [_kept({"row": number, **row}, probabilities=probabilities) for number, row in rows]
            first += len(part)

    if place is None:
        for part in numbered(0):
            write("".join(map(shown, part)))
        return
    from tunesmith.files.hashing import hash_json
    from tunesmith.files.partial import partial_of

    with partial_of(place, hash_json([found.key, probabilities]), found.part_rows) as partial:
        if partial.num_rows:
            notify(f"going on after {count(partial.num_rows)} rows that were predicted before")
        for part in numbered(partial.num_rows):
            partial.add(part)
        if place.suffix.lower() == ".jsonl":
            partial.become(place)
        else:
            write_file(place, partial.rows)
            partial.remove()


def _kept(row: Row, *, probabilities: bool) -> Row:
    return row if probabilities else {name: value for name, value in row.items() if name != "probabilities"}
