"""Workers of a Ray cluster that train for a study: Ray Core's actors, each with a process of ``training_process``.

Ray says where there is room and tells when a worker or its machine is lost; everything else is as on one machine. What
a training writes goes into the study's folder, which all workers have to see. Between here and there travel lines of
JSON alone.
"""

from __future__ import annotations

import json
import logging
import math
import os
import signal
import socket
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from tunesmith.engine.rank_group import num_cores
from tunesmith.run import RunConfig
from tunesmith.run.assembly import with_absolute_paths
from tunesmith.study.executor_config import StudyConfig
from tunesmith.study.training_process import LocalProcess, LostProcessError, TrainingProcess
from tunesmith.types import InputError, MissingExtraError, Problem
from tunesmith.version import __version__

LOOK_SECONDS = 120.0
"""How long a machine of the cluster may take to say what it sees: it imports the package first."""
CONNECT_SECONDS = 10.0
RESERVE = 1.1
"""What a worker is given of memory, beside what is predicted."""
SMALLEST_SHARE = 0.05
"""Of a GPU."""
SEEN = ".seen-by-workers"
"""A file in the study's folder, while it is made sure that all machines see it."""


@dataclass(frozen=True, slots=True)
class Room:
    """What each worker has."""

    cores: int
    gpus: float
    memory: int
    """Bytes of the machine's memory; 0 where it computes on a GPU."""

    def fits(self, resources: Mapping[str, float]) -> int:
        """Return how many such workers have room in a machine with these resources."""
        found = int(resources.get("CPU", 0) / self.cores)
        if self.gpus >= 1:
            found = min(found, int(resources.get("GPU", 0) / self.gpus))
        elif self.gpus:
            found = min(found, int(resources.get("GPU", 0)) * int(1 / self.gpus))  # no worker has parts of two
        if self.memory:
            found = min(found, int(resources.get("memory", 0) / self.memory))
        return found


def require_ray() -> Any:
    """Return the package; ``MissingExtraError`` where it is not installed."""
    try:
        import ray
    except ImportError as error:
        raise MissingExtraError("--executor ray", "ray", "ray") from error
    return ray


@contextmanager
def connected(config: StudyConfig, num_jobs: int) -> Iterator[RayCluster]:
    """Use a cluster inside the block: the one that is named, or one of this machine's cores for the time being.

    Raises ``MissingExtraError``, or ``InputError`` where no cluster answers.
    """
    address = config.ray_address or os.environ.get("RAY_ADDRESS")
    if address is not None and _has_token():
        os.environ.setdefault("RAY_AUTH_MODE", "token")  # before Ray is imported
    ray = require_ray()
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is told to others
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    how: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": False}
    if address is None:
        wanted = (config.cores_per_worker or 1) * (config.workers or 1)
        how |= {"address": "local", "num_cpus": max(num_cores(), wanted), "include_dashboard": False}
    else:
        how |= {"address": address}
    if address is not None:
        _require_answer(address)
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        ray.init(**how)
    except Exception as error:  # Ray has an exception of its own for every way to fail
        where = "No Ray cluster could be started here" if address is None else f"No Ray cluster answers at {address}"
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(
            f"{where}: {reason}.",
            "Start one by 'ray start --head', give its address as --ray-address HOST:PORT, or leave out --executor.",
        ) from error
    finally:
        for number, handler in before.items():
            with suppress(ValueError):  # outside of the main thread nobody sets one
                signal.signal(number, handler)
    try:
        yield RayCluster(ray, config, num_jobs)
    finally:
        ray.shutdown()


def _has_token() -> bool:
    """Say whether the user has a token for clusters: ``ray start`` asks for it then, and others do not mind it."""
    named = any(os.environ.get(name) for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"))
    return named or (Path.home() / ".ray" / "auth_token").is_file()


def _require_answer(address: str) -> None:
    """Refuse an address at which nobody listens: Ray itself tries for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not port.isdecimal():
        return  # auto, or a name of Ray's own
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise InputError(
            f"No Ray cluster answers at {address}: {error}.",
            "Start one by 'ray start --head', or leave out --ray-address for one of this machine's cores.",
        ) from error


class RayCluster:
    """A cluster, and the workers that a study has in it."""

    def __init__(self, ray: Any, config: StudyConfig, num_jobs: int) -> None:
        """Use a cluster that is connected to; ``num_jobs`` trainings at most can go on at once."""
        self._ray = ray
        self._config = config
        self._num_jobs = num_jobs

    @property
    def nodes(self) -> list[dict[str, Any]]:
        """The machines that are alive, as Ray describes them."""
        return [node for node in self._ray.nodes() if node["Alive"] and node["Resources"].get("CPU", 0) >= 1]

    def require_sight_of(self, folder: Path, others: list[Path]) -> None:
        """Make sure that every machine sees the study's ``folder``, and ``others`` that its runs read.

        Raises ``InputError`` with every machine that does not, or has another version of the package or none.
        """
        token, mark = uuid.uuid4().hex, folder / SEEN
        mark.write_text(token, encoding="utf-8")
        try:
            problems = [found for node in self.nodes for found in self._look(node, folder, token, others)]
        finally:
            with suppress(OSError):
                mark.unlink()
        if problems:
            raise InputError(list(dict.fromkeys(problems)))

    def _look(self, node: Mapping[str, Any], folder: Path, token: str, others: list[Path]) -> list[Problem]:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        name = f"The machine {node.get('NodeManagerHostname') or node['NodeManagerAddress']} of the cluster"
        there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        looking = self._ray.remote(num_cpus=1, max_retries=1, scheduling_strategy=there)(look)
        try:
            text = self._ray.get(looking.remote(str(folder), list(map(str, others))), timeout=LOOK_SECONDS)
        except Exception as error:
            reason = _first_line(error)
            fix = "Install tunesmith there as here, in the Python that Ray was started with."
            return [Problem("error", f"{name} cannot use the package tunesmith: {reason}.", fix)]
        seen = json.loads(text)
        problems = []
        if seen["token"] != token:
            problems.append(
                Problem(
                    "error",
                    f"{name} does not see the study's folder {folder}: --executor ray takes one that all share.",
                    "Give a folder of a shared file system as --output, mounted at the same place everywhere.",
                )
            )
        elif not seen["writes"]:
            problems.append(Problem("error", f"{name} may not write into the study's folder {folder}."))
        problems += [
            Problem("error", f"{name} does not see {place}.", "Put it where all workers see it, at the same place.")
            for place in seen["missing"]
        ]
        if seen["version"] != __version__:
            message = f"{name} has tunesmith {seen['version']}, and here is {__version__}."
            problems.append(Problem("error", message, "Install the same version everywhere."))
        return problems

    def room(self, predicted: int, device_memory: int | None) -> Room:
        """Return what each worker gets for trainings that take ``predicted`` bytes at their peak.

        ``device_memory`` are the bytes of a GPU, where they are known: several workers then share one.
        """
        total = self._ray.cluster_resources()
        gpus = 0.0
        if total.get("GPU", 0) and self._config.compute.device != "cpu":
            gpus = self._config.gpus_per_worker or _share(predicted, device_memory)
        memory = 0 if gpus else int(predicted * RESERVE)
        if self._config.cores_per_worker:
            return Room(self._config.cores_per_worker, gpus, memory)
        at_once = min(self._config.workers or self._num_jobs, self._num_jobs)
        smallest = min(int(node["Resources"]["CPU"]) for node in self.nodes)
        cores = min(max(int(total["CPU"] / max(at_once, 1)), 1), smallest)
        return Room(cores, gpus, memory)

    def number_of_workers(self, room: Room) -> int:
        """Return how many workers there are to be: as many as wanted, or as there is room and work for.

        Raises ``InputError`` where there is no room for one.
        """
        there = sum(room.fits(node["Resources"]) for node in self.nodes)
        wanted = self._config.workers or self._num_jobs
        if there < 1:
            takes = f"{room.cores} cores, {room.gpus:g} GPUs and {room.memory / 1e9:.2g} GB of memory"
            raise InputError(
                f"No machine of the cluster has room for one worker with {takes}.",
                "Set --cores_per_worker or --gpus_per_worker, or use a smaller model.",
            )
        return max(1, min(there, wanted, self._num_jobs))

    def process(self, room: Room, log: Path) -> RayProcess:
        """Return a process that trains, wherever the cluster has room for it."""
        return RayProcess(self._ray, room, log)


class RayProcess(TrainingProcess):
    """A process that trains, behind an actor of Ray's."""

    def __init__(self, ray: Any, room: Room, log: Path) -> None:
        """Have the cluster start it; this waits for room."""
        self._ray, self._log = ray, log
        actor = ray.remote(num_cpus=room.cores, num_gpus=room.gpus, max_restarts=0, max_concurrency=3)(Host)
        if room.memory:
            actor = actor.options(memory=room.memory)
        self._actor = actor.remote(str(log), room.cores)

    def stop(self) -> None:
        with suppress(Exception):
            self._actor.stop.remote()

    def close(self) -> None:
        with suppress(Exception):
            self._ray.get(self._actor.close.remote(), timeout=LOOK_SECONDS)
        with suppress(Exception):
            self._ray.kill(self._actor)

    def _sent(self, config: RunConfig) -> RunConfig:
        """Return the configuration with places as they are found from anywhere: workers are not where this is."""
        found = with_absolute_paths(config)
        return found.model_copy(update={"output": str(Path(str(config.output)).resolve())})

    def _tell(self, message: Mapping[str, Any]) -> None:
        self._asked(self._actor.tell.remote(json.dumps(message)))

    def _hear(self) -> dict[str, Any]:
        return cast("dict[str, Any]", json.loads(self._asked(self._actor.hear.remote())))

    def _asked(self, reference: Any) -> str:
        from ray.exceptions import RayError

        try:
            text = str(self._ray.get(reference))
        except RayError as error:
            raise LostProcessError(f"its worker was lost ({_first_line(error)}); see {self._log}") from error
        if text.startswith(LOST):
            raise LostProcessError(text.removeprefix(LOST))
        return text


LOST = "lost: "
"""What an actor answers where its process has ended."""


class Host:
    """The actor: has a process of its machine train, and passes lines on."""

    def __init__(self, log: str, num_threads: int) -> None:
        """Start the process."""
        self._process = LocalProcess(Path(log), num_threads)

    def tell(self, line: str) -> str:
        """Pass a message on."""

        def told() -> str:
            self._process.tell_line(line)
            return ""

        return self._passed(told)

    def hear(self) -> str:
        """Wait for the next answer."""
        return self._passed(self._process.hear_line)

    def stop(self) -> None:
        """Ask the process to stop."""
        self._process.stop()

    def close(self) -> None:
        """End the process."""
        self._process.close()

    def _passed(self, line: Callable[[], str]) -> str:
        try:
            return line()
        except LostProcessError as error:
            return f"{LOST}{error} on {socket.gethostname()}"


def look(folder: str, others: list[str]) -> str:
    """Return, as JSON, what a machine sees of a study's folder, and which of some other places are missing there."""
    place = Path(folder)
    try:
        token = (place / SEEN).read_text(encoding="utf-8")
    except OSError:
        token = ""
    missing = [other for other in others if not Path(other).exists()]
    seen = {"token": token, "writes": os.access(place, os.W_OK), "missing": missing, "version": __version__}
    return json.dumps(seen)


def _share(predicted: int, device_memory: int | None) -> float:
    """Return the part of a GPU, in hundredths, that a training takes: all of one whose memory is not known."""
    if not device_memory:
        return 1.0
    return min(max(math.ceil(100 * RESERVE * predicted / device_memory) / 100, SMALLEST_SHARE), 1.0)


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1].rstrip(".") if lines else type(error).__name__
