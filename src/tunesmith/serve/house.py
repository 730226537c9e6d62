"""The runs behind one server, by their names: opened, shared as far as they are the same, replaced while it serves."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tunesmith.models.origin import origin
from tunesmith.models.sharing import share_memory
from tunesmith.run import Run
from tunesmith.run.directory import RunDirectory
from tunesmith.run.predictor import TrainedModel, fingerprint
from tunesmith.serve.errors import RefusedError
from tunesmith.serve.images import looks_at_images
from tunesmith.serve.predicting import PredictingRun
from tunesmith.serve.settings import ServeSettings
from tunesmith.serve.writing import WritingRun
from tunesmith.types import InputError

Hosted = PredictingRun | WritingRun
Mark = tuple[Any, ...]


class House:
    """All runs that are served; each has its thread, and one computes at a time."""

    def __init__(self, folders: Sequence[Path], settings: ServeSettings) -> None:
        """Open the runs and load their models. Raises ``InputError`` for what is no finished run."""
        self.settings = settings
        self._folders = tuple(folders)
        self.unpacking = asyncio.Lock()
        """Held by whoever unpacks the images of a request: each may take a hundred megabytes meanwhile."""
        self._computing = threading.Lock()
        self._lock = threading.Lock()
        self._uses: Counter[Hosted] = Counter()
        self._marks: dict[str, Mark] = {}
        self._hashes: dict[str, str] = {}
        """Of the manifests of the runs that are served."""
        self.hosted: dict[str, Hosted] = {}
        places = _places(self._folders)
        if not places:
            raise InputError(
                f"There is no finished run in {', '.join(map(str, folders))}.", "Name folders of runs, or one of runs."
            )
        opened = {name: Run.open(folder) for name, folder in places.items()}
        for name, run in opened.items():
            self._marks[name] = _mark(run.folder)
            self.hosted[name] = self._host(name, run)

    @contextmanager
    def using(self, name: str | None, *tasks: str) -> Iterator[Hosted]:
        """Yield the run that a request names; the only one of the ``tasks`` where it names none.

        It takes jobs inside the ``with`` block, also when another takes its place meanwhile. Raises ``RefusedError``
        where there is none, or it does something else.
        """
        with self._lock:
            found = self._find(name, tasks)
            self._uses[found] += 1
        try:
            yield found
        finally:
            with self._lock:
                self._uses[found] -= 1

    def _find(self, name: str | None, tasks: Sequence[str]) -> Hosted:
        if name is None:
            fitting = [one for one in self.hosted.values() if not tasks or one.run.task.name in tasks]
            if len(fitting) != 1:
                raise RefusedError(400, f"Say which model is asked ({', '.join(self.hosted)}).", "no_model")
            return fitting[0]
        if name not in self.hosted:
            raise RefusedError(
                404, f"There is no model '{name}'. There are: {', '.join(self.hosted)}.", "model_not_found"
            )
        found = self.hosted[name]
        if tasks and found.run.task.name not in tasks:
            raise RefusedError(
                400,
                f"'{name}' was trained for {found.run.task.title.lower()} ({found.run.task.name}); this route is for "
                f"{', '.join(tasks)}.",
                "other_task",
            )
        return found

    def look_again(self, tell: Callable[[str], None] = lambda _: None) -> None:
        """Take up runs that are new in the folders, or were replaced; what was there before ends with its requests.

        ``tell`` is told what was taken up, and of runs that cannot be: those before them stay. Runs that are gone
        stay, too. Not for several threads.
        """
        for name, folder in _places(self._folders).items():
            mark = _mark(folder)
            if mark == self._marks.get(name):
                continue
            self._marks[name] = mark
            old = self.hosted.get(name)
            try:
                if old is not None and fingerprint(RunDirectory(folder)) == self._hashes[name]:
                    continue
                new = self._host(name, Run.open(folder))
            except (InputError, OSError) as error:
                tell(f"{name} stays as it was: {error}" if old else f"{name} is not served: {error}")
                continue
            with self._lock:
                self.hosted = {**self.hosted, name: new}
            tell(f"{name} was {'replaced' if old else 'added'}.")
            if old is not None:
                self._retire(old)

    @property
    def max_body_bytes(self) -> int:
        """How large a request may be: images take more than texts."""
        sees = any(looks_at_images(one.run) for one in self.hosted.values())
        return self.settings.max_image_body_bytes if sees else self.settings.max_body_bytes

    def waiting(self) -> dict[str, int]:
        """Return how many requests wait or are at work, by model."""
        return {name: one.num_waiting for name, one in self.hosted.items()}

    def reused(self) -> dict[str, tuple[int, int]]:
        """Return of how many prompts the beginning was known, and the tokens that spared, by model that writes."""
        return {name: one.reused for name, one in self.hosted.items() if isinstance(one, WritingRun)}

    def close(self) -> None:
        """Let every thread come to the end of what it has begun."""
        for one in self.hosted.values():
            one.close(self.settings.drain_seconds)

    def _host(self, name: str, run: Run) -> Hosted:
        """Load a run's model, of which it shares what another that is loaded has, too."""
        run.predictor.load()
        for other in self.hosted.values():
            if _share(run, other.run):
                break
        kind = WritingRun if run.task.chats else PredictingRun
        hosted = kind(name, run, self.settings, self._computing)
        self._hashes[name] = fingerprint(run.directory)
        return hosted

    def _retire(self, old: Hosted) -> None:
        """Let a run that was replaced end once nobody is about to ask it any more."""
        while self._uses[old]:
            time.sleep(0.05)
        with self._lock:
            del self._uses[old]
        old.close(self.settings.drain_seconds)


def _share(run: Run, other: Run) -> bool:
    """Let a run use the weights of another in memory where both stand on one base; say whether they do."""
    if not isinstance(run.predictor, TrainedModel) or not isinstance(other.predictor, TrainedModel):
        return False
    model, theirs = run.network.model, other.network.model
    base, their_base = origin(model), origin(theirs)
    if base is None or their_base is None or base.weights_sha256 is None:
        return False
    if base.weights_sha256 != their_base.weights_sha256:
        return False
    share_memory(model, theirs, ())
    return True


def _places(folders: Sequence[Path]) -> dict[str, Path]:
    """Return where the runs are, by their names: folders that are runs, and the finished runs in those that are not."""
    places: list[Path] = []
    for folder in folders:
        inside = sorted(folder.iterdir()) if folder.is_dir() and not RunDirectory(folder).config.exists() else []
        found = [one for one in inside if RunDirectory(one).config.exists() and RunDirectory(one).is_finished]
        places += found if inside else [folder]
    names = [place.resolve().name for place in places]
    if len(set(names)) < len(names):
        names = [f"{place.resolve().parent.name}/{place.resolve().name}" for place in places]
    if len(set(names)) < len(names):
        raise InputError(
            f"Two of the runs have the same name: {', '.join(names)}.",
            "Serve each once, from folders of different names.",
        )
    return dict(zip(names, places, strict=True))


def _mark(folder: Path) -> Mark:
    """Return what changes when a run's files do."""
    try:
        with os.scandir(folder) as entries:
            found = [(entry.name, entry.stat()) for entry in entries if entry.is_file()]
    except OSError:
        return ()
    return tuple(sorted((name, one.st_ino, one.st_size, one.st_mtime_ns) for name, one in found))
