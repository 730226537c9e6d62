"""Running jobs one after the other, each in a process of its own, within limits of time.

Processes are forked from one that has imported everything heavy, since imports take longer than most measurements.
That is safe for as long as this one never touches CUDA: GPUs are looked for through NVML alone.
"""

from __future__ import annotations

import faulthandler
import importlib
import json
import multiprocessing
import os
import resource
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from benchmarks.gpu.jobs import Job, Result, first_line

OURS = (
    "torch",
    "peft",
    "transformers.models.bert.modeling_bert",
    "transformers.models.llama.modeling_llama",
    "tunesmith.engine.loop",
    "tunesmith.engine.memory_plan",
    "tunesmith.methods",
    "tunesmith.run.memory",
    "tunesmith.tasks",
)
PEERS = ("accelerate", "datasets", "transformers.trainer", "trl.trainer.sft_config", "trl.trainer.sft_trainer")
"""What their measurements import."""

GRACE = 2.0
"""Seconds that a job has to show where it is, and again to be gone."""

Measure = Callable[[Job], Result]


def preload(names: Iterable[str]) -> float:
    """Import modules without touching CUDA and return the seconds; what cannot be imported is left to the jobs."""
    os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "1"
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # its threads do not survive a fork
    started = time.monotonic()
    for name in names:
        try:
            importlib.import_module(name)
        except Exception as error:
            print(f"{name} cannot be imported: {error}", file=sys.stderr)
    return time.monotonic() - started


@dataclass
class Runner:
    """Runs jobs until there is no time left."""

    measure: Measure
    """Does a job, in the job's own process; must be picklable where processes are not forked."""
    deadline: float
    """By ``time.monotonic``."""
    tell: Callable[[str], None]
    import_seconds: float = 0.0
    """Added to the limits of a job that has to import everything itself."""
    start_method: str = "fork"
    """fork or spawn."""

    @property
    def left(self) -> float:
        """Seconds until the deadline."""
        return max(self.deadline - time.monotonic(), 0.0)

    def require_forks(self, check: Job) -> None:
        """Start all further jobs without forking if ``check`` fails in a forked process."""
        found = self.attempt(check)
        if "error" in found:
            reason = first_line(found["error"])
            self.tell(f"processes cannot be forked here ({reason}): each imports everything itself")
            self.start_method = "spawn"

    def run(self, jobs: Iterable[Job]) -> Iterator[tuple[Job, Result]]:
        """Yield every job and what it gave, as soon as it is known."""
        for job in jobs:
            found = self.attempt(job)
            if (again := job.retried(found)) is not None:
                second = self.attempt(again)
                found = found if "not_started" in second else {**second, "recomputes": True}
            yield job, found

    def attempt(self, job: Job) -> Result:
        """Return what the job gave; failing, taking too long and not being started are results, too."""
        start_method = "spawn" if job.imports_first else self.start_method
        extra = 0.0 if start_method == "fork" else self.import_seconds
        left = self.left
        if left < job.least + extra:
            self.tell(f"{job.name}: not started")
            return {"not_started": f"{left:.0f} s left"}
        self.tell(f"{job.name} ...")
        started = time.monotonic()
        found = in_process(self.measure, job, min(job.cap + extra, max(left - 2 * GRACE, 0.0)), start_method)
        found["seconds_in_all"] = round(time.monotonic() - started, 1)
        problem = f", {first_line(found['error'])}" if "error" in found else ""
        self.tell(f"{job.name}: {found['seconds_in_all']} s{problem}")
        return found


def in_process(measure: Measure, job: Job, cap: float, start_method: str) -> Result:
    """Return what ``measure(job)`` gives in a process of its own, which is ended after ``cap`` seconds."""
    context: Any = multiprocessing.get_context(start_method)
    receiver, sender = context.Pipe(duplex=False)
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace"
        process: BaseProcess = context.Process(target=_work, args=(measure, job, sender, trace))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of forking beside threads: the first job checks it
            process.start()
        sender.close()
        grace = 0.0
        try:
            if receiver.poll(cap):
                found: Result = json.loads(receiver.recv_bytes())
                grace = 5 * GRACE  # for what libraries do at the end
            else:
                found = {"error": f"ended after {cap:.0f} s"}
        except EOFError:
            process.join(GRACE)
            found = {"error": f"the process died with status {process.exitcode}"}
        finally:
            receiver.close()
            _end(process, grace)
        if "error" in found and (stacks := trace.read_text(errors="replace") if trace.exists() else ""):
            print(stacks, file=sys.stderr, flush=True)
            found["stacks"] = stacks
    return found


def _work(measure: Measure, job: Job, sender: Connection, trace: Path) -> None:
    """Do a job and send what it gave: the whole life of its process."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.dup2(2, 1)  # standard output is for the table
    faulthandler.enable(trace.open("wb"))  # shows, at SIGABRT, where it is
    try:
        found = measure(job)
    except BaseException as error:
        traceback.print_exc()
        found = {"error": f"{type(error).__name__}: {error}"}
    sender.send_bytes(json.dumps(found, default=str).encode())
    sender.close()


def _end(process: BaseProcess, grace: float) -> None:
    """Wait ``grace`` seconds for a process to end, then make it end."""
    process.join(grace)
    for number in (signal.SIGABRT, signal.SIGKILL):
        if process.exitcode is None and process.pid is not None:
            os.kill(process.pid, number)
            process.join(GRACE)
