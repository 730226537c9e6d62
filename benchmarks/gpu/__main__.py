"""Speed, memory and utilisation on one NVIDIA GPU, beside TRL, the Trainer of transformers and Unsloth.

What is worth most is measured first, and nothing is started for which too little of the budget is left. Each
measurement has a limit of time, too, and one that fails or hangs ends nothing but itself.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import flops
from benchmarks.gpu.cases import CASES
from benchmarks.gpu.jobs import Job, do, planned
from benchmarks.gpu.running import OURS, PEERS, Runner, preload
from benchmarks.gpu.table import Measurement, compare, markdown
from benchmarks.table import versions
from tunesmith.files import write_text

BUDGET_SECONDS = 480
STEPS, SMOKE_STEPS = 20, 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and show; return 1 when a measurement failed, 2 when there is nothing to measure or no GPU."""
    started = time.monotonic()
    options = parser().parse_args(arguments)
    cases = [case.small() if options.smoke else case for case in CASES if not options.only or case.name in options.only]
    jobs = planned(cases, options.variants, profiles=options.profile)
    if options.list or not jobs:
        print("\n".join(f"{job.name}: at most {job.cap:.0f} s" for job in jobs) or "These cases have no such variants.")
        return 0 if options.list else 2

    def tell(text: str) -> None:
        print(f"[{runner.left:5.0f} s left] {text}", file=sys.stderr, flush=True)

    num_steps = options.steps or (SMOKE_STEPS if options.smoke else STEPS)
    runner = Runner(partial(do, num_steps=num_steps), started + options.budget, tell)
    runner.import_seconds = preload([*OURS, *(PEERS if any(job.is_peer for job in jobs) else [])])
    tell(f"imports: {runner.import_seconds:.1f} s")
    runner.require_forks(Job("check"))
    gemm = runner.attempt(Job("gemm"))
    if gemm.get("device") == "cpu" and not options.smoke:
        print("There is no GPU here. --smoke shows on any machine that everything runs.", file=sys.stderr)
        return 2
    measured: list[Measurement] = []
    _save(options.json, gemm, measured)
    for job, found in runner.run(jobs):
        assert job.case is not None, "only jobs of cases are planned"
        measured.append({"case": job.case.name, "variant": job.variant, **found, **_utilisation(found, gemm)})
        _save(options.json, gemm, measured)
    print(markdown(measured))
    return 1 if any("error" in one for one in (gemm, *measured)) else 0


def parser() -> argparse.ArgumentParser:
    """Return the parser of the options."""
    found = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    found.add_argument("--only", nargs="+", metavar="CASE", choices=[case.name for case in CASES], help="these cases")
    found.add_argument(
        "--variants",
        nargs="+",
        metavar="VARIANT",
        choices=sorted({name for case in CASES for name in case.variants}),
        default=(),
        help="these tools only",
    )
    found.add_argument(
        "--budget", type=float, default=BUDGET_SECONDS, metavar="SECONDS", help=f"for everything ({BUDGET_SECONDS})"
    )
    found.add_argument("--steps", type=int, help=f"measured steps, after the warm-up ({STEPS})")
    found.add_argument("--profile", action="store_true", help="show where the time of tunesmith's steps goes, too")
    found.add_argument("--json", type=Path, metavar="FILE", help="write all results, after every measurement")
    found.add_argument("--list", action="store_true", help="show the measurements in their order and stop")
    found.add_argument("--smoke", action="store_true", help="tiny models on any machine: measures nothing of worth")
    return found


def _utilisation(found: Measurement, gemm: Measurement) -> dict[str, Any]:
    if "tokens_per_second" not in found or "flops_per_second" not in gemm:
        return {}
    rate = gemm["flops_per_second"]
    return {"mfu": flops.utilisation(found["tokens_per_second"], found["flops_per_token"], rate)}


def _save(path: Path | None, gemm: Measurement, measured: Sequence[Measurement]) -> None:
    """Write what is known so far, if it is wanted; the file is whole at any time."""
    if path is None:
        return
    whole = {"gemm": gemm, "versions": versions(), "measurements": measured, "comparisons": compare(measured)}
    write_text(path, json.dumps(whole, indent=1) + "\n")


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    os._exit(status)  # at once: Python would wait for a process that hangs in the driver and cannot be killed
