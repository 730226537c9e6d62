"""Texts on the command line, and options of commands that let a model write."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import click

from tunesmith.types import InputError

F = TypeVar("F", bound=Callable[..., Any])


@contextmanager
def text_input() -> Iterator[None]:
    """Explain bytes on standard input that are no text in its encoding."""
    try:
        yield
    except UnicodeDecodeError as error:
        message = (
            f"Standard input is no {sys.stdin.encoding.upper()}: it has the byte 0x{error.object[error.start]:02x}."
        )
        raise InputError(message, "Convert it first, such as with iconv -t UTF-8.") from None


def text_flags(inputs: Sequence[str]) -> str:
    """Return how a row of as many texts as a run's ``inputs`` is given to ``tunesmith predict``."""
    if len(inputs) > len(TEXT_FLAGS):
        return "--data FILE"
    return " ".join(f"{flag} '...'" for flag, _ in zip(TEXT_FLAGS, inputs, strict=False))


TEXT_FLAGS = ("--text", "--text-pair")

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

BEAMS = (
    click.option(
        "--num-beams",
        type=click.IntRange(min=1, max=64),
        help="Beams of the search for an answer; as trained if not given.",
    ),
    click.option(
        "--length-penalty",
        type=float,
        help="Beams are divided by their length to this power: the higher, the longer the answers.",
    ),
)


def writing_options(command: F) -> F:
    """Add the options that say how answers are written."""
    for option in reversed(OPTIONS):
        command = option(command)
    return command


def beam_options(command: F) -> F:
    """Add the options that say how an answer is searched for, over those of the run's task."""
    for option in reversed(BEAMS):
        command = option(command)
    return command
