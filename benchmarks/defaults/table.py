"""What was measured: the records on disk, the regret of the default runs, and their table."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.defaults.cases import Case
from benchmarks.defaults.cells import Cell

LOWER_IS_BETTER = {"rmse", "perplexity", "loss"}


class Results:
    """The records of the runs made so far, one file each."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "results"

    def _path(self, cell: Cell) -> Path:
        return self._folder / cell.case / f"{cell.name}.json"

    def has(self, cell: Cell) -> bool:
        return self._path(cell).exists()

    def write(self, cell: Cell, record: dict[str, Any]) -> None:
        path = self._path(cell)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")

    def of(self, case: Case) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Return the finished runs of the grid, and the default runs."""
        paths = sorted((self._folder / case.name).glob("*.json"))
        records = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
        finished = [record for record in records if "test" in record]
        return (
            [record for record in finished if record["rate"] is not None],
            [record for record in finished if record["rate"] is None],
        )

    def best_rates(self, cells: Iterable[Cell], number: int) -> list[float]:
        """Return the rates of the cells that were best on the validation rows."""
        records = [json.loads(self._path(cell).read_text(encoding="utf-8")) for cell in cells]
        ranked = sorted((record for record in records if "test" in record), key=validation_score, reverse=True)
        return [record["rate"] for record in ranked[:number]]


def validation_score(record: dict[str, Any]) -> float:
    """Return the figure that a run is chosen by; higher is better."""
    name: str = record["validation"]["name"]
    value: float | None = record["validation"]["value"]
    if value is None or math.isnan(value):
        return -math.inf
    return -value if name in LOWER_IS_BETTER else value


@dataclass(frozen=True, slots=True)
class Comparison:
    """The default run of a case beside its grid, by the case's first figure, in points."""

    case: Case
    num_cells: int
    default: float
    chosen: float
    """The run of the grid that was best on the validation rows (the mean of those that were equally good)."""
    oracle: float
    """The run of the grid that was best on the test rows: too good by what chance gives the best of many."""
    chosen_cell: dict[str, Any]
    default_runs: list[dict[str, Any]]
    others: tuple[float, float] | None
    """The second figure, where there is one: of the default run and of the chosen one."""

    @property
    def regret(self) -> float:
        return self.chosen - self.default

    @property
    def oracle_regret(self) -> float:
        return self.oracle - self.default


def compare(case: Case, results: Results) -> Comparison | None:
    grid, defaults = results.of(case)
    if not grid or not defaults:
        return None
    name = case.metrics[0]
    best = max(map(validation_score, grid))
    equal = [record for record in grid if validation_score(record) == best]

    def mean(records: Sequence[dict[str, Any]], name: str) -> float:
        return statistics.fmean(record["test"][name] for record in records)

    second = case.metrics[1] if len(case.metrics) > 1 else None
    return Comparison(
        case=case,
        num_cells=len(grid),
        default=100 * mean(defaults, name),
        chosen=100 * mean(equal, name),
        oracle=100 * max(record["test"][name] for record in grid),
        chosen_cell=equal[0],
        default_runs=defaults,
        others=(mean(defaults, second), mean(equal, second)) if second else None,
    )


def markdown(cases: Sequence[Case], results: Results) -> str:
    """Return the table, and under it the medians and the worst."""
    found = [one for case in cases if (one := compare(case, results)) is not None]
    head = [
        *("Data, rows, method", "Metric", "Default", "Its rate, rows a step, epochs"),
        *("Best of the grid by validation rows", "Its rate, epochs", "Regret", "Best by test rows", "Regret"),
    ]
    lines = [f"| {' | '.join(head)} |", "| --- | --- | ---: | --- | ---: | --- | ---: | ---: | ---: |"]
    for one in found:
        chosen = (one.default_runs[0].get("defaults") or {}) if one.default_runs else {}
        own = [chosen.get(f"train.{key}", {}).get("value") for key in ("learning_rate", "batch_size", "epochs")]
        lines.append(
            f"| {one.case.name} | {one.case.metrics[0]} | {one.default:.1f} "
            f"| {', '.join(f'{value:g}' for value in own if value is not None)} | {one.chosen:.1f} "
            f"| {one.chosen_cell['rate']:g}, {one.chosen_cell['epochs']:g} | {one.regret:+.1f} "
            f"| {one.oracle:.1f} | {one.oracle_regret:+.1f} |"
        )
    if found:
        for what, values in (
            ("chosen on validation rows", [one.regret for one in found]),
            ("chosen on test rows", [one.oracle_regret for one in found]),
        ):
            lines.append("")
            lines.append(
                f"Regret against the best {what}: median {statistics.median(values):.2f}, worst {max(values):.2f} "
                f"of {len(values)} cases."
            )
    return "\n".join(lines) + "\n"
