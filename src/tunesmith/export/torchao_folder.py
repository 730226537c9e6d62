"""``torchao``: a folder that plain ``transformers`` loads with weights in 8 or 4 bits, and computes with as they are.

Only weights are rounded; what they are multiplied with stays as it is. Embeddings and the layer from states to tokens
of a language model stay whole, which is what ``transformers`` leaves out, too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tunesmith.export.onnx_files import silence
from tunesmith.export.plain_model import PlainModel
from tunesmith.export.target import FP32, Form
from tunesmith.export.transformers_folder import TransformersFolder
from tunesmith.models.quiet import quiet
from tunesmith.run import Run
from tunesmith.types import MissingExtraError

GROUP = 32
"""Weights of 4 bits that share a scale."""


class TorchaoFolder(TransformersFolder):
    """The model with the weights of its linear layers rounded, and how in its ``config.json``."""

    name = "torchao"
    forms: Mapping[str, Form] = {"int8": Form("int8", None), "int4": Form("int4", None)}
    program = "transformers with torchao"

    def refuse(self, run: Run, form: Form) -> None:
        del run, form
        if find_spec("torchao") is None:
            raise MissingExtraError("Weights in 8 or 4 bits for torch", "torchao", "torchao")

    def write(self, run: Run, plain: PlainModel, form: Form, folder: Path, inputs: Sequence[str]) -> Sequence[str]:
        from transformers import TorchAoConfig

        super().write(run, plain, FP32, folder, inputs)
        odd = _odd_layers(plain.model) if form.name == "int4" else []
        whole: Any = plain.model
        output = whole.get_output_embeddings()
        kept = [name for name, module in whole.named_modules() if module is output]
        with silence():  # of kernels for other machines
            config = TorchAoConfig(_kind(form), modules_to_not_convert=[*kept, *odd])
        model: Any = _load(type(plain.model), folder, quantization_config=config)
        for path in folder.glob("*.safetensors*"):
            path.unlink()
        with quiet():
            model.save_pretrained(folder)
        said = []
        if form.name == "int4":
            said.append("Numbers of 4 bits take a byte each in the file: packed, they would load on some GPUs alone.")
        if odd:
            said.append(
                f"Left whole, as their rows do not divide into groups of {GROUP}: {', '.join(sorted(set(odd)))}."
            )
        return said

    def load(self, run: Run, folder: Path, form: Form) -> nn.Module:
        import transformers

        del form
        return _load(getattr(transformers, run.summary["auto_class"]), folder)


def _kind(form: Form) -> Any:
    from torchao.quantization import Int8WeightOnlyConfig, IntxWeightOnlyConfig, PerGroup

    if form.name == "int8":
        return Int8WeightOnlyConfig()
    return IntxWeightOnlyConfig(weight_dtype=torch.int4, granularity=PerGroup(GROUP))  # type: ignore[attr-defined]


def _load(kind: Any, folder: Path, **options: Any) -> nn.Module:
    with silence():
        model: nn.Module = kind.from_pretrained(
            folder, dtype=torch.float32, local_files_only=True, use_safetensors=True, **options
        )
    return model.eval()


def _odd_layers(model: nn.Module) -> list[str]:
    """Return the linear layers whose rows do not divide into groups."""
    layers = ((name, module) for name, module in model.named_modules() if isinstance(module, nn.Linear))
    return [name for name, module in layers if module.in_features % GROUP]
