"""What a training step costs by each method, beside one of LoRA: processor time of one thread, not wall time.

    OMP_NUM_THREADS=1 python -m benchmarks.step_costs [METHOD ...] [--steps 6]

MiniLM on film reviews, 16 rows a step. Processor time is about the same beside other work; the median of the steps
after the first two is shown, with what is trained.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

MODEL, DATA = "sample:minilm", "sample:rotten-tomatoes"


def main() -> int:
    from tunesmith.methods import METHODS

    usual = [name for name in METHODS if name not in ("loftq", "trainable_tokens", "peft:NAME")]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.step_costs", description=__doc__)
    parser.add_argument("methods", nargs="*", default=usual, metavar="METHOD")
    parser.add_argument("--steps", type=int, default=6, help="measured, after two that are not")
    options = parser.parse_args()
    print("| Method | Trained | Processor time a step | Beside LoRA |")
    print("| --- | ---: | ---: | ---: |")
    lora, _ = cost("lora", options.steps)
    for name in options.methods:
        seconds, trained = cost(name, options.steps)
        print(f"| `{name}` | {trained:,} | {1000 * seconds:.0f} ms | {seconds / lora:.2f} |", flush=True)
    return 0


def cost(method: str, num_steps: int) -> tuple[float, int]:
    """Return the seconds of processor time of a step, and the number of weights that are trained."""
    from tunesmith.config.build import build
    from tunesmith.engine.loop import train
    from tunesmith.run import RunConfig
    from tunesmith.run.composition import compose
    from tunesmith.run.directory import RunDirectory
    from tunesmith.run.observers import Observers
    from tunesmith.run.signals import StopRequests
    from tunesmith.run.workshop import Workshop

    sections: dict[str, Any] = {
        "model": MODEL,
        "data": {"path": DATA, "limit": 400},
        "method": method,
        "train": {"batch_size": 16, "max_steps": num_steps + 2, "precision": "fp32"},
    }
    with tempfile.TemporaryDirectory(prefix="costs-") as place:
        config, directory = build(RunConfig, sections), RunDirectory(Path(place))
        workshop = Workshop(keeps_models=False)
        training = compose(config, directory, Observers(()), StopRequests(), workshop).training
        seconds, before = [], time.process_time()
        for _ in train(training):
            now = time.process_time()
            seconds.append(now - before)
            before = now
    return statistics.median(seconds[2:]), training.optimizer.num_trained


if __name__ == "__main__":
    sys.exit(main())
