"""The command line of a process that makes some steps and then loops for ever, with its other threads alive."""

from __future__ import annotations

import sys

from tunesmith.cli import main
from tunesmith.engine import ranks

STEPS = 5


def run_command(arguments: list[str]) -> None:
    """Run ``tunesmith`` with arguments until so many steps are made."""
    took, num_steps = ranks.step_took, 0

    def step_took(seconds: float) -> None:
        nonlocal num_steps
        took(seconds)
        num_steps += 1
        while num_steps == STEPS:
            pass

    ranks.step_took = step_took
    sys.argv = ["tunesmith", *arguments]
    main()
