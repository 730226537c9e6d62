"""What is refused before any step is made: folders in use, runs mixed up, settings that must fail."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from os.path import exists
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith.config.build import show
from tunesmith.engine import checkpoint as checkpoints
from tunesmith.engine.config import ComputeConfig
from tunesmith.engine.cuda import liger
from tunesmith.files.atomic import sweep
from tunesmith.files.manifest import verify_manifest
from tunesmith.files.ownership import STAGED, foreign_entries, obstacles, owned_files
from tunesmith.files.space import require_space
from tunesmith.models.adapter import named_bases
from tunesmith.models.origin import origin
from tunesmith.run.assembly import with_absolute_paths
from tunesmith.run.directory import RunDirectory
from tunesmith.run.judgement import check_answers, num_answers_wanted
from tunesmith.types import InputError, Problem

if TYPE_CHECKING:
    from tunesmith.run.config import RunConfig
    from tunesmith.run.session import Composed


MATTERING = ("processor", "num_threads", "accelerator", "native_kernels", "ranks")
"""Of the machine, what decides how sums are rounded."""
_OF_OLDER_RUNS = {"ranks": 1}
"""What runs had that do not tell."""
_COMMIT = re.compile(r"[0-9a-f]{40}")


def claim(directory: RunDirectory, config: RunConfig, *, resume: bool, overwrite: bool) -> RunDirectory | None:
    """Return where the run is to be written; None where it is finished already.

    Nothing that is there is touched, but for a replacement that was complete when it was interrupted: that is
    brought to its end.
    """
    staged = directory.staged
    for one in (directory, staged):
        if one.has_begun or owned_files(one.path) is not None:
            sweep(one.path)
            sweep(one.checkpoints)
    if directory.is_replaced:
        staged.install()
    if resume:
        return _claim_to_resume(directory, config)
    if staged.config.exists() and not overwrite:
        raise InputError(
            f"{directory.path} holds a run that is to replace another one there and did not finish.",
            "Continue it with --resume, begin anew with --overwrite, or choose another folder with --output.",
        )
    holds = sorted(entry.name for entry in directory.path.iterdir() if not entry.name.startswith("."))
    if not holds:
        return directory
    if not overwrite:
        what = (
            "a finished run"
            if directory.is_finished
            else "a run that did not finish"
            if directory.config.exists()
            else f"files ({_some(holds)})"
        )
        raise InputError(
            f"{directory.path} already holds {what}.",
            "Choose another folder with --output, replace the run with --overwrite, or continue one with --resume.",
        )
    _require_replaceable(directory, config, holds)
    return staged


def _claim_to_resume(directory: RunDirectory, config: RunConfig) -> RunDirectory | None:
    staged, path = directory.staged, directory.path
    if staged.config.exists():
        return staged
    if not directory.config.exists():
        raise InputError(f"There is nothing to resume in {path}: it holds no config.yaml.", "Leave out --resume.")
    if not directory.is_finished:
        return directory
    if damage := verify_manifest(path, hashes=False):
        raise InputError(
            [replace(one, fix="Train it again with --overwrite, or restore the file from a copy.") for one in damage]
        )
    check_same_config(directory, config, finished=True)
    return None


def _require_replaceable(directory: RunDirectory, config: RunConfig, holds: Sequence[str]) -> None:
    """Refuse to replace what is not a run, and what the new run is to be made from."""
    path, owned = directory.path, owned_files(directory.path)
    if owned is None:
        raise InputError(
            f"{path} holds files that are not a run of tunesmith ({_some(holds)}); --overwrite does not delete those.",
            "Choose another folder with --output.",
        )
    foreign = [*obstacles(path), *(f"{STAGED}/{name}" for name in foreign_entries(directory.staged.path))]
    if foreign:
        raise InputError(
            f"{path} holds, where the new run would be written, files that the run there has not written or that were "
            f"changed since: {_some(foreign)}.",
            "Move them elsewhere, or choose another folder with --output.",
        )
    for name, place in _inputs(config):
        used = [one for one in owned if (path / one).resolve().is_relative_to(place)]
        if used:
            raise InputError(
                f"{name} is part of the run in {path}, which --overwrite would remove ({_some(used)}).",
                "Choose another folder with --output.",
            )


def _inputs(config: RunConfig) -> list[tuple[str, Path]]:
    """Return the files and folders that a run is made from, with the keys that name them."""
    given = {
        "model.name": config.model.name,
        **{f"data.{name}": getattr(config.data, name) for name in ("path", "validation", "test")},
        **({} if config.teacher is None else {"teacher.run": config.teacher.run}),
    }
    places = [(name, Path(value).expanduser()) for name, value in given.items() if value]
    found = [(name, place.resolve()) for name, place in places if exists(place)]  # noqa: PTH110 (which fails on names that are no paths)
    bases = [base for name, place in found if name == "model.name" for base in named_bases(place)]
    return [*found, *(("The base of model.name", base) for base in bases)]


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", …" if len(names) > 5 else "")


def check_same_config(directory: RunDirectory, config: RunConfig, *, finished: bool = False) -> None:
    """Refuse to resume a run as another one: by another recipe. On what machine it is followed may change.

    Of a run that is ``finished``, ``config`` is what was given, in which nothing has been filled in yet: what it
    leaves open is as it was.
    """
    before = directory.read_config().model_dump(mode="json")
    now = (with_absolute_paths(config) if finished else config).model_dump(mode="json")
    free = {"output", "compute", "tracker"} | (set() if finished else {"evaluation"})
    # What a run decides in the end may stand there already, where it was stopped just before that.
    decided = set() if config.task is None else {f"task.{name}" for name in config.task.tuned}
    changed = [
        name
        for section, value in now.items()
        if section not in free
        for name in _differences(section, before.get(section), value, may_be_open=finished)
        if not (finished and _is_resolved(name, before, now))
        and not (name in decided and now["task"][name.removeprefix("task.")] is None)
    ]
    if not changed:
        return
    if finished:
        raise InputError(
            f"The run in {directory.place} is finished, and it was made with other values of {', '.join(changed)}.",
            "Replace it with --overwrite, or start a new run with another --output.",
        )
    raise InputError(
        f"The run in {directory.place} was started with other values of {', '.join(changed)}.",
        f"Resume it unchanged ({directory.how_to_resume}), or start a new run with --output.",
    )


def _is_resolved(name: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Say whether the value of a finished run is what the given one may have become: pinned, or spelled otherwise."""
    if name == "model.revision":  # which commit a branch or a tag was then, nobody knows any more
        pinned, given = (values["model"].get("revision") or "" for values in (before, now))
        return _COMMIT.fullmatch(pinned) is not None and _COMMIT.fullmatch(given) is None
    if name.startswith("data.columns."):
        role = name.removeprefix("data.columns.")
        named = (
            [part.strip() for part in values["data"]["columns"].get(role, "").split(",")] for values in (before, now)
        )
        return next(named) == next(named)
    return False


def _differences(name: str, before: Any, now: Any, *, may_be_open: bool) -> list[str]:
    """Return the keys, with the sections that they stand in, whose values differ."""
    if before == now or (may_be_open and now in (None, "auto", {}, [])):
        return []
    section = name.count(".") == 0
    if isinstance(before, dict) and isinstance(now, dict) and (section or may_be_open):
        found = [
            _differences(f"{name}.{key}", before.get(key), value, may_be_open=may_be_open) for key, value in now.items()
        ]
        return [key for keys in found for key in keys]
    return [name]


def check_method(config: RunConfig) -> None:
    """Refuse what a method says no to, and to train what needs its base beside random weights.

    These are nowhere when it is to be opened again.
    """
    config.method.check()
    if config.model.from_scratch and config.method.needs_base:
        raise InputError(
            f"The method '{config.method.name}' trains an adapter beside the weights of a pretrained model; the model "
            f"'{config.model.name}' is trained from scratch.",
            "Use --method full, or a pretrained model such as sample:minilm.",
        )


def check_same_model(composed: Composed) -> None:
    """Refuse to go on from weights other than those that the steps already made went out from."""
    if not (composed.directory.path / "environment.json").exists():
        return  # stopped before the first step
    before = composed.directory.read_json("environment").get("model", {}).get("weights_sha256")
    known = origin(composed.network.model)
    now = known.weights_sha256 if known is not None else None
    if before is not None and now is not None and before != now:
        raise InputError(
            f"The model {composed.config.model.name} has changed since the run in {composed.directory.place} was "
            f"started: the SHA-256 of its weights begins with {now[:12]}, and began with {before[:12]}.",
            "Bring the model back as it was, or start a new run with --output.",
        )


def check_same_data(composed: Composed) -> None:
    """Refuse to go on with rows other than those of the steps already made."""
    if not (composed.directory.path / "environment.json").exists():
        return  # stopped before the first step
    before = composed.directory.read_json("environment")["data"]["hashes"]
    now = dict(composed.data.prepared.hashes)
    if changed := sorted(split for split in {*before, *now} if before.get(split) != now.get(split)):
        raise InputError(
            f"The data has changed since the run in {composed.directory.place} was started: its {', '.join(changed)} "
            "rows are others.",
            "Restore the data, or start a new run with --output.",
        )


def other_surroundings(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[Problem]:
    """Return a warning where a run goes on under conditions in which numbers are rounded differently.

    ``before`` and ``now`` are what ``environment.json`` holds.
    """
    changes = [
        f"{name} {before[part].get(name, _OF_OLDER_RUNS.get(name))} is now {now[part][name]}"
        for part, names in (("versions", ("torch", "transformers", "peft")), ("machine", MATTERING))
        for name in names
        if name in now[part] and before[part].get(name, _OF_OLDER_RUNS.get(name)) != now[part].get(name)
    ]
    if not changes:
        return []
    return [
        Problem(
            "warning",
            f"The run was started elsewhere ({'; '.join(changes)}): it goes on, but not to the same bits.",
            "For the same bits, resume where it was started.",
        )
    ]


def other_compute(before: ComputeConfig, now: ComputeConfig) -> list[Problem]:
    """Return a note where a run goes on with other settings of the machine, and whether the bits stay the same."""
    changed = now.differences(before.model_dump(mode="json"))
    if not changed:
        return []
    told = "; ".join(f"compute.{name} {show(old)} is now {show(new)}" for name, (old, new) in changed.items())
    if changed.keys() <= ComputeConfig.exact:
        return [Problem("note", f"The run goes on with other settings ({told}), and to the same bits.")]
    message = (
        f"The run goes on with other settings of the machine ({told}): by the same recipe, but not to the same bits. "
        "Sums are rounded differently, and dropout may draw otherwise."
    )
    return [Problem("note", message, "For the same bits, resume it unchanged.")]


def check_composed(composed: Composed) -> None:
    """Refuse what can be seen to fail before hours are spent."""
    config, task = composed.config, composed.data.task
    metric = config.train.early_stopping.metric
    known = [*(name for name in task.higher_is_better if name not in task.answer_metrics), "loss"]
    if metric is not None and metric not in known:
        raise InputError(
            f"train.early_stopping.metric: '{metric}' is no metric of the task {task.name}.",
            f"Choose one of {', '.join(known)}.",
        )
    if isinstance(config.train.early_stopping.patience, int) and composed.validation is None:
        raise InputError(
            "Early stopping needs validation rows, and there are none.",
            "Give --data.validation FILE, or set --data.validation_fraction above 0.",
        )
    check_answers(task, num_answers_wanted(task, config))
    device = composed.network.device
    if config.compute.kernels == "liger" and not liger.runs_on(device):
        raise InputError(
            f"compute.kernels: liger was asked for, but the device is {device.type}: liger-kernel runs on GPUs.",
            "Set compute.kernels to own, or choose a GPU with --compute.device.",
        )
    if config.compute.layout == "flat" and composed.network.scorer.layout != "flat":
        raise InputError(
            f"compute.layout: flat was asked for, but {composed.network.layout_reason}.", "Use --compute.layout auto."
        )
    num_checkpoints = config.compute.keep_checkpoints + 2
    trained = checkpoints.size_of(composed.training)
    weights = composed.network.model.parameters()
    saved = trained if config.method.needs_base else sum(one.numel() * one.element_size() for one in weights)
    require_space(composed.directory.path, num_checkpoints * trained + saved)
