"""``--columns ROLE=COLUMN``: which columns of another file fill the roles that a run was trained on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from tunesmith.types import InputError, Problem

F = TypeVar("F", bound=Callable[..., Any])


def columns_option(command: F) -> F:
    """Add the option to a command."""
    option = click.option(
        "--columns",
        metavar="ROLE=COLUMN",
        multiple=True,
        help="Which column of --data is meant where it has another name than in training: --columns text=review. "
        "May be given several times, or as text=review,label=stars.",
    )
    return option(command)


def parse_columns(texts: Sequence[str]) -> dict[str, str]:
    """Return the columns by their roles; every text that is no ROLE=COLUMN is a problem.

    A comma parts pairs only where a ROLE= follows, so that ``label=toxic,obscene`` names two columns.
    """
    found: dict[str, str] = {}
    problems: list[Problem] = []
    for text in texts:
        role = ""
        for part in text.split(","):
            name, equals, column = part.partition("=")
            if equals and name.strip() and column.strip():
                role = name.strip()
                found[role] = column.strip()
            elif role and not equals and part.strip():
                found[role] += f",{part.strip()}"
            else:
                message = f"--columns {text}: expected ROLE=COLUMN."
                problems.append(Problem("error", message, "Example: --columns text=review --columns label=stars"))
                break
    if problems:
        raise InputError(problems)
    return found
