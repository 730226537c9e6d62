"""Whoever trains for a study besides its own process: nobody, or workers of a Ray cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tunesmith.engine.free_memory import memory_of
from tunesmith.engine.precision import choose_device
from tunesmith.run import RunConfig
from tunesmith.run.forecast import forecast
from tunesmith.study.crew import Crew
from tunesmith.study.executor_config import StudyConfig
from tunesmith.study.folder import RUNS
from tunesmith.study.training_process import TrainingProcess
from tunesmith.study.workplace import Workplace
from tunesmith.types import InputError

PROBE_SECONDS = 2.0
"""How long steps of a training are made to see what memory it takes."""

MakeProcess = Callable[[int], TrainingProcess]


@contextmanager
def crew_for(config: StudyConfig, work: Workplace, runs: Sequence[RunConfig], num_jobs: int) -> Iterator[Crew | None]:
    """Give, inside the block, those who train besides this process; None where it trains by itself.

    ``runs`` are trainings of every kind that there will be: the one that takes most memory says what room a worker has.
    """
    with processes_for(config, work, runs, num_jobs) as found:
        if found is None:
            yield None
            return
        make, number = found
        with Crew(make, number, work.stop) as crew:
            yield crew


@contextmanager
def processes_for(
    config: StudyConfig, work: Workplace, runs: Sequence[RunConfig], num_jobs: int
) -> Iterator[tuple[MakeProcess, int] | None]:
    """Give, inside the block, what starts a process that trains, and how many of them there are to be.

    None where the study is not given to others. Raises ``InputError`` where the workers cannot do it, before anything
    is trained.
    """
    if config.executor == "local":
        yield None
        return
    from tunesmith.study.ray_cluster import connected

    folder = work.folder.path.resolve()
    with connected(config, num_jobs) as cluster:
        cluster.require_sight_of(folder, _read_by(config))
        device = choose_device(config.compute.device)
        room = cluster.room(_predicted(work, runs), sum(memory_of(device)) if device.type == "cuda" else None)
        number = cluster.number_of_workers(room)
        (folder / RUNS).mkdir(exist_ok=True)
        work.workshop.release()
        yield lambda place: cluster.process(room, folder / RUNS / f"worker-{place}.log"), number


def _predicted(work: Workplace, runs: Sequence[RunConfig]) -> int:
    """Return the bytes that the largest of some trainings takes at its peak; what is known of it is not tried again."""
    known = work.journal.of("room")
    if known:
        return int(known[0]["memory"])
    peaks = []
    for one in runs:
        try:
            peaks.append(forecast(one, work.workshop, stop=work.stop, seconds=PROBE_SECONDS).peak_memory)
        except InputError:  # what cannot be trained is said, and left out or refused, elsewhere
            continue
    found = max(peaks, default=0)
    work.journal.add("room", memory=found)
    return found


def _read_by(config: RunConfig) -> list[Path]:
    """Return the files and folders of this machine that a study's runs read."""
    named = [config.data.path, config.data.validation, config.data.test, config.model.name]
    return [Path(name).resolve() for name in named if name and Path(name).exists()]
