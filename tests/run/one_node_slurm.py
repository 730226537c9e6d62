"""A Slurm of one machine for a test: munge, controller and node daemon, in a folder of their own."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scontrol", "scancel")

CONF = """
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MpiDefault=none
ReturnToService=2
MailProg=/bin/true
KillWait=10
SchedulerParameters=batch_sched_delay=0
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} State=UNKNOWN
PartitionName=tests Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> list[str]:
    """Return what a Slurm of one machine lacks here."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    found = [name for name in PROGRAMS if shutil.which(name, path=path) is None]
    return [*found, *([] if os.geteuid() == 0 else ["root, whom its daemons want to be"])]


@dataclass(frozen=True)
class Slurm:
    """Such a Slurm."""

    folder: Path
    environment: dict[str, str]

    def __call__(self, *command: str) -> str:
        found = subprocess.run(
            command, check=False, env=self.environment, capture_output=True, text=True, timeout=60, cwd=self.folder
        )
        assert found.returncode == 0, found.stderr
        return found.stdout.strip()

    def state(self, job: str) -> str:
        return self("squeue", "--noheader", "--jobs", job, "--states=all", "--format=%T")

    def wait_for(self, job: str, states: set[str], seconds: float = 240) -> str:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if (state := self.state(job)) in states:
                return state
            time.sleep(0.5)
        raise AssertionError(f"job {job} is {self.state(job)}, expected {states}")


@contextmanager
def one_node_slurm(folder: Path) -> Iterator[Slurm]:
    """Run it inside the block."""
    host = socket.gethostname().split(".")[0]
    for name in ("state", "spool"):
        (folder / name).mkdir()
    folder.chmod(0o755)
    key = folder / "munge.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o400)
    conf = folder / "slurm.conf"
    cpus = len(os.sched_getaffinity(0))
    conf.write_text(CONF.format(host=host, folder=folder, ports=_free_ports(2), cpus=os.cpu_count() or cpus))
    environment = {**os.environ, "SLURM_CONF": str(conf), "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}
    munged = ["munged", "--foreground", "--force", f"--key-file={key}", f"--socket={folder}/munge.socket"]
    munged += [f"--{name}-file={folder}/munge.{name}" for name in ("pid", "log", "seed")]
    daemons: list[subprocess.Popen[bytes]] = []
    try:
        for name, command in {
            "munged": munged,
            "slurmctld": ["slurmctld", "-D", "-i"],
            "slurmd": ["slurmd", "-D", "-N", host],
        }.items():
            with (folder / f"{name}.out").open("wb") as log:
                daemons.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))
            time.sleep(1.0)
        slurm = Slurm(folder, environment)
        end = time.monotonic() + 60
        while (
            "idle"
            not in subprocess.run(
                ["sinfo", "--noheader", "--format=%T"], check=False, env=environment, capture_output=True, text=True
            ).stdout
        ):
            assert time.monotonic() < end, {
                name: (folder / f"{name}.out").read_text(errors="replace")[-2000:]
                for name in ("munged", "slurmctld", "slurmd")
            }
            time.sleep(0.5)
        yield slurm
    finally:
        for daemon in reversed(daemons):
            daemon.terminate()
            try:
                daemon.wait(20)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()


def _free_ports(number: int) -> list[int]:
    taken = [socket.socket() for _ in range(number)]
    try:
        for one in taken:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in taken]
    finally:
        for one in taken:
            one.close()
