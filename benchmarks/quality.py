"""Whether tunesmith reaches the accuracy of the Hugging Face Trainer by the same recipe.

    python -m benchmarks.quality [--rows 6000] [--epochs 1] [--seeds 0 1 2] [--json FILE] [--markdown FILE]

Fine-tunes MiniLM on the Rotten Tomatoes snippets with both, in fp32, for several seeds: the
same train and test rows, rate, schedule, batch size, weight decay and clipping. Each training
is a process of its own. The table holds accuracy on the same test rows (films never seen in
training), its mean and spread over seeds, and the 95% interval of the test sample.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

RATE, BATCH_SIZE, WARMUP, WEIGHT_DECAY = 5e-5, 32, 0.1, 0.01


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=6000, help="of 12808")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path)
    parser.add_argument("--one", nargs=2, metavar=("TOOL", "SEED"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        tool, seed = arguments.one
        print(json.dumps({"tunesmith": run_tunesmith, "trainer": run_trainer}[tool](int(seed), arguments)))
        return
    results: dict[str, list[dict[str, Any]]] = {"tunesmith": [], "trainer": []}
    for seed in arguments.seeds:
        for tool, found in results.items():
            found.append(in_own_process(tool, seed, arguments))
            print(f"seed {seed}  {tool:10}  {found[-1]}", file=sys.stderr)
    table = markdown(results)
    print(table)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1), encoding="utf-8")
    if arguments.markdown:
        arguments.markdown.write_text(table, encoding="utf-8")


def in_own_process(tool: str, seed: int, arguments: argparse.Namespace) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.quality", "--one", tool, str(seed)]
    command += ["--rows", str(arguments.rows), "--epochs", str(arguments.epochs)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def configuration(seed: int, arguments: argparse.Namespace, output: str) -> Any:
    from tunesmith.config.build import build
    from tunesmith.run import RunConfig

    return build(
        RunConfig,
        {
            "model": "sample:minilm",
            "data": {"path": "sample:rotten-tomatoes", "limit": arguments.rows},
            "method": "full",
            "train": {
                "epochs": arguments.epochs,
                "batch_size": BATCH_SIZE,
                "learning_rate": RATE,
                "optimizer": {"name": "adamw", "weight_decay": WEIGHT_DECAY},
                "schedule": {"name": "linear", "warmup": WARMUP},
                "clip_norm": 1.0,
                "precision": "fp32",
                "seed": seed,
                "early_stopping": {"restore_best": False},
            },
            "evaluation": {"baseline": False},
            "output": output,
        },
    )


def run_tunesmith(seed: int, arguments: argparse.Namespace) -> dict[str, Any]:
    from tunesmith.run import Run, train

    with tempfile.TemporaryDirectory() as folder:
        run = Run.open(train(configuration(seed, arguments, f"{folder}/run")))
        accuracy = run.evaluation["metrics"]["accuracy"]
        seconds = run.summary["step_seconds"]
        return {"accuracy": accuracy["value"], "low": accuracy["low"], "high": accuracy["high"], "seconds": seconds}


def run_trainer(seed: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """Train with the Hugging Face Trainer on the very rows that tunesmith splits off."""
    import numpy as np
    from transformers import DataCollatorWithPadding, Trainer, TrainingArguments

    from tunesmith.evaluate import evaluate
    from tunesmith.run.assembly import load_data

    with tempfile.TemporaryDirectory() as folder:
        config = configuration(seed, arguments, folder)
        data = load_data(config)
        loaded = config.model.load(data.task.head(), [], seed)
        labels = data.task.head().config["label2id"]
        splits = {
            split: rows.to_dataset().map(
                lambda row: (
                    {**loaded.tokenizer(row["text"], truncation=True, max_length=loaded.max_length)}
                    | {"labels": labels[row["label"]]}
                ),
                remove_columns=rows.column_names,
            )
            for split, rows in data.prepared.splits.items()
        }
        trainer = Trainer(
            model=loaded.model,
            args=TrainingArguments(
                output_dir=folder,
                num_train_epochs=arguments.epochs,
                per_device_train_batch_size=BATCH_SIZE,
                per_device_eval_batch_size=64,
                learning_rate=RATE,
                weight_decay=WEIGHT_DECAY,
                warmup_steps=WARMUP,
                lr_scheduler_type="linear",
                max_grad_norm=1.0,
                seed=seed,
                save_strategy="no",
                report_to=[],
                disable_tqdm=True,
                logging_strategy="no",
            ),
            train_dataset=splits["train"],
            data_collator=DataCollatorWithPadding(loaded.tokenizer),
        )
        started = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - started
        logits = np.asarray(trainer.predict(splits["test"]).predictions)
        encoded = data.task.encode(data.columns("test"), loaded.tokenizer, loaded.max_length)
        judged = evaluate(data.task, {"scores": logits}, encoded.targets, seed=seed)
        accuracy = judged["metrics"]["accuracy"]
        return {"accuracy": accuracy["value"], "low": accuracy["low"], "high": accuracy["high"], "seconds": seconds}


def markdown(results: dict[str, list[dict[str, Any]]]) -> str:
    lines = [
        "| Tool | Accuracy, mean over seeds | Standard deviation | 95% interval of one test sample, mean |",
        "| --- | ---: | ---: | ---: |",
    ]
    for tool, found in results.items():
        values = [result["accuracy"] for result in found]
        spread = statistics.stdev(values) if len(values) > 1 else math.nan
        low, high = (statistics.fmean(result[end] for result in found) for end in ("low", "high"))
        name = {"tunesmith": "tunesmith", "trainer": "Trainer of transformers"}[tool]
        lines.append(f"| {name} | {statistics.fmean(values):.4f} | {spread:.4f} | [{low:.4f}, {high:.4f}] |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
