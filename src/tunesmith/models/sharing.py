"""Several adapted models on one frozen base: its weights are in memory once."""

from __future__ import annotations

from typing import Any

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
