"""Texts with what is to be made of them: a source, and one or several targets that are equally right."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
import pyarrow as pa

from tunesmith.data.clean import Tally, tidy_parts
from tunesmith.data.columns import is_id_like, matching_name
from tunesmith.data.config import CleanConfig
from tunesmith.data.conversations import (
    COMPLETION,
    GRADE_NAMES,
    LOOSE_SOURCES,
    PROMPT,
    SOURCES,
    TARGETS,
    TARGETS_OF_ANYTHING,
)
from tunesmith.data.forms import Columns, Form, Misfit, Wishes, plain_text, require_columns
from tunesmith.data.languages import LANGUAGES
from tunesmith.data.records import ROW
from tunesmith.data.rows import Rows, nested_columns
from tunesmith.data.tables import column_names
from tunesmith.types import ColumnChoice, ColumnKind, ColumnProfile, Problem, Role

SOURCE, TARGET = "source", "target"

_KINDS: tuple[ColumnKind, ...] = ("text", "category", "list", "integer", "float", "object", "boolean")
SOURCE_ROLE = Role(SOURCE, (), _KINDS, purpose="the text that is read")
TARGET_ROLE = Role(TARGET, (), _KINDS, purpose="what is to be written; a list holds several that are equally right")


class TextToText(Form):
    """``source``, a text, and ``target``, a list of texts."""

    truths: ClassVar[tuple[str, ...]] = (TARGET,)
    misfits: ClassVar[tuple[Misfit, ...]] = (
        Misfit("no source", "there is no text to read in them.", recorded="without a source"),
        Misfit("no target", "nothing is there that is to be written.", recorded="without a target"),
        Misfit("no texts", "they hold something other than a text or a list of texts.", refuses_prediction=True),
    )
    fitting = TARGET

    def __init__(self, columns: Columns, *, for_prediction: bool) -> None:
        fields = [(SOURCE, pa.string())]
        if TARGET in columns:
            fields.append((TARGET, pa.list_(pa.string())))
        super().__init__(columns, fields, [SOURCE])
        self._for_prediction = for_prediction
        self._num_several = self._num_rows = 0

    @classmethod
    def learn(
        cls,
        datasets: Sequence[Rows],  # noqa: ARG003 (nothing is to be learned from them)
        columns: Columns,
        wishes: Wishes,
    ) -> tuple[Self, list[Problem]]:
        return cls(columns, for_prediction=wishes.for_prediction), []

    @classmethod
    def choices_for(cls, path: str, dataset: Rows, choices: Sequence[ColumnChoice]) -> list[ColumnChoice]:
        """Return which columns of a file to predict on fill the roles: its only column, or those of the training."""
        columns = column_names(dataset)
        sources = [choice for choice in choices if choice.role == SOURCE]
        targets = [choice for choice in choices if choice.role == TARGET and choice.column in columns]
        if len(columns) == 1 and len(sources) == 1 and sources[0].column not in columns:
            return [ColumnChoice(SOURCE, columns[0], "the only column")]
        require_columns(path, columns, sources)
        return [*sources, *targets]

    def contents(self, batch: pa.RecordBatch) -> list[Any]:
        targets = batch.column(TARGET).to_pylist() if TARGET in self.columns else [None] * batch.num_rows
        return [repr(texts) for texts in targets]

    def make_batch(self, batch: pa.RecordBatch, clean: CleanConfig, tally: Tally) -> pa.RecordBatch:
        places, nested = batch.column(ROW), nested_columns(batch.schema)
        given = {role: [batch.column(name).to_pylist() for name in names] for role, names in self.columns.items()}
        are_nested = {role: any(name in nested for name in names) for role, names in self.columns.items()}
        flaws = [""] * batch.num_rows
        read: list[list[str]] = []
        wanted: list[list[str]] = []
        for row in range(batch.num_rows):
            try:
                parts = _texts([cells[row] for cells in given[SOURCE]], is_nested=are_nested[SOURCE])
                cells_of_target = [cells[row] for cells in given.get(TARGET, ())]
                targets = _texts(cells_of_target, is_nested=are_nested.get(TARGET, False))
            except _NoTextsError:
                flaws[row], parts, targets = "no texts", [], []
            read.append([" ".join(parts)])
            wanted.append(targets)
        sources = tidy_parts(read, clean, tally, places)
        targets_N = [
            list(dict.fromkeys(text for text in texts if text.strip()))
            for texts in tidy_parts(wanted, clean, tally, places)
        ]
        for row, (texts, targets) in enumerate(zip(sources, targets_N, strict=True)):
            if not flaws[row] and not self._for_prediction:
                flaws[row] = "no source" if not texts[0].strip() else "" if targets else "no target"
        for misfit in self.misfits:
            tally.add(misfit.what, np.array([flaw == misfit.what for flaw in flaws], dtype=np.bool_), places)
        self._num_rows += flaws.count("")
        self._num_several += sum(len(texts) > 1 for texts in targets_N)
        arrays = [pa.array([text for (text,) in sources], pa.string())]
        if TARGET in self.columns:
            fitting = [None if flaw else texts for flaw, texts in zip(flaws, targets_N, strict=True)]
            arrays.append(pa.array(fitting, pa.list_(pa.string())))
        return pa.RecordBatch.from_arrays([*arrays, places], schema=self.schema)

    def notes(self) -> list[Problem]:
        if not self._num_several:
            return []
        message = f"{self._num_several} of {self._num_rows} rows have several targets: each of them is learned, and an "
        message += "answer is judged by all of them."
        return [Problem("note", message, count=self._num_several)]


class _NoTextsError(ValueError):
    """Cells hold something other than texts."""


def _texts(cells: Sequence[Any], *, is_nested: bool) -> list[str]:
    """Return the texts of a row's cells: each is one, or a list of several."""
    found: list[str] = []
    for cell in cells:
        value = cell
        if isinstance(cell, str) and is_nested:
            try:
                value = json.loads(cell)
            except (ValueError, RecursionError):
                value = cell
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, (str, int, float)):
                found.append(item if isinstance(item, str) else plain_text(item))
            elif item is not None:
                raise _NoTextsError
    return found


# ---- columns -------------------------------------------------------------------------------------


def pair_roles(profiles: Mapping[str, ColumnProfile], overrides: Mapping[str, str]) -> tuple[Role, ...]:
    """Return the roles of source and target, each with the name of the column that is meant for it.

    Columns are meant by what they are called (``source`` and ``target``, an article and its summary, two languages),
    else, where there are just two texts, by their order. ``overrides`` are the user's own word.
    """
    pair = named_pair(profiles) or _asked_pair(profiles)
    names: dict[str, tuple[str, str]] = {} if pair is None else {SOURCE: pair[:2], TARGET: (pair[2], pair[3])}
    if (given := set(overrides) & {SOURCE, TARGET}) and len(given) == 1:
        names = _beside_given(profiles, overrides, names)
    roles = []
    for role in (SOURCE_ROLE, TARGET_ROLE):
        name, reason = names.get(role.name, ("", ""))
        listed = (name.strip().lower(),) if name else ()
        roles.append(Role(role.name, listed, role.kinds, True, role.purpose, reason))
    return tuple(roles)


def _beside_given(
    profiles: Mapping[str, ColumnProfile], overrides: Mapping[str, str], names: Mapping[str, tuple[str, str]]
) -> dict[str, tuple[str, str]]:
    """Return the other column where the user has named one: the other language of a pair, or the only other text."""
    ((role, taken),) = ((role, overrides[role]) for role in (SOURCE, TARGET) if role in overrides)
    other = TARGET if role == SOURCE else SOURCE
    candidates = [name for name, _ in names.values() if name != taken]
    if len(candidates) != 1 or taken not in {name for name, _ in names.values()}:
        candidates = [name for name in _texts_of(profiles) if name != taken]
    return {other: (candidates[0], f"the text beside '{taken}'")} if len(candidates) == 1 else {}


def named_pair(profiles: Mapping[str, ColumnProfile]) -> tuple[str, str, str, str] | None:
    """Return the columns of source and target with a reason each, where their names say so: (source, why, target, why).

    Raises nothing: columns of which nobody can tell are none.
    """
    names = {name.strip().lower() for name in profiles}
    for sources, graded in ((SOURCES, GRADE_NAMES), (LOOSE_SOURCES, f"{GRADE_NAMES} category topic genre section")):
        if names & set(graded.split()):
            continue
        source = _named(profiles, f"source src {sources}")
        target = _named(profiles, f"target tgt {TARGETS}", but=source)
        if source is None or target is None:
            continue
        is_loose = sources is LOOSE_SOURCES
        if is_loose and matching_name(target.name, tuple(TARGETS_OF_ANYTHING), exact=True) is None:
            continue
        if source.mean_length and target.mean_length >= 4 * source.mean_length:
            continue
        return source.name, "by its name", target.name, f"what is made of '{source.name}', by its name"
    languages = [name for name in _texts_of(profiles) if name.strip().lower().replace("-", "_") in LANGUAGES]
    if len(languages) == 2 and len(_texts_of(profiles)) == 2:
        first, second = languages
        how = f"; for the other way round: data.columns.source {second}"
        return first, f"the first of two languages{how}", second, "the second of two languages"
    return None


def _asked_pair(profiles: Mapping[str, ColumnProfile]) -> tuple[str, str, str, str] | None:
    """Return the columns that serve where nothing says so but the user's word for the task."""
    question = _named(profiles, " ".join(PROMPT.names))
    answer = _named(profiles, " ".join(COMPLETION.names), but=question)
    if question is not None and answer is not None:
        return question.name, "by its name", answer.name, f"the answer to '{question.name}', by its name"
    texts = _texts_of(profiles)
    if len(texts) == 2:
        return texts[0], "the first of two texts", texts[1], "the second of two texts"
    lists = [name for name, column in profiles.items() if column.kind == "list" and _may_be_texts(column)]
    lists = [name for name in lists if profiles[name].num_distinct > 1]
    if len(texts) == len(lists) == 1:
        return texts[0], "the only text", lists[0], "the only lists of texts"
    return None


def _texts_of(profiles: Mapping[str, ColumnProfile]) -> list[str]:
    return [name for name, column in profiles.items() if column.kind == "text" and not is_id_like(column)]


def _named(profiles: Mapping[str, ColumnProfile], names: str, but: ColumnProfile | None = None) -> ColumnProfile | None:
    """Return the column of texts, or of lists of them, that is called by one of some names, by their order."""
    wanted = tuple(names.split())
    found = [
        (wanted.index(name), column)
        for column in profiles.values()
        if column is not but and _may_be_texts(column)
        and (name := matching_name(column.name, wanted, exact=True)) is not None
    ]  # fmt: skip
    return min(found, key=lambda pair: pair[0])[1] if found else None


def _may_be_texts(column: ColumnProfile) -> bool:
    if column.kind == "list":  # of numbers, or of a few words each, it is no list of texts
        return bool(column.examples) and all(example[:2] in ("['", '["') for example in column.examples)
    return column.kind == "text" and not is_id_like(column)
