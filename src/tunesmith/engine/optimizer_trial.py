"""What an optimizer of another package does, found on small weights: whether it can be resumed, what it remembers."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch

from tunesmith.engine.optimizer_state import collect_state, restore_state, scalars_of_groups
from tunesmith.models.failures import said
from tunesmith.models.quiet import quiet
from tunesmith.types import InputError

SIZE = (67, 71)
"""Of the matrix that is tried: numbers that nothing else has, and enough of them for moments in 8 bits."""
STEPS = 3

BLOCK = 256
"""Numbers in 8 bits that share a scale (bitsandbytes)."""

Weights = dict[str, torch.Tensor]


def require_resumable(optimizer_class: Any, options: Mapping[str, Any]) -> None:
    """Raise ``InputError`` unless a few steps, broken off and gone on with, end at the same bits.

    Optimizers that want more than gradients (a closure, the model, to be told of evaluations) fail here, too.
    """
    name = optimizer_class.__name__
    reason = "its weights are others while it trains than when it is evaluated" if _has_modes(optimizer_class) else ""
    try:
        reason = reason or _difference(optimizer_class, dict(options))
    except Exception as error:  # a stranger's optimizer may refuse in any way it likes
        reason = said(error)
    if reason:
        raise InputError(
            f"train.optimizer: {name} cannot be used with these options: {reason}.",
            "Change train.optimizer.options, or choose another one, such as adamw.",
        )


def state_bytes(optimizer: torch.optim.Optimizer, masters: Iterable[torch.Tensor]) -> int:
    """Return the bytes that an optimizer will remember of its weights, ``masters``, once each had a gradient.

    Found by a step of one of the same kind on small weights: what of its state is as long as their sides is so of
    others, too. Single numbers are not counted.
    """
    group = {key: value for key, value in optimizer.param_groups[0].items() if key not in ("params", "names")}
    group.update({name: False for name in ("fused", "foreach", "capturable") if name in group})
    most = max([0, *(value for value in group.values() if type(value) is int)])  # a rank is none of the sides
    short, long = (2 * min(most, 1024) + side for side in SIZE)
    # Projections are made on the shorter side.
    sizes: dict[str, tuple[int, ...]] = {"wide": (short, long), "tall": (long, short), "vector": (short,)}
    trial = {name: torch.ones(size) for name, size in sizes.items()}
    copy: torch.optim.Optimizer = type(optimizer)([{**group, "lr": 0.0, "params": list(trial.values())}])  # type: ignore[call-arg]
    with torch.random.fork_rng(devices=[]), quiet():
        torch.manual_seed(0)
        for weight in trial.values():
            weight.grad = torch.randn(weight.shape)
        copy.step()
    tensors, _ = collect_state(copy, trial, scalars_of_groups(copy))
    kept = {name: [one for key, one in tensors.items() if key.startswith(f"{name}/") and one.dim()] for name in trial}
    total = 0
    for master in masters:
        kind = "vector" if master.dim() < 2 else "tall" if len(master) >= master.numel() / len(master) else "wide"
        total += sum(_bytes_like(one, sizes[kind], master) for one in kept[kind])
    return total


def _bytes_like(kept: torch.Tensor, tried: tuple[int, ...], master: torch.Tensor) -> int:
    """Return the bytes that a tensor of a tried weight's state has for a ``master``."""
    size = master.element_size() if kept.is_floating_point() and kept.element_size() == 4 else kept.element_size()
    if kept.dim() == 1 and len(kept) == math.ceil(math.prod(tried) / BLOCK):
        return size * math.ceil(master.numel() / BLOCK)
    rows = len(master) if master.dim() else 1
    sides = dict(zip(tried, (rows, master.numel() // max(rows, 1)), strict=False))
    return size * math.prod(sides.get(one, min(one, *sides.values()) if kept.dim() > 1 else one) for one in kept.shape)


def _has_modes(optimizer_class: Any) -> bool:
    return callable(getattr(optimizer_class, "eval", None))


def _difference(optimizer_class: Any, options: dict[str, Any]) -> str:
    """Return what is wrong with a resumed training, or nothing."""
    with torch.random.fork_rng(devices=[]), quiet():
        whole = _first_weights()
        optimizer = _made(optimizer_class, options, whole)
        before = scalars_of_groups(optimizer)
        _step(optimizer, whole, 0)
        tensors, values = collect_state(optimizer, whole, before)
        tensors = {name: tensor.clone() for name, tensor in tensors.items()}
        values = json.loads(json.dumps(values))
        resumed = {name: weight.detach().clone().requires_grad_() for name, weight in whole.items()}
        second = _made(optimizer_class, options, resumed)
        restore_state(second, resumed, tensors, values)
        for step in range(1, STEPS):
            _step(optimizer, whole, step)
            _step(second, resumed, step)
    if not all(bool(weight.isfinite().all()) for weight in whole.values()):
        return "its weights are no numbers after a few steps"
    if not all(torch.equal(weight, resumed[name]) for name, weight in whole.items()):
        return "it remembers more than can be saved, so that a resumed run would be another one"
    return ""


def _first_weights() -> Weights:
    generator = torch.Generator().manual_seed(0)
    sizes = {"matrix": SIZE, "vector": SIZE[:1]}
    return {name: torch.randn(size, generator=generator).requires_grad_() for name, size in sizes.items()}


def _made(optimizer_class: Any, options: dict[str, Any], weights: Weights) -> torch.optim.Optimizer:
    groups = [{"params": [weight], "lr": 1e-3, "weight_decay": 0.01} for weight in weights.values()]
    made: torch.optim.Optimizer = optimizer_class(groups, **options)
    return made


def _step(optimizer: torch.optim.Optimizer, weights: Weights, step: int) -> None:
    generator = torch.Generator().manual_seed(step)
    torch.manual_seed(step)  # as every step of a training begins
    for weight in weights.values():
        weight.grad = torch.randn(weight.shape, generator=generator)
    optimizer.step()
