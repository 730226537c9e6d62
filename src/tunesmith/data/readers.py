"""Reading: from what the user names to memory-mapped rows, each knowing where it came from.

Every file becomes one Arrow table in the cache, under a key of its content and of the
options that change how it is read, so that a second read costs a hash of the file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from tunesmith.data import samples
from tunesmith.data.bad_rows import NUM_SHOWN, BadRows, LeftOut, errors_among, judge, show_row
from tunesmith.data.columnar import hub_batches, load_hub, read_columnar, write_batches
from tunesmith.data.config import DataConfig
from tunesmith.data.conll import looks_like_conll, read_conll
from tunesmith.data.delimited import DelimitedOptions, read_delimited
from tunesmith.data.encoding_guess import check_is_text, detect_encoding
from tunesmith.data.encodings import show_name
from tunesmith.data.file_parts import parts_of, readable
from tunesmith.data.folders import find_sources
from tunesmith.data.foreign_tables import FOREIGN, YAML, kind_of, write_as_text
from tunesmith.data.image_columns import with_images
from tunesmith.data.image_lists import with_image_lists
from tunesmith.data.image_sources import read_image_files, stamp_of
from tunesmith.data.json_elements import holds_json
from tunesmith.data.jsons import read_json
from tunesmith.data.labelled_lines import LineForm, find_line_form, read_labelled_lines
from tunesmith.data.many_files import content_of, read_labelled_files, read_parallel_files
from tunesmith.data.other_formats import refuse_markup
from tunesmith.data.passages import read_passages
from tunesmith.data.pieces import join_pieces
from tunesmith.data.records import ROW, SPLITS, RawData, RejectedRow, Source, guess_from_dict, guess_to_dict
from tunesmith.data.rows import Rows, open_table
from tunesmith.data.sources import (
    COLUMNAR,
    CONLL,
    DELIMITED,
    JSON,
    DataFile,
    ImageFiles,
    LabelledFiles,
    ParallelFiles,
    splits_of,
)
from tunesmith.data.sources import Source as Origin
from tunesmith.data.tables import Rejections, read_rejections, read_report, write_report
from tunesmith.data.tagged_lines import TagLineForm, find_tag_lines, read_tagged_lines
from tunesmith.data.token_tables import TokenTable, find_token_table, read_token_table
from tunesmith.data.translations import spread_languages
from tunesmith.data.version import reading_version
from tunesmith.files.cache import cached_folder
from tunesmith.files.hashing import hash_file, hash_json
from tunesmith.types import MAX_ROWS_SHOWN, Guess, InputError, Problem

if TYPE_CHECKING:
    from datasets import Dataset

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
    guesses: tuple[Guess, ...] = ()
    """How its form was chosen."""


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
    problems += _judge_rejected(parts, config.bad_rows, problems)
    return RawData(
        splits={split: _rows_of(split, parts[split]) for split in SPLITS if split in parts},
        problems=tuple(problems),
        sources=tuple(table.source for split in SPLITS for table in parts.get(split, [])),
        rejected=rejected,
        group=group,
        is_plain_text=all(table.is_plain_text for tables in parts.values() for table in tables),
        guesses=tuple(guess for split in SPLITS for table in parts.get(split, []) for guess in table.guesses),
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
    sources, notes = find_sources(given, split)
    parts: Parts = {}
    for source in sources:
        pieces, passed_over = parts_of(source, config)
        notes = [*notes, *passed_over]
        for one in pieces:
            parts.setdefault(one.split, []).append(read_file(one, config, like or _like(parts)))
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


def read_file(file: Origin, config: DataConfig, like: Sequence[str] = ()) -> _Table:
    """Read one file (or several that belong together) through the cache; ``like`` holds the training file's columns."""
    options: dict[str, Any] = {
        "delimiter": config.delimiter,
        "header": config.header,
        "like": list(like),
        "encoding": config.encoding,
        "is_described": config.passage is not None,
    }
    if isinstance(file, DataFile):
        name = show_name(file.path)
        with readable(file.path):
            sha256 = hash_file(file.path)
        options["passage"] = config.passage if _may_be_plain(file, config) else 0
        key = hash_json([reading_version(), sha256, name, file.suffix, file.part, options])
    else:
        name = file.name
        sha256 = _hash_files(file)
        key = hash_json([reading_version(), sha256, name, options])

    def build(folder: Path) -> None:
        rejections = Rejections(folder / "rejected.jsonl")
        target = folder / "rows.arrow"
        if isinstance(file, DataFile):
            details, problems = _read_into(file, config, tuple(like), target, rejections)
        elif isinstance(file, LabelledFiles):
            details, problems = read_labelled_files(file, config.encoding, target, rejections)
        elif isinstance(file, ImageFiles):
            details, problems = read_image_files(file, target)
        else:
            details, problems = read_parallel_files(file, config.encoding, target, rejections)
        rejections.close()
        spread_languages(target)
        write_report(folder, details, problems)

    folder = cached_folder("rows", key, build, hashes=True)
    details, problems = read_report(folder)
    dataset = open_table(folder / "rows.arrow", key)
    rejected = read_rejections(folder / "rejected.jsonl")
    if isinstance(file, DataFile):
        dataset, noticed = _with_images(dataset, file, folder)
        problems = (*problems, *noticed)
    if not len(dataset) and not rejected:
        raise InputError(f"{name} holds no rows.", "Give a file with at least a few rows.")
    source = Source(name, file.split, sha256, len(dataset), details["format"], str(details.get("encoding", "")))
    has_header = bool(details.get("dialect", {}).get("header", True))
    return _Table(
        dataset,
        source,
        problems,
        rejected,
        has_header,
        bool(details.get("is_plain_text")),
        details.get("num_read", len(dataset)),
        tuple(guess_from_dict({**guess, "source": source.name}) for guess in details.get("guesses", [])),
    )


def _with_images(rows: Rows, file: DataFile, folder: Path) -> tuple[Rows, list[Problem]]:
    """Return rows in which whatever names an image is a reference to it."""
    rows, first = with_images(rows, file, folder)
    rows, second = with_image_lists(rows, file, folder)
    return rows, [*first, *second]


def _hash_files(files: LabelledFiles | ParallelFiles | ImageFiles) -> str:
    if isinstance(files, ImageFiles):
        return hash_json([[image.label, image.place, *stamp_of(image.reference)] for image in files.files])
    hashes = []
    for role, path in content_of(files):
        with readable(path):
            hashes.append([role, "/".join(path.parts[-3:]), hash_file(path)])
    unit = files.unit if isinstance(files, LabelledFiles) else ""
    return hash_json([type(files).__name__, unit, hashes])


def _read_into(
    file: DataFile, config: DataConfig, like: tuple[str, ...], target: Path, rejections: Rejections
) -> tuple[dict[str, Any], list[Problem]]:
    if file.suffix in COLUMNAR:
        return read_columnar(file.path, show_name(file.path), target)
    if file.suffix in FOREIGN and not (file.suffix in YAML and config.passage is not None):
        return _read_foreign(file, config, like, target, rejections)
    return _read_text(file, config, like, target, rejections)


def _read_text(
    file: DataFile, config: DataConfig, like: tuple[str, ...], target: Path, rejections: Rejections
) -> tuple[dict[str, Any], list[Problem]]:
    path, name = file.path, show_name(file.path)
    problems: list[Problem] = []
    guess = None
    if config.encoding is not None:
        encoding = config.encoding
    else:
        check_is_text(path)
        encoding, guess = detect_encoding(path)
        if guess is not None:
            message, fix = _GUESSED
            problems.append(Problem("note", message.format(name=name, encoding=encoding.upper()), fix))
    refuse_markup(path, name, encoding, is_wanted=config.passage is not None)
    if holds_json(path, encoding, file.suffix):
        details, more = read_json(path, name, encoding, target, rejections, file.part)
    elif file.suffix in CONLL or _is_conll(file, config, encoding):
        delimiter = config.delimiter
        details, more = read_conll(path, name, encoding, target, rejections, delimiter=delimiter, like=like)
    elif (tags := _tags_in_lines(file, config, encoding)) is not None:
        details, more = read_tagged_lines(path, name, encoding, tags, target=target, rejected=rejections)
    elif (table := _token_table(file, config, encoding)) is not None:
        details, more = read_token_table(path, name, encoding, table, target=target, rejected=rejections)
    elif (form := _line_form(file, config, encoding, like)) is not None:
        details, more = read_labelled_lines(path, name, encoding, form, target=target, rejected=rejections)
    elif config.passage and _may_be_plain(file, config):
        details, more = read_passages(path, name, encoding, config.passage, target=target, rejected=rejections)
    else:
        suffix = file.suffix if file.suffix not in JSON | CONLL else ""
        options = DelimitedOptions(config.delimiter, config.header, like)
        details, more = read_delimited(
            path, name, suffix, encoding, options=options, target=target, rejected=rejections
        )
        dialect = details["dialect"]
        is_lines = dialect["delimiter"] is None and not dialect["header"]
        details["is_plain_text"] = is_lines and _may_be_plain(file, config)
    if guess is not None:
        details["guesses"] = [guess_to_dict(guess), *details.get("guesses", [])]
    return {**details, "encoding": encoding}, problems + more


def _read_foreign(
    file: DataFile, config: DataConfig, like: tuple[str, ...], target: Path, rejections: Rejections
) -> tuple[dict[str, Any], list[Problem]]:
    """Read a table of a workbook or a database, or a YAML file, from the text that it stands for."""
    name = f"{show_name(file.path)}:{file.part}" if file.part else show_name(file.path)
    text = target.with_name("written")
    if file.suffix in YAML:
        refuse_markup(file.path, name, "utf-8", is_wanted=False)
    written = write_as_text(file.path, file.suffix, file.part, text)
    if written.suffix == ".json":
        details, more = read_json(text, name, "utf-8", target, rejections)
    else:
        header = written.has_header if config.header is None else config.header
        options = DelimitedOptions(",", header, like)
        details, more = read_delimited(text, name, ".csv", "utf-8", options=options, target=target, rejected=rejections)
    text.unlink()
    guesses = [guess for guess in details["guesses"] if guess["name"] not in ("delimiter", "quoting")]  # our own
    return {**details, "format": kind_of(file.suffix), "guesses": guesses}, [*written.notes, *more]


def _line_form(file: DataFile, config: DataConfig, encoding: str, like: tuple[str, ...]) -> LineForm | None:
    """Return how labels stand before the texts of lines; who describes the file otherwise says that they do not."""
    is_described = config.delimiter is not None or config.header is not None or config.passage is not None
    if is_described:
        return None
    form = find_line_form(file.path, encoding, like)
    # A table may well have a column of labels first; one of fastText's has its mark.
    return form if form is None or file.suffix not in DELIMITED or form.kind == "fasttext" else None


def _may_be_plain(file: DataFile, config: DataConfig) -> bool:
    """Say whether a file can be text without columns; who describes its columns says that it is not."""
    return file.suffix not in DELIMITED | CONLL and config.delimiter is None and not config.header


def _is_conll(file: DataFile, config: DataConfig, encoding: str) -> bool:
    """Say whether a file of any name holds tagged sentences; who describes it otherwise says that it does not."""
    is_described = config.delimiter is not None or config.header is not None or bool(config.passage)
    return not is_described and looks_like_conll(file.path, encoding, is_table=file.suffix in DELIMITED)


def _tags_in_lines(file: DataFile, config: DataConfig, encoding: str) -> TagLineForm | None:
    """Return how words and tags stand in the lines of a file; who describes it otherwise says that they do not."""
    is_described = config.passage is not None or config.header is not None
    return None if is_described or not _may_be_plain(file, config) else find_tag_lines(file.path, encoding)


def _token_table(file: DataFile, config: DataConfig, encoding: str) -> TokenTable | None:
    """Return how a table is read that has a token a row; who describes its header wants it as it is."""
    return None if config.header is not None else find_token_table(file.path, file.suffix, encoding)


def _read_hub(given: str, split: str) -> Parts:
    name, _, configuration = given.removeprefix("hub:").partition(":")
    if not name:
        raise InputError("'hub:' names no data set.", "Write hub:owner/name or hub:owner/name:configuration.")
    loaded = load_hub(name, configuration or None)
    chosen = splits_of(map(str, loaded), split)
    parts: Parts = {role: [_hub_table(f"{name}/{own}", role, loaded[own])] for role, own in chosen.items()}
    if split == "train" and "train" not in parts:
        raise InputError(
            f"{given} has no training rows; its splits are {', '.join(map(str, loaded))}.", "Choose another data set."
        )
    return parts


def _hub_table(name: str, split: str, dataset: Dataset) -> _Table:
    key = hash_json([reading_version(), "hub", name, str(dataset._fingerprint)])

    def build(folder: Path) -> None:
        schema = dataset.features.arrow_schema
        problems = write_batches(hub_batches(dataset), schema, name, folder / "rows.arrow")
        spread_languages(folder / "rows.arrow")
        write_report(folder, {"format": "hub"}, problems)

    try:
        folder = cached_folder("rows", key, build, hashes=True)
    except pa.ArrowException as error:
        raise InputError(f"{name} cannot be read: {error}", "Choose another data set or configuration.") from error
    _, problems = read_report(folder)
    rows, noticed = _with_images(open_table(folder / "rows.arrow", key), DataFile(Path(name), ".arrow", split), folder)
    source = Source(name, split, key, len(rows), "hub")
    return _Table(rows, source, (*problems, *noticed), (), has_header=True, num_read=len(rows))


def _judge_rejected(parts: Parts, bad_rows: BadRows, notes: Sequence[Problem]) -> list[Problem]:
    """Return a warning per file with bad rows; raise, with the notes so far, where more are than may be left out."""
    found = [judge(_left_out(table), bad_rows) for tables in parts.values() for table in tables if len(table.rejected)]
    if errors := errors_among(found):
        raise InputError([*errors, *notes])
    return found


def _left_out(table: _Table) -> LeftOut:
    rejected = table.rejected
    guesses = [guess for guess in table.guesses if guess.flag]
    return LeftOut(
        table.source.name,
        len(rejected),
        len(rejected) + table.num_read,
        places=tuple(row.place for row in rejected[:MAX_ROWS_SHOWN]),
        shown=tuple(f"{row.place}: {show_row(row.content, row.reason)}" for row in rejected[:NUM_SHOWN]),
        guess=", ".join(f"{guess.name} {guess.chosen}" for guess in guesses),
        flag=" or ".join(dict.fromkeys(guess.flag for guess in guesses)),
    )


def _rows_of(split: str, tables: Sequence[_Table]) -> Rows:
    """Return the rows of a split's files one after the other."""
    if len(tables) == 1:
        return tables[0].dataset
    return join_pieces(split, {table.source.name: table.dataset for table in tables})
