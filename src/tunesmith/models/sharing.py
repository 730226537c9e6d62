"""Several adapted models on one frozen base: its weights are in memory once."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from torch import nn


def share_frozen(model: nn.Module, other: nn.Module) -> None:
    """Let ``model`` use the frozen weights of ``other`` in place of its own equal ones.

    Both are one architecture with adapters at the same layers. What is trained, and a head's weights from before it
    was trained, stay each model's own.
    """
    for name, module in other.named_modules():
        base_layer = getattr(module, "base_layer", None)
        if isinstance(base_layer, nn.Module):  # also holds what no parameter does (scales of 8 bits)
            adapted: Any = model.get_submodule(name)
            adapted.base_layer = base_layer
    own = dict(model.named_parameters(remove_duplicate=False))
    for name, parameter in other.named_parameters(remove_duplicate=False):
        if parameter.requires_grad or own[name].requires_grad or ".original_module." in name:
            continue
        assert own[name].shape == parameter.shape, name
        parent, _, key = name.rpartition(".")
        setattr(model.get_submodule(parent), key, parameter)


def own_memory(model: nn.Module, other: nn.Module, names: Collection[str]) -> None:
    """Give ``model`` memory of its own for the parameters ``names``, and for all buffers, where it uses ``other``'s.

    Everything else may stay shared for as long as nobody writes to it.
    """
    theirs = {_place(tensor) for tensor in (*other.parameters(), *other.buffers())}
    for name, parameter in model.named_parameters():
        if name in names and _place(parameter) in theirs:
            parameter.data = parameter.data.clone()
    for module in model.modules():
        for name, buffer in module._buffers.items():
            if buffer is not None and _place(buffer) in theirs:
                module._buffers[name] = buffer.clone()


def _place(tensor: torch.Tensor) -> tuple[torch.device, int]:
    return tensor.device, tensor.untyped_storage().data_ptr()
