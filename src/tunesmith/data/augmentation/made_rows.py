"""Rows made of training rows, in their canonical columns: added to the table of a split that was cut before.

A file may hold made rows, too, as ``tunesmith augment`` writes them: the columns ``made_from`` and ``made_by`` say of
which row, and how. Such rows are no part of the cut: they go with the row that they were made of, to train on at most.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from random import Random

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tunesmith.data.augmentation.config import AugmentConfig
from tunesmith.data.augmentation.edited_rows import Row, edited_row, require_editable, ways_of
from tunesmith.data.augmentation.edits import Way
from tunesmith.data.augmentation.lexicon import lexicon_key
from tunesmith.data.rows import BATCH_ROWS, batches, open_table
from tunesmith.data.tables import TableWriter
from tunesmith.files.hashing import hash_json
from tunesmith.files.operations import rename
from tunesmith.types import InputError, Problem

MADE_FROM, MADE_BY = "made_from", "made_by"
"""Columns of a file with made rows: where the source stands, the same for it and all made of it; how, empty for it."""
_ROW = "row"


def has_made_rows(columns: Sequence[str]) -> bool:
    """Say whether a file's columns tell made rows from others."""
    return MADE_FROM in columns and MADE_BY in columns


def settings_key(config: AugmentConfig | None) -> list[object]:
    """Return what stands for the settings in the keys of the cache: nothing where no rows are made."""
    if config is None or config.factor == 1:
        return []
    lexicon = lexicon_key(config.lexicon) if "synonyms" in config.by else ""
    return [config.model_dump(mode="json", exclude={"lexicon"}), lexicon]


def how_many(row: Row, factor: float, seed: int) -> int:
    """Return how many rows are made of one: for a fraction, a row more of as many rows, drawn by content."""
    whole, rest = divmod(factor - 1, 1)
    return int(whole) + (_random(row, seed, "number").random() < rest)


def turns(row: Row, names: Sequence[str], number: int, seed: int) -> list[str]:
    """Return the ways in which so many rows are to be made of one: each in its turn, beginning anywhere."""
    offset = _random(row, seed, "way").randrange(len(names))
    return [names[(offset + turn) % len(names)] for turn in range(number)]


def made_of(
    row: Row, texts: Sequence[str], ways: dict[str, Way], number: int, seed: int
) -> list[tuple[str, dict[str, object]]]:
    """Return up to ``number`` rows made of one, each by the next of the ways, all different; each with its way's name.

    They depend on the row's content and the seed alone.
    """
    made: list[tuple[str, dict[str, object]]] = []
    seen = {tuple(row[name] for name in texts)}
    for turn, first in enumerate(turns(row, list(ways), number, seed)):
        random = _random(row, seed, str(turn))
        for name in sorted(ways, key=lambda name: name != first):  # the others where that one changes nothing
            changed = edited_row(row, texts, ways[name], random)
            key = () if changed is None else tuple(changed[text] for text in texts)
            if changed is not None and key not in seen:
                seen.add(key)
                made.append((name, changed))
                break
    return made


def _random(row: Row, seed: int, what: str) -> Random:
    content = repr([(name, value) for name, value in sorted(row.items()) if name != _ROW])
    key = hashlib.blake2b(f"{seed} {what} {content}".encode(), digest_size=8).digest()
    return Random(int.from_bytes(key, "big"))  # noqa: S311 (no secret)


def add_made_rows(
    table: Path, texts: Sequence[str], config: AugmentConfig, content: str
) -> tuple[str, npt.NDArray[np.int64], list[Problem]]:
    """Add made rows after those of a split's table; return its new hash, the source of each, and what is to be said.

    Args:
        table: Arrow file of canonical rows.
        texts: Its columns of texts.
        config: What is made.
        content: Hash of what the table holds.

    Raises:
        InputError: The rows are of a form that cannot be changed, or no row changes.
    """
    rows = open_table(table, content)
    require_editable(rows.column_names, "data.augment")
    ways = ways_of(config, rows.column_names)
    sources: list[int] = []
    counts: Counter[str] = Counter()
    target = table.with_name(f"{table.stem}-made.arrow")
    with TableWriter(target, rows.schema) as writer:
        for batch in batches(rows):
            writer.add_batch(batch)
        made: list[dict[str, object]] = []
        for number, row in enumerate(rows):
            for name, changed in made_of(row, texts, ways, how_many(row, config.factor, config.seed), config.seed):
                made.append({**changed, _ROW: f"{row[_ROW]} ({name})"})
                sources.append(number)
                counts[name] += 1
            if len(made) >= BATCH_ROWS:
                writer.add_batch(pa.RecordBatch.from_pylist(made, schema=rows.schema))
                made = []
        writer.add_batch(pa.RecordBatch.from_pylist(made, schema=rows.schema))
    if not sources:
        raise InputError(
            f"data.augment: none of {len(rows)} training rows changes by {', '.join(config.by)}.",
            "Give another way or a lexicon that has words of the texts, or leave data.augment out.",
        )
    listed = ", ".join(f"{count:,} by {name}" for name, count in counts.items())
    num_rows = len(rows)
    del rows
    rename(target, table)
    message = f"{len(sources):,} rows were made of {num_rows:,} training rows ({listed}); none is judged on."
    problems = [Problem("note", message, "Train without them: data.augment.factor 1.", count=len(sources))]
    return hash_json([content, settings_key(config)]), np.array(sources, dtype=np.int64), problems
