"""What every measured process has in common: a job as JSON in, one line of JSON out, and its memory.

Only the standard library is imported here, so that peers in environments of their own can use it.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

Job = Callable[[dict[str, Any]], dict[str, Any]]

STARTED = time.time()
WARM_UP_STEPS = 5
"""Steps at the beginning that throughput leaves out; a quarter of all where there are few."""

_peaks: list[int] = []
_baseline: list[int] = []


def answer(jobs: Mapping[str, Job]) -> None:
    """Do the job named on the command line and print what it returns as the last line of standard output."""
    name, spec = sys.argv[1], json.loads(sys.argv[2])
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print goes to standard error
    found = jobs[name](spec)
    note_peak()
    memory = {"peak_memory_bytes": max(_peaks), "baseline_memory_bytes": _baseline[0] if _baseline else None}
    print(json.dumps({**memory, **found}), file=out, flush=True)


def imported() -> None:
    """Call when the heavy imports are done: what is resident then is no cost of the work."""
    _baseline.append(resident_bytes())


def note_peak() -> None:
    """Remember the peak so far (the kernel's own record can be reset by whoever measures inside)."""
    unit = 1 if sys.platform == "darwin" else 1024
    _peaks.append(unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def resident_bytes() -> int:
    """Return the resident memory of this process now."""
    with suppress(OSError):
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * resource.getpagesize()
    import psutil

    return int(psutil.Process().memory_info().rss)


def process_seconds() -> float:
    """Return the seconds since this process was started, its imports included."""
    with suppress(ImportError):
        import psutil

        return time.time() - float(psutil.Process().create_time())
    return time.time() - STARTED


def warm_up_steps(num_steps: int) -> int:
    """Return how many of ``num_steps`` are warm-up."""
    return min(WARM_UP_STEPS, num_steps // 4)


def training_result(
    seconds: Sequence[float],
    tokens: Sequence[int],
    losses: Sequence[float],
    *,
    per_token: bool = False,
    warm_up: int | None = None,
) -> dict[str, Any]:
    """Return throughput without the warm-up, and mean losses: of all steps, of the first and of the last quarter.

    ``seconds``, ``tokens`` (real ones, padding not counted) and ``losses`` have one entry per step. Losses that are
    means over tokens (``per_token``) count as much as their steps have tokens: whether steps hold rows of one length or
    of many must not matter.
    """
    assert len(seconds) == len(tokens) == len(losses), (len(seconds), len(tokens), len(losses))
    skipped = warm_up_steps(len(seconds)) if warm_up is None else min(warm_up, len(seconds) - 1)
    quarter = max(1, len(losses) // 4)
    weights = tokens if per_token else [1] * len(losses)

    def mean(steps: slice) -> float:
        pairs = zip(weights[steps], losses[steps], strict=True)
        return sum(weight * loss for weight, loss in pairs) / sum(weights[steps])

    return {
        "num_steps": len(seconds),
        "num_warm_up_steps": skipped,
        "num_tokens": sum(tokens),
        "tokens_per_second": sum(tokens[skipped:]) / sum(seconds[skipped:]),
        "step_seconds": sum(seconds[skipped:]) / len(seconds[skipped:]),
        "warm_up_step_seconds": sum(seconds[:skipped]),
        "mean_loss": mean(slice(None)),
        "first_loss": mean(slice(quarter)),
        "final_loss": mean(slice(-quarter, None)),
    }
