"""What a teacher is worth: ``python -m benchmarks.distillation --folder FOLDER --seeds 0,1``.

A full MiniLM learns 2,000 labelled film reviews. Models from scratch learn the same ones alone, with it as their
teacher, and with some 8,000 further reviews whose labels they do not see. All are judged on the same 1,280 test rows.
Runs that are there already are left as they are.
"""

from __future__ import annotations

import argparse
import csv
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tunesmith import Run
from tunesmith.config.build import build
from tunesmith.evaluate import compare_paired
from tunesmith.run import RunConfig, train
from tunesmith.run.assembly import load_data
from tunesmith.run.scores_file import read_scores

LABELLED = 2000


def write_rows(folder: Path) -> dict[str, str]:
    """Write labelled, unlabelled and test rows; return the configuration's section ``data``."""
    folder.mkdir(parents=True, exist_ok=True)
    splits = load_data(build(RunConfig, {"model": "cnn", "data": "sample:rotten-tomatoes"})).prepared.splits
    rows = list(zip(splits["train"]["text"], splits["train"]["label"], strict=True))
    random.Random(0).shuffle(rows)
    test = list(zip(splits["test"]["text"], splits["test"]["label"], strict=True))
    tables: dict[str, list[tuple[Any, ...]]] = {
        "train": [("text", "label"), *rows[:LABELLED]],
        "unlabelled": [("text",), *((text,) for text, _ in rows[LABELLED:])],
        "test": [("text", "label"), *test],
    }
    for name, table in tables.items():
        with (folder / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows(table)
    return {"path": str(folder / "train.csv"), "test": str(folder / "test.csv")}


def trained(folder: Path, **sections: Any) -> Run:
    """Return the run in a folder, trained now if it is not there."""
    if not (folder / "manifest.json").exists():
        train(build(RunConfig, {**sections, "output": str(folder)}), overwrite=True)
    return Run.open(folder)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train what is missing and print a line for every run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("runs/distillation"))
    parser.add_argument("--seeds", default="0,1")
    parser.add_argument("--models", default="cnn,lstm")
    options = parser.parse_args(arguments)
    folder: Path = options.folder
    data = write_rows(folder)
    settings = {"epochs": 3, "precision": "fp32"}
    teacher = trained(folder / "teacher", model="sample:minilm", data=data, train=settings)
    print(f"teacher: accuracy {teacher.evaluation['metrics']['accuracy']['value']:.3f}")
    ways: dict[str, Any] = {
        "alone": None,
        "taught": {"run": str(teacher.folder)},
        "more": {"run": str(teacher.folder), "unlabelled": str(folder / "unlabelled.csv")},
    }
    for model in options.models.split(","):
        for seed in map(int, options.seeds.split(",")):
            alone: dict[str, Any] = {}
            for way, taught in ways.items():
                run = trained(
                    folder / f"{model}-{way}-{seed}",
                    model=model,
                    data=data,
                    train={"seed": seed},
                    teacher=taught,
                    evaluation={"keep_scores": True},
                )
                kept = read_scores(run.folder / "scores.npz")
                alone = alone or dict(kept.outputs)
                gain = compare_paired(run.task, kept.outputs, alone, kept.targets, seed=0)["accuracy"]
                own = run.evaluation["metrics"]
                print(
                    f"{model} seed {seed} {way}: accuracy {own['accuracy']['value']:.3f}, log loss "
                    f"{own['log_loss']['value']:.3f}, gain {gain['value']:+.3f} [{gain['low']:.3f}, {gain['high']:.3f}]"
                )


if __name__ == "__main__":
    main()
