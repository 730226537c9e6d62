"""Which modules an adapter stands beside: by name, or every linear layer, within the layers chosen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from torch import nn

from tunesmith.config.base import nearest
from tunesmith.models.anatomy import Anatomy, is_linear
from tunesmith.models.wrapping import language_part
from tunesmith.types import InputError, Problem

if TYPE_CHECKING:
    from transformers import PreTrainedModel

ALL_LINEAR: Literal["all-linear"] = "all-linear"

LAYERS = r"^(all|top [1-9][0-9]*)$"


def find_targets(
    model: PreTrainedModel,
    names: Literal["all-linear"] | tuple[str, ...] = ALL_LINEAR,
    layers: tuple[int, ...] | str = "all",
    *,
    method: str,
) -> dict[str, nn.Module]:
    """Return the modules to adapt, by their full names, in the model's order.

    Args:
        model: The model as loaded.
        names: Modules by name, or by the last parts of it; or every linear layer below the head (of a model that sees
            and writes, of the part that writes).
        layers: Within which layers: all, ``top N``, or indices from the bottom.
        method: The name of the method that adapts them, for messages.

    Raises:
        InputError: The model has no linear layer, or a name fits none, or none in these layers.
    """
    found = _named(model, names, method)
    if layers == "all":
        return found
    anatomy = Anatomy.of(model)
    wanted = _layer_indices(layers, anatomy.num_layers)
    within = tuple(f"{prefix}." for index, prefix in anatomy.layers if index in wanted)
    chosen = {name: module for name, module in found.items() if name.startswith(within)}
    if not chosen:
        raise InputError(
            f"method.layers_to_transform: none of method.target_modules is in {_shown(wanted)}.",
            "Choose other layers or other modules.",
        )
    return chosen


def _named(model: PreTrainedModel, names: Literal["all-linear"] | tuple[str, ...], method: str) -> dict[str, nn.Module]:
    anatomy = Anatomy.of(model)
    linear = anatomy.linear_modules
    if names == ALL_LINEAR:
        if not linear:
            raise InputError(
                f"The method '{method}' adapts linear layers, and {type(model).__name__} has none below its head.",
                "Use the method 'full' or 'freeze'.",
            )
        language = language_part(model)
        prefix = next(f"{name}." if name else "" for name, module in model.named_modules() if module is language)
        return {name: module for name, module in linear.items() if name.startswith(prefix)}
    head = tuple(f"{name}." for name in anatomy.new_modules)
    tied = anatomy.tied_modules
    adaptable = {
        name: module
        for name, module in model.named_modules()
        if (is_linear(module) or isinstance(module, (nn.Embedding, nn.Conv1d)))
        and not f"{name}.".startswith(head or ("\0",))
        and name not in tied
    }
    if not names:
        raise InputError("method.target_modules is empty.", f"Name modules, or set it to {ALL_LINEAR}.")
    found: dict[str, nn.Module] = {}
    problems = []
    for wanted in names:
        fitting = {name: module for name, module in adaptable.items() if name == wanted or name.endswith(f".{wanted}")}
        found |= fitting
        if not fitting:
            problems.append(_unknown_target(wanted, adaptable, head, tied))
    if problems:
        raise InputError(problems)
    return found


def _layer_indices(given: tuple[int, ...] | str, num_layers: int) -> set[int]:
    """Return the layers, counted from 0, that ``layers_to_transform`` names."""
    if isinstance(given, str):
        number = int(given.removeprefix("top "))
        wanted = set(range(num_layers - number, num_layers))
        too_many = number > num_layers
    else:
        wanted = set(given)
        too_many = not wanted or max(wanted) >= num_layers
    if too_many:
        shown = given if isinstance(given, str) else ",".join(map(str, given)) or "empty"
        raise InputError(
            f"method.layers_to_transform is {shown}, but the model has {num_layers} layers.",
            f"Choose among 0 to {num_layers - 1}, or write 'top N' with N up to {num_layers}."
            if num_layers
            else "Leave it out.",
        )
    return wanted


def _shown(layers: set[int]) -> str:
    return f"layer{'s' if len(layers) > 1 else ''} {', '.join(map(str, sorted(layers)))}"


def _unknown_target(
    wanted: str, adaptable: dict[str, nn.Module], head: tuple[str, ...], tied: tuple[str, ...]
) -> Problem:
    known = sorted({name.rpartition(".")[2] for name in adaptable})
    if any(name == wanted or name.endswith(f".{wanted}") for name in tied):
        return Problem(
            "error",
            f"method.target_modules names {wanted!r}, whose weight other modules share ({', '.join(tied)}): an adapter "
            "would change it in one place only.",
            "Leave it out.",
        )
    if f"{wanted}.".startswith(head or ("\0",)):
        return Problem(
            "error",
            f"method.target_modules names {wanted!r}, which is part of the head; the head is trained whole.",
            "Leave it out.",
        )
    hint = nearest(wanted, known)
    return Problem(
        "error",
        f"method.target_modules names {wanted!r}, but the model has no such module that can be adapted.",
        f"{hint + ' ' if hint else ''}Known: {', '.join(known) or 'none'}; or {ALL_LINEAR}.",
    )
