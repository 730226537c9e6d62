"""What is compared: methods by the metric of their runs, on the test rows and on joint resamples of these."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from tunesmith.evaluate.bootstrap import Scores
from tunesmith.tasks.judge import FloatArray


@dataclass(frozen=True, slots=True)
class Entrant:
    """A method with its S runs, by one metric, on R resamples that are the same for all entrants."""

    name: str
    seeds: tuple[int, ...]
    """Of the runs; empty for a rival that no seed changes (TF-IDF, the model before training)."""
    values: FloatArray
    """[S]: the metric of every run on all test rows; one entry where there are no seeds."""
    resampled: FloatArray
    """[S, R]: the same on every resample; nan where the metric is undefined."""

    def __post_init__(self) -> None:
        assert self.values.shape == (max(1, len(self.seeds)),), f"{self.name}: a value for every seed is expected"
        assert len(self.resampled) == len(self.values), f"{self.name}: resamples for every value are expected"
        assert len(set(self.seeds)) == len(self.seeds), f"{self.name}: every seed is expected once"

    @classmethod
    def of(cls, name: str, seeds: Sequence[int], runs: Sequence[Scores], metric: str) -> Self:
        """Return the entrant whose runs were scored on the same rows with the same seed of resampling."""
        values = np.array([run.values[metric] for run in runs])
        return cls(name, tuple(seeds), values, np.stack([run.resampled[metric] for run in runs]))

    @property
    def varies(self) -> bool:
        """Whether another seed would have given another model."""
        return bool(self.seeds)

    @property
    def mean(self) -> float:
        """The metric, on average over the seeds; to the bit what all have, where they have the same."""
        return float(self.values[0] + (self.values - self.values[0]).mean())
