"""Texts that a command is given one by one, or as a file: the same options, and the same refusals, everywhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from tunesmith.cli.columns import parse_columns
from tunesmith.cli.writing import TEXT_FLAGS
from tunesmith.types import InputError

F = TypeVar("F", bound=Callable[..., Any])


def text_options(command: F) -> F:
    """Add ``--text`` and ``--text-pair`` to a command."""
    pair = click.option(
        TEXT_FLAGS[1], "text_pairs", metavar="TEXT", multiple=True, help="The second text to each --text."
    )
    text = click.option(
        TEXT_FLAGS[0], "texts", metavar="TEXT", multiple=True, help="A text; may be given several times."
    )
    return text(pair(command))


def require_texts(texts: Sequence[str], text_pairs: Sequence[str], data: str | None, *, to: str) -> None:
    """Raise ``InputError`` unless there are either texts, each with its pair if any has one, or a file.

    ``to`` is the command: what there is nothing to do.
    """
    if bool(texts) == (data is not None):
        raise InputError(
            "Give either --text or --data." if texts else f"There is nothing to {to}.",
            f"tunesmith {to} RUN --text 'a text', or --data FILE.",
        )
    if text_pairs and len(text_pairs) != len(texts):
        raise InputError(f"There are {len(texts)} --text and {len(text_pairs)} --text-pair.", "Give one to each other.")


def columns_of_file(columns: Sequence[str], data: str | None) -> dict[str, str]:
    """Return what ``--columns`` says of a file; ``InputError`` where there is none."""
    mapped = parse_columns(columns)
    if mapped and data in (None, "-"):
        raise InputError("--columns is for the columns of --data FILE; there is no such file.", "Leave it out.")
    return mapped
