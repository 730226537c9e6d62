"""Speed, memory and accuracy beside other tools: ``python -m benchmarks``, or ``--full`` for the docs' figures.

Every case runs tunesmith and its peer in turn, each in a fresh process, several times; see docs/performance.md.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.cases import CASES
from benchmarks.plot import svg
from benchmarks.runner import Settings, chosen, measure
from benchmarks.table import END, START, has_place, machine, markdown, read_json, update, versions, write_json

QUICK_REPEATS, FULL_REPEATS = 1, 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and show; return 1 when a case failed, 2 when what was asked for is not there."""
    options = parser().parse_args(arguments)
    try:
        cases = chosen(options.only, is_full=options.full)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    if options.list:
        for case in cases:
            print(f"{case.name:26} {case.title}; beside {case.peer_name}")
        return 0
    if problems := list(_unusable(options)):
        print(*problems, sep="\n", file=sys.stderr)
        return 2
    settings = Settings(
        is_full=options.full,
        repeats=options.repeats or (FULL_REPEATS if options.full else QUICK_REPEATS),
        rows=options.rows,
        steps=options.steps,
        keep=options.keep,
    )
    place = {"versions": versions(), "machine": machine()}
    started = time.perf_counter()

    places = {name: number for number, name in enumerate(CASES)}
    before = read_json(options.json) if options.merge else []

    def with_those_before(records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        found = {record["case"]: record for record in before}
        found |= {record["case"]: {**record, **place} for record in records}
        return sorted(found.values(), key=lambda record: places.get(record["case"], len(places)))

    def save(records: Sequence[dict[str, Any]]) -> None:
        whole = with_those_before(records)
        if options.json:
            write_json(whole, options.json)
        if options.markdown:
            options.markdown.write_text(markdown(whole), encoding="utf-8")
        if options.plot:
            options.plot.write_text(svg(whole), encoding="utf-8")

    def tell(text: str) -> None:
        print(f"[{time.perf_counter() - started:6.0f} s] {text}", file=sys.stderr, flush=True)

    measured = measure(cases, settings, tell, save)
    records = with_those_before(measured)
    table = markdown(records)
    print(table)
    if options.update:
        update(options.update, table)
    failed = [record for record in measured if "error" in record]
    for record in failed:
        print(f"{record['case']} failed: {record['error']}", file=sys.stderr)
    return 1 if failed else 0


def _unusable(options: argparse.Namespace) -> Iterator[str]:
    """Yield what would fail only after hours."""
    for name in ("repeats", "rows", "steps"):
        if (value := getattr(options, name)) is not None and value < 1:
            yield f"--{name} {value}: expected 1 or more."
    for name in ("json", "markdown", "plot"):
        path: Path | None = getattr(options, name)
        if path is not None and not path.absolute().parent.is_dir():
            yield f"--{name} {path}: there is no folder {path.absolute().parent}."
    if options.merge and not (options.json and options.json.is_file()):
        yield f"--merge: expected --json with a file that is there, got {options.json}."
    if options.update and not (options.update.is_file() and has_place(options.update)):
        yield f"--update {options.update}: expected a page with the lines {START} and {END}."


def parser() -> argparse.ArgumentParser:
    """Return the parser of the options."""
    found = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    found.add_argument(
        "--full", action="store_true", help="all cases at the size of the docs (about two hours on 2 cores)"
    )
    found.add_argument("--only", nargs="+", metavar="CASE", help="these cases; patterns such as 'minilm-*'")
    found.add_argument("--list", action="store_true", help="show the cases and stop")
    found.add_argument("--repeats", type=int, help=f"rounds ({QUICK_REPEATS}; {FULL_REPEATS} with --full)")
    found.add_argument("--json", type=Path, metavar="FILE", help="write a list of all cases, after every round")
    found.add_argument("--merge", action="store_true", help="keep the other cases that the file of --json holds")
    found.add_argument("--markdown", type=Path, metavar="FILE", help="write the table")
    found.add_argument("--plot", type=Path, metavar="FILE.svg", help="write bars of the ratios and curves of cost")
    found.add_argument("--update", type=Path, metavar="PAGE", help="rewrite the table in a page of the docs")
    found.add_argument("--keep", type=Path, metavar="FOLDER", help="keep the prepared files and what was trained here")
    found.add_argument("--rows", type=int, help="rows of every case, for a trial of the suite itself")
    found.add_argument("--steps", type=int, help="steps of every training, for a trial of the suite itself")
    return found


if __name__ == "__main__":
    sys.exit(main())
