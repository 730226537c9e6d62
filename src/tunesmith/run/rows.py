"""From what the user named to rows with a task: the same for a run and for a look at the data."""

from __future__ import annotations

from dataclasses import dataclass, replace

from tunesmith.data import DataConfig, RawData, assign_roles, profile, read
from tunesmith.data.augmentation.made_rows import MADE_BY, MADE_FROM, has_made_rows
from tunesmith.data.columns import unused_columns
from tunesmith.data.forms import Form
from tunesmith.data.misread_columns import refuse_compared_answers, refuse_single_messages
from tunesmith.tasks import Task, detect
from tunesmith.types import ColumnChoice, ColumnProfile, InputError, Problem

MAX_UNUSED = 8
"""Columns that a note names."""
MIN_GROUPS = 20
"""Fewer groups than these cannot be cut into parts of the sizes asked for."""
NO_ROWS = "Give a file with at least a few rows."
PASSAGE = 2000
"""Characters of a passage, where the task joins lines and the user does not say how."""


@dataclass(frozen=True, slots=True)
class FoundRows:
    """Rows as they were read, and what is to be learned from them."""

    raw: RawData
    data: DataConfig
    """As given, with what the task decides filled in."""
    profiles: dict[str, ColumnProfile]
    task: Task
    choices: tuple[ColumnChoice, ...]
    reasons: tuple[str, ...]
    """Why this task: its own reason first, then those against the others; empty when the user chose it."""
    problems: tuple[Problem, ...]
    """What reading and choosing noticed; no errors."""

    @property
    def form(self) -> type[Form]:
        """What the rows are: the task's word."""
        return self.task.form_for([choice.role for choice in self.choices])

    @property
    def unused(self) -> tuple[ColumnChoice, ...]:
        """The columns that are not used, each with the reason; their role is empty."""
        return unused_columns(self.profiles, self.choices, self.data.group or self.raw.group)


def find_rows(data: DataConfig, task: Task | None) -> FoundRows:
    """Read the rows, and find the task (unless the user chose one) and the columns for its roles.

    Tasks that read running text get plain text files as passages. Raises ``InputError`` when
    there is nothing to read, or no task or columns are found.
    """
    if data.mixture:
        paths = ", ".join(one.path for one in data.mixture)
        raise InputError("A mixture is looked at set by set.", f"Give one of its files: {paths}.")
    found = _find(data, task)
    if found.task.joins_lines and found.raw.is_plain_text and data.passage is None:
        note = Problem(
            "note",
            f"Lines were joined into passages of about {PASSAGE:,} characters.",
            "Use --data.passage for other sizes; 0 makes every line a row.",
        )
        again = _find(data.changed(passage=PASSAGE), found.task)
        problems = (*again.problems, *found.problems[len(found.raw.problems) :], note)
        return FoundRows(again.raw, again.data, again.profiles, again.task, again.choices, found.reasons, problems)
    return found


def _find(data: DataConfig, task: Task | None) -> FoundRows:
    raw = read(data)
    profiles = dict(profile(raw.splits["train"]))
    if has_made_rows(list(profiles)):
        del profiles[MADE_FROM], profiles[MADE_BY]  # they say which rows were made of which, and are nothing to learn
    if all(column.kind == "empty" for column in profiles.values()):
        raise InputError([Problem("error", f"{data.path} holds nothing but empty cells.", NO_ROWS), *raw.problems])
    try:
        if not data.columns:
            refuse_single_messages(profiles)
            if task is None:
                refuse_compared_answers(profiles)
        return _choose(raw, data, profiles, task)
    except InputError as error:
        # What was noticed on the way here is part of the explanation.
        raise InputError([*error.problems, *raw.problems]) from error


def _choose(raw: RawData, data: DataConfig, profiles: dict[str, ColumnProfile], task: Task | None) -> FoundRows:
    if task is None:
        detected = detect(profiles, data.columns)
        note = Problem("note", f"Task found: {detected.reasons[0]}.", "Use --task if that is not what you want.")
        task, problems = detected.task.model_validate({}), (*raw.problems, note)
        found_rows = FoundRows(raw, data, profiles, task, detected.choices, detected.reasons, problems)
        return _with_unused(_with_group(found_rows))
    choices, found = assign_roles(profiles, task.roles_for(profiles, data.columns), data.columns)
    if errors := [problem for problem in found if problem.severity == "error"]:
        raise InputError(errors)
    return _with_unused(_with_group(FoundRows(raw, data, profiles, task, tuple(choices), (), (*raw.problems, *found))))


def _with_group(found: FoundRows) -> FoundRows:
    """Let rows that the task keeps together not cross splits, where nobody says otherwise and there are several."""
    role = found.task.kept_together
    column = next((choice.column for choice in found.choices if choice.role == role), None)
    if column is None or found.data.group or found.raw.group or found.profiles[column].num_distinct < MIN_GROUPS:
        return found
    return replace(found, data=found.data.changed(group=column))


def _with_unused(found: FoundRows) -> FoundRows:
    """Add a note of the columns that are not used."""
    unused = found.unused
    if not unused:
        return found
    shown = "; ".join(f"'{column.column}' ({column.reason})" for column in unused[:MAX_UNUSED])
    more = f"; {len(unused) - MAX_UNUSED} more" if len(unused) > MAX_UNUSED else ""
    fix = "Give a column a role with data.columns if it is needed."
    note = Problem("note", f"Columns that are not used: {shown}{more}.", fix, len(unused))
    return replace(found, problems=(*found.problems, note))
