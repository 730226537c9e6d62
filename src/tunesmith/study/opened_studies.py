"""Cross-validations and searches that are over, opened."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from tunesmith.config.build import build
from tunesmith.config.load import load_yaml
from tunesmith.readable import interval, metric_title
from tunesmith.run import RunConfig
from tunesmith.study.opened import OpenedStudy
from tunesmith.types import Interval

_ENDS = ("value", "low", "high")


class CrossValidation(OpenedStudy):
    """What came of judging a training fold by fold."""

    @property
    def metrics(self) -> Mapping[str, Mapping[str, float | None]]:
        """Every metric: ``value`` (the mean over the folds), ``low`` and ``high`` of its corrected interval."""
        found: Mapping[str, Mapping[str, float | None]] = self.record["metrics"]
        return found

    @property
    def table(self) -> list[dict[str, str]]:
        """The metrics as rows of finished words."""
        found = []
        for name, values in self.metrics.items():
            value, low, high = (math.nan if (one := values.get(end)) is None else one for end in _ENDS)
            found.append({"metric": metric_title(name), "mean over the folds": interval(Interval(value, low, high))})
        return found

    @property
    def predictions(self) -> dict[str, list[Any]]:
        """Every row once for every repeat, by column: its fold, and what a model that has not seen it says of it."""
        import pyarrow.parquet as pq

        columns: dict[str, list[Any]] = pq.read_table(self.folder / self.record["predictions"]).to_pydict()
        return columns


class Search(OpenedStudy):
    """What came of a search over settings."""

    @property
    def trials(self) -> Sequence[Mapping[str, Any]]:
        """All trials in order: values, state, value on the validation rows."""
        return list(self.record["trials"])

    @property
    def table(self) -> list[dict[str, str]]:
        """The best values as rows."""
        return [{"key": key, "best value": str(value)} for key, value in self.best.items()]

    @property
    def best(self) -> Mapping[str, Any]:
        """The values of the best trial, by key."""
        values: Mapping[str, Any] = self.record["best"]["values"]
        return values

    @property
    def config(self) -> RunConfig:
        """The configuration with the best values: ``train(search.config)``."""
        place = self.folder / self.record["best_config"]
        return build(RunConfig, load_yaml(place), str(place))
