"""The command line: parses, shows, and computes nothing itself."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line with the arguments of this process and exit with its status."""
    from tunesmith.cli import collecting
    from tunesmith.cli.application import run
    from tunesmith.cli.terminal import show_library_warnings

    collecting.start()
    show_library_warnings()
    sys.exit(run(sys.argv[1:]))
