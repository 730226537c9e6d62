"""All benchmarks: ``python -m benchmarks`` for a quick look, ``--full`` for the figures of the docs.

python -m benchmarks [--full] [--json FILE] [--markdown FILE]
"""

from __future__ import annotations

import argparse
import subprocess
import sys


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true", help="as in the docs; otherwise a few minutes on two cores")
    parser.add_argument("--json", help="also write the results as JSON")
    parser.add_argument("--markdown", help="also write the table as Markdown")
    arguments = parser.parse_args()
    size = [] if arguments.full else ["--rows", "1500", "--epochs", "1", "--seeds", "0"]
    outputs = [
        item for name in ("json", "markdown") if (value := getattr(arguments, name)) for item in (f"--{name}", value)
    ]
    sys.exit(subprocess.run([sys.executable, "-m", "benchmarks.quality", *size, *outputs], check=False).returncode)


if __name__ == "__main__":
    main()
