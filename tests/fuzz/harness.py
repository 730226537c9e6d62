"""Runs a target on many damaged inputs and keeps what fails: any exception that is no message, any case too slow."""

from __future__ import annotations

import faulthandler
import hashlib
import resource
import shutil
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from fuzz.mutations import mutated
from tunesmith.types import InputError, RunError

MAX_SECONDS = 5.0
"""Processor time of one case, that of the processes it started with it."""
HANG = 120.0
"""Seconds on the clock after which a case is taken to hang; the process then ends with a traceback."""


@dataclass(frozen=True, slots=True)
class Target:
    """Something that reads what came from outside."""

    name: str
    seeds: Mapping[str, bytes]
    """Good files by name; one of them is damaged in each case."""
    use: Callable[[Path, str, Random], None]
    """Does all that is done with such files: the folder with all of them, and the name of the damaged one."""
    whole: bool = False
    """Whether each case needs all seeds (the files of a model folder), or only the damaged one."""


@dataclass(slots=True)
class Outcome:
    """What many cases came to."""

    cases: int = 0
    refused: int = 0
    seconds: float = 0.0
    slowest: float = 0.0
    slowest_case: str = ""
    failures: dict[str, str] = field(default_factory=dict)
    """By place and kind: a traceback, and where the file lies."""

    @property
    def peak_megabytes(self) -> int:
        """The most memory that this process or one that it started has held."""
        kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
        return max(resource.getrusage(kind).ru_maxrss for kind in kinds) >> 10


def fuzz(target: Target, num_cases: int, seed: int, folder: Path, kept: Path | None = None) -> Outcome:
    """Run ``num_cases`` damaged inputs through ``target``; those that fail are written below ``kept``."""
    outcome = Outcome()
    names, contents = list(target.seeds), list(target.seeds.values())
    began = time.perf_counter()
    for case in range(num_cases):
        random = Random(f"{target.name} {seed} {case}")  # any case can be made again by itself
        name = random.choice(names)
        content = mutated(target.seeds[name], random, contents)
        place = folder / target.name
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        for other in names if target.whole else []:
            (place / other).parent.mkdir(exist_ok=True)
            (place / other).write_bytes(target.seeds[other])
        (place / name).write_bytes(content)
        faulthandler.dump_traceback_later(HANG, exit=True)
        start = _processor_time()
        try:
            target.use(place, name, random)
        except (InputError, RunError):
            outcome.refused += 1
        except BaseException as error:  # panics of Rust are no Exception
            if isinstance(error, KeyboardInterrupt):
                raise
            outcome.failures.setdefault(_signature(error), _described(error, case, name, content, kept))
        faulthandler.cancel_dump_traceback_later()
        seconds = _processor_time() - start
        if seconds > outcome.slowest:
            outcome.slowest, outcome.slowest_case = seconds, f"{target.name} {seed} {case}"
        if seconds > MAX_SECONDS:
            message = f"{seconds:.1f} s: {target.name} {seed} {case} {_keep(content, name, kept)}"
            outcome.failures.setdefault(f"slow {name}", message)
        outcome.cases += 1
    outcome.seconds = time.perf_counter() - began
    return outcome


def _processor_time() -> float:
    used = [resource.getrusage(kind) for kind in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def _signature(error: BaseException) -> str:
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "/tunesmith/" in frame.filename]
    place = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "?"
    return f"{type(error).__name__} at {place}"


def _described(error: BaseException, case: int, name: str, content: bytes, kept: Path | None) -> str:
    lines = "".join(traceback.format_exception(error)).splitlines()
    return "\n".join([f"case {case}, {_keep(content, name, kept)}", *lines[-14:]])


def _keep(content: bytes, name: str, kept: Path | None) -> str:
    if kept is None:
        return name
    path = kept / f"{hashlib.sha256(content).hexdigest()[:12]}-{Path(name).name}"
    kept.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return str(path)
