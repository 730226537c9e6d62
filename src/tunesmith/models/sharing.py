"""Several models of the same weights: what none of them trains is in memory once."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

from tunesmith.models.wrapping import plain_name

if TYPE_CHECKING:
    import torch
    from torch import nn


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


def share_memory(model: nn.Module, other: nn.Module, trained: Collection[str]) -> None:
    """Let ``model``, which nobody changes, use the memory of ``other`` for the weights in which both are equal.

    Left out are those of ``other`` that are ``trained``. Names may differ by what a method put around modules.
    """
    theirs = {plain_name(name): one for name, one in other.named_parameters() if name not in trained}
    for name, parameter in model.named_parameters():
        same = theirs.get(plain_name(name))
        if same is None or same.dtype != parameter.dtype or same.shape != parameter.shape:
            continue
        if same.device == parameter.device and bool((same.data == parameter.data).all()):
            parameter.data = same.data


def memory_beside(others: Iterable[nn.Module], model: nn.Module) -> int:
    """Return the bytes of weights of ``others`` that ``model`` does not use, on its device."""
    others = list(others)
    if not others:
        return 0  # whatever form the model's own weights have
    own = {_place(tensor) for tensor in (*model.parameters(), *model.buffers())}
    device = next(model.parameters()).device
    found = {
        _place(tensor): tensor.untyped_storage().nbytes()
        for other in others
        for tensor in (*other.parameters(), *other.buffers())
        if tensor.device == device
    }
    return sum(num_bytes for place, num_bytes in found.items() if place not in own)


def _place(tensor: torch.Tensor) -> tuple[torch.device, int]:
    return tensor.device, tensor.untyped_storage().data_ptr()
