"""How long the run's model and an exported one take for one row and for several: measured in turn, on this machine."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from tunesmith.data.encoded import Encoded
from tunesmith.engine.layout import collator_for
from tunesmith.export.target import Runtime
from tunesmith.models.head_scores import head_inputs
from tunesmith.models.modes import evaluating

BATCH_ROWS = 16
_REPEATS = 7
_SECONDS = 4.0
"""After so many no more repetitions begin."""


@torch.inference_mode()
def measure_latency(model: nn.Module, runtime: Runtime, encoded: Encoded, pad: int) -> dict[str, Any]:
    """Return the seconds that ``model``, as ``transformers`` has it, and another program take for the same inputs.

    For one row of middle length, and for up to ``BATCH_ROWS`` of about that length together: ``{"row": {"rows",
    "before", "after"}, "batch": {...}}``. Each is the median of repetitions that take turns, from token ids to all
    scores, in this process.
    """
    order = np.argsort(encoded.sample_lengths, kind="stable")
    middle = len(order) // 2
    first = max(middle - BATCH_ROWS // 2, 0)
    collate = collator_for(model, "padded", pad, torch.device("cpu"))
    found: dict[str, Any] = {}
    with evaluating(model):
        for name, rows in (("row", order[middle : middle + 1]), ("batch", order[first : first + BATCH_ROWS])):
            inputs = collate(encoded, encoded.sequences_of(rows)).inputs
            before, after = _seconds(partial(model, **head_inputs(model, inputs)), partial(runtime, inputs))
            found[name] = {"rows": len(rows), "before": before, "after": after}
    return found


def _seconds(*calls: Callable[[], object]) -> list[float]:
    """Return the median seconds of each call; each was made once before, for what is made once."""
    for call in calls:
        call()
    times: list[list[float]] = [[] for _ in calls]
    began = time.perf_counter()
    while len(times[0]) < _REPEATS and (not times[0] or time.perf_counter() - began < _SECONDS):
        for call, taken in zip(calls, times, strict=True):
            start = time.perf_counter()
            call()
            taken.append(time.perf_counter() - start)
    return [statistics.median(taken) for taken in times]
