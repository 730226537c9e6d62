"""What a column holds, in words."""

from __future__ import annotations

from collections.abc import Sequence

from tunesmith.types import ColumnProfile, Problem, Role

DOUBTFUL = "Several columns could fill the role"
MAX_EXAMPLE_LENGTH = 40
"""Longer values are not shown as the reason for a choice."""


def describe(column: ColumnProfile, *, named: bool = False) -> str:
    """Return a column's content in a few words, with its name before them where it is ``named``."""
    if column.kind in ("integer", "float") and column.low is not None and column.high is not None:
        kind = "whole numbers" if column.kind == "integer" else "numbers"
        text = f"{kind} from {column.low:g} to {column.high:g}"
    elif column.kind == "text":
        text = f"text of about {column.mean_words:.0f} words"
    elif column.kind in ("category", "boolean", "list"):
        examples = [example for example in column.examples[:3] if len(example) <= MAX_EXAMPLE_LENGTH]
        values = ", ".join(examples) + (", …" if column.num_distinct > len(examples) else "")
        text = f"{column.num_distinct} distinct {'lists' if column.kind == 'list' else 'values'}"
        text += f" ({values})" if examples else ""
    else:
        text = "images" if column.kind == "image" else f"{column.kind}"
    return f"'{column.name}': {text}" if named else text


def doubtful(role: Role, fitting: Sequence[ColumnProfile], flags: Sequence[ColumnProfile] = ()) -> Problem:
    """Return the error of a role that several columns could fill; ``flags`` are those of 0 and 1 among them."""
    listed = "; ".join(describe(column, named=True) for column in fitting)
    binary = ",".join(column.name for column in flags)
    several = f"; or several columns of 0 and 1 together: data.columns.{role.name} {binary}" if len(flags) > 1 else ""
    return Problem(
        "error",
        f"{DOUBTFUL} '{role.name}': {listed}.",
        f"Choose one: data.columns.{role.name} {fitting[0].name}{several}",
        count=len(fitting),
    )
