"""Predicted against actual time and memory: ``python -m benchmarks.planning``; see docs/planning.md.

Every cell of the grid (methods x shapes of models x lengths of rows) is forecast in a process of its own, trained in
another one, and compared: the forecast of ``tunesmith plan`` and the one that the run itself makes on its way.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

METHODS: Mapping[str, dict[str, Any]] = {
    "full": {"name": "full"},
    "lora": {"name": "lora"},
    "top-half": {"name": "freeze", "layers": 2},
    "head": {"name": "freeze"},
}
SHAPES: Mapping[str, dict[str, Any] | None] = {
    "minilm": None,
    "bert-small": {"kind": "bert", "layers": 4, "hidden": 256, "inner": 1024, "heads": 4},
    "bert-medium": {"kind": "bert", "layers": 8, "hidden": 512, "inner": 2048, "heads": 8},
    "decoder": {"kind": "llama", "layers": 8, "hidden": 384, "inner": 1024, "heads": 6},
}
LENGTHS: Mapping[str, tuple[int, int]] = {"short": (5, 25), "middle": (20, 120), "long": (60, 400)}
"""Words of a row, at least and at most."""
WORDS = ["the film was", "a great", "dull", "cast and plot", "of this year", "worth", "seeing", "twice", "slow", "warm"]
NUM_ROWS, STEPS = 1000, 40
HEADER = "| method | model | rows | seconds | predicted | by the run | peak MB | predicted | by the run |"


@dataclass(frozen=True, slots=True)
class Cell:
    """One training of the grid."""

    method: str
    shape: str
    length: str

    @property
    def name(self) -> str:
        return f"{self.method}/{self.shape}/{self.length}"

    def config(self, work: Path, steps: int) -> dict[str, Any]:
        """Return its configuration: few steps, two evaluations, rows of all lengths between two."""
        model = "sample:minilm" if SHAPES[self.shape] is None else str(work / self.shape)
        data = {"path": str(work / f"{self.length}.csv"), "validation_fraction": 0.1, "test_fraction": 0.1}
        train: dict[str, Any] = {"batch_size": 16, "max_steps": steps, "evaluate_steps": steps // 2}
        train["early_stopping"] = {"patience": "never"}
        output = str(work / "runs" / self.name.replace("/", "-"))
        evaluation = {"baseline": False, "num_resamples": 10}
        sections = {"model": model, "data": data, "task": "classification", "method": METHODS[self.method]}
        return {**sections, "train": train, "evaluation": evaluation, "output": output}


def cells(only: str) -> list[Cell]:
    """Return the cells whose names hold every word of ``only``."""
    found = [Cell(method, shape, length) for method in METHODS for shape in SHAPES for length in LENGTHS]
    return [cell for cell in found if all(word in cell.name for word in only.split())]


def prepare(work: Path) -> None:
    """Write rows and models of random weights."""
    from transformers import AutoTokenizer, BertConfig, BertModel, LlamaConfig, LlamaModel

    from tunesmith.models.location import locate
    from tunesmith.models.materialise import materialise

    generator = random.Random(0)
    for name, (least, most) in LENGTHS.items():
        with (work / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["text", "label"])
            for index in range(NUM_ROWS):
                words = " ".join(generator.choices(WORDS, k=most)).split()[: generator.randint(least, most)]
                writer.writerow([f"{index} {' '.join(words)}", ("good", "bad")[index % 2]])
    tokenizer = AutoTokenizer.from_pretrained(str(materialise(locate("sample:minilm")).folder))
    for name, shape in SHAPES.items():
        if shape is None or (work / name / "config.json").exists():
            continue
        sizes = {"num_hidden_layers": shape["layers"], "hidden_size": shape["hidden"]}
        sizes |= {"intermediate_size": shape["inner"], "num_attention_heads": shape["heads"]}
        sizes |= {"vocab_size": len(tokenizer), "max_position_embeddings": 512, "pad_token_id": 0}
        model = BertModel(BertConfig(**sizes)) if shape["kind"] == "bert" else LlamaModel(LlamaConfig(**sizes))
        model.save_pretrained(work / name)
        tokenizer.save_pretrained(work / name)


def forecast_of(config: dict[str, Any]) -> dict[str, Any]:
    """Return what ``tunesmith plan`` says of a run."""
    from tunesmith.config.build import build
    from tunesmith.run import RunConfig, Workshop
    from tunesmith.run.forecast import forecast

    with Workshop() as workshop:
        found = forecast(build(RunConfig, config), workshop)
    return {"seconds": found.seconds_of_training, "peak_memory": found.peak_memory, "disk": found.disk}


def training_of(config: dict[str, Any]) -> dict[str, Any]:
    """Train, and return what the run recorded."""
    from tunesmith.config.build import build
    from tunesmith.run import RunConfig, train

    folder = train(build(RunConfig, config), overwrite=True)
    found: dict[str, Any] = json.loads((folder / "training.json").read_text(encoding="utf-8"))
    names = ("seconds", "peak_memory_bytes", "predicted_memory_bytes", "saved_bytes", "predicted")
    return {name: found[name] for name in names}


JOBS = {"forecast": forecast_of, "training": training_of}


def measured(cell: Cell, work: Path, steps: int) -> dict[str, Any]:
    """Return what was predicted of a cell and what it took, each from a process of its own."""
    config = json.dumps(cell.config(work, steps))
    found = {}
    for job in JOBS:
        command = [sys.executable, "-m", "benchmarks.planning", "--job", job, config]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ)
        if done.returncode:
            raise RuntimeError(f"{cell.name}, {job}: {done.stderr[-2000:]}")
        found[job] = json.loads(done.stdout.splitlines()[-1])
    return {"cell": cell.name, **found}


def errors(records: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, list[float]]]:
    """Yield what was predicted by whom, with the relative error of every record."""
    for title, key, actual in (("time", "seconds", "seconds"), ("memory", "peak_memory", "peak_memory_bytes")):
        said = {
            "plan": [one["forecast"] for one in records],
            "the run": [one["training"]["predicted"] for one in records],
        }
        for who, given in said.items():
            pairs = zip(given, records, strict=True)
            yield f"{title}, by {who}", [one[key] / record["training"][actual] - 1 for one, record in pairs]


def markdown(records: Sequence[Mapping[str, Any]]) -> str:
    """Return the table, and the errors' medians and extremes."""
    lines = [HEADER, "| --- | --- | --- " + "| ---: " * 6 + "|"]
    for record in records:
        plan, run = record["forecast"], record["training"]
        seconds = [run["seconds"], plan["seconds"], run["predicted"]["seconds"]]
        memory = [run["peak_memory_bytes"], plan["peak_memory"], run["predicted"]["peak_memory"]]
        shown = [*_with_errors(seconds, 1, 2), *_with_errors(memory, 1e6, 0)]
        lines.append("| " + " | ".join([*record["cell"].split("/"), *shown]) + " |")
    lines.append("")
    for name, found in errors(records):
        median = statistics.median(map(abs, found))
        lines.append(f"- {name}: median error {median:.1%}, from {min(found):+.1%} to {max(found):+.1%}")
    return "\n".join(lines) + "\n"


def _with_errors(values: Sequence[float], unit: float, decimals: int) -> list[str]:
    actual, *predicted = values
    shown = [f"{one / unit:.{decimals}f} ({one / actual - 1:+.0%})" for one in predicted]
    return [f"{actual / unit:.{decimals}f}", *shown]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure the grid, or the part of it that is named, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.planning", description=__doc__)
    parser.add_argument("--only", default="", help="words that a cell's name must hold, such as 'lora minilm'")
    parser.add_argument("--work", type=Path, default=Path("/tmp/tunesmith-planning"), help="where files are made")
    parser.add_argument("--steps", type=int, default=STEPS, help="of every training; memory is the same after 10")
    parser.add_argument("--json", type=Path, help="write the records there, after every cell")
    parser.add_argument("--job", nargs=2, metavar=("JOB", "CONFIG"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.job:
        print(json.dumps(JOBS[options.job[0]](json.loads(options.job[1]))))
        return 0
    options.work.mkdir(parents=True, exist_ok=True)
    prepare(options.work)
    records = []
    for cell in cells(options.only):
        records.append(measured(cell, options.work, options.steps))
        print(json.dumps(records[-1]), file=sys.stderr, flush=True)
        if options.json:
            options.json.write_text(json.dumps(records, indent=1), encoding="utf-8")
    print(markdown(records))
    return 0


if __name__ == "__main__":
    sys.exit(main())
