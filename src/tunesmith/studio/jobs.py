"""What the studio has started: commands of ``tunesmith``, each with a folder that says all of it."""

from __future__ import annotations

import json
import re
import secrets
import shlex
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from tunesmith.files.atomic import write_text
from tunesmith.files.operations import make_folder
from tunesmith.studio.processes import Process, start
from tunesmith.studio.workplace import Workplace

Kind = Literal["look", "plan", "train", "compare", "export", "serve"]
State = Literal["running", "done", "failed"]
MOST_SHOWN = 20_000
"""Characters of what a command wrote that are given to a browser: its end."""
MOST_KEPT = 200
_PROBLEM = re.compile(r"(Error|Warning|Note): ")


@dataclass(frozen=True, slots=True)
class Job:
    """A command that was started."""

    id: str
    kind: Kind
    words: tuple[str, ...]
    """After ``tunesmith``."""
    shown: tuple[str, ...]
    """The same as a person would type it."""
    about: str
    """The folder that it writes or reads; empty where there is none."""
    pid: int
    began: float
    started: float

    @property
    def process(self) -> Process:
        return Process(self.pid, self.began)

    @property
    def command(self) -> str:
        """What does the same in a terminal."""
        return shlex.join(("tunesmith", *self.shown))


class Jobs:
    """All of them, on disk; those of an earlier studio are found again."""

    def __init__(self, place: Workplace) -> None:
        self._place = place
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._known: dict[str, Job | None] = {}

    def start(self, kind: Kind, words: Sequence[str], *, about: str = "", shown: Sequence[str] | None = None) -> Job:
        """Start a command; ``shown`` is how a person would type it, where that differs."""
        self._forget_old()
        name = secrets.token_hex(6)
        folder = self._place.jobs / name
        make_folder(folder)
        process, child = start(words, folder)
        typed = tuple(words if shown is None else shown)
        job = Job(name, kind, tuple(words), typed, about, process.pid, process.began, time.time())
        write_text(folder / "job.json", json.dumps(asdict(job), ensure_ascii=False) + "\n")
        self._children[name] = child
        return job

    def find(self, name: str) -> Job | None:
        """Return the job that is called so."""
        return next((job for job in self.all() if job.id == name), None)

    def all(self) -> Iterator[Job]:
        """Yield all jobs, the latest first. What was read once is not read again: it never changes."""
        names = {path.name for path in self._place.jobs.iterdir() if (path / "job.json").is_file()}
        self._known = {name: self._known.get(name) or self._load(name) for name in names}
        yield from sorted((job for job in self._known.values() if job is not None), key=lambda job: -job.started)

    def _load(self, name: str) -> Job | None:
        try:
            values = json.loads((self._place.jobs / name / "job.json").read_text(encoding="utf-8"))
            return Job(**{**values, "words": tuple(values["words"]), "shown": tuple(values["shown"]), "id": name})
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def latest(self, about: Path, *kinds: Kind) -> Job | None:
        """Return the last job that was started about a folder."""
        return next((job for job in self.all() if job.about == str(about) and job.kind in kinds), None)

    def is_alive(self, job: Job) -> bool:
        """Say whether the command goes on."""
        child = self._children.get(job.id)
        if child is not None:
            return child.poll() is None
        return job.process.is_alive

    def exit_status(self, job: Job) -> int | None:
        """Return how it ended; None while it goes on, and where it was started by an earlier studio."""
        child = self._children.get(job.id)
        return None if child is None else child.poll()

    def stdout(self, job: Job) -> str:
        return self._read(job, "stdout")

    def stderr(self, job: Job) -> str:
        """Return the end of what it wrote to stderr: progress, notes, errors."""
        text = self._read(job, "stderr")
        return text[-MOST_SHOWN:]

    def result(self, job: Job) -> Any:
        """Return the JSON that it wrote; None where it wrote none (yet)."""
        try:
            return json.loads(self.stdout(job))
        except ValueError:
            return None

    def to_json(self, job: Job) -> dict[str, Any]:
        """Return what a page shows of it."""
        alive = self.is_alive(job)
        result = None if alive or job.kind in ("train", "compare", "serve") else self.result(job)
        status = self.exit_status(job)
        failed = not alive and (status not in (0, None) or (status is None and result is None))
        log = self.stderr(job)
        state: State = "running" if alive else "failed" if failed else "done"
        return {
            "id": job.id,
            "kind": job.kind,
            "command": job.command,
            "state": state,
            "seconds": time.time() - job.started,
            "result": result,
            "problems": problems_in(log),
            "log": log,
        }

    def _read(self, job: Job, name: str) -> str:
        try:
            return (self._place.jobs / job.id / name).read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""

    def _forget_old(self) -> None:
        """Delete what is known of the oldest commands that are over; runs and exports are not touched."""
        from tunesmith.files.atomic import remove_folder

        over = [job for job in self.all() if not self.is_alive(job)]
        for job in over[MOST_KEPT:]:
            remove_folder(self._place.jobs / job.id)


def problems_in(log: str) -> list[dict[str, str]]:
    """Return the errors, warnings and notes that a command has shown, in its own words."""
    found: list[dict[str, str]] = []
    is_open = False
    for line in log.splitlines():
        if match := _PROBLEM.match(line):
            found.append({"severity": match[1].lower(), "message": line[match.end() :], "fix": ""})
            is_open = True
        elif is_open and line.startswith("  "):
            fix = line.strip().removeprefix("→").strip()
            found[-1]["fix"] = "\n".join(filter(None, (found[-1]["fix"], fix)))
        else:
            is_open = False
    return found
