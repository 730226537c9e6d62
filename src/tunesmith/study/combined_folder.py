"""The folder of what several runs were made into: a run's, with what it was made of."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith.evaluate import Baseline, baseline, has_baseline, predictions_table
from tunesmith.evaluate.stacking import Stacker
from tunesmith.files.manifest import MANIFEST, names_in_manifest
from tunesmith.files.operations import make_folder
from tunesmith.methods.full import Full
from tunesmith.publish import Parts, ensemble_card, model_card
from tunesmith.run.assembly import inputs_of
from tunesmith.run.config import RunConfig
from tunesmith.run.directory import RunDirectory
from tunesmith.run.ensemble import ENSEMBLE, EnsembleRecord
from tunesmith.run.ensemble import Member as MemberRecord
from tunesmith.run.environment import machine, versions
from tunesmith.run.finish import name_end_tokens, save_model
from tunesmith.run.judgement import Judged, figures
from tunesmith.study.ensemble_config import EnsembleConfig
from tunesmith.study.ensemble_members import Member, Rows
from tunesmith.types import Problem

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MEMBERS = "members"
"""The folder that copies of members are in."""


@dataclass(frozen=True, kw_only=True)
class Made:
    """What several runs were made into."""

    config: EnsembleConfig
    judged: Judged
    """What it makes of the judged rows."""
    weights: Sequence[float]
    weighted_by: str
    problems: Sequence[Problem]
    began: float
    stacker: Stacker | None = None
    model: Any = None
    """The one model that it is; None where members answer each for itself."""
    tokenizer: PreTrainedTokenizerBase | None = None


def write_combined(directory: RunDirectory, rows: Rows, made: Made) -> RunDirectory:
    """Write a finished run's folder, let it take the place of one that it replaces, and return where it is."""
    directory.begin(anew=True)
    config = _config(directory, rows, made)
    directory.write_config(config)
    saved = _write_model(directory, rows, made) if made.model is not None else _write_members(directory, rows, made)
    evaluation = _evaluation(rows, made)
    directory.write_json("evaluation", evaluation)
    columns = rows.columns(rows.judged_split)
    directory.write_predictions(predictions_table(rows.task, made.judged.outputs, made.judged.targets, columns))
    summary = _summary(rows, made, saved)
    directory.write_json("training", summary)
    environment = _environment(rows, made)
    values = config.model_dump(mode="json")
    said = rows.task.card(inputs_of(rows.task, config.data.columns), made.tokenizer)
    if made.model is None:
        card = ensemble_card(said, values, summary, evaluation, environment)
    else:
        card = model_card(
            Parts(said, rows.task.head(), config.method, config.model), values, summary, evaluation, environment
        )
    directory.write_card(card, environment)
    directory.seal()
    return directory.install()


def _config(directory: RunDirectory, rows: Rows, made: Made) -> RunConfig:
    """Return the first member's configuration: its rows and its task are those of the whole."""
    updates: dict[str, Any] = {"output": str(directory.place), "teacher": None, "task": rows.task}
    return rows.config.model_copy(update=updates | ({} if made.model is None else {"method": Full()}))


def _write_model(directory: RunDirectory, rows: Rows, made: Made) -> int:
    """Write model and tokenizer; return the bytes of the model's files."""
    assert made.tokenizer is not None
    name_end_tokens(rows.task, made.model, made.tokenizer)
    max_length = max(int(member.summary["max_length"]) for member in rows.members)
    beside = rows.task.files_beside(made.model, max_length)
    return save_model(directory, Full(), made.model, made.tokenizer, beside)


def _write_members(directory: RunDirectory, rows: Rows, made: Made) -> int:
    """Write who the members are, with copies if wanted; return the bytes of their models."""
    records, names = [], [f"{ENSEMBLE}.json"]
    copies = [f"{MEMBERS}/{number}-{member.directory.path.name}" for number, member in enumerate(rows.members, start=1)]
    if made.config.copies:
        for member, copy in zip(rows.members, copies, strict=True):
            own = [*(names_in_manifest(member.directory.path) or ()), MANIFEST]
            directory.expect([*names, *(f"{copy}/{name}" for name in own)])
            names += _copied(member.directory.path, own, directory.path, copy)
    for member, copy in zip(rows.members, copies, strict=True):
        place = directory.place.resolve() / copy if made.config.copies else member.directory.path.resolve()
        records.append(
            MemberRecord(
                name=member.name,
                folder=os.path.relpath(place, directory.place.resolve()),
                absolute=str(place),
                sha256=member.sha256,
            )
        )
    directory.expect(names)
    record = EnsembleRecord(
        how="stack" if made.stacker is not None else "average",
        members=tuple(records),
        weights=tuple(made.weights),
        weighted_by=made.weighted_by,
        stacker=made.stacker,
    )
    directory.write_json(ENSEMBLE, record.model_dump(mode="json"))
    return sum(int(member.summary.get("saved_bytes") or 0) for member in rows.members)


def _copied(source: Path, names: Sequence[str], target: Path, below: str) -> list[str]:
    for name in names:
        make_folder((target / below / name).parent)
        shutil.copyfile(source / name, target / below / name)
    return [f"{below}/{name}" for name in names]


def _evaluation(rows: Rows, made: Made) -> dict[str, Any]:
    """Return ``evaluation.json``, with every member beside the whole: the best one, chosen elsewhere, first."""
    split, config = rows.judged_split, rows.config
    columns = rows.columns(split)
    best = rows.best("validation") if rows.has_validation else None
    members = sorted(rows.members, key=lambda member: member is not best)
    beside = [_beside(rows, member, split, is_best=member is best) for member in members]
    rival = None
    if config.evaluation.baseline and has_baseline(rows.task):
        rival = baseline(rows.task, rows.columns("train"), columns, config.data.split_seed)
    return figures(rows.task, made.judged, columns, config, split=split, rival=rival, beside=beside)


def _beside(rows: Rows, member: Member, split: str, *, is_best: bool) -> Baseline:
    name = f"{member.name}, the best on the validation rows" if is_best else member.name
    number = int(member.summary.get("num_parameters") or 0)
    return Baseline(name, rows.judged(member, split).outputs, 0.0, number, None)


def _summary(rows: Rows, made: Made, saved_bytes: int) -> dict[str, Any]:
    """Return ``training.json``."""
    first, members = rows.members[0].summary, rows.members
    numbers = [int(member.summary.get("num_parameters") or 0) for member in members]
    kept = ("max_length", "auto_class", "rows", "left_out", "columns", "layout", "precision", "device")
    return {
        "status": "finished",
        "num_parameters": numbers[0] if made.model is not None else sum(numbers),
        "seconds": sum(float(member.summary.get("seconds") or 0.0) for member in members),
        "seconds_of_combining": time.perf_counter() - made.began,
        "saved_bytes": saved_bytes,
        **{name: first[name] for name in kept if name in first},
        "made_of": {
            "how": made.config.how,
            "members": [
                {"name": member.name, "folder": str(member.directory.path.resolve()), "sha256": member.sha256}
                for member in members
            ],
            "weights": list(made.weights),
            "weighted_by": made.weighted_by,
        },
        "defaults": {},
        "problems": [asdict(problem) for problem in made.problems],
    }


def _environment(rows: Rows, made: Made) -> dict[str, Any]:
    first = rows.members[0].environment
    now = datetime.now(UTC).isoformat(timespec="seconds")
    kept: dict[str, Any] = {name: first[name] for name in ("seed", "data", "model", "tokenizer") if name in first}
    known: dict[str, Any] = {} if made.model is not None else {"model": {"source": f"{len(rows.members)} runs"}}
    return {
        "versions": versions(),
        "machine": machine(),
        **kept,
        **known,
        "defaults": {},
        "started": now,
        "finished": now,
    }
