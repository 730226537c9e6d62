"""What of a run goes to others, and what stays: texts of the user's rows, paths, and the course of the training do."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tunesmith.config.load import dump_yaml
from tunesmith.export import merge
from tunesmith.files.manifest import MANIFEST, names_in_manifest, render_manifest
from tunesmith.files.ownership import RECORDS
from tunesmith.methods import DEFAULT_METHOD
from tunesmith.publish import FOLDER, Parts, model_card
from tunesmith.run import Run
from tunesmith.run.assembly import inputs_of
from tunesmith.run.config import RunConfig
from tunesmith.types import InputError

CARD = "README.md"
WITH_TEXTS: Mapping[str, str] = {
    "predictions.parquet": "what the model says of the rows that it was judged on, with their texts",
    "evaluation.json": "figures, with the texts of the worst mistakes and of written answers",
    "report.html": "the same as a page",
    "rejected.jsonl": "rows that could not be read",
    "scores.npz": "scores of the judged rows",
}
"""Files of a run that hold rows of the user's, or what is said of each: left out unless asked for."""
COURSE: Mapping[str, str] = {
    "metrics.jsonl": "every step",
    "tensorboard": "every step",
    "checkpoints": "checkpoints",
    "tracker.json": "which run it is at trackers",
    "exports.jsonl": "the exports that were made",
    "environment.json": "the machine, versions, the state of git",
    "training.json": "what the training took, and what was noticed",
    "config.yaml": "the configuration, with paths of this machine",
}
"""Files that nobody needs who uses the model."""


@dataclass(frozen=True, slots=True)
class Left:
    """A file of the run that does not go."""

    name: str
    why: str
    holds_texts: bool
    """Whether it holds rows of the user's: ``--with-predictions`` takes it along."""


@contextmanager
def prepared(
    run: Run, *, name: str, merged: bool = False, with_predictions: bool = False, public: bool = True
) -> Iterator[tuple[Path, list[Left]]]:
    """Yield a folder with what goes, for as long as the block lasts, and what does not go.

    ``name`` is what it is called on the hub; with ``merged`` an adapter is added to its base first. Where it is for
    others (``public``), an adapter whose base only this machine has is refused.

    Raises ``InputError`` for runs that are of no use elsewhere.
    """
    _require_whole(run)
    needs_tunesmith = _needs_tunesmith(run, merged=merged)
    if public and not merged:
        _require_known_base(run)
    with TemporaryDirectory(prefix="tunesmith-push-") as temporary:
        folder = Path(temporary) / "model"
        if merged:
            merge(run, folder, stays=False)
            for own in (MANIFEST, "export.json"):
                (folder / own).unlink(missing_ok=True)
        else:
            folder.mkdir()
            for one in _model_files(run):
                _link(run.folder / one, folder / one)
        extra = [one for one in WITH_TEXTS if with_predictions and (run.folder / one).is_file()]
        for one in extra:
            _link(run.folder / one, folder / one)
        (folder / CARD).write_text(_card(run, name, merged=merged), encoding="utf-8")
        if needs_tunesmith:
            _write_records(run, folder)
        yield folder, _left(run, folder)


def _require_whole(run: Run) -> None:
    if (run.folder / "ensemble.json").is_file():
        raise InputError(
            f"{run.folder} is an ensemble: it names its members and has no model of its own.",
            "Push one of its members, or make one model of them: tunesmith ensemble RUN... --how soup.",
        )


def _needs_tunesmith(run: Run, *, merged: bool) -> bool:
    """Say whether the model is one that tunesmith alone can build, so that its records have to go with it."""
    head = run.task.head()
    plain = run.config.model.is_plain and run.config.method.loading_code(head.auto_class, head.num_outputs) is not None
    return not plain and not merged


def _require_known_base(run: Run) -> None:
    """Refuse an adapter beside weights that nobody else has: it could not be loaded anywhere."""
    if not run.config.method.needs_base:
        return
    recorded = run.directory.read_json("environment").get("model", {})
    if not recorded.get("hub_id"):
        fix = f"Add it to its base first: tunesmith push {run.folder} NAME --merge."
        if run.config.method.result == "own":
            fix = (
                f"Write it as a plain model first (tunesmith restore {run.folder} --output FOLDER), and push that one."
            )
        raise InputError(
            f"The run in {run.folder} is beside a base model that is not on the hub ({run.config.model.name}): nobody "
            "else could load it.",
            fix,
        )


def _model_files(run: Run) -> list[str]:
    """Return the names of the model's files, and of what stands beside them for other libraries."""
    named = names_in_manifest(run.folder) or []
    return [name for name in named if name not in RECORDS and name != CARD and name not in WITH_TEXTS]


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.symlink_to(source.absolute())


def _card(run: Run, name: str, *, merged: bool) -> str:
    """Return the card, which says how the model is loaded from where it goes.

    A card that somebody has changed goes as it is, but where an adapter was merged: it tells of the adapter.
    """
    own = run.folder / CARD
    if own.is_file() and not merged:
        text = own.read_text(encoding="utf-8")
    else:
        config, task = run.config, run.task
        said = task.card(inputs_of(task, config.data.columns), run.network.tokenizer)
        parts = Parts(said, task.head(), config.method, config.model)
        evaluation = run.evaluation if (run.folder / "evaluation.json").is_file() else None
        environment = run.directory.read_json("environment")
        loaded_as = DEFAULT_METHOD if merged else None
        plain = config.model_dump(mode="json")
        text = model_card(parts, plain, run.summary, evaluation, environment, loaded_as=loaded_as)
    text = _without_place(text, run.config.model.name)
    return text.replace(FOLDER, f'folder = "{name}"') if name else text


def _without_place(text: str, model: str) -> str:
    """Return the card with a model of this machine called by its name alone; Markdown may have escaped its path."""
    path = Path(model)
    if not path.is_absolute():
        return text
    return re.sub("".join(rf"\\?{re.escape(letter)}" for letter in model), lambda _: path.name, text)


def _write_records(run: Run, folder: Path) -> None:
    """Write what ``Run.open`` needs, without paths, machine and notes, and a manifest of all that goes."""
    environment = run.directory.read_json("environment")
    used = ("versions", "seed", "model", "tokenizer", "defaults")
    kept: dict[str, Any] = {key: environment[key] for key in used if key in environment}
    kept["data"] = {"hashes": environment.get("data", {}).get("hashes", {})}
    summary = {key: value for key, value in run.summary.items() if key not in ("problems", "columns")}
    (folder / "config.yaml").write_text(dump_yaml(_without_paths(run.config)), encoding="utf-8")
    for name, content in (("environment", kept), ("training", summary)):
        (folder / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    names = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    (folder / MANIFEST).write_text(render_manifest(folder, [name for name in names if name != CARD]), encoding="utf-8")


def _without_paths(config: RunConfig) -> RunConfig:
    """Return the configuration with files called by their names alone."""
    data = config.data
    sets = tuple(one.model_copy(update=_bare(one, ("path", "validation", "test"))) for one in data.mixture)
    changed: dict[str, Any] = {
        "data": data.model_copy(update={**_bare(data, ("path", "validation", "test")), "mixture": sets}),
        "evaluation": config.evaluation.model_copy(update=_bare(config.evaluation, ("general_text",))),
        "output": None,
        "tracker": None,
    }
    if config.teacher is not None:
        changed["teacher"] = config.teacher.model_copy(update=_bare(config.teacher, ("run", "unlabelled")))
    return config.model_copy(update=changed)


def _bare(section: Any, names: tuple[str, ...]) -> dict[str, str]:
    given = {name: getattr(section, name) for name in names}
    return {
        name: value if value.startswith(("hub:", "sample:")) else re.split(r"[/\\]", value.rstrip("/\\"))[-1]
        for name, value in given.items()
        if isinstance(value, str)
    }


def _left(run: Run, folder: Path) -> list[Left]:
    found = [
        Left(name, why, holds_texts)
        for table, holds_texts in ((WITH_TEXTS, True), (COURSE, False))
        for name, why in table.items()
        if (run.folder / name).exists() and not (folder / name).exists()
    ]
    return [*found, *_strangers(run)]


def _strangers(run: Run) -> list[Left]:
    """Return what lies in the folder and is not the run's."""
    known = {*(names_in_manifest(run.folder) or ()), *WITH_TEXTS, *COURSE, CARD, MANIFEST}
    tops = {name.split("/")[0] for name in known}
    return [
        Left(entry.name, "not written by the run", False)
        for entry in sorted(run.folder.iterdir())
        if entry.name not in tops and not entry.name.startswith(".")
    ]
