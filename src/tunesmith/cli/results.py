"""Where a command writes what it found: to standard output, or to a file of a form that its suffix names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
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
    encode = formats.get(output.suffix.lower())
    if encode is None:
        raise InputError(
            f"--output {output}: the suffix '{output.suffix}' is not known.", f"Choose one of {', '.join(formats)}."
        )
    place = require_output(output, inputs=inputs, overwrite=overwrite)
    require_writable(place.parent)
    return lambda found: write_bytes(place, encode(found))
