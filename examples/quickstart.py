"""The main job on real data: full fine-tuning and LoRA side by side, beside a TF-IDF baseline.

    python examples/quickstart.py [--rows 6000] [--epochs 1] [--output runs/quickstart]

Fine-tunes MiniLM (22.7M parameters) to tell fresh from rotten film reviews. All reviews of one
film stand on the same side of the split. Weights and data come from published packages. Each
training is the command line in a process of its own, so that its memory is its own too.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table

from tunesmith import Run, readable, write_report
from tunesmith.cli import terminal
from tunesmith.types import Interval

if TYPE_CHECKING:
    from rich.console import Console

METHODS = {"full": [], "lora": ["--method.rank", "16"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=6000, help="rows of the data to use (all: 12808)")
    parser.add_argument("--epochs", type=float, default=1.0)
    parser.add_argument("--output", type=Path, default=Path("runs/quickstart"))
    arguments = parser.parse_args()
    started = time.perf_counter()
    console = terminal.console(width=120)
    folders = [arguments.output / method for method in METHODS]
    for method, folder in zip(METHODS, folders, strict=True):
        train(console, method, folder, arguments.rows, arguments.epochs)
    runs = [Run.open(folder) for folder in folders]
    report = write_report(folders, arguments.output / "report.html")
    console.print()
    console.print(comparison(runs))
    review = "a joy from start to finish"
    prediction = runs[0].predict([review])[0]
    console.print(f'"{review}" → {prediction["label"]} ({prediction["score"]:.0%})')
    console.print(f"Report: {report.absolute()}", soft_wrap=True)
    console.print(f"{readable.duration(time.perf_counter() - started)} in all")


def train(console: Console, method: str, folder: Path, rows: int, epochs: float) -> None:
    """Run one training and show the command that does it."""
    command = ["train", "--model", "sample:minilm", "--data", "sample:rotten-tomatoes", "--data.limit", str(rows)]
    command += ["--method", method, *METHODS[method], "--train.epochs", f"{epochs:g}", "--output", str(folder)]
    command += ["--overwrite"]
    console.print(f"\n$ tunesmith {shlex.join(command)}", style="bold", soft_wrap=True)
    done = subprocess.run([sys.executable, "-m", "tunesmith", *command], check=False)
    if done.returncode:
        sys.exit(done.returncode)


def comparison(runs: list[Run]) -> Table:
    """Return the table of both methods and the baseline, which saw the same rows."""
    table = Table(title="Fresh or rotten? Accuracy on films never seen in training", box=box.SIMPLE_HEAD)
    for column in ("method", "accuracy [95% interval]", "parameters trained", "time", "peak memory"):
        table.add_column(column, justify="left" if column == "method" else "right", no_wrap=True)
    baseline = runs[0].evaluation["baseline"]
    table.add_row(
        "TF-IDF + logistic regression",
        accuracy(baseline["metrics"]),
        readable.compact(baseline["num_parameters"]),
        readable.duration(baseline["seconds"]),
        readable.MISSING,
    )
    for run in runs:
        table.add_row(
            {"full": "full fine-tuning", "lora": "LoRA"}[run.config.method.name],
            accuracy(run.evaluation["metrics"]),
            readable.compact(run.summary["num_trained_parameters"]),
            readable.duration(run.summary["seconds"]),
            readable.size(run.summary["peak_memory_bytes"]),
        )
    return table


def accuracy(metrics: dict[str, dict[str, float]]) -> str:
    return readable.interval(Interval(**metrics["accuracy"]))


if __name__ == "__main__":
    main()
