"""Checkpoints: everything a resumed training needs, verified byte by byte before use.

``checkpoints/step-N/`` holds ``weights.safetensors`` (fp32 masters of the trained weights and
the model's buffers), ``optimizer.safetensors``, ``method.safetensors`` where the method remembers
tensors beside the weights, the arrays of answers that were drawn and serve for further steps, where
there are any, ``state.json`` and ``manifest.json`` with the SHA-256 of each. Such a folder appears
whole, by a rename, or not at all.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tunesmith.data.encoded import Encoded
from tunesmith.engine.config import ComputeConfig
from tunesmith.engine.drawing import Drawn
from tunesmith.engine.loop import Training
from tunesmith.engine.sharding.checkpoint import give_parts, write_wholes
from tunesmith.engine.sharding.optimizer import ShardedOptimizer
from tunesmith.files.atomic import new_folder, remove_folder
from tunesmith.files.manifest import verify_manifest
from tunesmith.tasks.objective import Lesson
from tunesmith.types import InputError, Problem

STEP_FOLDER = re.compile(r"step-(\d+)")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint on disk whose files agree with its manifest."""

    folder: Path
    step: int
    extra: dict[str, Any]
    """What the caller of ``save`` added: the best metric so far, evaluations without gain."""


def save(training: Training, folder: Path, extra: dict[str, Any]) -> Path:
    """Write a checkpoint of ``training`` under ``folder`` and return its folder."""
    from safetensors.torch import save_file

    tensors, values = training.optimizer.state()
    remembered = training.method.state(training.scorer.model)
    of_method = {name: value for name, value in remembered.items() if isinstance(value, torch.Tensor)}
    state = {
        "step": training.step,
        "num_skipped": training.num_skipped,
        "recent_norms": list(training.recent_norms),
        "token_budget": training.token_budget,
        "recomputes": training.recomputes,
        "compute": training.compute.model_dump(mode="json"),
        "optimizer": values,
        **({"method": {name: remembered[name] for name in remembered if name not in of_method}} if remembered else {}),
        "extra": extra,
    }
    if training.noised is not None:
        state["secret"] = training.noised.secret.value.hex()
    if (drawn := training.drawn) is not None:
        lesson = drawn.lesson
        state["drawn"] = {"first_step": drawn.first_step, "measured": dict(lesson.measured), "idle": lesson.idle}
    final = folder / f"step-{training.step}"
    with new_folder(final, replace=True) as temporary:
        _write(training, _masters(training), temporary / "weights.safetensors", _saved_buffers(training))
        _write(training, tensors, temporary / "optimizer.safetensors")
        if of_method:
            save_file(
                {name: tensor.contiguous() for name, tensor in of_method.items()}, temporary / "method.safetensors"
            )
        if drawn is not None:
            drawn.lesson.data.save(temporary)
        (temporary / "state.json").write_text(json.dumps(state), encoding="utf-8")
    return final


def give_parts_of(training: Training) -> None:
    """Give the first rank, which saves a checkpoint, this one's parts of what no rank has whole."""
    give_parts(_in_parts(training), _masters(training))
    give_parts(_in_parts(training), training.optimizer.state()[0])


def _write(
    training: Training,
    tensors: Mapping[str, torch.Tensor],
    path: Path,
    beside: Mapping[str, torch.Tensor] | None = None,
) -> None:
    """Write tensors that belong to weights, and others ``beside`` them."""
    from safetensors.torch import save_file

    if training.scorer.sharding is not None:
        write_wholes(_in_parts(training), tensors, path, beside)
        return
    save_file({name: tensor.contiguous() for name, tensor in {**tensors, **(beside or {})}.items()}, path)


def _in_parts(training: Training) -> ShardedOptimizer:
    optimizer = training.optimizer
    assert isinstance(optimizer, ShardedOptimizer), "weights in parts have an optimizer of parts"
    return optimizer


def restore(training: Training, checkpoint: Checkpoint, compute: ComputeConfig | None = None) -> None:
    """Set ``training`` to exactly where ``checkpoint`` was taken.

    How its steps were split is taken over unless the machine's settings are others now; ``compute`` are those that
    it was made with, for checkpoints of older versions, which do not tell.
    """
    from safetensors.torch import load_file

    restore_weights(training, checkpoint.folder)
    state = json.loads((checkpoint.folder / "state.json").read_text(encoding="utf-8"))
    training.optimizer.load_state(load_file(checkpoint.folder / "optimizer.safetensors"), state["optimizer"])
    training.step = state["step"]
    training.num_skipped = state["num_skipped"]
    training.recent_norms.extend(state["recent_norms"])
    if training.noised is not None:
        training.noised.secret.value = bytes.fromhex(state["secret"])
    if (drawn := state.get("drawn")) is not None:
        lesson = Lesson(Encoded.load(checkpoint.folder), drawn["measured"], drawn["idle"])
        training.drawn = Drawn(drawn["first_step"], lesson)
    made_with = state.get("compute", compute.model_dump(mode="json") if compute is not None else {})
    if training.compute.differences(made_with).keys() <= ComputeConfig.exact:
        # How a step is split decides its rounding. Checkpoints of older versions do not tell: then it is planned anew.
        training.token_budget = state.get("token_budget", 0)
        training.recomputes = state.get("recomputes", False)


def restore_weights(training: Training, folder: Path) -> None:
    """Set weights, buffers and what the method has beside them only (returning to the best step at the end)."""
    from safetensors.torch import load_file

    weights = load_file(folder / "weights.safetensors")
    expected = {*_masters(training), *_saved_buffers(training)}
    if set(weights) != expected:
        odd = sorted(set(weights) ^ expected)
        raise InputError(
            f"The checkpoint {folder} does not belong to this model and method: {len(odd)} weights differ, "
            f"the first being '{odd[0]}'.",
            "Resume with the configuration that the checkpoint was made with.",
        )
    buffers = _buffers(training.scorer.model)
    with torch.no_grad():
        for name, buffer in buffers.items():
            buffer.copy_(weights[f"buffer:{name}"])
    training.optimizer.load_master_weights(weights)
    remembered: dict[str, Any] = json.loads((folder / "state.json").read_text(encoding="utf-8")).get("method", {})
    if (tensors := folder / "method.safetensors").exists():
        remembered |= load_file(tensors, device=str(training.collate.device))
    training.method.load_state(training.scorer.model, remembered)


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
    if not folder.is_dir():
        return {}
    found = ((STEP_FOLDER.fullmatch(path.name), path) for path in folder.iterdir() if path.is_dir())
    return {int(match[1]): path for match, path in found if match}


def rotate(folder: Path, keep_newest: int, keep_steps: set[int]) -> None:
    """Remove old checkpoints but the newest ``keep_newest`` and those of ``keep_steps``."""
    steps = list_steps(folder)
    for step in sorted(steps)[: max(0, len(steps) - keep_newest)]:
        if step not in keep_steps:
            remove_folder(steps[step])


def size_of(training: Training) -> int:
    """Return about how many bytes a checkpoint takes, given an optimizer with two moments."""
    return 3 * sum(master.numel() * master.element_size() for master in training.optimizer.masters)


def _masters(training: Training) -> dict[str, torch.Tensor]:
    return {name: tensor.contiguous() for name, tensor in training.optimizer.master_weights().items()}


def _saved_buffers(training: Training) -> dict[str, torch.Tensor]:
    return {f"buffer:{name}": tensor.contiguous() for name, tensor in _buffers(training.scorer.model).items()}


def _buffers(model: nn.Module) -> dict[str, torch.Tensor]:
    """Return the buffers that are part of the model's state (running statistics, not caches), each once."""
    parameters = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    found: dict[str, torch.Tensor] = {}
    places: set[tuple[int, torch.Size]] = set()
    for name, tensor in model.state_dict().items():
        if name in parameters or not isinstance(tensor, torch.Tensor):
            continue
        place = (tensor.data_ptr(), tensor.shape)
        if not tensor.numel() or place not in places:  # layers may share one (random matrices)
            places.add(place)
            found[name] = tensor
    return found
