# mypy: disable-error-code="no-untyped-call"
"""Linear layers in 4 or 8 bits: what a frozen base is kept in while adapters beside it are trained.

The layers are those of bitsandbytes, so that PEFT puts its own adapters for them around them. They
are quantised here from weights that are already loaded, layer by layer, and always computed the same
way: on the CPU the weight is made whole again in the number format of the input, and multiplied.
bitsandbytes itself would, for evaluation on the CPU, pack the weights anew (4 bits) or round
activations too (8 bits); scores in training and afterwards would then not be those of one model.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import nn

from tunesmith.models.anatomy import Anatomy
from tunesmith.models.quiet import quiet
from tunesmith.types import InputError, MissingExtraError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Scheme = Literal["nf4", "int8"]

BLOCK = 64
"""Weights that share a scale in 4 bits."""

_FLAGS: dict[Scheme, str] = {"nf4": "is_loaded_in_4bit", "int8": "is_loaded_in_8bit"}


def quantize(model: PreTrainedModel, scheme: Scheme) -> None:
    """Replace every linear layer of ``Anatomy.linear_modules`` by one of 4 or 8 bits, in place.

    ``nf4``: normal float of 4 bits in blocks of 64, whose scales are quantised too (Dettmers et al.
    2023, QLoRA, section 3). ``int8``: 8 bits, one scale per output (Dettmers et al. 2022,
    LLM.int8(), section 2.1). Embeddings, norms, the head and a language model's output layer stay as
    they are, and in 4 bits every layer whose number of inputs is no multiple of 64: for some of those
    bitsandbytes gives wrong weights back on the CPU (0.50.2: 96 inputs, say, where blocks run over the
    ends of rows).

    Raises ``MissingExtraError`` without the package ``bitsandbytes``, ``InputError`` when no layer is left.
    """
    if find_spec("bitsandbytes") is None:
        raise MissingExtraError(f"method.quantize: {scheme}", "bitsandbytes", "quantize")
    make = {"nf4": _nf4, "int8": _int8}[scheme]
    layers = {
        name: module
        for name, module in Anatomy.of(model).linear_modules.items()
        if scheme == "int8" or _sizes(module)[1] % BLOCK == 0
    }
    if not layers:
        raise InputError(
            f"method.quantize: {type(model).__name__} has no layer that can be kept in {scheme} (linear, below the "
            f"head, with a multiple of {BLOCK} inputs).",
            "Set method.quantize to int8 or none.",
        )
    with quiet():
        _replace(model, layers, make)
    setattr(model, _FLAGS[scheme], True)  # where PEFT looks before it puts its own layers around these


def dequantize(model: PreTrainedModel) -> None:
    """Undo ``quantize``: plain linear layers in float32, with the weights as rounded."""
    from peft.utils.integrations import dequantize_bnb_weight

    def make(module: Any) -> nn.Module:
        plain: nn.Linear = _empty_linear(nn.Linear, module)
        whole = dequantize_bnb_weight(module.weight, state=getattr(module, "state", None))
        plain.weight = nn.Parameter(whole.float(), requires_grad=False)
        plain.bias = module.bias
        return plain

    layers = {
        name: module
        for name, module in Anatomy.of(model).linear_modules.items()
        if not _stored(module).is_floating_point()
    }
    with quiet():
        _replace(model, layers, make)
    for flag in _FLAGS.values():
        vars(model).pop(flag, None)


@torch.no_grad()
def _replace(model: PreTrainedModel, layers: dict[str, nn.Module], make: Callable[[nn.Module], nn.Module]) -> None:
    for name, module in layers.items():
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, make(module).train(module.training))


def _weight(module: nn.Module) -> torch.Tensor:
    """Return a layer's weight as [out, in]: GPT-2's Conv1D holds it the other way round."""
    weight = _stored(module)
    whole = weight if isinstance(module, nn.Linear) else weight.T
    return whole.detach().float().contiguous().clone()


def _stored(module: nn.Module) -> torch.Tensor:
    weight = module.weight
    assert isinstance(weight, torch.Tensor)
    return weight


def _sizes(module: Any) -> tuple[int, int]:
    """Return the numbers of outputs and inputs of a linear layer of either make."""
    if isinstance(module, nn.Linear):
        return module.out_features, module.in_features
    inputs, outputs = module.weight.shape
    return outputs, inputs


def _empty_linear(kind: Any, module: nn.Module, **settings: Any) -> Any:
    outputs, inputs = _sizes(module)
    return kind(inputs, outputs, bias=False, device="meta", **settings)


def _frozen_bias(module: nn.Module) -> nn.Parameter | None:
    bias = module.bias
    return None if bias is None else nn.Parameter(bias.detach(), requires_grad=False)  # type: ignore[operator]


def _nf4(module: nn.Module) -> nn.Module:
    library = _bitsandbytes().nn
    layer = _empty_linear(library.Linear4bit, module, quant_type="nf4", compress_statistics=True)
    weight = _weight(module)
    given = library.Params4bit(weight, requires_grad=False, quant_type="nf4", compress_statistics=True, module=layer)
    layer.weight = given.to(device=weight.device)  # this quantises
    layer.weight.module = None  # a layer that its own weight holds on to is never freed
    layer.bias = _frozen_bias(module)
    layer.compute_type_is_set = True  # with no type of its own: that of the input, whatever the run's is
    layer.support_avx512bf16_for_cpu = False  # see above: no packing for evaluation
    return layer  # type: ignore[no-any-return]


def _int8(module: nn.Module) -> nn.Module:
    layer = _empty_linear(_int8_class(), module, has_fp16_weights=False)
    weight = _weight(module)
    given = _bitsandbytes().nn.Int8Params(weight, requires_grad=False, has_fp16_weights=False)
    layer.weight = given.to(device=weight.device)
    layer.bias = _frozen_bias(module)
    return layer  # type: ignore[no-any-return]


@cache
def _int8_class() -> type[nn.Module]:
    """Return bitsandbytes' layer of 8 bits, computed alike in training and evaluation.

    Made here because importing bitsandbytes takes seconds.
    """
    library = _bitsandbytes()

    class Linear8bit(library.nn.Linear8bitLt):  # type: ignore[misc, name-defined]
        """On the CPU only the weights are rounded; on CUDA activations are too, as in LLM.int8()."""

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            """Return [..., out] for [..., in]."""
            state = self.state
            if self.weight.CB is not None:
                self.init_8bit_state()
            state.CB, state.SCB = self.weight.data, state.SCB.to(inputs.device)  # moving a model leaves these behind
            state.is_training = True
            scores: torch.Tensor = library.matmul(inputs, self.weight, bias=self.bias, state=state)
            return scores

    return Linear8bit


def _bitsandbytes() -> Any:
    import bitsandbytes

    return bitsandbytes
