"""Trainings of a case, with rates and numbers of epochs of the grid or with nothing said, in this process."""

from __future__ import annotations

import math
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.defaults.cases import CASES, Case

NUM_EVALUATIONS = 5
"""Looks at the validation rows in a run of the grid; the best one's weights are kept, as in a default run."""


@dataclass(frozen=True, slots=True)
class Cell:
    """A run to be made."""

    case: str
    rate: float | None = None
    """None for the default run."""
    epochs: float | None = None
    seed: int = 0

    @property
    def name(self) -> str:
        what = "default" if self.rate is None else f"rate-{self.rate:.0e}-epochs-{self.epochs:g}"
        return what + (f"-seed-{self.seed}" if self.seed else "")


def settings(case: Case, cell: Cell) -> dict[str, Any]:
    """Return the section ``train`` of the configuration."""
    if cell.rate is None or cell.epochs is None:
        return {"seed": cell.seed}
    steps = math.ceil(math.ceil(case.num_train / case.batch_size) * cell.epochs)
    return {
        "seed": cell.seed,
        "learning_rate": cell.rate,
        "epochs": cell.epochs,
        "batch_size": case.batch_size,
        "evaluate_steps": math.ceil(steps / NUM_EVALUATIONS),
        "schedule": {"name": "linear", "warmup": 0.1},
        "early_stopping": {"patience": NUM_EVALUATIONS + 1},
    }


def run(cell: Cell, data: Path, folder: Path) -> dict[str, Any]:
    """Train a cell and return its record."""
    from tunesmith.config.build import build
    from tunesmith.run import Run, RunConfig, train
    from tunesmith.types import RunError

    case = CASES[cell.case]
    paths, model = case.write(data, folder / "rows" / case.name), case.model_path(data, folder)
    with tempfile.TemporaryDirectory(prefix="defaults-") as place:
        config = build(
            RunConfig,
            {
                "model": model,
                "data": {**paths, "clean": {"duplicates": False}},
                "task": case.task,
                "method": case.method,
                "train": settings(case, cell),
                "evaluation": {"baseline": False, "num_resamples": 0},
                "output": f"{place}/{cell.name}",
            },
        )
        started = time.perf_counter()
        try:
            figures = _figures(Run.open(train(config)), case)
        except RunError as error:
            figures = {"error": str(error)}
        return {**asdict(cell), "cell": cell.name, "seconds": time.perf_counter() - started, **figures}


def _figures(run: Any, case: Case) -> dict[str, Any]:
    summary = run.summary
    measured = {name: found["value"] for name, found in run.evaluation["metrics"].items()}
    return {
        "test": {name: measured[name] for name in case.metrics},
        "validation": summary["best_metric"],
        "steps": summary["steps"],
        "best_step": summary["best_step"],
        "tokens": summary["tokens"],
        "step_seconds": summary["step_seconds"],
        "precision": summary["precision"],
        "defaults": summary.get("defaults"),
    }
