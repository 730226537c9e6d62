"""From the user's rows to a task's columns: canonical, tidied, split, audited, hashed.

Everything is streamed batch by batch; what is held in memory is a few numbers a row. The
result is cached under a key of the rows and of every option that shapes it.
"""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from tunesmith.config.base import nearest
from tunesmith.data.augmentation import made_rows
from tunesmith.data.clean import Tally, tidy_notes
from tunesmith.data.config import DataConfig
from tunesmith.data.forms import Form, Wishes
from tunesmith.data.labelled import LabelledTexts
from tunesmith.data.left_out_rows import (
    apply_limit,
    contradictions,
    drop_duplicates,
    drop_empty,
    drop_misfits,
    drop_rejected,
    require_rows,
)
from tunesmith.data.marks import ACCEPTED
from tunesmith.data.records import SPLITS, PreparedData, RawData, groups_file, guess_from_dict, guess_to_dict
from tunesmith.data.rows import Rows, batches, open_table
from tunesmith.data.sides import count_crossing_groups, place_rows
from tunesmith.data.split_checks import Side, check_splits
from tunesmith.data.tables import TableWriter, column_names, read_report, write_report
from tunesmith.data.tidied_split import TidiedSplit, tidy
from tunesmith.data.version import reading_version
from tunesmith.files.cache import cached_folder
from tunesmith.files.hashing import hash_json
from tunesmith.files.operations import perform
from tunesmith.types import ColumnChoice, InputError, Problem

_SHAPING = {
    "validation_fraction",
    "test_fraction",
    "split_seed",
    "validation_seed",
    "fold",
    "limit",
    "few_shot",
    "draw",
    "train_fraction",
}
_SHAPING |= {"bad_rows", "tag_scheme", "span_offsets"}
"""Options, beside those of cleaning, that decide which rows come out."""


def prepare(
    raw: RawData, config: DataConfig, choices: Sequence[ColumnChoice], form: type[Form] = LabelledTexts
) -> PreparedData:
    """Bring the rows into canonical columns (one per role, plus ``row``), tidied and split.

    Given splits stay as they are; what is missing is cut from the training rows. When the
    user gave validation rows but no test rows, no test split is made up. ``form`` is the task's
    word on what rows are. Raises ``InputError`` when a chosen column does not exist or nothing is left to train on.
    """
    group = _group_column(raw, config)
    given, problems = _usable_splits(raw, choices)
    if config.fold is not None and "test" in given:
        rows = len(given.pop("test"))
        problems.append(Problem("note", f"The {rows} test rows that were given were set aside: a fold is judged."))
    if config.few_shot is not None and "validation" in given:
        message = f"The {len(given.pop('validation'))} validation rows that were given were set aside: who trains on"
        problems.append(Problem("note", f"{message} so few rows has none to choose by."))
    settings = config.model_dump(mode="json", include=_SHAPING)
    key = hash_json(
        {
            "version": reading_version(form.__module__),
            "splits": {name: dataset.fingerprint for name, dataset in given.items()},
            "choices": [[choice.role, choice.column, choice.is_number] for choice in choices],
            "form": f"{form.__module__}.{form.__qualname__}",
            "group": group,
            "clean": config.clean.model_dump(mode="json"),
            **settings,
            **({"augment": made} if (made := made_rows.settings_key(config.augment)) else {}),
        }
    )

    def build(folder: Path) -> None:
        write_report(folder, *_build(given, config, choices, form, group=group, folder=folder))

    folder = cached_folder("prepared", key, build, hashes=True)
    report, described = read_report(folder)
    hashes: dict[str, str] = report["hashes"]
    return PreparedData(
        splits={name: open_table(folder / f"{name}.arrow", sha256) for name, sha256 in hashes.items()},
        choices=tuple(choices),
        # What was said of splits set aside is not of the rows that the cache's key stands for.
        problems=(*problems, *described),
        hashes=hashes,
        key=key,
        guesses=tuple(map(guess_from_dict, report["guesses"])),
        left_out=report["left_out"],
        folder=folder,
    )


def _group_column(raw: RawData, config: DataConfig) -> str | None:
    columns = column_names(raw.splits["train"])
    if config.group is not None and config.group not in columns:
        raise InputError(
            f"data.group: the data has no column '{config.group}'. {nearest(config.group, columns)}".rstrip(),
            f"Columns: {', '.join(columns)}.",
        )
    return config.group or (raw.group if raw.group in columns else None)


def _usable_splits(raw: RawData, choices: Sequence[ColumnChoice]) -> tuple[dict[str, Rows], list[Problem]]:
    """Return the splits that have all chosen columns; a public test file without labels is set aside."""
    usable, problems = {}, []
    for name, dataset in raw.splits.items():
        columns = column_names(dataset)
        missing = [choice for choice in choices if choice.column not in columns and choice.role != ACCEPTED.name]
        if not missing:
            usable[name] = dataset
            continue
        listed = ", ".join(f"'{choice.column}' ({choice.role})" for choice in missing)
        message = f"The {name} rows have no column {listed}; they have {', '.join(columns)}."
        if name == "train":
            raise InputError(message, "Name existing columns in data.columns.")
        fix = "Nothing is measured on them; give them the same columns as the training rows to change that."
        problems.append(Problem("warning", f"{message} They were set aside.", fix, count=len(dataset)))
    return usable, problems


def _build(
    given: Mapping[str, Rows],
    config: DataConfig,
    choices: Sequence[ColumnChoice],
    kind: type[Form],
    *,
    group: str | None,
    folder: Path,
) -> tuple[dict[str, Any], list[Problem]]:
    """Write all splits to ``folder``; return what its report says of them, and what was noticed.

    The report has their hashes, what was guessed, and how many rows were left out, by the reason.
    """
    wishes = Wishes(scheme=config.tag_scheme, offsets=config.span_offsets, is_strict=config.bad_rows == "refuse")
    form, problems = kind.of(given.values(), choices, wishes)
    guesses = list(map(guess_to_dict, form.guesses()))
    parts = [tidy(name, given[name], form, config, group=group, folder=folder) for name in SPLITS if name in given]
    problems += form.notes()
    misfits = drop_misfits(parts, given, form, config)
    problems += drop_rejected(parts, given, choices)
    drop_empty(parts, form, config)
    drop_duplicates(parts, config)
    if form.label is not None:
        problems += [problem for part in parts for problem in contradictions(part)]
    if config.limit is not None:
        for part in parts:
            apply_limit(part, config.limit)
    require_rows(parts)
    problems += place_rows(
        parts,
        config,
        has_group=group is not None,
        has_labels=form.label is not None,
        are_numbers=any(choice.is_number for choice in choices),
    )
    total, left_out = Tally(), Counter[str]()
    for part in parts:
        total.merge(part.tally)
        left_out.update(part.left_out)
    hashes = _write(parts, form.schema, folder)
    if group is not None:
        _write_groups(parts, folder)
    if made_rows.settings_key(config.augment):
        problems += _augment(config, form, folder, hashes)
    found = check_splits(_finished(parts, form, folder, hashes), count_crossing_groups(parts))
    temporary = [folder / f"tidy-{part.name}.arrow" for part in parts]
    parts.clear()  # closes the temporary tables
    for path in temporary:
        perform("unlink", path, path.unlink)
    report = {"hashes": hashes, "guesses": guesses, "left_out": left_out}
    return report, [*tidy_notes(total), *misfits, *problems, *found]


def _write(parts: Sequence[TidiedSplit], schema: pa.Schema, folder: Path) -> dict[str, str]:
    """Write every split's table and return the hashes of their contents."""
    present = [name for side, name in enumerate(SPLITS) if any((part.sides == side).any() for part in parts)]
    digests = {name: hashlib.sha256() for name in present}
    with ExitStack() as stack:
        writers = {name: stack.enter_context(TableWriter(folder / f"{name}.arrow", schema)) for name in present}
        for part in parts:
            start = 0
            for batch in batches(part.dataset):
                side_of = part.sides[start : start + batch.num_rows]
                for side, name in enumerate(SPLITS):
                    rows = np.flatnonzero(side_of == side)
                    if len(rows):
                        kept = batch.take(pa.array(rows))
                        writers[name].add_batch(kept)
                        digests[name].update(part.keys.digest[start + rows].tobytes())
                start += batch.num_rows
    header = str(schema.remove_metadata()).encode()
    return {name: hashlib.sha256(header + digest.digest()).hexdigest() for name, digest in digests.items()}


def _write_groups(parts: Sequence[TidiedSplit], folder: Path) -> None:
    """Write, for each split, which rows belong together: [N] numbers, equal for rows of one group."""
    for side, name in enumerate(SPLITS):
        groups = np.concatenate([part.keys.groups[part.sides == side] for part in parts])
        if len(groups):
            path = folder / groups_file(name)
            perform("write", path, partial(np.save, path, groups, allow_pickle=False))


def _augment(config: DataConfig, form: Form, folder: Path, hashes: dict[str, str]) -> list[Problem]:
    """Add made rows to the training rows that were written, and to what is known of their groups."""
    assert config.augment is not None
    hashes["train"], sources, problems = made_rows.add_made_rows(
        folder / "train.arrow", form.texts, config.augment, hashes["train"]
    )
    path = folder / groups_file("train")
    if path.exists():
        groups = np.load(path, allow_pickle=False)
        perform("write", path, partial(np.save, path, np.concatenate([groups, groups[sources]]), allow_pickle=False))
    return problems


def _finished(parts: Sequence[TidiedSplit], form: Form, folder: Path, hashes: Mapping[str, str]) -> dict[str, Side]:
    """Return the splits that were written, with what is known of their rows."""
    return {
        name: Side(
            name,
            np.concatenate([part.keys.texts[part.sides == side] for part in parts]),
            [label for part in parts for label in itertools.compress(part.labels, part.sides == side)],
            open_table(folder / f"{name}.arrow", hashes[name]),
            form.texts,
            form.reads_beginning,
        )
        for side, name in enumerate(SPLITS)
        if name in hashes
    }


def left_out_of(raw: RawData, prepared: PreparedData) -> dict[str, int]:
    """Return how many of the user's rows were left out, by the reason: unreadable ones first."""
    unreadable = {"unreadable": len(raw.rejected)} if raw.rejected else {}
    return {**unreadable, **prepared.left_out}
