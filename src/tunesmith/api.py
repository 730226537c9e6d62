"""The short way in: one call from data to a trained, judged and explained run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tunesmith.config.base import Config
    from tunesmith.run import Observer, Run


def finetune(
    data: str | PathLike[str] | Mapping[str, Any],
    *,
    model: str | Mapping[str, Any] | Config = "sample:minilm",
    method: str | Mapping[str, Any] | Config = "full",
    task: str | Mapping[str, Any] | Config | None = None,
    train: Mapping[str, Any] | Config | None = None,
    evaluation: Mapping[str, Any] | Config | None = None,
    output: str | PathLike[str] | None = None,
    resume: bool = False,
    overwrite: bool = False,
    report: bool = True,
    observers: Sequence[Observer] = (),
) -> Run:
    """Fine-tune ``model`` on ``data`` by ``method`` and return the finished run.

    Every argument that is a section of the configuration takes a name, a mapping of its keys
    or its config object; ``train={"epochs": 1}`` is ``--train.epochs 1`` on the command line.

        run = finetune("reviews.csv", model="sample:minilm", method={"name": "lora", "rank": 16})
        run.evaluation["metrics"]["accuracy"]
        run.predict(["a joy from start to finish"])

    Raises:
        InputError: Something given cannot be used; every problem is listed.
        RunError: Training could not go on; what was saved stays.
    """
    from tunesmith.config.build import build
    from tunesmith.report import write_report
    from tunesmith.run import Run, RunConfig
    from tunesmith.run import train as train_run

    sections: dict[str, Any] = {
        "model": model,
        "data": str(data) if isinstance(data, PathLike) else data,
        "task": task,
        "method": method,
        "train": train,
        "evaluation": evaluation,
        "output": None if output is None else str(output),
    }
    config = build(RunConfig, {name: value for name, value in sections.items() if value is not None})
    run = Run.open(train_run(config, resume=resume, overwrite=overwrite, observers=observers))
    if report:
        write_report([run.folder], Path(run.folder) / "report.html")
    return run
