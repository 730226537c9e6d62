"""What a training is at a step, beyond what it was made from: all that its steps change, in memory or in a folder.

In a folder that is ``weights.safetensors`` (fp32 masters of the trained weights and the model's buffers),
``optimizer.safetensors``, ``method.safetensors`` where the method remembers tensors beside the weights, the arrays of
answers that were drawn and serve for further steps, where there are any, and ``state.json``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tunesmith.data.encoded import Encoded
from tunesmith.engine.config import ComputeConfig
from tunesmith.engine.drawing import Drawn
from tunesmith.engine.step import Training
from tunesmith.tasks.objective import Lesson
from tunesmith.types import InputError

WEIGHTS, OPTIMIZER, METHOD, STATE = "weights.safetensors", "optimizer.safetensors", "method.safetensors", "state.json"

BUFFER = "buffer:"
"""Stands before the names of buffers among a snapshot's weights."""

Tensors = Mapping[str, torch.Tensor]
Write = Callable[[Tensors, Path], None]
"""Writes tensors into a file of safetensors."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Where a training stood after a step."""

    step: int
    weights: Tensors
    """fp32 masters of the trained weights by parameter name, and the model's buffers, behind ``BUFFER``."""
    optimizer: Tensors | None
    """The optimizer's state; None where only the weights of the step will be wanted."""
    method: Tensors
    """What the method remembers beside the weights."""
    drawn: Encoded | None
    """Rows of answers that were drawn and serve for further steps."""
    state: Mapping[str, Any]
    """Everything else, as JSON values."""

    @property
    def num_bytes(self) -> int:
        """The bytes of its tensors."""
        parts = (self.weights, self.optimizer or {}, self.method)
        return sum(tensor.nbytes for part in parts for tensor in part.values())

    def write(self, folder: Path, write: Write) -> None:
        """Write it into an empty folder; ``write`` is for tensors that belong to weights, which may be in parts."""
        write(self.weights, folder / WEIGHTS)
        if self.optimizer is not None:
            write(self.optimizer, folder / OPTIMIZER)
        if self.method:
            write_whole(self.method, folder / METHOD)
        if self.drawn is not None:
            self.drawn.save(folder)
        (folder / STATE).write_text(json.dumps(self.state), encoding="utf-8")

    @classmethod
    def read(cls, folder: Path, *, only_weights: bool = False) -> Snapshot:
        """Read what ``write`` has written; ``only_weights`` leaves out the optimizer's state."""
        from safetensors.torch import load_file

        state = json.loads((folder / STATE).read_text(encoding="utf-8"))
        method = folder / METHOD
        return cls(
            step=state["step"],
            weights=load_file(folder / WEIGHTS),
            optimizer=None if only_weights else load_file(folder / OPTIMIZER),
            method=load_file(method) if method.exists() else {},
            drawn=Encoded.load(folder) if "drawn" in state and not only_weights else None,
            state=state,
        )

    def copied(self) -> Snapshot:
        """Return it with tensors of its own, in the host's memory: what further steps do not change."""
        return replace(
            self,
            weights=_copies(self.weights),
            optimizer=None if self.optimizer is None else _copies(self.optimizer),
            method=_copies(self.method),
        )


def write_whole(tensors: Tensors, path: Path) -> None:
    """Write tensors that this process has whole."""
    from safetensors.torch import save_file

    save_file(dict(tensors), path)


def take(training: Training, extra: Mapping[str, Any], *, only_weights: bool = False) -> Snapshot:
    """Return where ``training`` stands, by its own tensors: the next step changes them.

    ``extra`` is what the caller wants to know again; ``only_weights`` leaves out what makes further steps possible.
    """
    tensors, values = ({}, {}) if only_weights else training.optimizer.state()
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
        "extra": dict(extra),
    }
    if training.noised is not None:
        state["secret"] = training.noised.secret.value.hex()
    drawn = None if only_weights else training.drawn
    if drawn is not None:
        lesson = drawn.lesson
        state["drawn"] = {"first_step": drawn.first_step, "measured": dict(lesson.measured), "idle": lesson.idle}
    return Snapshot(
        step=training.step,
        weights=_weights(training),
        optimizer=None if only_weights else {name: tensor.contiguous() for name, tensor in tensors.items()},
        method={name: tensor.contiguous() for name, tensor in of_method.items()},
        drawn=None if drawn is None else drawn.lesson.data,
        state=json.loads(json.dumps(state)),
    )


def put_back(
    training: Training, snapshot: Snapshot, compute: ComputeConfig | None = None, *, place: Path | None = None
) -> None:
    """Set ``training`` to exactly where ``snapshot`` was taken; its tensors may be the training's own from then on.

    How its steps were split is taken over unless the machine's settings are others now; ``compute`` are those that
    it was made with, for snapshots of older versions, which do not tell. ``place`` is where it was read from.
    """
    assert snapshot.optimizer is not None, "a snapshot of weights alone is nothing to go on from"
    put_back_weights(training, snapshot, place=place)
    state = snapshot.state
    training.optimizer.load_state(snapshot.optimizer, state["optimizer"])
    training.step = state["step"]
    training.num_skipped = state["num_skipped"]
    training.recent_norms.extend(state["recent_norms"])
    if training.noised is not None:
        training.noised.secret.value = bytes.fromhex(state["secret"])
    if (drawn := state.get("drawn")) is not None:
        assert snapshot.drawn is not None
        training.drawn = Drawn(drawn["first_step"], Lesson(snapshot.drawn, drawn["measured"], drawn["idle"]))
    made_with = state.get("compute", compute.model_dump(mode="json") if compute is not None else {})
    if training.compute.differences(made_with).keys() <= ComputeConfig.exact:
        # How a step is split decides its rounding. Snapshots of older versions do not tell: then it is planned anew.
        training.token_budget = state.get("token_budget", 0)
        training.recomputes = state.get("recomputes", False)


def put_back_weights(training: Training, snapshot: Snapshot, *, place: Path | None = None) -> None:
    """Set weights, buffers and what the method has beside them only (returning to the best step at the end)."""
    weights, expected = snapshot.weights, set(_weights(training))
    if set(weights) != expected:
        odd = sorted(set(weights) ^ expected)
        what = f"checkpoint {place}" if place is not None else f"state of step {snapshot.step}"
        raise InputError(
            f"The {what} does not belong to this model and method: {len(odd)} weights differ, the first being "
            f"'{odd[0]}'.",
            "Resume with the configuration that the checkpoint was made with.",
        )
    buffers = _buffers(training.scorer.model)
    with torch.no_grad():
        for name, buffer in buffers.items():
            buffer.copy_(weights[f"{BUFFER}{name}"])
    training.optimizer.load_master_weights(weights)
    device = training.collate.device
    remembered = deepcopy(dict(snapshot.state.get("method", {}))) | {
        name: one.to(device, copy=True) for name, one in snapshot.method.items()
    }
    training.method.load_state(training.scorer.model, remembered)


def _copies(tensors: Tensors) -> Tensors:
    return {name: tensor.detach().to("cpu", copy=True) for name, tensor in tensors.items()}


def _weights(training: Training) -> dict[str, torch.Tensor]:
    buffers = {f"{BUFFER}{name}": tensor.contiguous() for name, tensor in _buffers(training.scorer.model).items()}
    return {name: tensor.contiguous() for name, tensor in training.optimizer.master_weights().items()} | buffers


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
