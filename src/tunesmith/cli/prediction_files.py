"""Predictions as files: JSON lines, CSV, Parquet; from rows that are read again as often as it takes, never held."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import IO, Any

from tunesmith.cli.terminal import to_json
from tunesmith.files.atomic import new_file

Row = dict[str, Any]
Read = Callable[[], Iterable[Row]]
"""Gives all rows, each time that it is called."""

GROUP_ROWS = 8192
"""Rows of a Parquet file that are held at once."""


def write_jsonl(read: Read, file: IO[bytes]) -> None:
    """Write one line of JSON per prediction."""
    for row in read():
        file.write(json.dumps(row, ensure_ascii=False).encode("utf-8") + b"\n")


def write_csv(read: Read, file: IO[bytes]) -> None:
    """Write the predictions as CSV; lists and the like are JSON in their cell."""
    text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
    writer = csv.DictWriter(text, fieldnames=_columns(map(flatten, read())), lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _cell(value) for name, value in flatten(row).items()} for row in read())
    text.detach()


def write_parquet(read: Read, file: IO[bytes]) -> None:
    """Write the predictions as a Parquet file; every column has the type that fits all of its cells."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = _columns(map(flatten, read()))
    schema = pa.unify_schemas(
        [pa.schema([]), *(table.schema for table in _tables(read(), names))], promote_options="permissive"
    )
    with pq.ParquetWriter(file, schema) as writer:
        for table in _tables(read(), names):
            writer.write_table(table.cast(schema))


def _tables(rows: Iterable[Row], names: list[str]) -> Iterator[Any]:
    """Yield the rows as Arrow tables of ``GROUP_ROWS`` rows."""
    import pyarrow as pa

    flat = map(flatten, rows)
    while group := list(islice(flat, GROUP_ROWS)):
        yield pa.table({name: [row.get(name) for row in group] for name in names})


def flatten(row: Row) -> Row:
    """Give every label's probability its own column, ``p:<label>``, as in predictions.parquet."""
    flat = {name: value for name, value in row.items() if name != "probabilities"}
    return flat | {f"p:{label}": value for label, value in row.get("probabilities", {}).items()}


def _columns(rows: Iterable[Row]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row))


def _cell(value: object) -> object:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, (list, dict)) else value


def shown(row: Row) -> str:
    """Return a prediction as standard output gets it."""
    return to_json(row) + "\n"


FORMATS: Mapping[str, Callable[[Read, IO[bytes]], None]] = {
    ".jsonl": write_jsonl,
    ".csv": write_csv,
    ".parquet": write_parquet,
}


def write_file(place: Path, read: Read) -> None:
    """Write predictions into a file of the form that its suffix names, which is there whole or not at all."""
    with new_file(place) as file:
        FORMATS[place.suffix.lower()](read, file)
