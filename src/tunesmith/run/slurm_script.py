"""A script for Slurm that trains one run on several machines, to be read and submitted by whoever wants it.

It starts torchrun's own launcher once on every machine (its manual calls that a rendezvous), and gives a machine back
when Slurm asks for it: the run saves a checkpoint, the job is queued again, and goes on from there.
"""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tunesmith.run.defaults import BATCH_SIZES
from tunesmith.types import InputError, Problem
from tunesmith.version import __version__

if TYPE_CHECKING:
    from tunesmith.run.config import RunConfig

GRACE_SECONDS = 120
"""From the signal to the end, by default: a step and a checkpoint have to be done by then."""
LEAST_GRACE = 30
OF_ONE_MACHINE = ("/tmp", "/var/tmp", "/dev/shm", "/run")  # noqa: S108 (named so that nothing is written there)
"""Places that other machines do not see."""
_TIME = re.compile(r"(\d+-)?\d+(:\d{1,2}){0,2}")
_WORD = re.compile(r"[\w.,:@%+=\[\]-]+")
FIRST_PORT, NUM_PORTS = 20000, 20000
"""The machines meet at a port that follows from the job's number."""


@dataclass(frozen=True, slots=True)
class SlurmJob:
    """What Slurm is asked for."""

    nodes: int
    ranks_per_node: int
    gpus_per_node: int = 0
    cores_per_node: int | None = None
    time: str | None = None
    """As Slurm writes it: 90, 12:00:00, 2-00."""
    partition: str | None = None
    account: str | None = None
    memory: str | None = None
    grace_seconds: int = GRACE_SECONDS
    max_restarts: int = 3
    """How often torchrun begins anew after a rank was lost, within one job."""

    @property
    def num_ranks(self) -> int:
        """On all machines."""
        return self.nodes * self.ranks_per_node


def script_of(job: SlurmJob, config: RunConfig, arguments: Sequence[str], output: Path, folder: Path) -> str:
    """Return the script.

    Args:
        job: What Slurm is asked for.
        config: The run's.
        arguments: What follows ``tunesmith train`` and says what the run is, but for ``--output``.
        output: The run's folder.
        folder: Where the command was given: paths in it start from there.

    Raises:
        InputError: With everything for which such a job would fail once it is started.
    """
    if problems := _problems(job, config, output):
        raise InputError(problems)
    name = re.sub(r"[^\w.-]+", "-", output.name)[:60] or "run"
    wishes = {
        "job-name": f"tunesmith-{name}",
        "nodes": job.nodes,
        "ntasks-per-node": 1,
        "cpus-per-task": job.cores_per_node or job.ranks_per_node,
        "gpus-per-node": job.gpus_per_node or None,
        "mem": job.memory,
        "time": job.time,
        "partition": job.partition,
        "account": job.account,
        "output": f"{name}-%j.log",
        "open-mode": "append",
        "signal": f"B:TERM@{job.grace_seconds}",
    }
    head = "\n".join(f"#SBATCH --{key}={value}" for key, value in wishes.items() if value is not None)
    words = {
        "VERSION": __version__,
        "HEAD": head,
        "FOLDER": shlex.quote(str(folder)),
        "PYTHON": shlex.quote(sys.executable),
        "OUTPUT": shlex.quote(str(output)),
        "ARGUMENTS": shlex.join(arguments),
        "RANKS": str(job.ranks_per_node),
        "THREADS": str(max(1, (job.cores_per_node or job.ranks_per_node) // job.ranks_per_node)),
        "RESTARTS": str(job.max_restarts),
        "SHUTDOWN": str(job.grace_seconds - 10),
        "PORT": f"{FIRST_PORT} + SLURM_JOB_ID % {NUM_PORTS}",
    }
    text = _TEMPLATE
    for key, value in words.items():
        text = text.replace(f"<{key}>", value)
    return text


def _problems(job: SlurmJob, config: RunConfig, output: Path) -> list[Problem]:
    found = [*_wrong_words(job), *_wrong_numbers(job, config)]
    place = str(output.resolve())
    local = next((one for one in OF_ONE_MACHINE if place == one or place.startswith(f"{one}/")), None)
    if job.nodes > 1 and local is not None:
        message = f"The run's folder {place} lies in {local}, which every machine has for itself."
        found.append(Problem("error", message, "Give a folder that all machines share as --output."))
    if output.exists() and not output.is_dir():
        found.append(Problem("error", f"--output {output} is a file.", "Name a folder."))
    return found


def _wrong_words(job: SlurmJob) -> list[Problem]:
    """Return what Slurm would not understand, or would take for more than one word."""
    found = []
    if job.time is not None and not _TIME.fullmatch(job.time):
        fix = "Write it as Slurm does: 90 (minutes), 12:00:00 or 2-00:00:00 (days)."
        found.append(Problem("error", f"--time {job.time!r} is no time.", fix))
    for name in ("partition", "account", "memory"):
        value = getattr(job, name)
        if value is not None and not _WORD.fullmatch(value):
            found.append(Problem("error", f"--{name} {value!r} is no name that Slurm knows.", "Give one word."))
    return found


def _wrong_numbers(job: SlurmJob, config: RunConfig) -> list[Problem]:
    found = []
    rows = config.train.batch_size
    most = rows or BATCH_SIZES[1]
    if job.num_ranks > most:
        why = f"train.batch_size is {rows}" if rows else f"a step has at most {most} rows when nothing is said"
        fix = f"Set --train.batch_size {job.num_ranks} or more, or ask for fewer."
        message = f"{job.num_ranks} ranks ({job.nodes} x {job.ranks_per_node}) share the rows of a step, and {why}."
        found.append(Problem("error", message, fix))
    if job.gpus_per_node and job.ranks_per_node > job.gpus_per_node:
        message = f"{job.ranks_per_node} ranks of a machine need a GPU each, and {job.gpus_per_node} are asked for."
        found.append(Problem("error", message, f"Give --ranks-per-node {job.gpus_per_node}."))
    if job.gpus_per_node and config.compute.device == "cpu":
        message = "compute.device is cpu, and GPUs are asked for."
        found.append(Problem("error", message, "Leave out --gpus-per-node, or set --compute.device cuda."))
    if ":" in config.compute.device and job.num_ranks > 1:
        message = (
            f"compute.device: {config.compute.device} is one accelerator, and {job.num_ranks} ranks need one each."
        )
        found.append(Problem("error", message, "Give --compute.device cuda: each rank takes its own."))
    if config.compute.device.startswith("cuda") and not job.gpus_per_node:
        message = f"compute.device is {config.compute.device}, and no GPU is asked for."
        found.append(Problem("error", message, f"Add --gpus-per-node {job.ranks_per_node}."))
    if job.cores_per_node is not None and job.cores_per_node < job.ranks_per_node:
        message = f"{job.ranks_per_node} ranks of a machine need a core each, and {job.cores_per_node} are asked for."
        found.append(Problem("error", message, f"Give --cores-per-node {job.ranks_per_node} or more."))
    if job.grace_seconds < LEAST_GRACE:
        message = f"--grace {job.grace_seconds}: a step, a checkpoint and the end of all ranks take longer."
        found.append(Problem("error", message, f"Give {LEAST_GRACE} seconds or more."))
    return found


_TEMPLATE = r"""#!/usr/bin/env bash
# One training on several machines, by tunesmith <VERSION>. Read it, then: sbatch THIS_FILE
<HEAD>
#SBATCH --requeue

set -euo pipefail

# What all machines see at the same place: Python with tunesmith, the rows, the model, and the folder of the run.
cd <FOLDER>
python=<PYTHON>
output=<OUTPUT>

# Machines meet at the first of them. Restarts of the job meet anew.
head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
port=$((<PORT>))
meeting="$SLURM_JOB_ID-${SLURM_RESTART_COUNT:-0}"

export OMP_NUM_THREADS="${OMP_NUM_THREADS:-<THREADS>}"
# After SIGTERM the ranks end their step and save a checkpoint; torchrun waits so long for them.
export TORCH_ELASTIC_SHUTDOWN_TIMEOUT=<SHUTDOWN>

resume=()
if [[ -e "$output/config.yaml" ]]; then
  resume=(--resume)
fi

# Slurm tells this shell some time before the end, or before it gives the machines to somebody else. The ranks are told.
stopped=no
step=
stop() {
  stopped=yes
  if [[ -n "$step" ]]; then
    kill -TERM "$step" 2>/dev/null || true
  fi
}
trap stop TERM

srun --kill-on-bad-exit=1 "$python" -m torch.distributed.run \
  --nnodes="$SLURM_NNODES" --nproc-per-node=<RANKS> --max-restarts=<RESTARTS> \
  --rdzv-id="$meeting" --rdzv-backend=c10d --rdzv-endpoint="$head:$port" \
  -m tunesmith train <ARGUMENTS> --output "$output" "${resume[@]}" &
step=$!

# A signal ends wait before what it waits for has ended.
status=0
while true; do
  wait "$step" && status=0 || status=$?
  if ! kill -0 "$step" 2>/dev/null; then
    break
  fi
done

# Not where somebody has cancelled the job: then it is no longer running. Slurm itself queues preempted jobs again.
if [[ "$stopped" == yes && "$status" -ne 0 ]]; then
  if [[ "$(squeue --noheader --jobs "$SLURM_JOB_ID" --format %T 2>/dev/null || true)" == RUNNING ]]; then
    echo "Stopped with a checkpoint; the job is queued again and goes on from there."
    scontrol requeue "$SLURM_JOB_ID"
    exit 0
  fi
fi
exit "$status"
"""
