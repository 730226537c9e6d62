"""Options of commands that let a model write."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

OPTIONS = (
    click.option(
        "--max-new-tokens",
        type=click.IntRange(min=1),
        default=256,
        show_default=True,
        help="Longest answer, in tokens.",
    ),
    click.option(
        "--temperature",
        type=click.FloatRange(min=0),
        default=0.0,
        show_default=True,
        help="0 writes the likeliest answer; above, tokens are drawn, the more freely the higher.",
    ),
    click.option(
        "--top-p",
        type=click.FloatRange(min=0, max=1, min_open=True),
        default=1.0,
        show_default=True,
        help="Draw only from the likeliest tokens that together have this probability.",
    ),
    click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seeds the drawing."),
)


def writing_options(command: F) -> F:
    """Add the options that say how answers are written."""
    for option in reversed(OPTIONS):
        command = option(command)
    return command
