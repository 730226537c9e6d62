"""What is measured in which order, and by which function."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from benchmarks.gpu.cases import Case
from benchmarks.gpu.clock import check_device, measure_gemm
from benchmarks.gpu.ours import measure_tunesmith
from benchmarks.gpu.peers import measure_trainer, measure_trl, measure_unsloth
from benchmarks.gpu.step_profile import profile_tunesmith

Result = dict[str, Any]
"""What a job gave: figures, or why there are none (error, unavailable, not_started)."""

OF_THE_DEVICE: dict[str, Callable[[], Result]] = {"check": check_device, "gemm": measure_gemm}
OF_A_CASE: dict[str, Callable[[Case, int], Result]] = {
    "tunesmith": measure_tunesmith,
    "tunesmith-liger": partial(measure_tunesmith, liger=True),
    "tunesmith-compiled": partial(measure_tunesmith, compiled=True),
    "tunesmith-graphs": partial(measure_tunesmith, graphs=True),
    "profile": profile_tunesmith,
    "trl": measure_trl,
    "trl-liger": partial(measure_trl, liger=True),
    "trainer": measure_trainer,
    "unsloth": measure_unsloth,
}

FIRST = ("tunesmith", "trl-liger", "trainer")
"""What is worth most: measured for every case before anything else."""
THEN = ("profile", "tunesmith-graphs", "tunesmith-compiled", "tunesmith-liger", "trl", "unsloth")
"""The rest, one after the other, each for every case."""

CAPS = {"check": 30, "gemm": 30, "tunesmith": 50, "trainer": 75, "tunesmith-compiled": 120, "unsloth": 120}
"""Seconds after which a job is ended: about five times what ours take on an H200."""
PEERS_CAP, OUR_CAP = 90, 60


@dataclass(frozen=True)
class Job:
    """One measurement, in a process of its own."""

    variant: str
    """The tool and its flags, or check, gemm or profile."""
    case: Case | None = None
    """None for what concerns the device alone."""

    @property
    def name(self) -> str:
        """The case and the variant."""
        return f"{self.case.name} {self.variant}" if self.case else self.variant

    @property
    def is_peer(self) -> bool:
        """Whether another tool is measured."""
        return self.variant in ("trl", "trl-liger", "trainer", "unsloth")

    @property
    def cap(self) -> float:
        """Seconds after which it is ended."""
        return CAPS.get(self.variant, PEERS_CAP if self.is_peer else OUR_CAP)

    @property
    def least(self) -> float:
        """Seconds that must be left for it to be started."""
        return self.cap / 3

    @property
    def imports_first(self) -> bool:
        """Whether it must be imported before transformers, hence in a process that is not forked."""
        return self.variant == "unsloth"

    def retried(self, found: Result) -> Job | None:
        """Return the job to try after this one gave ``found``: a peer without memory computes activations again."""
        has_no_memory = any(words in found.get("error", "") for words in ("OutOfMemory", "out of memory"))
        if self.case is None or not self.is_peer or not has_no_memory:
            return None
        return replace(self, case=replace(self.case, recomputes=True))


def planned(cases: Sequence[Case], variants: Collection[str] = (), *, profiles: bool = False) -> list[Job]:
    """Return the jobs of the cases, what is worth most first; with ``variants`` those of these tools alone."""

    def wanted(case: Case, variant: str) -> bool:
        if variant == "profile":
            return profiles
        return variant in case.variants and (not variants or variant in variants)

    first = [Job(variant, case) for case in cases for variant in FIRST if wanted(case, variant)]
    return first + [Job(variant, case) for variant in THEN for case in cases if wanted(case, variant)]


def do(job: Job, num_steps: int) -> Result:
    """Measure, in this process."""
    if job.case is None:
        return OF_THE_DEVICE[job.variant]()
    return OF_A_CASE[job.variant](job.case, num_steps)


def first_line(error: str) -> str:
    """Return what is shown of an error; the whole of it stands in the results."""
    return (error.strip().splitlines() or ["no reason given"])[0][:300]
