"""What third-party loaders raise, whatever it is, as an error that says what failed and what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from tunesmith.types import InputError

_MAX_REASON = 300


@contextmanager
def explained(failure: str, fix: str) -> Iterator[None]:
    """Turn an exception into an ``InputError``: ``failure``, what the exception says, and the way out."""
    try:
        yield
    except (InputError, MemoryError):
        raise
    except BaseException as error:
        if not (isinstance(error, Exception) or is_panic(error)):
            raise
        raise InputError(f"{failure}: {said(error)}", fix) from error


@contextmanager
def tokenizing(source: str) -> Iterator[None]:
    """Turn what the library of tokenizers raises, a plain ``Exception`` or a panic, into an ``InputError``."""
    try:
        yield
    except BaseException as error:
        if not (type(error) is Exception or is_panic(error)):
            raise
        raise InputError(
            f"The tokenizer of {source} cannot read these texts: {said(error)}.",
            "Use a model whose tokenizer.json is whole (with a token for what is unknown), or another model.",
        ) from error


def said(error: BaseException) -> str:
    """Return an exception's first line, and those after it that it announces."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    shown = lines[0]
    for line in lines[1:]:
        if not shown.endswith(":"):
            break
        shown = f"{shown} {line}"
    return shown if len(shown) <= _MAX_REASON else shown[:_MAX_REASON] + "…"


def is_panic(error: BaseException) -> bool:
    """Say whether a library written in Rust gave up: what it raises then is no ``Exception``."""
    return type(error).__name__ == "PanicException"


def loading(what: str, folder: Path) -> AbstractContextManager[None]:
    """Explain whatever goes wrong inside the ``with`` block as a failure to load this part of a folder's model."""
    fix = "Download or save the model again, or choose another one."
    return explained(f"The model's {what} in {folder} cannot be loaded", fix)
