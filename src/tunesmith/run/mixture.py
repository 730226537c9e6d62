"""Several data sets in one training: read one by one, united, mixed in steps, and judged each apart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tunesmith.data import PreparedData, left_out_of, prepare
from tunesmith.data.config import DataConfig, SetConfig
from tunesmith.data.encoded import Encoded, Ragged
from tunesmith.data.joined import joined
from tunesmith.data.mixture import PreparedSet, told, unite
from tunesmith.engine.mixing import Mix, counts_of
from tunesmith.engine.order import StepPlan
from tunesmith.evaluate import intervals, score
from tunesmith.readable import count, percent
from tunesmith.run.rows import FoundRows, find_rows
from tunesmith.tasks import Task
from tunesmith.tasks.base import Outputs, Targets
from tunesmith.types import ColumnChoice, InputError, Problem

REPLAY = "replay"
"""The split of general texts that are read beside rows of another form; nothing is judged on it."""
FEW, MANY = 0.1, 4.0
"""Epochs of a set below which, and times the training's above which, it is said to be drowned or repeated."""


@dataclass(frozen=True, slots=True)
class MixedSet:
    """One set of a run's mixture."""

    name: str
    config: SetConfig
    choices: tuple[ColumnChoice, ...]


@dataclass(frozen=True, slots=True)
class MixedRows:
    """All sets as one."""

    task: Task
    """As found or given; not bound yet."""
    prepared: PreparedData
    sets: tuple[MixedSet, ...]
    """Those that are one split, in their order; last the one that is a split of its own, where there is one."""
    found: tuple[FoundRows, ...]
    left_out: Mapping[str, int]
    problems: tuple[Problem, ...]


def single(data: DataConfig) -> DataConfig | None:
    """Return what is read where a mixture is one set and nothing more; None where it is more."""
    sets = data.mixture
    return data_of(data, sets[0]) if len(sets) == 1 and sets[0].epochs is None else None


def data_of(data: DataConfig, one: SetConfig) -> DataConfig:
    """Return what is said of one set."""
    own = {"path": one.path, "validation": one.validation, "test": one.test, "columns": one.columns or data.columns}
    shares = {"validation_fraction": 0.0, "test_fraction": 0.0, "augment": None} if one.replay else {}
    return data.changed(**own, **shares, mixture=(), temperature=None)


def read_mixture(data: DataConfig, task: Task | None) -> MixedRows:
    """Read, prepare and unite the sets; the first one that is not replayed says what is learned, unless ``task`` does.

    Raises ``InputError`` with the set's name before each problem.
    """
    if data.path != data.name_of_mixture:
        message = f"data.path ({data.path}) and data.mixture are both given: each says what is read."
        raise InputError(message, f"Give the path as one of the sets: {{path: {data.path}}}.")
    names = dict(zip(map(id, data.mixture), _names(data.mixture), strict=True))
    ordered = sorted(data.mixture, key=lambda one: bool(one.replay))
    found: list[FoundRows] = []
    sets: list[MixedSet] = []
    prepared: list[PreparedData] = []
    for one in ordered:
        with _named(names[id(one)]):
            own = find_rows(data_of(data, one), task)
            found.append(own)
            task = task or own.task
            sets.append(MixedSet(names[id(one)], one, own.choices))
            prepared.append(prepare(own.raw, own.data, own.choices, own.form))
    assert task is not None, "a mixture has a set"
    forms = [own.form for own in found]
    beside = forms[-1] is not forms[0] and bool(ordered[-1].replay)
    together = len(sets) - beside
    if len(set(forms[:together])) > 1 or (beside and task.on_texts() is None):
        listed = ", ".join(f"{one.name}: {form.__name__}" for one, form in zip(sets, forms, strict=True))
        raise InputError(
            f"The sets of the mixture do not hold rows of one form for {task.name} ({listed}).",
            "Bring them into one form, or, where a set is general text for a language model, give it as replay: true.",
        )
    columns = prepared[0].splits["train"].columns()
    texts = tuple(task.texts(columns)) or ("text",)
    needed = {
        name for one in prepared for name in (*task.inputs, *task.truths) if name in one.splits["train"].column_names
    }
    parts = [
        PreparedSet(one.name, own, replayed=bool(one.config.replay))
        for one, own in zip(sets[:together], prepared, strict=False)
    ]
    united = unite(parts, texts, needed, {"task": task.name})
    if beside:
        general = prepared[-1]
        united = replace(
            united,
            splits={**united.splits, REPLAY: general.splits["train"]},
            hashes={**united.hashes, REPLAY: general.hashes["train"]},
            problems=(*united.problems, *(told(sets[-1].name, problem) for problem in general.problems)),
        )
    counts = (Counter(left_out_of(own.raw, one)) for own, one in zip(found, prepared, strict=True))
    between = Counter(united.left_out) - sum((Counter(one.left_out) for one in prepared[:together]), Counter())
    said = tuple(told(one.name, problem) for one, own in zip(sets, found, strict=True) for problem in own.problems)
    return MixedRows(task, united, tuple(sets), tuple(found), sum(counts, between), said)


@contextmanager
def _named(name: str) -> Iterator[None]:
    try:
        yield
    except InputError as error:
        raise InputError([told(name, problem) for problem in error.problems]) from error


def _names(sets: Sequence[SetConfig]) -> list[str]:
    """Return a name for each set: those of equal names get a number."""
    names = [one.name for one in sets]
    return [
        name if names.count(name) == 1 else f"{name} ({names[: place + 1].count(name)})"
        for place, name in enumerate(names)
    ]


# ---- steps ---------------------------------------------------------------------------------------


def with_replayed(rows: Encoded, splits: Mapping[str, Encoded]) -> Encoded:
    """Return the rows to learn from with the general texts behind them, where there are some."""
    return joined(rows, splits[REPLAY]) if REPLAY in splits else rows


def mix_of(sets: Sequence[MixedSet], prepared: PreparedData, rows: Encoded, temperature: float | None) -> Mix | None:
    """Return how the sets of ``rows`` (with general texts behind the others) are mixed; None where there is one set.

    Raises ``InputError`` where nothing of a set can be learned.
    """
    numbers = prepared.sets("train")
    if not sets or numbers is None:
        return None
    of_row = np.full(rows.num_data_rows, len(sets) - 1, dtype=np.int64)
    of_row[: len(numbers)] = numbers
    firsts = rows.samples[:-1]
    of_sample = of_row if rows.rows is None else of_row[np.searchsorted(rows.rows, firsts, side="right") - 1]
    members = tuple(np.flatnonzero(of_sample == number) for number in range(len(sets)))
    if empty := [one.name for one, own in zip(sets, members, strict=True) if not len(own)]:
        raise InputError(f"Nothing of {', '.join(empty)} can be learned.", "Look at the set, or leave it out.")
    return Mix(members, _counts(sets, [len(own) for own in members], temperature))


def _counts(sets: Sequence[MixedSet], sizes: Sequence[int], temperature: float | None) -> tuple[int, ...]:
    """Return how many samples of each set an epoch has."""
    learned = [number for number, one in enumerate(sets) if not one.config.replay]
    own = [sets[number].config for number in learned]
    own_sizes = [sizes[number] for number in learned]
    by_epochs = [size * (one.epochs or 1.0) for one, size in zip(own, own_sizes, strict=True)]
    total = max(round(sum(by_epochs)), 1)
    if any(one.weight is not None for one in own):
        shares = [one.weight or 1.0 for one in own]
    else:
        shares = by_epochs if temperature is None else [size ** (1 / temperature) for size in own_sizes]
    found = dict(zip(learned, counts_of(own_sizes, shares, total), strict=True))
    for number, one in enumerate(sets):
        if share := one.config.replay:
            found[number] = max(round(total * share / (1 - share)), 1)
    return tuple(found[number] for number in range(len(sets)))


def mix_notes(sets: Sequence[MixedSet], mix: Mix, plan: StepPlan, most_epochs: int) -> list[Problem]:
    """Say how often each set is gone through, and warn of those that are drowned or known by heart."""
    drawn = min(plan.total_steps * plan.batch_size, round(plan.epoch_after(plan.total_steps) * plan.num_samples))
    passes = [drawn * number / mix.num_samples / len(own) for number, own in zip(mix.counts, mix.members, strict=True)]
    parts = [
        f"{one.name} {epochs:.2g} times ({count(len(own))} rows, {percent(number / mix.num_samples)} of those read)"
        for one, epochs, own, number in zip(sets, passes, mix.members, mix.counts, strict=True)
    ]
    notes = [Problem("note", f"The training goes through {'; '.join(parts)}.")]
    fix = "Change the shares: weight or epochs of the set, or data.temperature."
    usual = max(most_epochs, plan.epoch_after(plan.total_steps))
    for one, epochs in zip(sets, passes, strict=True):
        if epochs < FEW and not one.config.replay:
            notes.append(Problem("warning", f"Only {percent(epochs)} of the rows of {one.name} are read.", fix))
        elif epochs > MANY * usual:
            notes.append(Problem("warning", f"{one.name} is read {epochs:.0f} times: it will be known by heart.", fix))
    return notes


# ---- judging -------------------------------------------------------------------------------------


def figures_of_sets(
    task: Task,
    outputs: Outputs,
    targets: Targets,
    sets: Sequence[MixedSet],
    numbers: Any,
    *,
    seed: int,
    num_resamples: int,
    confidence: float,
) -> list[dict[str, Any]]:
    """Return the metrics of each set's judged rows apart, with intervals; ``numbers`` [N] says which set each is of."""
    found = []
    for number, one in enumerate(sets):
        rows = np.flatnonzero(numbers == number)
        if not len(rows):
            continue
        own = [rows_of(given, rows) for given in (outputs, targets)]
        scores = score(task, *own, seed=seed, num_resamples=num_resamples, per_label=False)
        found.append({"name": one.name, "num_rows": len(rows), "metrics": intervals(scores, confidence)})
    return found


def rows_of(given: Mapping[str, Any], rows: Any) -> dict[str, Any]:
    """Return what a task keeps of all rows (outputs, or targets) for some of them."""
    return {
        name: values.select(rows) if isinstance(values, Ragged) else np.asarray(values)[rows]
        for name, values in given.items()
    }
