"""tunesmith, measured through what a user calls: ``train`` with a configuration, and the run it leaves."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from argparse import Namespace
from pathlib import Path
from typing import Any

from benchmarks.child import answer, imported, note_peak, process_seconds, training_result
from benchmarks.row_files import write_rows
from benchmarks.workloads import TASKS
from tunesmith.run import Observer, RunPlan
from tunesmith.types import StepInfo

NEVER = 1_000_000_000


class Clock(Observer):
    """Notes when each stage and each step of a run ended."""

    def __init__(self) -> None:
        self.stages: list[tuple[str, float]] = []
        self.steps: list[float] = []
        self.first_step_seconds = 0.0

    def working(self, what: str) -> None:
        self.stages.append((what, time.perf_counter()))

    def started(self, plan: RunPlan) -> None:
        self.num_trained, self.num_parameters = plan.num_trained_parameters, plan.num_parameters
        self.stages.append(("started", time.perf_counter()))
        note_peak()  # the run measures its own peak from here on

    def stepped(self, info: StepInfo, total_steps: int) -> None:
        del info, total_steps
        if not self.steps:
            self.first_step_seconds = process_seconds()
        self.steps.append(time.perf_counter())

    def seconds_of(self, word: str) -> float:
        """Return how long the first stage took whose name holds ``word``."""
        for (name, began), (_, ended) in zip(self.stages, self.stages[1:], strict=False):
            if word in name:
                return ended - began
        raise LookupError(f"no stage is called '{word}': {[name for name, _ in self.stages]}")

    @property
    def training_seconds(self) -> float:
        """Time of all steps, and before them of computing what frozen layers, or the reference, make of the rows."""
        before = ("frozen", "as it was before")
        began = next((time for name, time in self.stages if any(word in name for word in before)), self.stages[-1][1])
        started = max(time for name, time in self.stages if name == "started")
        return self.steps[-1] - min(began, started)

    @property
    def step_seconds(self) -> list[float]:
        """Wall time from step to step: what is written down after each is part of it."""
        started = max(time for name, time in self.stages if name == "started")
        return [after - before for before, after in zip([started, *self.steps], self.steps, strict=False)]


def configuration(spec: dict[str, Any], output: Path, **changes: Any) -> Any:
    """Return the configuration that is the workload's recipe, the rows taken exactly as they stand in the files."""
    from tunesmith.config.build import build
    from tunesmith.run import RunConfig

    workload, work = spec["workload"], Path(spec["work"])
    as_it_is = {"unicode": "none"} | dict.fromkeys(
        ("control_characters", "whitespace", "empty_rows", "duplicates"), False
    )
    tree = {
        "model": {"name": spec["facts"]["model"], "max_length": workload["max_length"]},
        "data": {
            "path": str(work / "train.jsonl"),
            "test": str(work / "test.jsonl"),
            "validation_fraction": 0.0,
            "clean": as_it_is,
        },
        "task": TASKS[workload["data"]],
        "method": method_of(workload["method"]),
        "train": {
            "epochs": workload["epochs"],
            "max_steps": workload["max_steps"],
            "batch_size": workload["batch_size"],
            "learning_rate": workload["learning_rate"],
            "optimizer": {"name": "adamw", "weight_decay": workload["weight_decay"]},
            "schedule": {"name": "linear", "warmup": workload["warmup"]},
            "clip_norm": workload["clip_norm"],
            "precision": spec.get("precision", "auto"),
            "seed": spec.get("seed", 0),
            "evaluate_steps": NEVER,
            "early_stopping": {"restore_best": False},
        },
        "compute": {"device": "cpu"},
        "evaluation": {"baseline": False, "num_resamples": 0},
        "output": str(output),
    }
    for section, values in changes.items():
        tree[section] |= values
    return build(RunConfig, tree)


def method_of(method: dict[str, Any]) -> dict[str, Any]:
    """Return a workload's method as tunesmith's configuration has it."""
    if method["name"] != "lora":
        return method
    found = {"name": "lora", "rank": method["rank"]}
    if layers := method.get("layers"):
        found["target_modules"] = ",".join(f"encoder.layer.{layer}.{name}" for layer in layers for name in BERT_LINEAR)
    return found


BERT_LINEAR = (
    "attention.self.query",
    "attention.self.key",
    "attention.self.value",
    "attention.output.dense",
    "intermediate.dense",
    "output.dense",
)


def train_quietly(spec: dict[str, Any], output: Path, clock: Clock | None = None, **changes: Any) -> Path:
    """Train as the workload says; tokenised rows are cached beside the run, so that no earlier one helps."""
    from tunesmith.run import train

    os.environ["TUNESMITH_CACHE"] = str(spec.get("cache") or output.parent / "cache")
    return train(configuration(spec, output, **changes), overwrite=True, observers=[clock] if clock else [])


def scratch(spec: dict[str, Any]) -> Path:
    """Return an empty folder for this measurement."""
    folder = Path(spec["work"]) / "ours"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def train_once(spec: dict[str, Any]) -> dict[str, Any]:
    """Train and return throughput, losses and costs."""
    import_heavy()
    clock = Clock()
    run = train_quietly(spec, scratch(spec) / "run", clock)
    steps = recorded_steps(run)
    summary = json.loads((run / "training.json").read_text(encoding="utf-8"))
    result = training_result(
        clock.step_seconds,
        [step["num_tokens"] for step in steps],
        [step["loss"] for step in steps],
        per_token=spec["workload"]["data"] in ("chat", "translation"),
    )
    return {
        **result,
        "rows_per_second": spec["workload"]["batch_size"] / result["step_seconds"],
        "first_step_seconds": clock.first_step_seconds,
        "seconds": clock.training_seconds,
        "num_trained": clock.num_trained,
        "precision": summary["precision"],
        "layout": summary["layout"],
    }


def recorded_steps(run: Path) -> list[dict[str, Any]]:
    """Return the lines of ``metrics.jsonl`` that are steps."""
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [record for record in map(json.loads, lines) if record["kind"] == "step"]


def import_heavy() -> None:
    """Import what every training imports, so that the memory of the work can be told from theirs."""
    import peft  # noqa: F401
    import transformers  # noqa: F401

    imported()


def predict(spec: dict[str, Any]) -> dict[str, Any]:
    """From texts to labels with scores, the model loaded and used once before."""
    from tunesmith.run import Run

    import_heavy()
    texts = json.loads((Path(spec["work"]) / "texts.json").read_text(encoding="utf-8"))
    run = Run.open(Path(spec["work"]) / "run")
    run.predict(texts[:64])
    started = time.perf_counter()
    found = run.predict(texts)
    seconds = time.perf_counter() - started
    answers = [prediction["label"] for prediction in found]
    return {"seconds": seconds, "rows_per_second": len(texts) / seconds, "answers": answers}


def generate(spec: dict[str, Any]) -> dict[str, Any]:
    """From questions to greedy answers, the model loaded and used once before."""
    from tunesmith.run import Run, Writing

    import_heavy()
    texts = json.loads((Path(spec["work"]) / "texts.json").read_text(encoding="utf-8"))
    run, writing = Run.open(Path(spec["work"]) / "run"), Writing(max_new_tokens=spec["max_new_tokens"])
    run.predict(texts[:2], writing=Writing(max_new_tokens=4))
    started = time.perf_counter()
    answers = [prediction["answer"] for prediction in run.predict(texts, writing=writing)]
    seconds = time.perf_counter() - started
    num_tokens = sum(len(ids) for ids in run.network.tokenizer(answers, add_special_tokens=False)["input_ids"])
    return {"seconds": seconds, "tokens_per_second": num_tokens / seconds, "answers": answers}


def tokenise(spec: dict[str, Any]) -> dict[str, Any]:
    """Train one step on many rows and return how long tokenising them took; the cache is empty.

    The stage also sets up the optimizer and the like: what it takes for a few rows is taken off.
    """
    import_heavy()
    folder = scratch(spec)
    few = folder / "few"
    few.mkdir()
    for name in ("train", "test"):
        shutil.copy(Path(spec["work"]) / "test.jsonl", few / f"{name}.jsonl")
    clocks = [Clock(), Clock(), Clock()]
    for number, clock in enumerate(clocks[:2]):  # the first one imports what is needed
        train_quietly({**spec, "work": str(few), "cache": str(few / f"cache-{number}")}, few / "run", clock)
    train_quietly(spec, folder / "run", clocks[2])
    constant, seconds = (clock.seconds_of("token") for clock in clocks[1:])
    return {"seconds": max(seconds - constant, 1e-3), "constant_seconds": constant}


def tokenise_again(spec: dict[str, Any]) -> dict[str, Any]:
    """Do the same with everything in the cache: the time of all that concerns data."""
    import_heavy()
    folder = Path(spec["work"]) / "ours"
    clock = Clock()
    train_quietly(spec, folder / "run", clock)
    return {
        "seconds": clock.seconds_of("reading") + clock.seconds_of("token"),
        "first_step_seconds": clock.first_step_seconds,
    }


def first_step(spec: dict[str, Any]) -> dict[str, Any]:
    """Return the seconds from the start of the command to its first optimizer step, nothing cached but files."""
    folder = scratch(spec)
    command = [sys.executable, "-m", "tunesmith", "train", "--model", spec["facts"]["model"]]
    command += ["--data", str(Path(spec["work"]) / "train.jsonl"), "--output", str(folder / "run")]
    record = folder / "run" / "metrics.jsonl"
    environment = {**os.environ, "TUNESMITH_CACHE": str(folder / "cache")}
    started = time.perf_counter()
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        try:
            while not (record.exists() and record.stat().st_size):
                if process.poll() is not None:
                    assert process.stdout is not None
                    raise RuntimeError(process.stdout.read().decode()[-400:])
                time.sleep(0.01)
            seconds = time.perf_counter() - started
        finally:
            process.kill()
    return {"seconds": seconds, "peak_memory_bytes": None}


def help_page(spec: dict[str, Any]) -> dict[str, Any]:
    """Return the seconds that ``tunesmith --help`` takes, the median of five."""
    del spec
    seconds = []
    for _ in range(5):
        started = time.perf_counter()
        subprocess.run([sys.executable, "-m", "tunesmith", "--help"], check=True, stdout=subprocess.DEVNULL)
        seconds.append(time.perf_counter() - started)
    return {"seconds": statistics.median(seconds), "peak_memory_bytes": None}


def linear_tokens(spec: dict[str, Any]) -> dict[str, Any]:
    """Return seconds per epoch for epochs of more and more tokens, rows of 32 tokens."""
    return linear(spec, [(tokens // 32, 32) for tokens in spec["sizes"]], lambda rows, length: rows * length)


def linear_length(spec: dict[str, Any]) -> dict[str, Any]:
    """Return seconds per epoch for as many tokens in longer and longer rows, per row."""
    return linear(
        spec, [(max(1, spec["tokens"] // length), length) for length in spec["sizes"]], lambda _, length: length
    )


def linear(spec: dict[str, Any], sizes: list[tuple[int, int]], axis: Any) -> dict[str, Any]:
    """Return (size, seconds, rows) for rows of one repeated word; seconds are those of the second of two epochs."""
    import_heavy()
    folder = scratch(spec)
    points = []
    for number, (num_rows, length) in enumerate([sizes[0], *sizes]):  # the first one warms up
        work = folder / str(number)
        work.mkdir()
        text = " ".join(["film"] * (length - 2))  # and the two special tokens
        rows = [{"text": text, "label": label} for label in ("fresh", "rotten")]
        write_rows(work / "train.jsonl", (rows[index % 2] for index in range(num_rows)))
        write_rows(work / "test.jsonl", rows)
        workload = {**spec["workload"], "epochs": 2, "batch_size": max(1, 1024 // length), "max_length": 2048}
        clock = Clock()
        run = train_quietly({**spec, "work": str(work), "workload": workload}, work / "run", clock)
        steps = recorded_steps(run)
        half = len(steps) // 2
        tokens = sum(step["num_tokens"] for step in steps[half:])
        points.append((axis(num_rows, length), sum(clock.step_seconds[half:]), tokens, num_rows))
        shutil.rmtree(work)
    return {"points": points[1:]}


def quality(spec: dict[str, Any]) -> dict[str, Any]:
    """Return the accuracy that training reaches on test rows."""
    from benchmarks.quality import run_tunesmith

    return run_tunesmith(spec["seed"], Namespace(rows=spec["workload"]["rows"], epochs=spec["workload"]["epochs"]))


if __name__ == "__main__":
    answer(
        {
            "train": train_once,
            "predict": predict,
            "generate": generate,
            "tokenise": tokenise,
            "tokenise_again": tokenise_again,
            "first_step": first_step,
            "help": help_page,
            "linear_tokens": linear_tokens,
            "linear_length": linear_length,
            "quality": quality,
        }
    )
