"""Where a command writes what it found: to standard output, or to a file of a form that its suffix names."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import TypeVar

from tunesmith.cli.terminal import write
from tunesmith.files.atomic import write_bytes
from tunesmith.files.outputs import require_output
from tunesmith.files.space import require_writable
from tunesmith.types import InputError

Found = TypeVar("Found")


def writer_for(
    output: Path | None,
    formats: Mapping[str, Callable[[Found], bytes]],
    shown: Callable[[Found], str],
    *,
    inputs: Iterable[str],
    overwrite: bool,
) -> Callable[[Found], None]:
    """Return what writes results; refuse an unusable file before the work begins.

    ``formats`` are by suffix; ``shown`` is what standard output gets; ``inputs`` and ``overwrite`` are those of
    ``require_output``.
    """
    if output is None:
        return lambda found: write(shown(found))
    place = place_of(output, formats, inputs=inputs, overwrite=overwrite)
    encode = formats[output.suffix.lower()]
    return lambda found: write_bytes(place, encode(found))


def place_of(output: Path, suffixes: Collection[str], *, inputs: Iterable[str], overwrite: bool) -> Path:
    """Return the file that results are written to. Raises ``InputError`` for one that cannot be used."""
    if output.suffix.lower() not in suffixes:
        raise InputError(
            f"--output {output}: the suffix '{output.suffix}' is not known.", f"Choose one of {', '.join(suffixes)}."
        )
    place = require_output(output, inputs=inputs, overwrite=overwrite)
    require_writable(place.parent)
    return place
