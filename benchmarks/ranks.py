"""How fast several processes train against one that has as many threads: ``python -m benchmarks.ranks``.

Every case is trained by each way in turn, in rounds, on rows that are made up; a way's figure is the median over the
rounds of the tokens a second of its steps (``training.json``: ``tokens / step_seconds``), without the first ones.
``strong`` is the same training on 1, 2, 4 processes of a thread each, ``weak`` one whose steps have as many rows for
each process.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tunesmith.engine.rank_group import num_cores

WARM_UP = 5
"""Steps that are not counted."""


@dataclass(frozen=True, slots=True)
class Way:
    """Processes, and threads of each."""

    ranks: int
    threads: int

    def __str__(self) -> str:
        return f"{self.ranks} x {self.threads} thread{'s' * (self.threads > 1)}"


CASES: dict[str, tuple[int, list[str]]] = {
    "MiniLM, full, 32 rows a step": (32, ["--method", "full"]),
    "MiniLM, full, 128 rows a step": (128, ["--method", "full"]),
    "MiniLM, LoRA, 32 rows a step": (32, ["--method", "lora", "--compute.keep_states", "false"]),
}
"""Rows of a step, and further options."""


def write_rows(path: Path, num_rows: int) -> None:
    """Write texts of about 27 tokens with one of two labels."""
    generator = np.random.default_rng(0)
    words = ["film", "plot", "great", "dull", "the", "a", "cast", "slow", "warm", "time", "and", "of", "story", "scene"]
    with path.open("w", encoding="utf-8") as file:
        file.write("text,label\n")
        for index in range(num_rows):
            text = " ".join(generator.choice(words, size=int(generator.integers(8, 46))))
            file.write(f"{text},{'good' if index % 2 else 'bad'}\n")


def tokens_per_second(data: Path, way: Way, options: list[str], steps: int) -> float:
    """Train and return the real tokens a second of the steps after the first few."""
    with tempfile.TemporaryDirectory() as place:
        command = [sys.executable, "-m", "tunesmith", "train", "--quiet", "--model", "sample:minilm"]
        command += ["--data", str(data), "--output", f"{place}/run", "--ranks", str(way.ranks), *options]
        command += [
            "--train.max_steps",
            str(steps),
            "--evaluation.num_resamples",
            "0",
            "--evaluation.baseline",
            "false",
        ]
        command += ["--train.evaluate_steps", str(10 * steps), "--train.early_stopping.patience", "never"]
        surroundings = {**os.environ, "OMP_NUM_THREADS": str(way.threads)}
        subprocess.run(command, check=True, env=surroundings, stdout=subprocess.DEVNULL)
        lines = [json.loads(line) for line in Path(f"{place}/run/metrics.jsonl").read_text().splitlines()]
        counted = [line for line in lines if line["kind"] == "step"][WARM_UP:]
        return float(sum(line["num_tokens"] for line in counted) / sum(line["seconds"] for line in counted))


def measure(data: Path, ways: list[Way], options: dict[Way, list[str]], steps: int, rounds: int) -> dict[Way, float]:
    """Return the median of every way; the ways take turns."""
    found: dict[Way, list[float]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way in ways:
            found[way].append(tokens_per_second(data, way, options[way], steps))
    return {way: statistics.median(values) for way, values in found.items()}


def main() -> None:
    """Print a table of tokens a second, and the share of the first way's that each has."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--scaling", choices=["strong", "weak"], help="processes of one thread each, instead")
    parser.add_argument("--most", type=int, default=num_cores(), help="most processes with --scaling")
    parser.add_argument("--case", choices=CASES, action="append", help="only these cases")
    wanted: Any = parser.parse_args()
    cores = num_cores()
    ways = [Way(1, cores), Way(cores, 1)]
    if wanted.scaling:
        ways = [Way(2**power, 1) for power in range(wanted.most.bit_length())]
    with tempfile.TemporaryDirectory() as place:
        data = Path(place) / "rows.csv"
        write_rows(data, 3000)
        for name in wanted.case or CASES:
            rows, options = CASES[name]
            steps = {way: rows * way.ranks if wanted.scaling == "weak" else rows for way in ways}
            each = {way: [*options, "--train.batch_size", str(number)] for way, number in steps.items()}
            found = measure(data, ways, each, wanted.steps, wanted.rounds)
            for way in ways:
                share = found[way] / found[ways[0]]
                sys.stdout.write(f"{name:32} {way!s:16} {found[way]:>10,.0f} tokens/s  {share:.2f}\n")
                sys.stdout.flush()


if __name__ == "__main__":
    main()
