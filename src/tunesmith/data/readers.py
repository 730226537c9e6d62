"""Reading: from what the user names to memory-mapped rows, each knowing where it came from.

Every file becomes one Arrow table in the cache, under a key of its content and of the
options that change how it is read, so that a second read costs a hash of the file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from tunesmith.data import samples
from tunesmith.data.columnar import hub_batches, load_hub, read_columnar, write_batches
from tunesmith.data.config import DataConfig
from tunesmith.data.conll import looks_like_conll, read_conll
from tunesmith.data.delimited import DelimitedOptions, read_delimited
from tunesmith.data.encodings import check_is_text, detect_encoding, open_text
from tunesmith.data.jsons import read_json
from tunesmith.data.passages import read_passages
from tunesmith.data.records import ROW, SPLITS, RawData, RejectedRow, Source
from tunesmith.data.sources import (
    BY_CONTENT,
    COLUMNAR,
    CONLL,
    DELIMITED,
    JSON,
    PLAIN,
    DataFile,
    find_files,
    split_named,
)
from tunesmith.data.tables import Rejections, Rows, open_table, read_rejections, read_report, write_report
from tunesmith.files.cache import cached_folder
from tunesmith.files.hashing import hash_file, hash_json
from tunesmith.types import InputError, Problem

if TYPE_CHECKING:
    from datasets import Dataset

_VERSION = 4
"""Part of the cache's keys: raise it when reading gives other rows than before."""

_GUESSED = (
    "{name} is not UTF-8; it was read as {encoding}, which its content suggests.",
    "If letters look wrong, give data.encoding; best save the file as UTF-8.",
)


@dataclass(frozen=True, slots=True)
class _Table:
    """One file, read."""

    dataset: Rows
    source: Source
    problems: tuple[Problem, ...]
    rejected: tuple[RejectedRow, ...]
    has_header: bool
    is_plain_text: bool = False
    """Whether it is a file of text without columns."""
    num_read: int = 0
    """Rows that could be read; of passages, lines."""


def read(config: DataConfig) -> RawData:
    """Read everything the configuration names, with the user's own columns plus ``__row__``.

    A single source comes as the split ``train``. Raises ``InputError`` when there is nothing
    to read, or when rows are bad and ``bad_rows`` is ``refuse`` (or most rows are bad).
    """
    parts, notes, group = _read_source(config.path, config)
    problems = list(notes)
    for split, given in (("validation", config.validation), ("test", config.test)):
        if given is not None:
            further, notes, _ = _read_source(given, config, split, _like(parts))
            problems += notes
            parts[split] = _sole(given, split, further)
    rejected = tuple(row for tables in parts.values() for table in tables for row in table.rejected)
    problems += [problem for tables in parts.values() for table in tables for problem in table.problems]
    problems += _judge_rejected(parts, config.bad_rows)
    return RawData(
        splits={split: _join(split, parts[split]) for split in SPLITS if split in parts},
        problems=tuple(problems),
        sources=tuple(table.source for split in SPLITS for table in parts.get(split, [])),
        rejected=rejected,
        group=group,
        is_plain_text=all(table.is_plain_text for tables in parts.values() for table in tables),
    )


Parts = dict[str, list[_Table]]


def _read_source(
    given: str, config: DataConfig, split: str = "train", like: Sequence[str] = ()
) -> tuple[Parts, list[Problem], str | None]:
    """Return the tables behind one path, by split, with notes and the group column its author names."""
    if given.startswith("sample:"):
        sample = samples.find(given.removeprefix("sample:"))
        path = samples.prepare(sample)
        table = read_file(DataFile(path, ".csv", split), replace_reading(config))
        return {split: [table]}, [], sample.group
    if given.startswith("hub:"):
        return _read_hub(given, split), [], None
    files, notes = find_files(given, split)
    parts: Parts = {}
    for file in files:
        table = read_file(file, config, like or _like(parts))
        parts.setdefault(file.split, []).append(table)
    return parts, notes, None


def replace_reading(config: DataConfig) -> DataConfig:
    """Return the configuration without the user's word on how files are written (samples know)."""
    return config.changed(encoding="utf-8", delimiter=",", header=True)


def _like(parts: Parts) -> tuple[str, ...]:
    tables = parts.get("train", [])
    if not tables or not tables[0].has_header:
        return ()
    return tuple(name for name in tables[0].dataset.column_names if name != ROW)


def _sole(given: str, split: str, parts: Parts) -> list[_Table]:
    if len(parts) == 1:
        return next(iter(parts.values()))
    if split in parts:
        return parts[split]
    raise InputError(f"{given} holds {', '.join(parts)} but no {split}.", f"Name one file for data.{split}.")


def read_file(file: DataFile, config: DataConfig, like: Sequence[str] = ()) -> _Table:
    """Read one file through the cache; ``like`` holds the training file's column names."""
    try:
        sha256 = hash_file(file.path)
    except OSError as error:
        raise InputError(f"{file.path} cannot be read: {error.strerror}.", "Check its permissions.") from error
    options = {
        "delimiter": config.delimiter,
        "header": config.header,
        "like": list(like),
        "encoding": config.encoding,
        "passage": config.passage if _may_be_plain(file, config) else 0,
    }
    key = hash_json([_VERSION, sha256, file.name, file.suffix, options])

    def build(folder: Path) -> None:
        rejections = Rejections(folder / "rejected.jsonl")
        details, problems = _read_into(file, config, tuple(like), folder / "rows.arrow", rejections)
        rejections.close()
        write_report(folder, details, problems)

    folder = cached_folder("rows", key, build, hashes=True)
    details, problems = read_report(folder)
    dataset = open_table(folder / "rows.arrow", key)
    rejected = read_rejections(folder / "rejected.jsonl")
    if not len(dataset) and not rejected:
        raise InputError(f"{file.name} holds no rows.", "Give a file with at least a few rows.")
    source = Source(file.name, file.split, sha256, len(dataset), details["format"], str(details.get("encoding", "")))
    has_header = bool(details.get("dialect", {}).get("header", True))
    return _Table(
        dataset,
        source,
        problems,
        rejected,
        has_header,
        bool(details.get("is_plain_text")),
        details.get("num_read", len(dataset)),
    )


def _read_into(
    file: DataFile, config: DataConfig, like: tuple[str, ...], target: Path, rejections: Rejections
) -> tuple[dict[str, Any], list[Problem]]:
    path, name = file.path, file.name
    if file.suffix in COLUMNAR:
        return read_columnar(path, name, target)
    problems = []
    if config.encoding is not None:
        encoding = config.encoding
    else:
        check_is_text(path)
        encoding, is_guessed = detect_encoding(path)
        if is_guessed:
            message, fix = _GUESSED
            problems.append(Problem("note", message.format(name=name, encoding=encoding.upper()), fix))
    if file.suffix in JSON or (file.suffix not in DELIMITED | CONLL and _looks_like_json(path, encoding)):
        details, more = read_json(path, name, encoding, target, rejections)
    elif file.suffix in CONLL or _is_conll(file, config, encoding):
        details, more = read_conll(path, name, encoding, target, rejections)
    elif config.passage and _may_be_plain(file, config):
        details, more = read_passages(path, name, encoding, config.passage, target=target, rejected=rejections)
    else:
        options = DelimitedOptions(config.delimiter, config.header, like)
        details, more = read_delimited(
            path, name, file.suffix, encoding, options=options, target=target, rejected=rejections
        )
        dialect = details["dialect"]
        is_lines = dialect["delimiter"] is None and not dialect["header"]
        details["is_plain_text"] = is_lines and _may_be_plain(file, config)
    return {**details, "encoding": encoding}, problems + more


def _may_be_plain(file: DataFile, config: DataConfig) -> bool:
    """Say whether a file can be text without columns; who describes its columns says that it is not."""
    return file.suffix in PLAIN | BY_CONTENT and config.delimiter is None and not config.header


def _is_conll(file: DataFile, config: DataConfig, encoding: str) -> bool:
    """Say whether a file of any name holds tagged sentences; who describes it otherwise says that it does not."""
    is_described = config.delimiter is not None or config.header is not None or bool(config.passage)
    return file.suffix not in DELIMITED and not is_described and looks_like_conll(file.path, encoding)


def _looks_like_json(path: Path, encoding: str) -> bool:
    with open_text(path, encoding) as text:
        start = text.read(4096).lstrip("\ufeff \t\r\n")
    return start.startswith(('{"', "{\n", "{ ", "{\r", "[{", "[\n"))


def _read_hub(given: str, split: str) -> Parts:
    name, _, configuration = given.removeprefix("hub:").partition(":")
    if not name:
        raise InputError("'hub:' names no data set.", "Write hub:owner/name or hub:owner/name:configuration.")
    loaded = load_hub(name, configuration or None)
    parts: Parts = {}
    for own_name, dataset in loaded.items():
        role = split_named(str(own_name)) or (split if len(loaded) == 1 else None)
        if role is not None and role not in parts:
            parts[role] = [_hub_table(f"{name}/{own_name}", role, dataset)]
    if split == "train" and "train" not in parts:
        raise InputError(
            f"{given} has no training rows; its splits are {', '.join(map(str, loaded))}.", "Choose another data set."
        )
    return parts


def _hub_table(name: str, split: str, dataset: Dataset) -> _Table:
    key = hash_json([_VERSION, "hub", name, str(dataset._fingerprint)])

    def build(folder: Path) -> None:
        schema = dataset.features.arrow_schema
        problems = write_batches(hub_batches(dataset), schema, name, folder / "rows.arrow")
        write_report(folder, {"format": "hub"}, problems)

    try:
        folder = cached_folder("rows", key, build, hashes=True)
    except pa.ArrowException as error:
        raise InputError(f"{name} cannot be read: {error}", "Choose another data set or configuration.") from error
    _, problems = read_report(folder)
    rows = open_table(folder / "rows.arrow", key)
    return _Table(rows, Source(name, split, key, len(rows), "hub"), problems, (), has_header=True, num_read=len(rows))


def _judge_rejected(parts: Parts, bad_rows: str) -> list[Problem]:
    """Return a warning per file with bad rows; raise when the user wants none, or when most rows are bad."""
    warnings, errors = [], []
    for table in (table for tables in parts.values() for table in tables):
        count = len(table.rejected)
        if not count:
            continue
        first = table.rejected[0]
        message = f"{table.source.name}: {count} of {count + table.num_read} rows cannot be read"
        detail = f"the first, {first.place}: {first.reason}"
        problem = Problem(
            "warning",
            f"{message} and were left out; {detail}.",
            "Mend them, or refuse them with data.bad_rows refuse.",
            count=count,
            rows=tuple(row.place for row in table.rejected[:5]),
        )
        if count > table.num_read:
            fix = "The file is probably written otherwise: see data.delimiter, data.encoding and data.header."
            errors.append(replace(problem, severity="error", message=f"{message}; {detail}.", fix=fix))
        elif bad_rows == "refuse":
            fix = "Mend them, or leave them out with data.bad_rows quarantine."
            errors.append(replace(problem, severity="error", message=f"{message}; {detail}.", fix=fix))
        warnings.append(problem)
    if errors:
        raise InputError(errors)
    return warnings


def _join(split: str, tables: Sequence[_Table]) -> Rows:
    """Return the rows of a split's files one after the other."""
    if len(tables) == 1:
        return tables[0].dataset
    schemas: Mapping[str, Any] = {table.source.name: table.dataset.schema for table in tables}
    if len({str(schema.remove_metadata()) for schema in schemas.values()}) > 1:
        described = "; ".join(f"{name}: {', '.join(schema.names)}" for name, schema in schemas.items())
        raise InputError(
            f"The pieces of {split} have different columns ({described}).", "Give them one form, or join them."
        )
    # Not the files' content alone: how each was read is in its own key.
    fingerprint = hash_json([table.dataset.fingerprint for table in tables])
    return Rows(pa.concat_tables([table.dataset.table for table in tables]), fingerprint)
