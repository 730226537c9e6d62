"""What is refused before any step is made: folders in use, runs mixed up, settings that must fail."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tunesmith.engine import checkpoint as checkpoints
from tunesmith.engine.cuda import liger
from tunesmith.files.atomic import sweep
from tunesmith.files.space import require_space
from tunesmith.metrics import require_answer_metrics
from tunesmith.run.directory import RunDirectory
from tunesmith.types import InputError, Problem

if TYPE_CHECKING:
    from tunesmith.run.config import RunConfig
    from tunesmith.run.session import Session
    from tunesmith.tasks.base import Task


MATTERING = ("processor", "num_threads", "accelerator", "native_kernels")
"""Of the machine, what decides how sums are rounded."""


def claim(directory: RunDirectory, *, resume: bool, overwrite: bool) -> None:
    """Make sure that the folder is ours to write in."""
    path = directory.path
    sweep(path)
    sweep(directory.checkpoints)
    holds = sorted(entry.name for entry in path.iterdir() if not entry.name.startswith("."))
    if resume:
        if not directory.config.exists():
            raise InputError(f"There is nothing to resume in {path}: it holds no config.yaml.", "Leave out --resume.")
        return
    if not holds:
        return
    if not overwrite:
        what = (
            "a finished run"
            if directory.is_finished
            else "a run that did not finish"
            if directory.config.exists()
            else f"files ({', '.join(holds[:3])}, …)"
        )
        raise InputError(
            f"{path} already holds {what}.",
            "Choose another folder with --output, replace the run with --overwrite, or continue one with --resume.",
        )
    if not directory.config.exists():
        raise InputError(
            f"{path} holds files that are not a run ({', '.join(holds[:3])}, …); --overwrite does not delete those.",
            "Choose another folder with --output.",
        )
    directory.clear()


def check_same_config(directory: RunDirectory, resolved: RunConfig) -> None:
    """Refuse to resume a run as another one."""
    before = directory.read_config().model_dump(mode="json")
    now = resolved.model_dump(mode="json")
    free = {"output", "evaluation"}
    changed = [
        f"{section}.{key}" if isinstance(value, dict) else section
        for section, value in now.items()
        if section not in free
        for key in (value if isinstance(value, dict) else [""])
        if (before[section] or {}).get(key) != value.get(key)
    ]
    if changed:
        raise InputError(
            f"The run in {directory.path} was started with other values of {', '.join(changed)}.",
            f"Resume it unchanged (tunesmith train {directory.config} --resume), or start a new run with --output.",
        )


def check_same_data(session: Session) -> None:
    """Refuse to go on with rows other than those of the steps already made."""
    if not (session.directory.path / "environment.json").exists():
        return  # stopped before the first step
    before = session.directory.read_json("environment")["data"]["hashes"]
    now = dict(session.data.prepared.hashes)
    if changed := sorted(split for split in {*before, *now} if before.get(split) != now.get(split)):
        raise InputError(
            f"The data has changed since the run in {session.directory.path} was started: its {', '.join(changed)} "
            "rows are others.",
            "Restore the data, or start a new run with --output.",
        )


def other_surroundings(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[Problem]:
    """Return a warning where a run goes on under conditions in which numbers are rounded differently.

    ``before`` and ``now`` are what ``environment.json`` holds.
    """
    changes = [
        f"{name} {before[part].get(name)} is now {now[part][name]}"
        for part, names in (("versions", ("torch", "transformers", "peft")), ("machine", MATTERING))
        for name in names
        if name in now[part] and before[part].get(name) != now[part].get(name)
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


def check_answers(task: Task, num_answers: int) -> None:
    """Refuse to have answers written by a task that writes none."""
    if num_answers and not task.generates:
        raise InputError(
            f"evaluation.answers: the task {task.name} writes no answers.", "Leave it out, or use the task causal_lm."
        )
    if num_answers:
        require_answer_metrics()


def check_session(session: Session) -> None:
    """Refuse what can be seen to fail before hours are spent."""
    config, task = session.config, session.data.task
    metric = config.train.early_stopping.metric
    known = [*(name for name in task.higher_is_better if name not in task.answer_metrics), "loss"]
    if metric is not None and metric not in known:
        raise InputError(
            f"train.early_stopping.metric: '{metric}' is no metric of the task {task.name}.",
            f"Choose one of {', '.join(known)}.",
        )
    if isinstance(config.train.early_stopping.patience, int) and session.validation is None:
        raise InputError(
            "Early stopping needs validation rows, and there are none.",
            "Give --data.validation FILE, or set --data.validation_fraction above 0.",
        )
    check_answers(task, config.evaluation.answers)
    device = session.network.device
    if config.train.kernels == "liger" and not liger.runs_on(device):
        raise InputError(
            f"train.kernels: liger was asked for, but the device is {device.type}: liger-kernel runs on GPUs.",
            "Set train.kernels to auto, or choose a GPU with --train.device.",
        )
    if config.train.layout == "flat" and session.network.scorer.layout != "flat":
        raise InputError(
            f"train.layout: flat was asked for, but {session.network.layout_reason}.", "Use --train.layout auto."
        )
    num_checkpoints = config.train.keep_checkpoints + 2
    require_space(session.directory.path, num_checkpoints * checkpoints.size_of(session.training))
