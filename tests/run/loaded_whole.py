"""The command line as it is where no model can be divided as it is read: each process loads all of it first."""

from __future__ import annotations

import sys

from tunesmith.cli import main
from tunesmith.models import pretrained
from tunesmith.types import InputError


def run_command(arguments: list[str]) -> None:
    """Run ``tunesmith`` with arguments; reading from files is refused, as it is for some arrangements of weights."""
    load = pretrained.load_weights

    def load_weights(*given: object, streaming: object = None, **named: object) -> object:
        if streaming is not None:
            raise InputError("not this one", "")
        return load(*given, **named)  # type: ignore[arg-type]

    pretrained.load_weights = load_weights  # type: ignore[assignment]
    sys.argv = ["tunesmith", *arguments]
    main()
