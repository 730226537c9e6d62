"""Checkpoints: everything a resumed training needs, verified byte by byte before use.

``checkpoints/step-N/`` holds what a ``Snapshot`` has, and ``manifest.json`` with the SHA-256 of each file;
``checkpoints/weights-N/`` the same of a step whose weights alone are wanted again: the best one, where it had been held
in memory. Such a folder appears whole, by a rename, or not at all.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunesmith.engine.config import ComputeConfig
from tunesmith.engine.sharding.checkpoint import give_parts, write_wholes
from tunesmith.engine.sharding.optimizer import ShardedOptimizer
from tunesmith.engine.snapshot import BUFFER, Snapshot, Tensors, Write, put_back, put_back_weights, take, write_whole
from tunesmith.engine.step import Training
from tunesmith.files.atomic import new_folder, remove_folder
from tunesmith.files.manifest import verify_manifest
from tunesmith.types import Problem

STEP_FOLDER = re.compile(r"step-(\d+)")
WEIGHTS_FOLDER = re.compile(r"weights-(\d+)")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint on disk whose files agree with its manifest."""

    folder: Path
    step: int
    extra: dict[str, Any]
    """What the caller of ``save`` added: the best metric so far, evaluations without gain."""


def save(training: Training, folder: Path, extra: dict[str, Any]) -> Path:
    """Write a checkpoint of ``training`` under ``folder`` and return its folder.

    Where the weights are in parts, the other ranks ``give_parts_of`` theirs meanwhile.
    """
    return write(
        take(training, extra), folder, write_whole if training.scorer.sharding is None else _by_parts(training)
    )


def write(snapshot: Snapshot, folder: Path, write_tensors: Write = write_whole) -> Path:
    """Write a checkpoint under ``folder``, or the weights of a step where there is no more; return its folder."""
    name = f"step-{snapshot.step}" if snapshot.optimizer is not None else f"weights-{snapshot.step}"
    with new_folder(folder / name, replace=True) as temporary:
        snapshot.write(temporary, write_tensors)
    return folder / name


def _by_parts(training: Training) -> Write:
    """Return what writes tensors of which each rank has a part, and buffers, of which all have all."""
    optimizer = _in_parts(training)

    def write_parts(tensors: Tensors, path: Path) -> None:
        buffers = {name: one for name, one in tensors.items() if name.startswith(BUFFER)}
        write_wholes(optimizer, {name: tensors[name] for name in tensors if name not in buffers}, path, buffers)

    return write_parts


def give_parts_of(training: Training) -> None:
    """Give the first rank, which saves a checkpoint, this one's parts of what no rank has whole."""
    optimizer = _in_parts(training)
    give_parts(optimizer, optimizer.master_weights())
    give_parts(optimizer, optimizer.state()[0])


def _in_parts(training: Training) -> ShardedOptimizer:
    optimizer = training.optimizer
    assert isinstance(optimizer, ShardedOptimizer), "weights in parts have an optimizer of parts"
    return optimizer


def restore(training: Training, checkpoint: Checkpoint, compute: ComputeConfig | None = None) -> None:
    """Set ``training`` to exactly where ``checkpoint`` was taken; ``compute`` is that of ``put_back``."""
    put_back(training, Snapshot.read(checkpoint.folder), compute, place=checkpoint.folder)


def restore_weights(training: Training, folder: Path) -> None:
    """Set weights, buffers and what the method has beside them only (returning to the best step at the end)."""
    put_back_weights(training, Snapshot.read(folder, only_weights=True), place=folder)


def find(folder: Path) -> tuple[Checkpoint | None, list[Problem]]:
    """Return the newest sound checkpoint under ``folder``, by step, and what is wrong with newer ones."""
    problems: list[Problem] = []
    for step, path in sorted(list_steps(folder).items(), reverse=True):
        checkpoint, damage = open_checkpoint(path, step)
        if checkpoint is not None:
            return checkpoint, problems
        problems += damage
    return None, problems


def open_checkpoint(path: Path, step: int) -> tuple[Checkpoint | None, list[Problem]]:
    """Verify the checkpoint at ``path``; return it, or what is wrong with it as warnings."""
    damage = verify_manifest(path)
    if not damage:
        state = json.loads((path / "state.json").read_text(encoding="utf-8"))
        if state["step"] == step:
            return Checkpoint(path, step, state["extra"]), []
        damage = [Problem("error", f"{path / 'state.json'} is of step {state['step']}, not {step}.")]
    message = f"The checkpoint {path} is damaged and is not used: {damage[0].message}"
    return None, [Problem("warning", message, "An older sound checkpoint is used if there is one.")]


def list_steps(folder: Path) -> dict[int, Path]:
    """Return the checkpoint folders under ``folder`` by step; temporary leftovers do not count."""
    return _listed(folder, STEP_FOLDER)


def list_weights(folder: Path) -> dict[int, Path]:
    """Return the folders under ``folder`` that hold the weights of a step, checkpoints or not, by step."""
    return _listed(folder, WEIGHTS_FOLDER) | list_steps(folder)


def rotate(folder: Path, keep_newest: int, keep_steps: set[int]) -> None:
    """Remove old checkpoints but the newest ``keep_newest`` and those of ``keep_steps``."""
    steps = list_steps(folder)
    for step in sorted(steps)[: max(0, len(steps) - keep_newest)]:
        if step not in keep_steps:
            remove_folder(steps[step])
    for step, path in _listed(folder, WEIGHTS_FOLDER).items():
        if step not in keep_steps or step in steps:
            remove_folder(path)


def _listed(folder: Path, names: re.Pattern[str]) -> dict[int, Path]:
    if not folder.is_dir():
        return {}
    found = ((names.fullmatch(path.name), path) for path in folder.iterdir() if path.is_dir())
    return {int(match[1]): path for match, path in found if match}


def size_of(training: Training) -> int:
    """Return about how many bytes a checkpoint takes, given an optimizer with two moments; of all ranks' parts."""
    optimizer = training.optimizer
    widest = max((master.element_size() for master in optimizer.masters), default=0)
    return 3 * optimizer.num_trained * widest
