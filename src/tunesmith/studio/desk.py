"""What the pages ask for and order: every method takes what was checked and returns JSON."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import psutil
from pydantic import BaseModel, ConfigDict, Field

from tunesmith.serve.errors import RefusedError
from tunesmith.serve.task_routes import LABEL_IMAGES
from tunesmith.studio import commands
from tunesmith.studio.commands import Draft, with_json
from tunesmith.studio.found import Found, find, found_in, id_of, is_finished, process_at
from tunesmith.studio.jobs import Job, Jobs
from tunesmith.studio.runs import facts_of, line_of, progress_of, read_config, state_of
from tunesmith.studio.studies import facts_of_study, line_of_study
from tunesmith.studio.trying import route_of
from tunesmith.studio.uploads import Uploads
from tunesmith.studio.workplace import Workplace, plain_name
from tunesmith.version import __version__

_SERVED = re.compile(r"^Serving .* on http://127\.0\.0\.1:(\d+)$", re.MULTILINE)
_CHATS = ("causal_lm", "preference", "grpo", "image_chat")
_SEES = (*LABEL_IMAGES, "image_chat")


class Ask(BaseModel):
    """A request that has a draft, and what else it needs."""

    model_config = ConfigDict(extra="forbid")

    draft: Draft
    mask: bool = False
    within: Annotated[str, Field(max_length=20)] = ""
    memory: Annotated[str, Field(max_length=20)] = ""


class ExportAsk(BaseModel):
    """What a run is to become."""

    model_config = ConfigDict(extra="forbid")

    to: Annotated[str, Field(max_length=40)]
    form: Annotated[str, Field(max_length=20)] = ""


class ModelAsk(BaseModel):
    """The name of a model."""

    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, Field(max_length=200)]


class Desk:
    """Everything that the studio can do, on its folders and processes."""

    def __init__(self, place: Workplace, most_upload_bytes: int) -> None:
        self.place = place
        self.jobs = Jobs(place)
        self.uploads = Uploads(place, most_upload_bytes)

    def home(self) -> dict[str, Any]:
        """Return runs and studies, what goes on, and the machine."""
        lines = [self._line(one) for one in found_in(self.place.root)]
        known = {one["name"] for one in lines}
        begun = [
            self._line(self._found_of(job)) | {"changed": job.started}
            for job in self.jobs.all()
            if job.kind in ("train", "compare") and self.jobs.is_alive(job) and self._name(job) not in known
        ]
        free = shutil.disk_usage(self.place.root).free
        return {
            "version": __version__,
            "root": str(self.place.root),
            "found": [*begun, *lines],
            "services": [
                self._service(job) for job in self.jobs.all() if job.kind == "serve" and self.jobs.is_alive(job)
            ],
            "machine": {
                "cores": psutil.cpu_count(logical=False) or psutil.cpu_count() or 1,
                "memory": psutil.virtual_memory().available,
                "disk": free,
            },
            "most_upload_bytes": self.uploads.most_bytes,
        }

    def look(self, ask: Ask) -> dict[str, Any]:
        """Have the data looked at."""
        words = ask.draft.look(self._data(ask.draft), mask=ask.mask)
        return self._started("look", with_json(words), shown=words)

    def size(self, ask: ModelAsk) -> dict[str, Any]:
        """Return what a model of the hub takes, before any of it is fetched; nothing of names that are none there."""
        from tunesmith.models.hub import find_weights

        found, is_here = find_weights(ask.name)
        if found is None:
            return {"known": False}
        return {
            "known": True,
            "is_here": is_here,
            "weights": found.num_weights,
            "download": found.num_bytes,
            "disk": found.free_disk,
            "fits_disk": is_here or found.fits_disk,
            "memory": found.memory_bytes,
            "free_memory": found.free_memory,
            "fits_memory": found.fits_memory,
        }

    def plan(self, ask: Ask) -> dict[str, Any]:
        """Have it predicted what methods take."""
        words = ask.draft.plan(self._data(ask.draft), ask.within, ask.memory)
        return self._started("plan", with_json(words), shown=words)

    def train(self, ask: Ask) -> dict[str, Any]:
        """Begin a training in a folder of its own."""
        folder = self._folder(ask.draft, "run")
        job = self.jobs.start("train", ask.draft.train(self._data(ask.draft), folder), about=str(folder))
        return {"id": id_of(self._name(job)), "job": self.jobs.to_json(job)}

    def compare(self, ask: Ask) -> dict[str, Any]:
        """Begin a contest in a folder of its own."""
        folder = self._folder(ask.draft, "contest")
        job = self.jobs.start("compare", ask.draft.compare(self._data(ask.draft), folder), about=str(folder))
        return {"id": id_of(self._name(job)), "job": self.jobs.to_json(job)}

    def previewed(self, ask: Ask) -> dict[str, Any]:
        """Return the commands of a draft as far as they can be told, without running one."""
        found: dict[str, Any] = {}
        data = self._data(ask.draft) if ask.draft.data else "DATA"
        shown = ask.draft if ask.draft.model else ask.draft.model_copy(update={"model": "MODEL"})
        for name, words in {
            "look": shown.look(data, mask=False),
            "plan": shown.plan(data, ask.within, ask.memory),
            "train": shown.train(data, self._folder(shown, "run")),
            "compare": shown.compare(data, self._folder(shown, "contest")),
        }.items():
            found[name] = shlex.join(["tunesmith", *words])
        return found

    def job(self, name: str) -> dict[str, Any]:
        """Return how a command stands."""
        return self.jobs.to_json(self._job(name))

    def stop_job(self, name: str) -> dict[str, Any]:
        """Ask a command to stop."""
        job = self._job(name)
        return {"stopped": self.jobs.is_alive(job) and job.process.stop()}

    def facts(self, name: str) -> dict[str, Any]:
        """Return a run or a study."""
        found = self.found(name)
        if found.kind == "study":
            return facts_of_study(found, self.jobs)
        facts = facts_of(found, self.jobs)
        task = facts["task"]
        services = (self._service(job) for job in self.jobs.all() if job.kind == "serve" and self.jobs.is_alive(job))
        return facts | {
            "route": route_of(task, chats=task in _CHATS),
            "services": [one for one in services if one["run"] == found.id],
            "exports": self._exports(found),
        }

    def progress(self, name: str, after: int) -> dict[str, Any]:
        """Return what is new of a run."""
        return progress_of(self.found(name), after, self.jobs)

    def stop(self, name: str) -> dict[str, Any]:
        """Ask the process that works on a run or study to stop: it saves what it has reached."""
        found = self.found(name)
        process = process_at(found.folder)
        job = self.jobs.latest(found.folder, "train", "compare")
        if process is None and job is not None and self.jobs.is_alive(job):
            process = job.process
        if process is None or not process.stop():
            raise RefusedError(409, f"Nothing is at work in {found.folder}.", "not_running")
        return {"stopped": True}

    def resume(self, name: str) -> dict[str, Any]:
        """Let a run or study that was stopped go on."""
        found = self.found(name)
        if state_of(found, self.jobs) in ("running", "starting"):
            raise RefusedError(409, f"{found.folder} is at work already.", "running")
        if found.kind == "study":
            job = self.jobs.latest(found.folder, "compare")
            if job is None:
                raise RefusedError(
                    409,
                    f"The study in {found.folder} was not begun here. Go on with it by the command it was begun with.",
                    "not_ours",
                )
            job = self.jobs.start("compare", job.words, about=str(found.folder))
        else:
            if is_finished(found.folder):
                raise RefusedError(409, f"The run in {found.folder} is finished.", "finished")
            words = ["train", "--output", str(found.folder), "--resume"]
            job = self.jobs.start("train", words, about=str(found.folder))
        return {"id": found.id, "job": self.jobs.to_json(job)}

    def export(self, name: str, ask: ExportAsk) -> dict[str, Any]:
        """Have a run written for another program; an export that is there already is replaced."""
        found = self._finished(name)
        wanted = f"{ask.to} {ask.form} {found.id[:6]} {found.name}"
        output = self.place.exports / plain_name(wanted, "export")
        words = commands.export(found.folder, ask.to, ask.form, output, overwrite=output.exists())
        return self._started("export", with_json(words), about=str(found.folder), shown=words)

    def serve(self, name: str) -> dict[str, Any]:
        """Serve a run by a process of its own, on a free port of this machine alone."""
        found = self._finished(name)
        job = self.jobs.start(
            "serve",
            ["serve", str(found.folder), "--port", "0"],
            about=str(found.folder),
            shown=["serve", str(found.folder), "--port", "8000"],
        )
        return self._service(job)

    def found(self, name: str) -> Found:
        """Return the run or study that the lists call ``name``. Raises ``RefusedError`` where there is none."""
        found = find(self.place.root, name)
        if found is None:
            for job in self.jobs.all():  # one that has just begun has no files yet
                if job.kind in ("train", "compare") and id_of(self._name(job)) == name:
                    return self._found_of(job)
            raise RefusedError(404, "There is no such run or study here (any more).", "not_found")
        return found

    def _line(self, found: Found) -> dict[str, Any]:
        return line_of(found, self.jobs) if found.kind == "run" else line_of_study(found, self.jobs)

    def _found_of(self, job: Job) -> Found:
        """Return the run or study that a command makes, which may have no files yet."""
        return Found("run" if job.kind == "train" else "study", Path(job.about), self._name(job))

    def _finished(self, name: str) -> Found:
        found = self.found(name)
        if found.kind != "run" or not is_finished(found.folder):
            raise RefusedError(409, f"The run in {found.folder} did not finish.", "unfinished")
        return found

    def _data(self, draft: Draft) -> str:
        """Return what ``--data`` is given: uploads are known by their ids alone."""
        if not draft.data:
            raise commands.refused("data: there is none. Upload a file, or choose one.")
        if draft.data.startswith("-"):
            raise commands.refused(f"data: {draft.data!r} begins with dashes, as options do. Write ./{draft.data}.")
        upload = self.uploads.find(draft.data)
        return str(upload.path) if upload is not None else draft.data

    def _folder(self, draft: Draft, otherwise: str) -> Path:
        upload = self.uploads.find(draft.data)
        data = Path(upload.name if upload is not None else draft.data).name.split(".")[0].removeprefix("sample:")
        words = [data, Path(draft.model).name.removeprefix("sample:"), draft.method.partition("(")[0]]
        return self.place.free_name(draft.name or " ".join(filter(None, words)) or otherwise, self.place.root)

    def _started(self, kind: Any, words: list[str], *, shown: list[str], about: str = "") -> dict[str, Any]:
        return self.jobs.to_json(self.jobs.start(kind, words, about=about, shown=shown))

    def _job(self, name: str) -> Job:
        job = self.jobs.find(name)
        if job is None:
            raise RefusedError(404, "There is no such command here (any more).", "not_found")
        return job

    def _name(self, job: Job) -> str:
        try:
            return Path(job.about).relative_to(self.place.root).as_posix()
        except ValueError:
            return job.about

    def _service(self, job: Job) -> dict[str, Any]:
        served = _SERVED.search(self.jobs.stdout(job))
        config = read_config(Path(job.about))
        section = config.get("task")
        task = str(section.get("name", "")) if isinstance(section, Mapping) else str(section or "")
        data = config.get("data")
        columns = list((data.get("columns") or {}) if isinstance(data, Mapping) else {})
        port = int(served[1]) if served else None
        return self.jobs.to_json(job) | {
            "run": id_of(self._name(job)),
            "name": self._name(job),
            "port": port,
            "curl": ""
            if port is None
            else commands.curl(route_of(task, chats=task in _CHATS), port, columns, sees=task in _SEES),
        }

    def _exports(self, found: Found) -> list[dict[str, Any]]:
        jobs = (job for job in self.jobs.all() if job.kind == "export" and job.about == str(found.folder))
        return [self.jobs.to_json(job) for job in jobs][:10]
