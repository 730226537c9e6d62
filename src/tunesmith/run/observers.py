"""Who may watch a run: the console, TensorBoard, the metrics file, or the user's own code."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tunesmith.types import Problem, StepInfo


@dataclass(frozen=True, slots=True)
class RunPlan:
    """What is about to be trained."""

    task: str
    model: str
    method: str
    layout: str
    precision: str
    device: str
    num_parameters: int
    num_trained_parameters: int
    num_rows: dict[str, int]
    total_steps: int
    first_step: int
    """Steps already made, when a run is resumed."""
    folder: Path
    decided: str = ""
    """What of the configuration nobody gave and what it became, in one line."""


HAND_OVER_SECONDS = 1.0
"""How long numbers for TensorBoard wait at most while steps go on."""


class Observer:
    """Watches a run. Override what interests; exceptions raised here stop the run."""

    def started(self, plan: RunPlan) -> None:
        """Call before the first step."""

    def stepped(self, info: StepInfo, total_steps: int) -> None:
        """Call after every optimizer step."""

    def evaluated(self, record: dict[str, Any]) -> None:
        """Call after every evaluation with its line of ``metrics.jsonl``."""

    def noted(self, problem: Problem) -> None:
        """Call with every note or warning, as it arises."""

    def working(self, what: str) -> None:
        """Call when a stage that may take a while begins: ``reading data``, ``tokenising``."""

    def finished(self, summary: dict[str, Any]) -> None:
        """Call at the end with the content of ``training.json``."""

    def close(self) -> None:
        """Call once, also after an error; release what is held."""


class Observers(Observer):
    """Passes everything on to several observers."""

    def __init__(self, observers: list[Observer]) -> None:
        self._observers = observers

    def started(self, plan: RunPlan) -> None:
        for observer in self._observers:
            observer.started(plan)

    def stepped(self, info: StepInfo, total_steps: int) -> None:
        for observer in self._observers:
            observer.stepped(info, total_steps)

    def evaluated(self, record: dict[str, Any]) -> None:
        for observer in self._observers:
            observer.evaluated(record)

    def noted(self, problem: Problem) -> None:
        for observer in self._observers:
            observer.noted(problem)

    def working(self, what: str) -> None:
        for observer in self._observers:
            observer.working(what)

    def finished(self, summary: dict[str, Any]) -> None:
        for observer in self._observers:
            observer.finished(summary)

    def close(self) -> None:
        for observer in self._observers:
            observer.close()


class MetricsFile(Observer):
    """Appends every step and evaluation to ``metrics.jsonl``.

    On resuming, lines after the checkpoint's step are cut first: those steps are made again.
    """

    def __init__(self, path: Path, first_step: int) -> None:
        kept = [line for line in _lines(path) if json.loads(line)["step"] <= first_step]
        self._file = path.open("w", encoding="utf-8")
        self._file.writelines(line + "\n" for line in kept)
        self._file.flush()

    def stepped(self, info: StepInfo, total_steps: int) -> None:  # noqa: ARG002
        record = {"kind": "step", **asdict(info)}
        for optional in ("rows", "note"):
            if not record[optional]:
                del record[optional]
        self._write(record)

    def evaluated(self, record: dict[str, Any]) -> None:
        self._write(record)

    def close(self) -> None:
        self._file.close()

    def _write(self, record: dict[str, Any]) -> None:
        self._file.write(json.dumps(record) + "\n")
        self._file.flush()


class TensorBoard(Observer):
    """Writes event files for TensorBoard into ``tensorboard/`` of the run.

    Steps are handed over together once a second: the writer has a thread of its own, and waking it
    for every number costs more than a step of a small model.
    """

    def __init__(self, folder: Path, first_step: int) -> None:
        from tensorboardX import SummaryWriter

        self._writer = SummaryWriter(str(folder), purge_step=first_step + 1 if first_step else None)
        self._waiting: list[tuple[dict[str, float], int, float]] = []
        self._handed_over = time.time()

    def stepped(self, info: StepInfo, total_steps: int) -> None:  # noqa: ARG002
        values = {
            "train/loss": info.loss,
            "train/learning_rate": info.learning_rate,
            "train/gradient_norm": info.gradient_norm,
            "train/tokens_per_second": info.num_tokens / max(info.seconds, 1e-9),
        }
        self._take(values, info.step)

    def evaluated(self, record: dict[str, Any]) -> None:
        split = record["split"]
        values = {f"{split}/{name}": value for name, value in record["metrics"].items()}
        if record["loss"] is not None:
            values[f"{split}/loss"] = record["loss"]
        self._take(values, record["step"])

    def close(self) -> None:
        self._hand_over()
        self._writer.close()

    def _take(self, values: dict[str, float], step: int) -> None:
        now = time.time()
        self._waiting.append((values, step, now))
        if now - self._handed_over >= HAND_OVER_SECONDS:
            self._hand_over()

    def _hand_over(self) -> None:
        for values, step, moment in self._waiting:
            for name, value in values.items():
                self._writer.add_scalar(name, value, step, walltime=moment)
        self._waiting.clear()
        self._handed_over = time.time()


def _lines(path: Path) -> list[str]:
    """Return the whole lines of a JSON Lines file; a last line cut by a crash is left out."""
    if not path.exists():
        return []
    lines = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            json.loads(line)
        except ValueError:
            break
        lines.append(line)
    return lines
