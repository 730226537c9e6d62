"""How long a contest takes beside the same trainings made one after the other by the Trainer of transformers with PEFT.

    python -m benchmarks.contest_speed [--rows 2000] [--methods full,lora,...] [--seeds 3] [--rates 5]

Three ways through the same trainings (method, rate, seed, number of steps, rows, evaluations), each in a process of its
own, one after the other: the contest; tunesmith with nothing shared between runs; and a loop over the Trainer at its
best flags, which tokenises once, loads the model anew for each training, and neither saves nor computes intervals. The
ratio of the first two is what sharing saves, that of the last two what raw speed does.

Of trainings that differ in rate and seed alone, which change no time, the last two ways make ``--repeats`` of each kind
(method, steps, evaluations) and count the mean for the others; 0 makes all.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.cases import BEST, GROUPED

STAGES = ("contest", "alone", "trainer")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=2000, help="of 12808")
    parser.add_argument("--methods", default="full,freeze,lora,dora,ia3,bitfit")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rates", type=int, default=5)
    parser.add_argument("--epochs", type=float, default=2.0)
    parser.add_argument("--repeats", type=int, default=2, help="trainings of each kind that are timed; 0: all")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--stage", choices=STAGES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.stage:
        stages = {"contest": hold, "alone": train_alone, "trainer": train_by_trainer}
        print(json.dumps(stages[arguments.stage](arguments)))
        return
    with tempfile.TemporaryDirectory() as folder:
        results = {stage: in_own_process(stage, Path(folder), arguments) for stage in STAGES}
    print(markdown(results))
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1), encoding="utf-8")


def in_own_process(stage: str, folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.contest_speed", "--stage", stage, "--folder", str(folder)]
    for name in ("rows", "methods", "seeds", "rates", "epochs", "repeats"):
        command += [f"--{name}", str(getattr(arguments, name))]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(f"{stage:8} {result}", file=sys.stderr)
    return result


def configuration(arguments: argparse.Namespace) -> Any:
    from tunesmith.config.build import build
    from tunesmith.study import CompareConfig

    return build(
        CompareConfig,
        {
            "model": "sample:minilm",
            "data": {"path": "sample:rotten-tomatoes", "limit": arguments.rows},
            "methods": arguments.methods,
            "seeds": arguments.seeds,
            "rates": arguments.rates,
            "train": {"epochs": arguments.epochs},
            "evaluation": {"baseline": False},
            "output": str(arguments.folder / "contest"),
        },
    )


def hold(arguments: argparse.Namespace) -> dict[str, Any]:
    """Hold the contest."""
    from tunesmith.study import Study, run_contest

    config = configuration(arguments)
    began = time.perf_counter()
    study = Study(run_contest(config))
    return {
        "seconds": time.perf_counter() - began,
        "trainings": len(trainings(arguments.folder / "contest")),
        "saved_seconds": study.record["sharing"]["saved_seconds"],
        "values": {one["name"]: one["mean"] for one in study.record["methods"]},
    }


def trainings(folder: Path) -> list[dict[str, Any]]:
    """Return all trainings of the contest, by the configurations in their folders, with their steps.

    A rate that was followed to a third and then to its end is one training.
    """
    found = []
    for place in sorted([*folder.glob("tuning/*/*"), *folder.glob("runs/*/*")]):
        lines = [json.loads(line) for line in (place / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
        steps = [line["step"] for line in lines if line["kind"] == "step"]
        evaluations = [line["step"] for line in lines if line["kind"] == "evaluation"]
        counts = place.parent.parent.name == "runs"
        kind = {"method": place.parent.name, "counts": counts}
        found.append({"folder": place, "steps": max(steps), "evaluations": evaluations, **kind})
    return found


def timed(folder: Path, repeats: int, make: Callable[[int, dict[str, Any]], None]) -> dict[str, Any]:
    """Make the trainings of a contest, or ``repeats`` of each kind, and return how long all of them take."""
    kinds: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for one in trainings(folder):
        kinds.setdefault((one["method"], one["counts"], one["steps"], len(one["evaluations"])), []).append(one)
    began, number, spread, whole = time.perf_counter(), 0, list[float](), 0.0
    for alike in kinds.values():
        times = []
        for one in alike[: repeats or None]:
            start = time.perf_counter()
            make(number, one)
            number += 1
            times.append(time.perf_counter() - start)
        whole += sum(times) / len(times) * len(alike)
        spread.append(max(times) / min(times))
    return {"seconds": whole, "made": number, "took": time.perf_counter() - began, "largest_spread": max(spread)}


def train_alone(arguments: argparse.Namespace) -> dict[str, Any]:
    """Make every training by itself, with a workshop of its own."""
    from tunesmith.run import train
    from tunesmith.run.directory import RunDirectory

    def make(number: int, one: dict[str, Any]) -> None:
        config = RunDirectory(one["folder"]).read_config()
        config = config.changed(output=str(arguments.folder / "alone" / str(number)))
        train(config, until=None if one["counts"] else one["steps"])

    return timed(arguments.folder / "contest", arguments.repeats, make)


def train_by_trainer(arguments: argparse.Namespace) -> dict[str, Any]:
    """Make every training by the Trainer; values of those that count are the accuracy on the test rows."""
    import torch

    from tunesmith.engine.precision import multiplies_bf16

    # Where the processor does not multiply in bf16, fp32 is the Trainer's best, too.
    flags = BEST if multiplies_bf16(torch.device("cpu")) else GROUPED
    tokens: dict[str, Any] = {}
    values: dict[str, list[float]] = {}

    def make(_: int, one: dict[str, Any]) -> None:
        value = _by_trainer(one, tokens, flags, str(arguments.folder / "trainer"))
        if value is not None:
            values.setdefault(one["method"], []).append(value)

    found = timed(arguments.folder / "contest", arguments.repeats, make)
    return {**found, "flags": flags, "values": {name: sum(one) / len(one) for name, one in values.items()}}


def _by_trainer(one: Mapping[str, Any], tokens: dict[str, Any], flags: Mapping[str, Any], folder: str) -> float | None:
    import numpy as np
    from transformers import DataCollatorWithPadding, Trainer, TrainingArguments

    from tunesmith.run.assembly import load_data
    from tunesmith.run.directory import RunDirectory

    config = RunDirectory(one["folder"]).read_config()
    data = load_data(config)
    loaded = config.model.load(data.task.head(), [], config.train.seed)
    for split, rows in data.prepared.splits.items():
        key = data.prepared.hashes[split]
        if key not in tokens:
            tokens[key] = tokenised(rows, loaded, data.task.head().config["label2id"])
    splits = {split: tokens[key] for split, key in data.prepared.hashes.items()}
    trainer = Trainer(
        model=config.method.apply(loaded.model),
        args=TrainingArguments(
            output_dir=folder,
            max_steps=one["steps"],
            per_device_train_batch_size=config.train.batch_size or 32,
            per_device_eval_batch_size=64,
            learning_rate=config.train.learning_rate or 1e-4,
            weight_decay=0.01,
            warmup_steps=round(0.1 * one["steps"]),
            lr_scheduler_type="linear",
            seed=config.train.seed,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            logging_strategy="no",
            **flags,
        ),
        train_dataset=splits["train"],
        data_collator=DataCollatorWithPadding(loaded.tokenizer),
    )
    trainer.train()
    for _ in one["evaluations"]:
        trainer.predict(splits["validation"])
    if not one["counts"]:
        return None
    found = trainer.predict(splits["test"])
    return float((np.asarray(found.predictions).argmax(-1) == np.asarray(found.label_ids)).mean())


def tokenised(rows: Any, loaded: Any, labels: Mapping[str, int]) -> Any:
    def encode(row: Mapping[str, Any]) -> dict[str, Any]:
        found = loaded.tokenizer(row["text"], truncation=True, max_length=loaded.max_length)
        return {**found, "labels": labels[row["label"]]}

    return rows.to_dataset().map(encode, remove_columns=rows.column_names)


def markdown(results: Mapping[str, Mapping[str, Any]]) -> str:
    seconds = {stage: results[stage]["seconds"] for stage in STAGES}
    names = {
        "contest": "the contest",
        "alone": "the same, nothing shared",
        "trainer": "the Trainer, one after the other",
    }
    lines = ["| | Time | Times the contest's |", "| --- | ---: | ---: |"]
    lines += [
        f"| {names[stage]} | {seconds[stage]:.0f} s | {seconds[stage] / seconds['contest']:.2f} |" for stage in STAGES
    ]
    lines += [
        "",
        f"{results['contest']['trainings']} trainings.",
        "",
        "| Method | Contest | Trainer |",
        "| --- | ---: | ---: |",
    ]
    by_trainer = results["trainer"]["values"]
    lines += [
        f"| {name} | {value:.4f} | {by_trainer.get(name, float('nan')):.4f} |"
        for name, value in results["contest"]["values"].items()
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
