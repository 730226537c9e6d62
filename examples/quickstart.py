"""The main job on real data: a contest between ways of fine-tuning, with error bars, on this machine.

    python examples/quickstart.py [--rows 1500] [--seeds 2] [--output runs/quickstart]

MiniLM (22.7M parameters) learns to tell fresh from rotten film reviews: its head alone, by LoRA, and in full, beside
TF-IDF. All reviews of one film stand on the same side of the split. Weights and data come from published packages. The
command line does it; to tune the learning rate of each method as well, leave out its --rates 1.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
import time
from pathlib import Path

from tunesmith import Study, readable
from tunesmith.cli import terminal


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1500, help="rows of the data to use (all: 12808)")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--output", type=Path, default=Path("runs/quickstart"))
    arguments = parser.parse_args()
    started = time.perf_counter()
    console = terminal.console(width=120)
    command = ["compare", "--model", "sample:minilm", "--data", "sample:rotten-tomatoes"]
    command += ["--data.limit", str(arguments.rows), "--data.test_fraction", "0.4", "--methods", "freeze,lora,full"]
    command += ["--train.epochs", "1", "--rates", "1", "--seeds", str(arguments.seeds)]
    command += ["--output", str(arguments.output)]
    if is_finished(arguments.output):  # one that was stopped goes on
        command += ["--overwrite"]
    console.print(f"$ tunesmith {shlex.join(command)}", style="bold", soft_wrap=True)
    done = subprocess.run([sys.executable, "-m", "tunesmith", *command], check=False)
    if done.returncode:
        sys.exit(done.returncode)
    review = "a joy from start to finish"
    prediction = Study(arguments.output).best.predict([review])[0]
    console.print(f'"{review}" → {prediction["label"]} ({prediction["score"]:.0%})')
    console.print(f"{readable.duration(time.perf_counter() - started)} in all")


def is_finished(folder: Path) -> bool:
    return (folder / "study.json").exists() and Study(folder).record["status"] == "finished"


if __name__ == "__main__":
    main()
