"""Canonical columns: the form that the chosen columns ask for, learned from the rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tunesmith.data.chat_rows import Conversations
from tunesmith.data.forms import Form
from tunesmith.data.labelled import LabelledTexts
from tunesmith.data.marks import ACCEPTED
from tunesmith.data.rows import Rows
from tunesmith.data.tagged_rows import Notation, TaggedTokens
from tunesmith.types import ColumnChoice, Problem

_FORM_OF_ROLE: dict[str, type[Form]] = {
    "tokens": TaggedTokens,
    "entities": TaggedTokens,
    "messages": Conversations,
    "prompt": Conversations,
}
"""Roles that only one form has; all others are texts with or without a label."""

TRUTHS = tuple(role for form in (LabelledTexts, TaggedTokens, Conversations) for role in form.truths)
"""Roles that hold what is to be predicted."""


def form_of(choices: Iterable[ColumnChoice]) -> type[Form]:
    """Return the form of rows that fills these roles."""
    return next((_FORM_OF_ROLE[choice.role] for choice in choices if choice.role in _FORM_OF_ROLE), LabelledTexts)


def learn_form(
    datasets: Iterable[Rows],
    choices: Sequence[ColumnChoice],
    *,
    for_prediction: bool = False,
    notation: Notation | None = None,
) -> tuple[Form, list[Problem]]:
    """Learn from all rows of all splits how the chosen columns are read; ``notation`` is the user's word on tags."""
    columns: dict[str, tuple[str, ...]] = {}
    for choice in choices:
        if choice.role == ACCEPTED.name:
            continue  # it says which rows are used, and is no part of them
        columns[choice.role] = (*columns.get(choice.role, ()), choice.column)
    form = form_of(choices)
    if issubclass(form, TaggedTokens):
        return form.learn(list(datasets), columns, for_prediction=for_prediction, notation=notation)
    if form is LabelledTexts:
        as_numbers = any(choice.is_number for choice in choices)
        return LabelledTexts.learn(list(datasets), columns, for_prediction=for_prediction, as_numbers=as_numbers)
    return form.learn(list(datasets), columns, for_prediction=for_prediction)
