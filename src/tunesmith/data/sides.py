"""On which side every row goes: to train on, to choose by, to judge on, or out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tunesmith.data import split as splitting
from tunesmith.data.bad_rows import NUM_SHOWN
from tunesmith.data.config import DataConfig
from tunesmith.data.few_shot import Drawing, class_names, draw_rows
from tunesmith.data.left_out_rows import require_rows
from tunesmith.data.records import SPLITS
from tunesmith.data.tidied_split import TidiedSplit
from tunesmith.types import InputError, Problem


def place_rows(
    parts: Sequence[TidiedSplit], config: DataConfig, *, has_group: bool, has_labels: bool, are_numbers: bool
) -> list[Problem]:
    """Decide on which side every row is (``TidiedSplit.sides``); return what was decided.

    Given splits stay as they are; what is missing is cut, or drawn, from the training rows. Raises ``InputError`` where
    there are too few rows.
    """
    if config.few_shot is not None:
        are_classes = has_labels and not are_numbers
        notes = _draw(parts, config, config.few_shot, has_group=has_group, are_classes=are_classes)
    else:
        notes = _cut(parts, config, has_group=has_group, has_labels=has_labels)
    _leave_out_made(parts)
    if config.clean.leaks:
        _drop_leaks(parts)
    if config.train_fraction < 1:
        _thin(parts, config.train_fraction)
    return notes


def _cut(parts: Sequence[TidiedSplit], config: DataConfig, *, has_group: bool, has_labels: bool) -> list[Problem]:
    """Cut what was not given, or a fold, from the training rows; return what was decided."""
    names = {part.name for part in parts}
    validation = 0.0 if "validation" in names else config.validation_fraction
    test = 0.0 if names & {"validation", "test"} else config.test_fraction
    fold = config.fold_numbers
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
    if validation + test == 0 and fold is None:
        return notes
    part = parts[0]
    rows = np.flatnonzero(part.keep & ~part.is_made)
    units = splitting.make_units(part.keys.texts[rows], part.keys.groups[rows] if has_group else None)
    if has_group:
        how, strata = "by content, whole groups", np.zeros(len(rows), dtype=np.int64)
    else:
        how = "by content, the same mix of labels" if has_labels else "by content"
        strata = splitting.strata([part.labels[row] for row in rows])
    if fold is not None:
        part.sides[rows] = splitting.cut_fold(
            units, strata, fold, validation, seed=config.split_seed, validation_seed=config.validation_seed
        )
        return [*notes, _fold_note(parts, config, how)]
    seeds = {splitting.TEST: config.split_seed, splitting.VALIDATION: config.split_seed}
    if config.validation_seed is not None:
        seeds[splitting.VALIDATION] = config.validation_seed
    cut = splitting.cut(units, strata, validation, test, lambda side, keys: splitting.drawn(keys, seeds[side]))
    part.sides[rows] = cut
    return [*notes, _cut_note(cut, validation, test, how)]


def _draw(
    parts: Sequence[TidiedSplit], config: DataConfig, shots: int, *, has_group: bool, are_classes: bool
) -> list[Problem]:
    """Draw few training rows and leave the others to be judged on; return what was decided."""
    part, has_test = parts[0], any(other.name == "test" for other in parts)
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
    if not has_test and not drawing.is_free.any():
        raise InputError(
            f"data.few_shot: {shots} rows of each class, drawn {config.draw_numbers[1]} times, leave none of "
            f"{len(rows)} rows to judge on.",
            "Draw fewer rows, or give test rows as data.test.",
        )
    used = drawing.chosen if has_test else drawing.chosen | drawing.is_free
    part.sides[rows[drawing.chosen]] = splitting.TRAIN
    if not has_test:
        part.sides[rows[drawing.is_free]] = splitting.TEST
    unused = np.zeros(len(part.keep), dtype=np.bool_)
    unused[rows[~used]] = True
    part.drop("not drawn", unused, are_named=False)
    return _draw_notes(drawing, config, shots, int(unused.sum()), has_test=has_test)


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


def _fold_note(parts: Sequence[TidiedSplit], config: DataConfig, how: str) -> Problem:
    counts = [sum(int((part.sides == side).sum()) for part in parts) for side in range(len(SPLITS))]
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


def _leave_out_made(parts: Sequence[TidiedSplit]) -> None:
    """Leave out made rows, but for those beside the training rows that they were made of."""
    train = parts[0]
    trained = train.families[(train.sides == splitting.TRAIN) & ~train.is_made]
    for part in parts:
        stays = np.isin(part.families, trained) if part is train else np.zeros_like(part.is_made)
        part.drop("made of rows that are not trained on", part.is_made & ~stays)


def _drop_leaks(parts: Sequence[TidiedSplit]) -> None:
    """Leave out training rows whose texts also stand in validation or test."""
    train = parts[0]
    held_out = np.concatenate([part.keys.texts[part.sides > splitting.TRAIN] for part in parts])
    train.drop("leak", np.isin(train.keys.texts, held_out) & (train.sides == splitting.TRAIN))
    require_rows([train])


def _thin(parts: Sequence[TidiedSplit], share: float) -> None:
    """Keep a share of the rows to train on, at least one."""
    for part in parts:
        rows = np.flatnonzero(part.sides == splitting.TRAIN)
        if len(rows):
            strata = splitting.strata([part.labels[row] for row in rows])
            keep = splitting.first_by_content(part.keys.identity[rows], strata, max(1, round(share * len(rows))))
            part.sides[rows[~keep]] = -1
            part.left_out["not of the share to train on"] = int((~keep).sum())


def count_crossing_groups(parts: Sequence[TidiedSplit]) -> int:
    """Return how many groups have rows on several sides (only splits that were given can cross)."""
    groups = np.concatenate([part.keys.groups for part in parts])
    side_N = np.concatenate([part.sides for part in parts])
    counts = (groups != 0) & (side_N >= 0)
    # Each group once for every side: one that is there several times has several sides.
    sides_of = [np.unique(groups[counts & (side_N == side)]) for side in np.unique(side_N[counts])]
    _, num_sides = np.unique(np.concatenate(sides_of) if sides_of else groups[:0], return_counts=True)
    return int((num_sides > 1).sum())
