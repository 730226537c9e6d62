"""The command line of a process that has another version of torch, as far as it says."""

from __future__ import annotations

import sys

from tunesmith.cli import main
from tunesmith.run import rank_agreement


def run_command(arguments: list[str]) -> None:
    """Run ``tunesmith`` with arguments."""
    versions = rank_agreement.versions
    rank_agreement.versions = lambda: {**versions(), "torch": "0.0.1"}  # type: ignore[attr-defined]
    sys.argv = ["tunesmith", *arguments]
    main()
