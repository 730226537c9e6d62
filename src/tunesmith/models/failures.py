"""What third-party loaders raise, whatever it is, as an error that says what failed and what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tunesmith.types import InputError


@contextmanager
def explained(failure: str, fix: str) -> Iterator[None]:
    """Turn an exception into an ``InputError``: ``failure``, the exception's first line, and the way out."""
    try:
        yield
    except (InputError, MemoryError):
        raise
    except BaseException as error:
        # A panic of code in Rust comes as an exception of its own that is no Exception.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(f"{failure}: {reason}", fix) from error
