"""Parquet, Arrow, Feather, ORC, Stata and hub data sets into our own Arrow tables."""

from __future__ import annotations

import contextlib
import errno
import json
import re
import shutil
import struct
import tempfile
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from tunesmith.bounded import Worker
from tunesmith.data.blobs import BlobFile, are_image_lists, are_images, holds_blob_lists, holds_blobs
from tunesmith.data.encodings import MAX_EXPANSION, compression_of, open_bytes
from tunesmith.data.file_bounds import FileBounds, ask_about
from tunesmith.data.records import ROW, problem_from_dict, problem_to_dict
from tunesmith.data.rows import BATCH_ROWS, with_nested
from tunesmith.data.sources import format_suffix
from tunesmith.data.tables import TableWriter, unique_names
from tunesmith.data.translations import NAMES
from tunesmith.types import InputError, Problem

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict


BOUNDS = FileBounds(seconds=4.0, seconds_per_mb=4.0, memory=768 << 20, memory_growth=8)
"""Real files take some hundredths of the time."""

_FORMATS = {".orc": "ORC", ".dta": "a file of Stata"}
_LOOKED_AT = 1_000
LARGE_ROWS = 200
"""Rows read at once of a table that holds images: each may have megabytes."""
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f]")

_worker = Worker("tunesmith.data.columnar:answer")


def read_columnar(path: Path, name: str, target: Path) -> tuple[dict[str, Any], list[Problem]]:
    """Write the rows of a Parquet, Arrow or Feather file to ``target`` plus ``__row__``.

    A few bytes of such a file can stand for any number of rows, or for one of any size: it is read in a process
    with limits. Class labels of Hugging Face data sets become their names. Raises ``InputError`` for a
    damaged file, and for one that grows out of proportion.
    """
    request = json.dumps([str(path.resolve()), name, str(target.resolve())]).encode()
    answered = ask_about(path, request, _worker, BOUNDS, name=name)
    details, problems = json.loads(answered)
    return details, [problem_from_dict(problem) for problem in problems]


def answer(request: bytes) -> bytes:
    """Read a file in the process with limits."""
    path, name, target = json.loads(request)
    details, problems = _read(Path(path), name, Path(target))
    return json.dumps([details, [problem_to_dict(problem) for problem in problems]]).encode()


def _read(path: Path, name: str, target: Path) -> tuple[dict[str, Any], list[Problem]]:
    try:
        with contextlib.ExitStack() as stack:
            plain = _decompressed(path, target.parent, stack)
            schema, found = _open(plain, format_suffix(path), stack)
            problems = write_batches(found, schema, name, target)
    except (MemoryError, InputError):
        raise
    except (pa.ArrowException, UnicodeDecodeError, ValueError, struct.error, OSError) as error:
        if isinstance(error, OSError) and error.errno == errno.EFBIG:
            raise InputError(
                f"{name} grows to more than {MAX_EXPANSION} times its size when it is read; it was not read on.",
                "Give it as CSV or JSONL, if its content is what you expect.",
            ) from error
        if isinstance(error, OSError) and error.errno is not None:
            raise
        reason = (str(error) or repr(error)).splitlines()[0][:300]
        raise InputError(
            f"{name} cannot be read as {_FORMATS.get(format_suffix(path), 'Parquet or Arrow')}: {reason}.",
            "The file is damaged or cut: copy or export it again.",
        ) from error
    return {"format": "columnar"}, problems


def _decompressed(path: Path, beside: Path, stack: contextlib.ExitStack) -> Path:
    if not compression_of(path):
        return path
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=beside)))
    with open_bytes(path) as source, (folder / "table").open("wb") as target:
        shutil.copyfileobj(source, target, 1 << 20)
    return folder / "table"


def _open_stata(path: Path) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    """Return a table of Stata; codes that have a label are their labels."""
    import pandas as pd

    table = pa.Table.from_pandas(pd.read_stata(path), preserve_index=False)
    return table.schema, iter(table.to_batches(max_chunksize=BATCH_ROWS))


def _open(path: Path, suffix: str, stack: contextlib.ExitStack) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    with path.open("rb") as file:
        magic = file.read(12)
    if magic.startswith(b"PAR1"):
        import pyarrow.parquet as pq

        parquet = stack.enter_context(pq.ParquetFile(path))
        types = [field.type for field in parquet.schema_arrow]
        rows = LARGE_ROWS if any(holds_blobs(kind) or holds_blob_lists(kind) for kind in types) else BATCH_ROWS
        return parquet.schema_arrow, parquet.iter_batches(batch_size=rows)
    if magic.startswith(b"FEA1"):
        from pyarrow import feather

        table = feather.read_table(path, memory_map=True)
        return table.schema, iter(table.to_batches(max_chunksize=BATCH_ROWS))
    if magic.startswith(b"ORC"):
        from pyarrow import orc

        stripes = orc.ORCFile(path)
        return stripes.schema, (stripes.read_stripe(number) for number in range(stripes.nstripes))
    if magic.startswith(b"<stata_dta>") or suffix == ".dta":
        return _open_stata(path)
    source = stack.enter_context(pa.memory_map(str(path)))
    if magic.startswith(b"ARROW1"):
        reader = stack.enter_context(pa.ipc.open_file(source))
        return reader.schema, (reader.get_batch(index) for index in range(reader.num_record_batches))
    stream = stack.enter_context(pa.ipc.open_stream(source))
    return stream.schema, iter(stream)


def write_batches(found: Iterator[pa.RecordBatch], schema: pa.Schema, name: str, target: Path) -> list[Problem]:
    """Write record batches to ``target`` with plain types and the rows' places."""
    head = next(found, None)
    found = chain([] if head is None else [head], found)
    if head is not None and _is_text_within(head):
        schema = pa.Table.from_batches([head]).flatten().schema
        found = (batch for one in found for batch in pa.Table.from_batches([one]).flatten().to_batches())
        head = pa.Table.from_batches([head]).flatten().to_batches()[0] if head.num_rows else None
    names = unique_names(schema.names)
    class_names = _class_names(schema)
    plans = [_plain_type(field.type, class_names.get(field.name)) for field in schema]
    images = {index for index in range(len(plans)) if are_images(head, index)}
    image_lists = {index for index in range(len(plans)) if are_image_lists(head, index)}
    blobs = BlobFile(target)
    texts = [
        index for index, kind in enumerate(plans) if kind is None and index not in images and _is_text(head, index)
    ]
    for index in (*texts, *images, *image_lists):
        plans[index] = pa.string()
    kept = [index for index, kind in enumerate(plans) if kind is not None]
    nested = [
        names[index]
        for index in kept
        if plans[index] == pa.string() and index not in images and _is_nested(schema.field(index).type)
    ]
    plain = with_nested(pa.schema([*((names[index], plans[index]) for index in kept), (ROW, pa.string())]), nested)
    row = 1
    with TableWriter(target, plain) as writer:
        for large in found:
            large.validate(full=True)
            for start in range(0, large.num_rows, BATCH_ROWS):
                batch = large.slice(start, BATCH_ROWS)
                arrays = [
                    blobs.add(batch.column(index))
                    if index in images
                    else blobs.add_lists(batch.column(index))
                    if index in image_lists
                    else _plain(batch.column(index), plans[index], class_names.get(schema.names[index]))
                    for index in kept
                ]
                places = pa.array([f"{name}:{row + offset}" for offset in range(batch.num_rows)], pa.string())
                writer.add_batch(pa.RecordBatch.from_arrays([*arrays, places], schema=plain))
                row += batch.num_rows
    notes = []
    if texts:
        listed = ", ".join(names[index] for index in texts)
        notes = [
            Problem("note", f"{name}: binary columns that hold text were read as UTF-8: {listed}.", count=len(texts))
        ]
    left_out = [names[index] for index, kind in enumerate(plans) if kind is None]
    if not left_out:
        return notes
    return [
        *notes,
        Problem("note", f"{name}: binary columns were not read: {', '.join(left_out)}.", count=len(left_out)),
    ]


def _is_text_within(head: pa.RecordBatch) -> bool:
    """Say whether texts stand in records and nowhere outside of them, as of rows of JSON that were brought out."""
    if not head.num_rows:
        return False
    outside = [column for column in head.columns if _is_string(column.type) or _is_list(column.type)]
    records = [
        column
        for name, column in zip(head.schema.names, head.columns, strict=True)
        if pa.types.is_struct(column.type) and name.strip().lower() not in NAMES
    ]
    inner = [field for record in records for field in record.flatten() if _is_string(field.type)]
    return any(map(_has_words, inner)) and not any(_is_list(one.type) or _has_words(one) for one in outside)


def _is_string(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _has_words(column: pa.Array) -> bool:
    return bool(pc.any(pc.match_substring_regex(column.slice(0, _LOOKED_AT), r"\S\s+\S")).as_py())


_Names = list[str] | dict[str, "_Names"]
"""Names of class labels: of a column or of lists of them at any depth, or by the fields of records."""


def _class_names(schema: pa.Schema) -> dict[str, _Names]:
    """Return the label names of columns that the Hugging Face metadata describes as class labels, at any depth."""
    if b"huggingface" not in (schema.metadata or {}):
        return {}
    from datasets import Features

    try:
        features = Features.from_arrow_schema(schema)
    except (ValueError, TypeError, KeyError, AttributeError):
        # Metadata of another version, or not what it says: the columns are still good.
        return {}
    found = {column: _names_in(feature) for column, feature in features.items()}
    return {
        column: names
        for column, names in found.items()
        if names is not None and (isinstance(names, dict) or _holds_integers(schema.field(column).type))
    }


def _names_in(feature: Any) -> _Names | None:
    """Return the names of a feature, lists left out: they have the names of what they hold."""
    from datasets import ClassLabel

    if isinstance(feature, ClassLabel):
        return list(feature.names) if feature.names else None
    if isinstance(feature, dict):
        found = {key: names for key, inner in feature.items() if (names := _names_in(inner)) is not None}
        return found or None
    if isinstance(feature, (list, tuple)) and len(feature) == 1:
        return _names_in(feature[0])
    inner = getattr(feature, "feature", None)
    return None if inner is None else _names_in(inner)


def _holds_integers(kind: pa.DataType) -> bool:
    while _is_list(kind):
        kind = kind.value_type
    return bool(pa.types.is_integer(kind))


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _named(value: Any, names: _Names | None) -> Any:
    """Return a value with class labels as names; a number that has none becomes a missing value."""
    if value is None or names is None:
        return value
    if isinstance(value, list):
        return [_named(item, names) for item in value]
    if isinstance(value, dict):
        return {key: _named(item, names.get(key) if isinstance(names, dict) else None) for key, item in value.items()}
    if isinstance(names, list) and isinstance(value, int):
        return names[value] if 0 <= value < len(names) else None
    return value


def _plain_type(kind: pa.DataType, names: _Names | None = None) -> pa.DataType | None:  # noqa: PLR0911 (a table)
    """Return the type a column gets here: text, 64-bit numbers, truth values, lists of these, or nothing."""
    types = pa.types
    if isinstance(kind, pa.BaseExtensionType):
        return _plain_type(kind.storage_type, names)
    if (
        (isinstance(names, list) and types.is_integer(kind))
        or types.is_string(kind)
        or types.is_large_string(kind)
        or types.is_string_view(kind)
    ):
        return pa.string()
    if types.is_dictionary(kind):
        return _plain_type(kind.value_type, names)
    if types.is_boolean(kind):
        return pa.bool_()
    if types.is_integer(kind):
        return pa.string() if kind == pa.uint64() else pa.int64()
    if types.is_floating(kind) or types.is_decimal(kind):
        return pa.float64()
    if _is_list(kind):
        inner = _plain_type(kind.value_type, names)
        return pa.string() if inner is None or types.is_nested(kind.value_type) else pa.list_(inner)
    if _is_binary(kind):
        return None
    return pa.string()


def _is_nested(kind: pa.DataType) -> bool:
    if isinstance(kind, pa.BaseExtensionType):
        return _is_nested(kind.storage_type)
    return bool(pa.types.is_nested(kind))


def _unpadded(value: Any) -> Any:
    """Return a nested value without the empty fields that a table gives to every record another one has them for."""
    if isinstance(value, dict):
        return {key: _unpadded(item) for key, item in value.items() if item is not None}
    return [_unpadded(item) for item in value] if isinstance(value, list) else value


def _is_binary(kind: pa.DataType) -> bool:
    types = pa.types
    return bool(types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind))


def _is_text(head: pa.RecordBatch | None, index: int) -> bool:
    """Say whether the first rows of a binary column are text in UTF-8, as some tools write it."""
    if head is None or not _is_binary(head.schema.field(index).type):
        return False
    cells = [cell for cell in head.column(index).slice(0, _LOOKED_AT).to_pylist() if cell]
    try:
        texts = [cell.decode("utf-8") for cell in cells]
    except UnicodeDecodeError:
        return False
    return bool(texts) and not any(_CONTROL.search(text) for text in texts)


def _plain(array: pa.Array, kind: pa.DataType, names: _Names | None) -> pa.Array:
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    if isinstance(names, list) and pa.types.is_integer(array.type):
        indices = pc.if_else(
            pc.and_(pc.greater_equal(array, 0), pc.less(array, len(names))), array, pa.scalar(None, array.type)
        )
        return pc.take(pa.array(names, pa.string()), indices)
    if isinstance(names, list) and pa.types.is_list(kind):
        return pa.array(_named(array.to_pylist(), names), kind)
    if isinstance(array, pa.DictionaryArray):
        array = array.dictionary_decode()
    if pa.types.is_nested(array.type) and kind == pa.string():
        return pa.array(
            [
                None if value is None else json.dumps(_unpadded(_named(value, names)), ensure_ascii=False, default=str)
                for value in array.to_pylist()
            ],
            pa.string(),
        )
    if _is_binary(array.type) and kind == pa.string():
        texts = [None if cell is None else cell.decode("utf-8", "replace") for cell in array.to_pylist()]
        return pa.array(texts, kind)
    return array if array.type == kind else pc.cast(array, kind, safe=False)


def load_hub(name: str, config: str | None) -> DatasetDict:
    """Download a data set from the hub, or read a local folder of data files, without running its code.

    Raises ``InputError`` with the reason when it is not there or cannot be reached.
    """
    import datasets

    was_disabled = datasets.are_progress_bars_disabled()
    verbosity = datasets.logging.get_verbosity()
    datasets.disable_progress_bars()
    datasets.logging.set_verbosity_error()
    try:
        loaded = datasets.load_dataset(name, config)
    except Exception as error:  # the hub's client raises a dozen kinds
        reason = str(error).splitlines()[0][:400] if str(error) else type(error).__name__
        raise InputError(
            f"hub:{name}{':' + config if config else ''} could not be loaded: {reason}",
            "Check the name and the network; private data needs `hf auth login`; several configurations need "
            "hub:owner/name:configuration. Data sets that are scripts are not supported.",
        ) from error
    finally:
        datasets.logging.set_verbosity(verbosity)
        if not was_disabled:
            datasets.enable_progress_bars()
    assert isinstance(loaded, datasets.DatasetDict)
    return loaded


def hub_batches(dataset: Dataset) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a Hugging Face data set in order, as record batches."""
    arrow = dataset.with_format("arrow")
    for start in range(0, len(dataset), BATCH_ROWS):
        yield from arrow[start : start + BATCH_ROWS].combine_chunks().to_batches()
