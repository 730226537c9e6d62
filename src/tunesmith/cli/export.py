"""``tunesmith data export``: the rows of a sample as a file to look at and to try commands on."""

from __future__ import annotations

import csv
import io
import itertools
from pathlib import Path

import click

from tunesmith.cli.data import data_group
from tunesmith.readable import count
from tunesmith.types import InputError

PREFIX = "sample:"


@data_group.command("export", short_help="Write the rows of a sample into a CSV file.")
@click.argument("sample", metavar="SAMPLE")
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
@click.option("--rows", type=click.IntRange(min=1), help="Write only the first rows.")
@click.option("--overwrite", is_flag=True, help="Replace FILE if it is there.")
def export_command(sample: str, file: Path, *, rows: int | None, overwrite: bool) -> None:
    """Write the rows of SAMPLE (sample:rotten-tomatoes, ...) into the CSV file FILE, fetching them if need be."""
    from tunesmith.cli.terminal import say
    from tunesmith.data.samples import find, prepare
    from tunesmith.files.atomic import write_bytes
    from tunesmith.files.space import require_writable

    found = find(sample.removeprefix(PREFIX))
    if file.suffix.lower() != ".csv":
        raise InputError(f"{file}: samples are written as CSV.", f"Call it {file.with_suffix('.csv')}.")
    if file.exists() and not overwrite:
        raise InputError(f"{file} is there already.", "Choose another name, or replace it with --overwrite.")
    require_writable(file.parent)
    content, num_rows = _first_rows(prepare(found).read_bytes(), rows)
    write_bytes(file, content)
    say(f"{file}: {count(num_rows)} rows with the columns {', '.join(found.columns)}")
    say(f"{PREFIX}{found.name} holds {found.description}.")
    if found.group is not None:
        say(f"Rows with the same {found.group} belong together: train with --data.group {found.group}")


def _first_rows(content: bytes, most: int | None) -> tuple[bytes, int]:
    """Return the header and at most so many rows of a CSV file, whose cells may hold line ends, and their number."""
    reader = csv.reader(io.StringIO(content.decode("utf-8"), newline=""))
    target = io.StringIO(newline="")
    writer = csv.writer(target, lineterminator="\n")
    rows = list(itertools.islice(reader, None if most is None else most + 1))
    writer.writerows(rows)
    return target.getvalue().encode("utf-8"), len(rows) - 1
