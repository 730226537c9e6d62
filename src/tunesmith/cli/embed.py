"""``tunesmith embed``."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt

from tunesmith.cli.columns import columns_option, parse_columns
from tunesmith.cli.results import writer_for
from tunesmith.cli.writing import TEXT_FLAGS, text_input
from tunesmith.types import InputError

Vectors = npt.NDArray[np.float32]


@click.command(short_help="Write the vectors that a run gives texts.")
@click.argument("run", metavar="RUN", type=click.Path(path_type=Path))
@click.option(TEXT_FLAGS[0], "texts", metavar="TEXT", multiple=True, help="A text; may be given several times.")
@click.option("--data", metavar="FILE", help="A file with a text per row; - reads one text per line from stdin.")
@columns_option
@click.option(
    "--passages",
    is_flag=True,
    help="The texts are what is searched: their column is that of the positives, and they get the passages' prefix.",
)
@click.option(
    "--output", metavar="FILE", type=click.Path(path_type=Path), help="A .npy, .parquet or .jsonl file to write."
)
@click.option("--overwrite", is_flag=True, help="Replace the file given as --output if there is one.")
def embed_command(
    run: Path,
    *,
    texts: tuple[str, ...],
    data: str | None,
    columns: tuple[str, ...],
    passages: bool,
    output: Path | None,
    overwrite: bool,
) -> None:
    """Write the vector of every text, as JSON lines on stdout or in a file, in their order; each has length 1."""
    if bool(texts) == (data is not None):
        raise InputError(
            "Give either --text or --data." if texts else "There is nothing to embed.",
            "tunesmith embed RUN --data FILE --output vectors.npy, or --text 'a text'.",
        )
    mapped = parse_columns(columns)
    if mapped and data in (None, "-"):
        raise InputError("--columns is for the columns of --data FILE; there is no such file.", "Leave it out.")
    inputs = [data] if data and data != "-" else []
    save = writer_for(output, FORMATS, to_jsonl, inputs=inputs, overwrite=overwrite)
    from tunesmith.cli.opened import OpenedRun

    opened = OpenedRun.open(run)
    given: Any = data
    if data in (None, "-"):
        with text_input():
            given = list(texts) if data is None else sys.stdin.read().splitlines()
    save(opened.embed(given, passages=passages, columns=mapped))


def to_npy(vectors_ND: Vectors) -> bytes:
    """Return the vectors as a file of numpy's, float32 [N, D]."""
    buffer = io.BytesIO()
    np.save(buffer, vectors_ND, allow_pickle=False)
    return buffer.getvalue()


def to_jsonl(vectors_ND: Vectors) -> str:
    """Return one line of JSON per vector."""
    rows = enumerate(vectors_ND.tolist(), start=1)
    return "".join(json.dumps({"row": number, "embedding": vector}) + "\n" for number, vector in rows)


def to_parquet(vectors_ND: Vectors) -> bytes:
    """Return the vectors as a Parquet file with a column of lists, all of one length."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    flat = pa.array(np.ascontiguousarray(vectors_ND).reshape(-1), pa.float32())
    lists = pa.FixedSizeListArray.from_arrays(flat, vectors_ND.shape[1])
    table = pa.table({"row": np.arange(1, len(vectors_ND) + 1), "embedding": lists})
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    data: bytes = sink.getvalue().to_pybytes()
    return data


FORMATS: Mapping[str, Callable[[Vectors], bytes]] = {
    ".npy": to_npy,
    ".parquet": to_parquet,
    ".jsonl": lambda vectors: to_jsonl(vectors).encode(),
}
