"""What a method costs: time, memory, parameters, files, latency; how each is read and written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tunesmith import readable
from tunesmith.readable import latency
from tunesmith.report.studies.plane import FINE_DURATIONS
from tunesmith.report.studies.records import Method
from tunesmith.report.studies.words import short_compact, short_duration


@dataclass(frozen=True, slots=True)
class Cost:
    """One thing that a method costs."""

    title: str
    axis: str
    of: Callable[[Method], float]
    show: Callable[[float], str]
    show_tick: Callable[[float], str]
    rounds: Sequence[float] = ()
    """Where ticks may stand, if not at 1, 2 and 5 times powers of ten."""


COSTS = (
    Cost(
        "Training time",
        "training time of one run",
        lambda method: method.seconds,
        readable.duration,
        short_duration,
        FINE_DURATIONS,
    ),
    Cost("Memory", "peak memory", lambda method: method.peak_memory, readable.size, readable.size),
    Cost(
        "Trained parameters",
        "trained parameters",
        lambda method: method.trained_parameters,
        readable.compact,
        short_compact,
    ),
    Cost("File size", "size of the saved files", lambda method: method.size, readable.size, readable.size),
    Cost(
        "Prediction latency",
        "time to predict one row",
        lambda method: method.latency,
        latency,
        short_duration,
        FINE_DURATIONS,
    ),
)
