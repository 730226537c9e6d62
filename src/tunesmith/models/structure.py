# mypy: disable-error-code="no-untyped-call"
"""What other rooms must know about a model's architecture, found by structure rather than by name.

A model is read as a column of depths: the embeddings at the bottom (0), the layers of the
stack above them (1 to L; an encoder-decoder's encoder below its decoder), and the head that
is new for the task at the top (L + 1). Freezing and layer-wise learning rates need only that.

Names are always those of ``named_parameters()`` of the module that was given, a ``PeftModel``
included.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a loaded model came from; carried by the model itself for the methods to read."""

    name: str
    """Hub id or folder from which plain ``transformers`` can load the same base weights."""
    revision: str | None = None
    """Commit of the hub repository."""
    new_parameters: frozenset[str] = frozenset()
    """Names of the model's own parameters that the weight files lacked and that were initialised."""
    weights_sha256: str | None = None
    """What tells these weights from others: a hash of the files that they come from."""


def set_origin(model: PreTrainedModel, origin: Origin) -> None:
    """Attach ``origin`` to a freshly loaded model."""
    vars(model)["tunesmith_origin"] = origin


def origin(model: nn.Module) -> Origin | None:
    """Return what ``set_origin`` attached, or nothing for a model built by hand."""
    found = vars(inner(model)).get("tunesmith_origin")
    assert found is None or isinstance(found, Origin)
    return found


def plain_name(name: str) -> str:
    """Return a parameter's name as it was before PEFT put its layers around it (adapters keep their own part)."""
    return re.sub(r"(?<![^.])(modules_to_save\.[^.]+|original_module|base_layer)\.", "", name).removeprefix(
        "base_model.model."
    )


def inner(model: nn.Module) -> PreTrainedModel:
    """Return the ``transformers`` model itself, out of its ``PeftModel`` if it is in one."""
    unwrap = getattr(model, "get_base_model", None)
    return cast("PreTrainedModel", unwrap() if callable(unwrap) and hasattr(model, "peft_config") else model)


def base_model(model: nn.Module) -> nn.Module:
    """Return the part without the task's head (a model without a head is its own base)."""
    whole = inner(model)
    return cast("nn.Module", getattr(whole, "base_model", whole))


def head_modules(model: nn.Module) -> list[str]:
    """Return the names of the topmost modules, within ``inner(model)``, of which the head consists.

    What leads to a language model's vocabulary (``lm_head``, or BERT's ``cls`` with its tied decoder) is
    no task head: it was pretrained with the rest. ``new_modules`` finds the parts of it that were not.
    """
    whole = inner(model)
    base = base_model(whole)
    if base is whole or output_embeddings(whole) is not None:
        return []
    return [
        name
        for name, child in whole.named_children()
        if child is not base and next(child.parameters(), None) is not None
    ]


def output_embeddings(model: nn.Module) -> nn.Module | None:
    """Return the module that gives a language model's scores over its vocabulary, or nothing for other models."""
    whole = inner(model)
    return cast("nn.Module | None", whole.get_output_embeddings() if hasattr(whole, "get_output_embeddings") else None)


def tied_modules(model: nn.Module) -> list[str]:
    """Return the names, within ``inner(model)``, of modules whose weight another module has too.

    Usually the token embeddings and the output layer of a language model.
    """
    found: dict[int, list[str]] = {}
    for name, module in inner(model).named_modules():
        weight = module._parameters.get("weight")  # an adapter's layer passes its base's on as its own
        if weight is not None:
            found.setdefault(id(weight), []).append(name)
    return [name for names in found.values() if len(names) > 1 for name in names]


def new_modules(model: nn.Module) -> list[str]:
    """Return the head's modules and any others in ``inner(model)`` whose weights were all initialised here.

    BERT's pooler is an example: many checkpoints hold it, those trained on tokens alone do not.
    """
    whole = inner(model)
    known = origin(whole)
    new = known.new_parameters if known else frozenset()
    found = head_modules(whole)

    def walk(name: str, module: nn.Module) -> None:
        if name in found:
            return
        names = [plain_name(_join(name, key)) for key, _ in module.named_parameters()]
        if name and names and new.issuperset(names):
            found.append(name)
            return
        for key, child in module.named_children():
            walk(_join(name, key), child)

    if new:
        walk("", whole)
    return found


def head_parameter_names(model: nn.Module) -> list[str]:
    """Return the parameters that exist for the task: the head's, and others whose weights are new."""
    whole = inner(model)
    owned = {id(parameter) for name in new_modules(whole) for parameter in whole.get_submodule(name).parameters()}
    known = origin(whole)
    if known and known.new_parameters:
        owned |= {
            id(parameter) for name, parameter in whole.named_parameters() if plain_name(name) in known.new_parameters
        }
    return [name for name, parameter in model.named_parameters() if id(parameter) in owned]


def loose_parameter_names(model: nn.Module) -> list[str]:
    """Return the new parameters, by their names in ``inner(model)``, that are in none of ``new_modules``.

    The output bias of a masked language model is one when the checkpoint came without such a head: it
    stands beside a decoder whose weight is the embeddings' and is not new.
    """
    whole = inner(model)
    within = tuple(f"{name}." for name in new_modules(whole))
    found = (plain_name(name) for name in head_parameter_names(whole))
    return [name for name in found if not name.startswith(within or ("\0",))]


def layers(model: nn.Module) -> list[tuple[int, str]]:
    """Return (index, module prefix) of every layer of the transformer stack, from the bottom up.

    Layers are the members of the outermost ``ModuleList``s of the base model. Two stacks (encoder
    and decoder) are counted on; lists side by side in one module and of one length are pieces of
    the same layers, so that an index may come with several prefixes. A list of single operations
    (the parallel convolutions of a TextCNN) is one layer; a list of embeddings is none.
    """
    base = base_model(model)
    start = _prefix_of(model, base)
    found: list[tuple[int, str]] = []
    count = 0
    for parent, lists in _stacks(base, start):
        for length in dict.fromkeys(len(members) for _, members in lists):
            pieces = [(name, members) for name, members in lists if len(members) == length]
            inside = [member for _, members in pieces for member in members]
            if all(isinstance(member, nn.Embedding) for member in inside):
                continue
            if all(next(member.children(), None) is None for member in inside):
                found += [(count, _join(parent, name)) for name, _ in pieces]
                count += 1
                continue
            for index in range(length):
                found += [(count + index, f"{_join(parent, name)}.{index}") for name, _ in pieces]
            count += length
    return found


def num_layers(model: nn.Module) -> int:
    """Return L, the number of layers that ``layers`` finds."""
    return max((index for index, _ in layers(model)), default=-1) + 1


def embedding_parameter_names(model: nn.Module) -> list[str]:
    """Return the parameters below the first layer: token, position and segment embeddings and their norm."""
    return [name for name, depth in parameter_depths(model).items() if depth == 0]


def parameter_depths(model: nn.Module) -> dict[str, int]:
    """Return the depth of every parameter: 0 for embeddings, 1 to L for layers, L + 1 for the head.

    What stands between has the depth of the layer below it (a final norm, a pretrained pooler).
    """
    prefixes = [(f"{prefix}.", index + 1) for index, prefix in layers(model)]
    top = max((depth for _, depth in prefixes), default=0) + 1
    head = set(head_parameter_names(model))
    embeddings = {
        _join(name, key)
        for name, module in model.named_modules()
        if isinstance(module, nn.Embedding)
        for key, _ in module.named_parameters()
    }
    depths: dict[str, int] = {}
    below = 0
    outside = {id(parameter) for parameter in inner(model).parameters()}
    outside -= {id(parameter) for parameter in base_model(model).parameters()}
    for name, parameter in model.named_parameters():
        within = next((depth for prefix, depth in prefixes if name.startswith(prefix)), None)
        if name in head:
            depths[name] = top
        elif within is not None:
            depths[name] = below = within
        elif id(parameter) in outside:
            depths[name] = top - 1  # a pretrained output layer, not the task's own
        elif name in embeddings or "embed" in name.rpartition(".")[0].removeprefix(_prefix_of(model, inner(model))):
            depths[name] = 0
        else:
            depths[name] = below
    return depths


def is_decayed(model: nn.Module) -> dict[str, bool]:
    """Return, for every parameter, whether weight decay applies: not to biases, norms and other vectors."""
    exempt: set[int] = set()
    for module in model.modules():
        if "norm" in type(module).__name__.lower():
            exempt.update(id(parameter) for parameter in module.parameters(recurse=False))
    return {
        name: parameter.ndim >= 2 and id(parameter) not in exempt and not name.endswith("bias")
        for name, parameter in model.named_parameters()
    }


def linear_modules(model: nn.Module) -> dict[str, nn.Module]:
    """Return every matrix multiplication of the base model by its name in ``inner(model)``: Linear and GPT-2's Conv1D.

    Modules that are new for the task and output embeddings are left out.
    """
    whole = inner(model)
    output = output_embeddings(whole)
    new = tuple(f"{name}." for name in new_modules(whole))
    return {
        name: module
        for name, module in whole.named_modules()
        if is_linear(module) and module is not output and not f"{name}.".startswith(new or ("\0",))
    }


def is_linear(module: nn.Module) -> bool:
    """Say whether a module is a matrix multiplication that an adapter can stand beside."""
    from transformers.pytorch_utils import Conv1D

    return isinstance(module, (nn.Linear, Conv1D))


def _stacks(base: nn.Module, start: str) -> Iterator[tuple[str, list[tuple[str, nn.ModuleList]]]]:
    """Yield every module that holds ``ModuleList``s, with them, never looking inside one."""

    def walk(name: str, module: nn.Module) -> Iterator[tuple[str, list[tuple[str, nn.ModuleList]]]]:
        lists = [(key, child) for key, child in module.named_children() if isinstance(child, nn.ModuleList)]
        lists = [(key, child) for key, child in lists if len(child)]
        if lists:
            yield name, lists
        for key, child in module.named_children():
            if not isinstance(child, nn.ModuleList):
                yield from walk(_join(name, key), child)

    yield from walk(start, base)


def _prefix_of(model: nn.Module, wanted: nn.Module) -> str:
    names: Iterator[str] = (name for name, module in model.named_modules() if module is wanted)
    return next(names)


def _join(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name


@torch.no_grad()
def align(model: nn.Module) -> None:
    """Move every parameter and buffer that is mapped from a file into memory of its own.

    Where a tensor lies in a file decides its alignment, and alignment decides which kernels read
    it: equal weights from different files would differ in the last bit of what they compute.
    """
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.data_ptr() % 64:
            tensor.data = tensor.data.clone()


def num_weights(parameter: nn.Parameter) -> int:
    """Return how many weights a parameter holds: in 4 bits there are two in every byte."""
    quantised = getattr(parameter, "quant_state", None)
    return parameter.numel() if quantised is None else math.prod(quantised.shape)


def describe(model: nn.Module) -> dict[str, Any]:
    """Return what a run records of a model's architecture. JSON-ready."""
    whole = inner(model)
    return {
        "architecture": type(whole).__name__,
        "model_type": str(getattr(whole.config, "model_type", "")),
        "num_layers": num_layers(model),
    }
