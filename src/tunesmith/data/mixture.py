"""Several prepared data sets as one: columns and labels united, no row twice, none on two sides of a split.

Each set is read, tidied and cut by itself, as it would be alone. What is left to do is between sets.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tunesmith.data.clean import plural
from tunesmith.data.forms import plain_text
from tunesmith.data.records import SPLITS, PreparedData, groups_file, sets_file
from tunesmith.data.rows import Rows, open_table
from tunesmith.data.tables import TableWriter, read_report, write_report
from tunesmith.data.version import reading_version
from tunesmith.files.cache import cached_folder
from tunesmith.files.hashing import hash_bytes, hash_json
from tunesmith.files.operations import perform
from tunesmith.types import MAX_ROWS_SHOWN, InputError, Problem

ROW = "row"
"""Column of canonical rows that says where a row stands."""
NUM_NAMED = 8
"""Labels that a note names."""
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class PreparedSet:
    """One set of a mixture."""

    name: str
    prepared: PreparedData
    replayed: bool = False
    """Whether it is read in training alone."""


def unite(
    sets: Sequence[PreparedSet], texts: Collection[str], needed: Collection[str], options: Mapping[str, object]
) -> PreparedData:
    """Return all rows as one, set after set, with ``sets-SPLIT.npy`` saying which set each is of.

    Args:
        sets: At least one that is not replayed.
        texts: The columns that rows of two splits must not have in common.
        needed: The columns that all rows must have.
        options: What else the result depends on.

    Raises:
        InputError: Columns or labels do not go together.
    """
    key = hash_json([reading_version(), [[one.name, one.prepared.key, one.replayed] for one in sets], dict(options)])

    def build(folder: Path) -> None:
        schema, problems = _schema(sets, needed)
        tables = {
            split: [
                None if split not in one.prepared.splits else _cast(one.prepared.splits[split], schema) for one in sets
            ]
            for split in SPLITS
        }
        keep, found, left_out = _between_sets(sets, tables, [name for name in texts if name in schema.names])
        hashes = {
            split: _write(folder, split, sets, tables=tables[split], keep=keep[split], schema=schema)
            for split in SPLITS
        }
        problems += [*found, *_labels_of_some(sets, tables["train"], schema)]
        kept = {split: sha256 for split, sha256 in hashes.items() if sha256}
        write_report(folder, {"hashes": kept, "left_out": left_out}, problems)

    folder = cached_folder("mixed", key, build, hashes=True)
    report, problems = read_report(folder)
    left_out: Counter[str] = sum((Counter(one.prepared.left_out) for one in sets), Counter(report["left_out"]))
    hashes: dict[str, str] = report["hashes"]
    first = next(one for one in sets if not one.replayed).prepared
    return replace(
        first,
        splits={split: open_table(folder / f"{split}.arrow", sha256) for split, sha256 in hashes.items()},
        problems=(*(told(one.name, problem) for one in sets for problem in one.prepared.problems), *problems),
        hashes=hashes,
        key=key,
        guesses=tuple(guess for one in sets for guess in one.prepared.guesses),
        left_out=left_out,
        folder=folder,
    )


def told(name: str, problem: Problem) -> Problem:
    """Return what is said of one set with its name before it."""
    return replace(problem, message=f"{name}: {problem.message}")


# ---- columns -------------------------------------------------------------------------------------


def _schema(sets: Sequence[PreparedSet], needed: Collection[str]) -> tuple[pa.Schema, list[Problem]]:
    """Return the columns of all sets; ``InputError`` where a set lacks one that is needed, or has another kind."""
    schemas = {one.name: one.prepared.splits["train"].schema for one in sets}
    names = list(dict.fromkeys(name for schema in schemas.values() for name in schema.names if name != ROW))
    problems, errors, fields = [], [], []
    for name in names:
        having = {own: schema.field(name).type for own, schema in schemas.items() if name in schema.names}
        lacking = [own for own in schemas if own not in having]
        if lacking and name in needed:
            errors.append(_lacking(name, list(having), lacking))
            continue
        kind = _common(set(having.values()))
        if kind is None:
            listed = ", ".join(f"{own}: {_kind_words(one)}" for own, one in having.items())
            message = f"The sets of the mixture hold '{name}' in forms that do not go together ({listed})."
            errors.append(Problem("error", message, "Write them alike, or choose another column (columns of the set)."))
            continue
        if len(set(having.values())) > 1:
            listed = ", ".join(f"{own}: {_kind_words(one)}" for own, one in having.items())
            problems.append(Problem("note", f"'{name}' is read as {_kind_words(kind)} in all sets ({listed})."))
        fields.append(pa.field(name, kind))
    if errors:
        raise InputError(errors)
    return pa.schema([*fields, pa.field(ROW, pa.string())]), problems


def _lacking(name: str, having: Sequence[str], lacking: Sequence[str]) -> Problem:
    message = f"{', '.join(having)} {'has' if len(having) == 1 else 'have'} '{name}', and {', '.join(lacking)} not."
    fix = f"Say which column it is (columns: {{{name}: COLUMN}} of the set), or use it in none ({name}: none)."
    return Problem("error", f"The sets of the mixture do not have the same columns: {message}", fix)


def _common(kinds: set[pa.DataType]) -> pa.DataType | None:
    """Return what cells of these types can all be read as; None where there is nothing."""
    if len(kinds) == 1:
        return next(iter(kinds))
    if all(pa.types.is_integer(kind) or pa.types.is_floating(kind) for kind in kinds):
        return pa.float64()
    if all(pa.types.is_integer(kind) or pa.types.is_string(kind) for kind in kinds):
        return pa.string()
    return None


def _kind_words(kind: pa.DataType) -> str:
    if pa.types.is_list(kind):
        return "lists"
    if pa.types.is_integer(kind):
        return "whole numbers"
    return "numbers" if pa.types.is_floating(kind) else "texts" if pa.types.is_string(kind) else str(kind)


def _cast(rows: Rows, schema: pa.Schema) -> pa.Table:
    columns = []
    for field in schema:
        if field.name not in rows.column_names:
            columns.append(pa.chunked_array([pa.nulls(len(rows), field.type)]))
            continue
        column = rows.table.column(field.name)
        columns.append(column if column.type == field.type else _as(column, field.type))
    return pa.table(columns, schema=schema)


def _as(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    if not pa.types.is_string(kind):
        return pc.cast(column, kind)
    return pa.chunked_array([pa.array([None if one is None else plain_text(one) for one in column.to_pylist()], kind)])


# ---- rows ----------------------------------------------------------------------------------------


def _between_sets(
    sets: Sequence[PreparedSet], tables: Mapping[str, Sequence[pa.Table | None]], texts: Sequence[str]
) -> tuple[dict[str, list[BoolArray]], list[Problem], Counter[str]]:
    """Return which rows stay, by split and set: no row that an earlier set has, none that another set is judged on."""
    keep: dict[str, list[BoolArray]] = {split: [] for split in SPLITS}
    problems: list[Problem] = []
    left_out: Counter[str] = Counter()
    judged: list[set[bytes]] = [set() for _ in sets]
    """Texts of each set that rows of other sets must not have: of splits further on."""
    for split in reversed(SPLITS):
        seen: set[bytes] = set()
        here: list[set[bytes]] = []
        for number, table in enumerate(tables[split]):
            if table is None:
                keep[split].append(np.zeros(0, dtype=np.bool_))
                here.append(set())
                continue
            own, whole = (
                _keys(table, texts),
                _keys(table, [name for name in table.column_names if name != ROW], exact=True),
            )
            others = set().union(*(found for other, found in enumerate(judged) if other != number))
            leaks = np.array([key in others for key in own], dtype=np.bool_)
            repeated = np.array([key in seen for key in whole], dtype=np.bool_) & ~leaks
            seen.update(whole)
            keep[split].append(~(leaks | repeated))
            here.append(set(own))
            for what, mask in (("judged elsewhere", leaks), ("in another set", repeated)):
                if mask.any():
                    left_out[what] += int(mask.sum())
                    problems.append(_left_out(what, sets[number].name, split, mask, table))
        judged = [before | own_texts for before, own_texts in zip(judged, here, strict=True)]
    empty = [one.name for one, mask in zip(sets, keep["train"], strict=True) if not mask.any()]
    if empty:
        raise InputError(
            f"Nothing is left of {', '.join(empty)}: all of its rows stand in other sets of the mixture.",
            "Leave the set out.",
        )
    return keep, problems, left_out


def _keys(table: pa.Table, names: Sequence[str], *, exact: bool = False) -> list[bytes]:
    """Return a key of each row: its cells in these columns, case and runs of white space put aside unless ``exact``."""
    columns = [table.column(name).to_pylist() for name in names]

    def plain_cell(cell: object) -> object:
        return " ".join(cell.casefold().split()) if isinstance(cell, str) and not exact else cell

    plain = ([plain_cell(cell) for cell in row] for row in zip(*columns, strict=True))
    return [hash_bytes(json.dumps(row, ensure_ascii=False, default=str).encode())[:32].encode() for row in plain]


def _left_out(what: str, name: str, split: str, mask: BoolArray, table: pa.Table) -> Problem:
    count = int(mask.sum())
    places = tuple(str(table.column(ROW)[int(row)]) for row in np.flatnonzero(mask)[:MAX_ROWS_SHOWN])
    if what == "in another set":
        message = f"{name}: {plural(count)} of {split} left out, since another set of the mixture has the same."
        return Problem("note", message, "Nothing has to be done: each counts once.", count, places)
    message = (
        f"{name}: {plural(count)} of {split} left out, since another set of the mixture is judged on the same texts."
    )
    return Problem("warning", message, "Nothing has to be done: figures would be too good with them.", count, places)


def _labels_of_some(sets: Sequence[PreparedSet], tables: Sequence[pa.Table | None], schema: pa.Schema) -> list[Problem]:
    """Say which labels not every set has, where rows have labels of a few kinds."""
    if "label" not in schema.names or not (
        pa.types.is_string(kind := schema.field("label").type) or pa.types.is_integer(kind) or pa.types.is_list(kind)
    ):
        return []
    found: dict[str, set[str]] = {}
    for one, table in zip(sets, tables, strict=True):
        column = pa.chunked_array([]) if table is None else table.column("label").combine_chunks()
        flat = column.flatten() if pa.types.is_list(kind) else column
        found[one.name] = {str(value) for value in pc.unique(flat).to_pylist() if value is not None}
    every = set().union(*found.values())
    missing = {name: sorted(every - own) for name, own in found.items() if own < every}
    if not missing:
        return []
    listed = "; ".join(f"{name} lacks {_listed(labels)}" for name, labels in missing.items())
    message = f"The labels of the sets were united to {len(every)}: {listed}."
    fix = "If labels of two sets mean the same, write them alike: they are different labels to the model."
    return [Problem("warning" if _are_apart(found) else "note", message, fix)]


def _listed(labels: Sequence[str]) -> str:
    more = f" and {len(labels) - NUM_NAMED} more" if len(labels) > NUM_NAMED else ""
    return ", ".join(labels[:NUM_NAMED]) + more


def _are_apart(found: Mapping[str, set[str]]) -> bool:
    """Say whether two sets have no label in common: then the model learns which set a row is of."""
    sets = list(found.values())
    return any(one.isdisjoint(other) for place, one in enumerate(sets) for other in sets[:place])


# ---- files ---------------------------------------------------------------------------------------


def _write(
    folder: Path,
    split: str,
    sets: Sequence[PreparedSet],
    *,
    tables: Sequence[pa.Table | None],
    keep: Sequence[BoolArray],
    schema: pa.Schema,
) -> str:
    """Write the rows of a split, which set each is of, and which belong together; return a hash, empty without rows."""
    numbers: list[npt.NDArray[np.int64]] = []
    groups: list[npt.NDArray[np.uint64]] = []
    has_groups = any(one.prepared.groups(split) is not None for one in sets)
    described: list[object] = []
    if not any(mask.any() for mask in keep):
        return ""
    with TableWriter(folder / f"{split}.arrow", schema) as writer:
        for number, (one, table, mask) in enumerate(zip(sets, tables, keep, strict=True)):
            if table is None or not mask.any():
                continue
            for batch in table.filter(pa.array(mask)).combine_chunks().to_batches():
                writer.add_batch(batch)
            numbers.append(np.full(int(mask.sum()), number, dtype=np.int64))
            own = one.prepared.groups(split)
            unlike = np.arange(len(mask), dtype=np.uint64) + np.uint64((number + 1) << 48)
            groups.append((unlike if own is None else own)[mask])
            described.append([one.name, one.prepared.hashes[split], hash_bytes(np.packbits(mask).tobytes())])
    files: dict[str, npt.NDArray[np.generic]] = {sets_file(split): np.concatenate(numbers)}
    if has_groups:
        files[groups_file(split)] = np.concatenate(groups)
    for name, values in files.items():
        path = folder / name
        perform("write", path, partial(np.save, path, values, allow_pickle=False))
    return hash_json([str(schema.remove_metadata()), described])
