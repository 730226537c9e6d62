"""The main job on real data: full fine-tuning and LoRA side by side, beside a TF-IDF baseline.

    python examples/quickstart.py [--rows 6000] [--output runs/quickstart]

Fine-tunes MiniLM (22.7M parameters) to tell fresh from rotten film reviews. Rows of one film
never stand on both sides of the split. Weights and data come from published packages.
"""

from __future__ import annotations

import argparse
import shutil
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tunesmith import Run, finetune, readable, write_report
from tunesmith.cli.console import ConsoleObserver
from tunesmith.types import Interval

METHODS: dict[str, dict[str, Any]] = {
    "full": {"name": "full"},
    "lora": {"name": "lora", "rank": 16},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=6000, help="rows of the data to use (all: 12808)")
    parser.add_argument("--epochs", type=float, default=1.0)
    parser.add_argument("--output", type=Path, default=Path("runs/quickstart"))
    arguments = parser.parse_args()
    console = Console()
    started = time.perf_counter()
    shutil.rmtree(arguments.output, ignore_errors=True)
    runs = []
    for name, method in METHODS.items():
        console.rule(f"{name}")
        run = finetune(
            {"path": "sample:rotten-tomatoes", "limit": arguments.rows},
            model="sample:minilm",
            method=method,
            train={"epochs": arguments.epochs},
            output=arguments.output / name,
            observers=[ConsoleObserver()],
        )
        runs.append(run)
    report = write_report([run.folder for run in runs], arguments.output / "report.html")
    console.print(comparison(runs))
    console.print(f"Report: {report.absolute()}   ({readable.duration(time.perf_counter() - started)} in all)")
    review = "a joy from start to finish"
    prediction = runs[0].predict([review])[0]
    console.print(f"“{review}” → {prediction['label']} ({prediction['score']:.0%})")


def interval(metric: dict[str, float]) -> str:
    return readable.interval(Interval(**metric))


def comparison(runs: list[Run]) -> Table:
    table = Table(title="Fresh or rotten? (accuracy on films never seen in training)")
    for column in ("method", "accuracy [95% interval]", "trained parameters", "seconds", "peak memory"):
        table.add_column(column, justify="left" if column == "method" else "right")
    baseline = runs[0].evaluation["baseline"]
    accuracy = interval(baseline["metrics"]["accuracy"])
    table.add_row(
        baseline["name"],
        accuracy,
        readable.compact(baseline["num_parameters"]),
        readable.duration(baseline["seconds"]),
        "–",
    )
    for run in runs:
        table.add_row(
            run.config.method.name,
            interval(run.evaluation["metrics"]["accuracy"]),
            readable.compact(run.summary["num_trained_parameters"]),
            readable.duration(run.summary["seconds"]),
            readable.size(run.summary["peak_memory_bytes"]),
        )
    return table


if __name__ == "__main__":
    main()
