"""``study.json`` of a search, and the best configuration as a file that ``tunesmith train`` takes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from tunesmith.config.load import dump_yaml
from tunesmith.files.atomic import write_text
from tunesmith.readable import count, is_fraction, metric_phrase, number
from tunesmith.run import RunConfig
from tunesmith.run.assembly import with_absolute_paths
from tunesmith.study.folder import RUNS, Journal, StudyFolder
from tunesmith.study.search_space import Setting, with_values

VERSION = 1
BEST = "best.yaml"


@dataclass
class SearchRecord:
    """Makes ``study.json`` of the journal."""

    base: RunConfig
    settings: Sequence[Setting]
    folder: StudyFolder
    journal: Journal
    metric: str
    higher: bool
    facts: Mapping[str, Any]
    """What does not change."""

    def trials(self) -> list[dict[str, Any]]:
        """Return all trials in order, with what came of them."""
        ended = {event["number"]: event for event in self.journal.of("ended")}
        found = []
        for event in self.journal.of("drawn"):
            number_of = event["number"]
            end = ended.get(number_of)
            found.append(
                {
                    "number": number_of,
                    "state": "running" if end is None else end["state"],
                    "values": event["values"],
                    "value": None if end is None else end["value"],
                    "loss": None if end is None else end["loss"],
                    "seconds": None if end is None else end["seconds"],
                    "folder": self.place(number_of),
                    "reason": "" if end is None else end["reason"],
                    "points": [] if end is None else end["points"],
                }
            )
        return found

    @staticmethod
    def place(number_of: int) -> str:
        """Return a trial's folder, inside that of the study."""
        return f"{RUNS}/trial-{number_of}"

    def best(self) -> dict[str, Any] | None:
        """Return the best trial that came to its end; of equals the one with the lowest validation loss."""
        done = [trial for trial in self.trials() if trial["state"] == "done"]
        sign = -1 if self.higher else 1

        def rank(trial: Mapping[str, Any]) -> tuple[float, float]:
            return sign * trial["value"], math.inf if trial["loss"] is None else trial["loss"]

        return min(done, key=rank, default=None)

    def write(self, importance: Mapping[str, float], *, is_over: bool = False) -> None:
        """Replace ``study.json`` and, where there is a best trial, ``best.yaml``."""
        best, trials = self.best(), self.trials()
        if best is not None:
            config = with_absolute_paths(with_values(self.base, best["values"]))
            write_text(self.folder.path / BEST, dump_yaml(config.model_copy(update={"output": None})))
        self.folder.write_result(
            {
                "version": VERSION,
                "kind": "search",
                "status": "finished" if is_over else "running",
                "metric": self.metric,
                "higher_is_better": self.higher,
                "is_share": is_fraction(self.metric),
                "split": "validation",
                **self.facts,
                "over": [_described(one) for one in self.settings],
                "began": self.journal.events[0]["time"] if self.journal.events else None,
                "finished": datetime.now(UTC).isoformat(timespec="seconds") if is_over else None,
                "seconds": self.journal.seconds,
                "trials": trials,
                "best": best,
                "best_config": None if best is None else BEST,
                "importance": dict(importance),
                "verdict": self._verdict(trials, best, importance) if is_over else "Still going on.",
            }
        )

    def _verdict(
        self, trials: Sequence[Mapping[str, Any]], best: Mapping[str, Any] | None, importance: Mapping[str, float]
    ) -> str:
        if best is None:
            return "No trial came to its end: the reason stands beside each."
        values = ", ".join(f"{path} {_shown(value)}" for path, value in best["values"].items())
        pruned = sum(trial["state"] == "pruned" for trial in trials)
        failed = sum(trial["state"] == "failed" for trial in trials)
        ends = [f"{pruned} given up on the way"] if pruned else []
        ends += [f"{failed} failed"] if failed else []
        given_up = f" ({', '.join(ends)})" if ends else ""
        said = (
            f"The best of {count(len(trials))} trials{given_up} has {metric_phrase(self.metric)} "
            f"{number(best['value'])} on the validation rows, with {values}."
        )
        if importance:
            path, share = max(importance.items(), key=lambda pair: pair[1])
            said += f" What matters most is {path} ({share:.0%})."
        return f"{said} A figure chosen as the best of many is too good: the test rows, still closed, will tell."


def _described(one: Setting) -> dict[str, Any]:
    if one.choices:
        return {"key": one.path, "choices": list(one.choices)}
    return {"key": one.path, "low": one.low, "high": one.high, "log": one.log, "step": one.step}


def _shown(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return str(value).lower() if value is not None else "null"
    return f"{value:g}" if isinstance(value, float) else str(value)
