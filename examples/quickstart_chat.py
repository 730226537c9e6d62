"""Chat fine-tuning on real data: a language model learns to answer briefly, by LoRA, and is asked before and after.

    python examples/quickstart_chat.py [--rows 500] [--epochs 2] [--output runs/quickstart-chat]

Fine-tunes SmolLM2-135M-Instruct on questions with short answers. Weights and data come from published
packages. The test questions were not trained on; the untuned model answers them too.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.table import Table

from tunesmith import Run, readable
from tunesmith.cli import terminal
from tunesmith.types import Interval

if TYPE_CHECKING:
    from rich.console import Console

MODEL, DATA = "sample:smollm2-135m-instruct", "sample:small-talk"
METRICS = ("perplexity", "token_accuracy", "rouge_l", "chrf")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=500, help="rows of the data to use (all: 898)")
    parser.add_argument("--epochs", type=float, default=2.0)
    parser.add_argument("--output", type=Path, default=Path("runs/quickstart-chat"))
    arguments = parser.parse_args()
    started = time.perf_counter()
    console = terminal.console(width=120)
    folder = arguments.output / "lora"
    train(console, folder, arguments.rows, arguments.epochs)
    run = Run.open(folder)
    console.print()
    console.print(metrics(run.evaluation))
    console.print(answers(run.evaluation["answers"][:5]))
    console.print(f"Talk with it: tunesmith chat {folder}")
    console.print(f"Report: {(folder / 'report.html').absolute()}", soft_wrap=True)
    console.print(f"{readable.duration(time.perf_counter() - started)} in all")


def train(console: Console, folder: Path, rows: int, epochs: float) -> None:
    """Run the training and show the command that does it."""
    command = ["train", "--model", MODEL, "--data", DATA, "--data.limit", str(rows), "--method", "lora"]
    command += ["--method.rank", "16", "--train.epochs", f"{epochs:g}", "--train.batch_size", "8"]
    command += [
        "--evaluation.answers",
        "20",
        "--evaluation.max_new_tokens",
        "40",
        "--output",
        str(folder),
        "--overwrite",
    ]
    console.print(f"$ tunesmith {shlex.join(command)}", style="bold", soft_wrap=True)
    done = subprocess.run([sys.executable, "-m", "tunesmith", *command], check=False)
    if done.returncode:
        sys.exit(done.returncode)


def metrics(evaluation: dict[str, Any]) -> Table:
    """Return the metrics before and after, on the same test rows."""
    table = Table(title=f"{evaluation['num_rows']} questions that were not trained on", box=box.SIMPLE_HEAD)
    for column in ("metric", "before [95% interval]", "after [95% interval]"):
        table.add_column(column, justify="left" if column == "metric" else "right", no_wrap=True)
    before, after = evaluation["baseline"]["metrics"], evaluation["metrics"]
    for name in METRICS:
        values = (readable.interval(Interval(**found[name])) for found in (before, after))
        table.add_row(readable.metric_title(name), *values)
    return table


def answers(exchanges: list[dict[str, str]]) -> Table:
    """Return questions with the answers of the untuned and of the tuned model."""
    table = Table(box=box.SIMPLE_HEAD)
    for column in ("question", "before", "after"):
        table.add_column(column, ratio=1)
    for exchange in exchanges:
        table.add_row(exchange["prompt"], shortened(exchange["before"]), shortened(exchange["after"]))
    return table


def shortened(text: str, length: int = 120) -> str:
    text = " ".join(text.split())
    return text if len(text) <= length else text[: length - 1] + "…"


if __name__ == "__main__":
    main()
