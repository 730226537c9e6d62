"""Files that hold several sets of rows: objects of splits, tables of a database, sheets of a workbook."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from tunesmith.data.config import DataConfig
from tunesmith.data.encoding_guess import check_is_text, detect_encoding
from tunesmith.data.encodings import show_name
from tunesmith.data.foreign_tables import FOREIGN, YAML, ask_which, tables_in
from tunesmith.data.json_elements import holds_json, json_splits
from tunesmith.data.sources import COLUMNAR, CONLL, DELIMITED, DataFile, Source, splits_of
from tunesmith.types import InputError, Problem


def parts_of(source: Source, config: DataConfig) -> tuple[list[Source], list[Problem]]:
    """Return a file's splits where it is an object of several, else the source itself; and what is not read of it."""
    if isinstance(source, DataFile) and source.suffix in FOREIGN:
        return _tables(source)
    if not isinstance(source, DataFile) or source.suffix in COLUMNAR | DELIMITED | CONLL:
        return [source], []
    with readable(source.path):
        if config.encoding is None:
            check_is_text(source.path)
        encoding = config.encoding or detect_encoding(source.path)[0]
        splits: dict[str, str] = {}
        further: list[str] = []
        if holds_json(source.path, encoding, source.suffix):
            splits, further = json_splits(source.path, show_name(source.path), encoding)
    return _by_split(source, splits, further)


def _by_split(
    source: DataFile, splits: Mapping[str, str], further: Sequence[str]
) -> tuple[list[Source], list[Problem]]:
    """Return the parts of a file by the split that each is, or the whole file; and a word on what is not read of it."""
    pieces: list[Source] = [replace(source, split=split, part=key) for split, key in splits.items()]
    notes = []
    if further:
        message = f"Not read of {show_name(source.path)}: the rows of {', '.join(further[:8])}."
        fix = "Add them to the rows of train, validation or test if they are meant to be used."
        notes.append(Problem("warning", message, fix, count=len(further)))
    return pieces or [source], notes


def _tables(source: DataFile) -> tuple[list[Source], list[Problem]]:
    """Return the table of a database or a workbook, or its tables by the split that each is; of several, the user's."""
    if source.suffix in YAML:
        return [source], []
    with readable(source.path):
        tables = tables_in(source.path, source.suffix)
    if len(tables) < 2 or source.part in tables:
        return [source], []
    splits = splits_of(tables)
    if source.part or "train" not in splits:
        raise ask_which(source.path, source.suffix, tables)
    return _by_split(source, splits, [name for name in tables if name not in splits.values()])


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn what the system says against reading a file into an ``InputError``."""
    try:
        yield
    except OSError as error:
        if error.errno is None or isinstance(error, FileExistsError):
            raise
        raise InputError(f"{show_name(path)} cannot be read: {error.strerror}.", "Check its permissions.") from error
