"""What plain defaults give beside the best of a grid of rates and epochs.

    python -m benchmarks.defaults --data FOLDER [--only CASE ...] [--jobs 2]
    python -m benchmarks.defaults --data FOLDER --what table

The grid has five rates and three numbers of epochs. All rates are tried with the middle number, and the other two
with the two rates that were best on the validation rows; --whole tries everything. Every run is kept in a file of its
own in --folder as soon as it is made: the command goes on where it was stopped. --again makes default runs anew.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.defaults.cases import CASES, RATES, Case
from benchmarks.defaults.cells import Cell, run
from benchmarks.defaults.table import Results, markdown


def main() -> int:
    options = parser().parse_args()
    if options.worker:
        return work(options)
    chosen = [name for pattern in options.only for name in fnmatch.filter(CASES, pattern)]
    cases = [CASES[name] for name in dict.fromkeys(chosen)]
    results = Results(options.folder)
    if options.what != "table":
        Queue(cases, results, options).make()
    print(markdown(cases, results))
    return 0


class Queue:
    """The runs to be made, one job at a time in each of a few processes."""

    def __init__(self, cases: Sequence[Case], results: Results, options: argparse.Namespace) -> None:
        self._cases, self._results, self._options = cases, results, options
        self._lock = threading.Condition()
        self._taken: set[Cell] = set()
        self._busy = 0
        self._started = time.perf_counter()

    def make(self) -> None:
        threads = [threading.Thread(target=self._serve) for _ in range(self._options.jobs)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _jobs(self) -> list[Cell]:
        """Return what is to be made by now."""
        what, again = self._options.what, self._options.again
        cells: list[Cell] = []
        if what in ("all", "default"):
            wanted = [Cell(case.name, seed=seed) for seed in self._options.seeds for case in self._cases]
            cells += [cell for cell in wanted if again or not self._results.has(cell)]
        if what in ("all", "grid"):
            for stage in (self._middle, self._rest):
                for case in self._cases:
                    cells += stage(case)
        return [cell for cell in cells if cell not in self._taken]

    def _middle(self, case: Case) -> list[Cell]:
        return self._missing(case, [(rate, case.epochs[1]) for rate in case.rates])

    def _rest(self, case: Case) -> list[Cell]:
        middle = [Cell(case.name, rate, case.epochs[1]) for rate in case.rates]
        if not all(map(self._results.has, middle)):
            return []
        rates = case.rates if self._options.whole else self._results.best_rates(middle, 2)
        return self._missing(case, [(rate, epochs) for epochs in (case.epochs[0], case.epochs[2]) for rate in rates])

    def _missing(self, case: Case, pairs: Sequence[tuple[float, float]]) -> list[Cell]:
        cells = [Cell(case.name, rate, epochs) for rate, epochs in pairs]
        return [cell for cell in cells if not self._results.has(cell)]

    def _next(self) -> Cell | None:
        """Return the next job, waiting for the jobs under way where more depends on them; None at the end."""
        with self._lock:
            while not (jobs := self._jobs()) and self._busy:
                self._lock.wait()
            if jobs:
                self._busy += 1
                self._taken.add(jobs[0])
                return jobs[0]
            return None

    def _serve(self) -> None:
        command = [sys.executable, "-m", "benchmarks.defaults", "--worker", "--folder", str(self._options.folder)]
        command += ["--data", str(self._options.data)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        child: subprocess.Popen[str] | None = None
        while cell := self._next():
            if child is None or child.poll() is not None:
                child = subprocess.Popen(
                    command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
                )
            assert child.stdin is not None
            assert child.stdout is not None
            child.stdin.write(json.dumps(asdict(cell)) + "\n")
            child.stdin.flush()
            line = child.stdout.readline()
            with self._lock:
                if line:
                    record = json.loads(line)
                    self._results.write(cell, record)
                    self._tell(cell, record)
                self._busy -= 1
                self._lock.notify_all()
            if not line:
                print(f"{cell.case}: the process ended with status {child.wait()}", flush=True)
        if child is not None and child.stdin is not None:
            child.stdin.close()
            child.wait()

    def _tell(self, cell: Cell, record: dict[str, Any]) -> None:
        shown = record.get("test") or record.get("error")
        print(
            f"[{time.perf_counter() - self._started:6.0f} s] {cell.case:24} {cell.name:26} {shown} "
            f"validation {(record.get('validation') or {}).get('value')} "
            f"({record['seconds']:.0f} s, best {record.get('best_step')} of {record.get('steps')})",
            flush=True,
        )


def work(options: argparse.Namespace) -> int:
    """Read jobs from standard input, write their records to standard output."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print goes to standard error
    for line in sys.stdin:
        record = run(Cell(**json.loads(line)), options.data, options.folder)
        print(json.dumps(record), file=out, flush=True)
    return 0


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(
        prog="python -m benchmarks.defaults", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    data = os.environ.get("TUNESMITH_TEST_DATA")
    found.add_argument("--data", type=Path, required=data is None, default=data, help="folder of the data sets")
    found.add_argument("--folder", type=Path, default=Path(".bench/defaults"), help="where rows and results are kept")
    usual = [name for name in CASES if not name.startswith(RATES)]
    found.add_argument("--only", nargs="+", default=usual, metavar="CASE", help="these; patterns such as 'rates-*'")
    found.add_argument("--what", choices=["all", "grid", "default", "table"], default="all")
    found.add_argument("--seeds", type=int, nargs="+", default=[0], help="of the default runs")
    found.add_argument("--whole", action="store_true", help="every cell of the grids")
    found.add_argument("--again", action="store_true", help="make the default runs anew")
    found.add_argument("--jobs", type=int, default=2, help="processes of one thread each")
    found.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    return found


if __name__ == "__main__":
    sys.exit(main())
