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
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tunesmith.config.base import nearest
from tunesmith.data import split as splitting
from tunesmith.data.augmentation import made_rows
from tunesmith.data.bad_rows import NUM_SHOWN, errors_among, show_row
from tunesmith.data.clean import Tally, is_blank, plural, tidy_notes
from tunesmith.data.config import DataConfig
from tunesmith.data.few_shot import Drawing, class_names, draw_rows
from tunesmith.data.forms import Form, RowKeys, Wishes, row_keys
from tunesmith.data.labelled import LabelledTexts
from tunesmith.data.marks import ACCEPTED, judge_rows
from tunesmith.data.records import SPLITS, PreparedData, RawData, groups_file, guess_from_dict, guess_to_dict
from tunesmith.data.rows import Rows, batches, open_table
from tunesmith.data.split_checks import Side, check_splits
from tunesmith.data.tables import TableWriter, column_names, read_report, write_report
from tunesmith.data.version import reading_version
from tunesmith.files.cache import cached_folder
from tunesmith.files.hashing import hash_json
from tunesmith.files.operations import perform
from tunesmith.types import MAX_ROWS_SHOWN, ColumnChoice, Guess, InputError, Problem

CONTRADICT = "have a text that stands there again with another label"
"""What is said of rows of which not all can be right."""
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


@dataclass
class _Split:
    """One split on its way: what is known of its N rows."""

    name: str
    dataset: Rows
    keys: RowKeys
    labels: list[Any]
    tally: Tally
    keep: npt.NDArray[np.bool_]
    places: pa.ChunkedArray
    is_made: npt.NDArray[np.bool_]
    """[N]: whether a row was made of another one, and is there to train on at most."""
    families: npt.NDArray[np.uint64]
    """[N]: a number that a row has in common with those made of it; 0 for rows of files without made rows."""
    conflicts: list[str] = field(default_factory=list)
    left_out: dict[str, int] = field(default_factory=dict)
    """How many rows were left out, by the reason."""

    def drop(self, what: str, mask: npt.NDArray[np.bool_]) -> None:
        """Leave out the rows of ``mask`` that are still in, and count them."""
        mask = mask & self.keep
        if mask.any():
            self.tally.counts[what] = self.left_out[what] = int(mask.sum())
            self.tally.places[what] = [str(self.places[int(row)]) for row in np.flatnonzero(mask)[:MAX_ROWS_SHOWN]]
            self.keep &= ~mask


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
        guesses: list[Guess] = []
        left_out: Counter[str] = Counter()
        hashes, found = _build(
            given, config, choices, form, group=group, folder=folder, guesses=guesses, left_out=left_out
        )
        described = {"hashes": hashes, "guesses": list(map(guess_to_dict, guesses)), "left_out": left_out}
        write_report(folder, described, found)

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
    guesses: list[Guess],
    left_out: Counter[str],
) -> tuple[dict[str, str], list[Problem]]:
    """Write all splits to ``folder``; return their hashes and what was noticed.

    Adds to ``guesses``, and counts what is ``left_out``.
    """
    wishes = Wishes(scheme=config.tag_scheme, offsets=config.span_offsets, is_strict=config.bad_rows == "refuse")
    form, problems = kind.of(given.values(), choices, wishes)
    guesses += form.guesses()
    parts = [_tidy(name, given[name], form, config, group=group, folder=folder) for name in SPLITS if name in given]
    problems += form.notes()
    misfits = _drop_misfits(parts, given, form, config)
    problems += _drop_rejected(parts, given, choices)
    _drop_empty(parts, form, config)
    _drop_duplicates(parts, config)
    if form.label is not None:
        problems += [problem for part in parts for problem in _contradictions(part)]
    if config.limit is not None:
        for part in parts:
            _apply_limit(part, config.limit)
    _require_rows(parts)
    has_group, has_labels = group is not None, form.label is not None
    if config.few_shot is not None:
        are_classes = has_labels and not any(choice.is_number for choice in choices)
        sides, notes = _draw(parts, config, config.few_shot, has_group=has_group, are_classes=are_classes)
    else:
        sides, notes = _cut(parts, config, has_group=has_group, has_labels=has_labels)
    _place_made(parts, sides)
    if config.clean.leaks:
        _drop_leaks(parts, sides)
    if config.train_fraction < 1:
        _thin(parts, sides, config.train_fraction)
    problems += notes
    total = Tally()
    for part in parts:
        total.merge(part.tally)
    hashes = _write(parts, sides, form.schema, folder)
    if group is not None:
        _write_groups(parts, sides, folder)
    if made_rows.settings_key(config.augment):
        problems += _augment(config, form, folder, hashes)
    finished = {
        name: Side(
            name,
            np.concatenate([part.keys.texts[sides[part.name] == side] for part in parts]),
            [label for part in parts for label in itertools.compress(part.labels, sides[part.name] == side)],
            open_table(folder / f"{name}.arrow", hashes[name]),
            form.texts,
            form.reads_beginning,
        )
        for side, name in enumerate(SPLITS)
        if name in hashes
    }
    found = check_splits(finished, _crossing_groups(parts, sides))
    for part in parts:
        left_out.update(part.left_out)
    temporary = [folder / f"tidy-{part.name}.arrow" for part in parts]
    parts.clear()  # closes the temporary tables
    for path in temporary:
        perform("unlink", path, path.unlink)
    return hashes, [*tidy_notes(total), *misfits, *problems, *found]


def _tidy(name: str, dataset: Rows, form: Form, config: DataConfig, *, group: str | None, folder: Path) -> _Split:
    """Write the split's canonical, tidied rows to a temporary table and learn each row's keys and label."""
    tally = Tally()
    path = folder / f"tidy-{name}.arrow"
    keys: list[RowKeys] = []
    labels: list[Any] = []
    shared: dict[str, Any] = {}
    group_values = batches(dataset, [group]) if group is not None and group in dataset.column_names else None
    is_made, families = _made_of(dataset)
    with TableWriter(path, form.schema) as writer:
        for batch in form.batches(dataset, config.clean, tally):
            writer.add_batch(batch)
            values = next(group_values).column(0).to_pylist() if group_values is not None else None
            if values is not None and group is not None:
                values = form.group_values(group, values, batch)
            keys.append(row_keys(batch, form, values))
            # Few distinct values: rows share one object each.
            labels.extend(shared.setdefault(str(value), value) for value in form.summaries(batch))
    tidied = open_table(path, hash_json([name, config.model_dump(mode="json")]))
    num_rows = writer.num_rows
    return _Split(
        name,
        tidied,
        RowKeys.join(keys),
        labels or [None] * num_rows,
        tally,
        np.ones(num_rows, dtype=np.bool_),
        tidied.table.column("row"),
        is_made,
        families,
    )


def _drop_misfits(parts: Sequence[_Split], given: Mapping[str, Rows], form: Form, config: DataConfig) -> list[Problem]:
    """Leave out the rows that do not fit their form (``make_batch`` has counted them), or refuse them if too many."""
    found: list[Problem] = []
    for part in parts:
        fits = [form.fits(batch) for batch in batches(part.dataset)]
        part.keep &= np.concatenate([np.zeros(0, dtype=np.bool_), *fits])
        shown = {misfit.what: _shown(part, given[part.name], form, misfit.what) for misfit in form.misfits}
        part.left_out |= {
            misfit.recorded or misfit.what: part.tally.counts[misfit.what]
            for misfit in form.misfits
            if misfit.what in part.tally.counts
        }
        found += form.misfit_notes(part.tally, part.name, len(part.keep), config.bad_rows, shown)
    if errors := errors_among(found):
        raise InputError(errors)
    return found


def _shown(part: _Split, dataset: Rows, form: Form, what: str) -> list[str]:
    """Return the first rows that something is wrong with as the user wrote them, by the columns that are used."""
    names = list(dict.fromkeys(name for columns in form.columns.values() for name in columns))
    shown = []
    for place in part.tally.places.get(what, [])[:NUM_SHOWN]:
        row = pc.index(part.places, place).as_py()
        cells = "; ".join(f"{name}: {dataset.table.column(name)[row].as_py()}" for name in names)
        shown.append(f"{place}: {show_row(cells)}")
    return shown


def _drop_rejected(
    parts: Sequence[_Split], given: Mapping[str, Rows], choices: Sequence[ColumnChoice]
) -> list[Problem]:
    """Leave out the rows that a mark says are not to be learned from; say how many, and how many it accepts."""
    name = next((choice.column for choice in choices if choice.role == ACCEPTED.name), None)
    marked = [part for part in parts if name is not None and name in given[part.name].column_names]
    if name is None or not marked:
        return []
    # One meaning for all splits: silence of one means what it means in the others.
    values = [list(given[part.name][name]) for part in marked]
    verdicts = judge_rows(name, [value for split in values for value in split])
    total, first = Tally(), 0
    for part, split in zip(marked, values, strict=True):
        rows = slice(first, first + len(split))
        first += len(split)
        part.drop("rejected", verdicts.is_rejected[rows])
        part.drop("not accepted", verdicts.is_silent[rows])
        total.merge(part.tally)
    num_kept = sum(int(part.keep.sum()) for part in marked)
    fix = f"Learn of every row with data.columns.{ACCEPTED.name} none."
    message = f"{{rows}} left out that column '{name}' marks as rejected; {plural(num_kept)} accepted."
    silent = f"{{rows}} left out because column '{name}' neither accepts nor rejects them."
    return [
        *total.problem("rejected", message, fix, is_warning=True),
        *total.problem("not accepted", silent, fix, is_warning=True),
    ]


def _drop_empty(parts: Sequence[_Split], form: Form, config: DataConfig) -> None:
    if not config.clean.empty_rows:
        return
    for part in parts:
        texts = [np.zeros(0, dtype=np.bool_)]
        labels = [np.zeros(0, dtype=np.bool_)]
        for batch in batches(part.dataset):
            blank = np.zeros(batch.num_rows, dtype=np.bool_)
            for name in form.texts:
                blank |= is_blank(batch.column(name))
            texts.append(blank)
            if form.label is not None:
                labels.append(form.unlabelled(batch))
        part.drop("empty text", np.concatenate(texts))
        if form.label is not None:
            part.drop(form.without_label, np.concatenate(labels))


def _drop_duplicates(parts: Sequence[_Split], config: DataConfig) -> None:
    """Leave out repeated rows of each split."""
    for part in parts:
        rows = np.flatnonzero(part.keep)
        if config.clean.duplicates and len(rows):
            _, first = np.unique(part.keys.identity[rows], return_index=True)
            repeated = np.zeros(len(part.keep), dtype=np.bool_)
            repeated[rows] = True
            repeated[rows[first]] = False
            part.drop("duplicate", repeated)


def _contradictions(part: _Split) -> list[Problem]:
    """Report rows with the same texts and different labels."""
    rows = np.flatnonzero(part.keep)
    _, of_text, counts = np.unique(part.keys.exact[rows], return_inverse=True, return_counts=True)
    repeated = rows[counts[of_text] > 1]
    seen: dict[int, set[int]] = {}
    for row in repeated:
        seen.setdefault(int(part.keys.exact[row]), set()).add(int(part.keys.whole[row]))
    clashing = [row for row in repeated if len(seen[int(part.keys.exact[row])]) > 1]
    if not clashing:
        return []
    clashing.sort(key=lambda row: (int(part.keys.exact[row]), row))
    return [
        Problem(
            "warning",
            f"{plural(len(clashing))} of {part.name} {CONTRADICT}; kept.",
            "Decide which label is right: nothing can be learned from both.",
            count=len(clashing),
            rows=tuple(str(part.places[int(row)]) for row in clashing[:MAX_ROWS_SHOWN]),
        )
    ]


def _apply_limit(part: _Split, limit: int) -> None:
    rows = np.flatnonzero(part.keep & ~part.is_made)
    if len(rows) <= limit:
        return
    strata = splitting.strata([part.labels[row] for row in rows])
    keep = splitting.first_by_content(part.keys.identity[rows], strata, limit)
    beyond = np.zeros(len(part.keep), dtype=np.bool_)
    beyond[rows[~keep]] = True
    part.drop("limit", beyond)
    part.tally.places["limit"] = []  # left out on purpose: nobody needs to look for them


def _thin(parts: Sequence[_Split], sides: Mapping[str, npt.NDArray[np.int8]], share: float) -> None:
    """Keep a share of the rows to train on, at least one."""
    for part in parts:
        rows = np.flatnonzero(sides[part.name] == splitting.TRAIN)
        if len(rows):
            strata = splitting.strata([part.labels[row] for row in rows])
            keep = splitting.first_by_content(part.keys.identity[rows], strata, max(1, round(share * len(rows))))
            sides[part.name][rows[~keep]] = -1
            part.left_out["not of the share to train on"] = int((~keep).sum())


def _require_rows(parts: Sequence[_Split]) -> None:
    for part in parts:
        if not part.keep.any():
            reasons = ", ".join(f"{count} {what}" for what, count in part.left_out.items())
            raise InputError(
                f"Of {len(part.keep)} {part.name} rows none can be used ({reasons or 'there are none'}).",
                "Check data.columns: is the text in the chosen text column, the label in the label column?",
            )


def _cut(
    parts: Sequence[_Split], config: DataConfig, *, has_group: bool, has_labels: bool
) -> tuple[dict[str, npt.NDArray[np.int8]], list[Problem]]:
    """Return each part's sides ([N]: index into SPLITS, -1 where a row is left out), and what was decided."""
    names = {part.name for part in parts}
    sides = {part.name: np.where(part.keep, SPLITS.index(part.name), -1).astype(np.int8) for part in parts}
    validation = 0.0 if "validation" in names else config.validation_fraction
    test = 0.0 if names & {"validation", "test"} else config.test_fraction
    notes = []
    if "validation" in names and "test" not in names and config.fold is None:
        notes.append(
            Problem(
                "note",
                "There are validation rows but no test rows: the final figures come from the validation rows, "
                "which also choose the best step, and are therefore a little too good.",
                "Give test rows as data.test.",
            )
        )
    fold = config.fold_numbers
    if validation + test > 0 or fold is not None:
        part = parts[0]
        rows = np.flatnonzero(part.keep & ~part.is_made)
        units = splitting.make_units(part.keys.texts[rows], part.keys.groups[rows] if has_group else None)
        strata = (
            np.zeros(len(rows), dtype=np.int64) if has_group else splitting.strata([part.labels[row] for row in rows])
        )
        how = "by content, whole groups" if has_group else "by content, the same mix of labels"
        how = how if has_group or has_labels else "by content"
        if fold is not None:
            sides[part.name][rows] = splitting.cut_fold(
                units, strata, fold, validation, seed=config.split_seed, validation_seed=config.validation_seed
            )
            notes.append(_fold_note(sides, config, how))
            return sides, notes
        seeds = {splitting.TEST: config.split_seed, splitting.VALIDATION: config.split_seed}
        if config.validation_seed is not None:
            seeds[splitting.VALIDATION] = config.validation_seed
        cut = splitting.cut(units, strata, validation, test, lambda side, keys: splitting.drawn(keys, seeds[side]))
        sides[part.name][rows] = cut
        notes.append(_cut_note(cut, validation, test, how))
    return sides, notes


def _draw(
    parts: Sequence[_Split], config: DataConfig, shots: int, *, has_group: bool, are_classes: bool
) -> tuple[dict[str, npt.NDArray[np.int8]], list[Problem]]:
    """Return each part's sides, as ``_cut`` does, where few training rows are drawn and the others judged on."""
    sides = {part.name: np.where(part.keep, SPLITS.index(part.name), -1).astype(np.int8) for part in parts}
    part, has_test = parts[0], "test" in sides
    rows = np.flatnonzero(part.keep & ~part.is_made)
    drawing = draw_rows(
        class_names([part.labels[row] for row in rows], are_classes=are_classes),
        splitting.make_units(part.keys.texts[rows], part.keys.groups[rows] if has_group else None),
        part.keys.identity[rows],
        shots,
        config.draw_numbers,
        seed=config.split_seed,
        keeps_rest=not has_test,
    )
    sides[part.name][rows] = -1
    sides[part.name][rows[drawing.chosen]] = splitting.TRAIN
    if not has_test:
        sides[part.name][rows[drawing.is_free]] = splitting.TEST
    unused = np.zeros(len(part.keep), dtype=np.bool_)
    unused[rows] = sides[part.name][rows] < 0
    part.drop("not drawn", unused)
    part.tally.places["not drawn"] = []  # on purpose, as those beyond a limit
    if not has_test and not drawing.is_free.any():
        raise InputError(
            f"data.few_shot: {shots} rows of each class, drawn {config.draw_numbers[1]} times, leave none of "
            f"{len(rows)} rows to judge on.",
            "Draw fewer rows, or give test rows as data.test.",
        )
    return sides, _draw_notes(drawing, config, shots, int(unused.sum()), has_test=has_test)


def _draw_notes(drawing: Drawing, config: DataConfig, shots: int, num_unused: int, *, has_test: bool) -> list[Problem]:
    (number, num_draws), are_classes = config.draw_numbers, drawing.num_classes > 1
    each = f"{shots} of each of {drawing.num_classes} classes" if are_classes else f"{shots} in all"
    which = f"draw {number + 1} of {num_draws}, " if num_draws > 1 else ""
    others = "The others are not used" if has_test else f"{int(drawing.is_free.sum())} others are test rows"
    unused = (
        f"; {num_unused} are neither, since other draws have them, or rows of their text or group"
        if num_unused and not has_test
        else ""
    )
    message = f"{int(drawing.chosen.sum())} rows were drawn to train on ({which}{each}). {others}{unused}."
    notes = [Problem("note", message, "data.split_seed draws others.")]
    if drawing.short:
        listed = ", ".join(repr(name) for name in drawing.short[:NUM_SHOWN])
        more = f" and {len(drawing.short) - NUM_SHOWN} more" if len(drawing.short) > NUM_SHOWN else ""
        what = f"Of {listed}{more} there are fewer than {shots} rows to draw." if are_classes else ""
        what = what or f"There are fewer than {shots} rows to draw."
        notes.append(Problem("warning", what, "Give more of their rows, or a smaller data.few_shot."))
    if drawing.overlap:
        what = "Draws have rows in common, since there are too few for all of them: intervals are a little too narrow."
        notes.append(Problem("warning", what, "Give more rows, or ask for fewer draws."))
    return notes


def _fold_note(sides: Mapping[str, npt.NDArray[np.int8]], config: DataConfig, how: str) -> Problem:
    counts = [sum(int((found == side).sum()) for found in sides.values()) for side in range(len(SPLITS))]
    return Problem(
        "note",
        f"Fold {config.fold} of the training rows ({how}) is judged: {counts[splitting.TEST]} test rows, "
        f"{counts[splitting.VALIDATION]} validation rows, {counts[splitting.TRAIN]} to train on.",
    )


def _cut_note(cut: npt.NDArray[np.int8], validation: float, test: float, how: str) -> Problem:
    counts = [int((cut == side).sum()) for side in range(3)]
    made = [
        f"{count} {name}"
        for name, count, share in zip(SPLITS[1:], counts[1:], (validation, test), strict=True)
        if share > 0
    ]
    wanted = validation + test
    is_far = abs(sum(counts[1:]) / len(cut) - wanted) > max(0.5 * wanted, 1.0 / len(cut))
    advice = "Large groups or much repeated texts make the parts uneven." if is_far else ""
    return Problem(
        "warning" if is_far else "note",
        f"{' and '.join(made)} rows were cut from the training rows ({how}); {counts[0]} are left to train on.",
        advice,
    )


def _made_of(dataset: Rows) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.uint64]]:
    """Return which rows of a file were made of others, and the number that they have in common with their sources."""
    size = len(dataset)
    if not made_rows.has_made_rows(dataset.column_names):
        return np.zeros(size, dtype=np.bool_), np.zeros(size, dtype=np.uint64)
    is_made = [bool(str(way or "").strip()) for way in dataset[made_rows.MADE_BY]]
    families = [splitting.key_of(str(source)) if source else 0 for source in dataset[made_rows.MADE_FROM]]
    return np.array(is_made, dtype=np.bool_), np.array(families, dtype=np.uint64)


def _place_made(parts: Sequence[_Split], sides: dict[str, npt.NDArray[np.int8]]) -> None:
    """Put made rows beside the training rows that they were made of; leave out all others of them."""
    train = parts[0]
    trained = train.families[(sides["train"] == splitting.TRAIN) & ~train.is_made]
    for part in parts:
        goes = part.is_made & np.isin(part.families, trained) if part is train else np.zeros_like(part.is_made)
        others = part.is_made & ~goes
        part.drop("made of rows that are not trained on", others)
        sides[part.name][goes & part.keep] = splitting.TRAIN
        sides[part.name][others] = -1


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


def _drop_leaks(parts: Sequence[_Split], sides: dict[str, npt.NDArray[np.int8]]) -> None:
    """Leave out training rows whose texts also stand in validation or test."""
    train = parts[0]
    held_out = np.concatenate([part.keys.texts[sides[part.name] > 0] for part in parts])
    leaking = np.isin(train.keys.texts, held_out) & (sides["train"] == 0)
    train.drop("leak", leaking)
    sides["train"][leaking] = -1
    _require_rows([train])


def _crossing_groups(parts: Sequence[_Split], sides: Mapping[str, npt.NDArray[np.int8]]) -> int:
    """Return how many groups have rows on several sides (only splits that were given can cross)."""
    groups = np.concatenate([part.keys.groups for part in parts])
    side_N = np.concatenate([sides[part.name] for part in parts])
    counts = (groups != 0) & (side_N >= 0)
    # Each group once for every side: one that is there several times has several sides.
    sides_of = [np.unique(groups[counts & (side_N == side)]) for side in np.unique(side_N[counts])]
    _, num_sides = np.unique(np.concatenate(sides_of) if sides_of else groups[:0], return_counts=True)
    return int((num_sides > 1).sum())


def _write(
    parts: Sequence[_Split], sides: Mapping[str, npt.NDArray[np.int8]], schema: pa.Schema, folder: Path
) -> dict[str, str]:
    """Write every split's table and return the hashes of their contents."""
    present = [name for side, name in enumerate(SPLITS) if any((found == side).any() for found in sides.values())]
    digests = {name: hashlib.sha256() for name in present}
    with ExitStack() as stack:
        writers = {name: stack.enter_context(TableWriter(folder / f"{name}.arrow", schema)) for name in present}
        for part in parts:
            start = 0
            for batch in batches(part.dataset):
                side_of = sides[part.name][start : start + batch.num_rows]
                for side, name in enumerate(SPLITS):
                    rows = np.flatnonzero(side_of == side)
                    if len(rows):
                        kept = batch.take(pa.array(rows))
                        writers[name].add_batch(kept)
                        digests[name].update(part.keys.digest[start + rows].tobytes())
                start += batch.num_rows
    header = str(schema.remove_metadata()).encode()
    return {name: hashlib.sha256(header + digest.digest()).hexdigest() for name, digest in digests.items()}


def _write_groups(parts: Sequence[_Split], sides: Mapping[str, npt.NDArray[np.int8]], folder: Path) -> None:
    """Write, for each split, which rows belong together: [N] numbers, equal for rows of one group."""
    for side, name in enumerate(SPLITS):
        groups = np.concatenate([part.keys.groups[sides[part.name] == side] for part in parts])
        if len(groups):
            path = folder / groups_file(name)
            perform("write", path, partial(np.save, path, groups, allow_pickle=False))


def left_out_of(raw: RawData, prepared: PreparedData) -> dict[str, int]:
    """Return how many of the user's rows were left out, by the reason: unreadable ones first."""
    unreadable = {"unreadable": len(raw.rejected)} if raw.rejected else {}
    return {**unreadable, **prepared.left_out}
