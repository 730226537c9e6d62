"""Graphs on the disk: a module of torch written as one, its weights made 8 bits, and opened by ONNX Runtime."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tunesmith.models.failures import said
from tunesmith.models.quiet import quiet
from tunesmith.types import InputError, MissingExtraError

OPSET = 20

Axes = Mapping[int, Any]
"""Axis of an input -> its name, or ``torch.export.Dim``; others have one size."""


def require_runtime() -> None:
    """Raise ``MissingExtraError`` where graphs cannot be written or run."""
    for package in ("onnx", "onnxscript", "onnxruntime"):
        if find_spec(package) is None:
            raise MissingExtraError("Writing graphs for ONNX Runtime", package, "onnx")


def write_graph(
    path: Path, module: nn.Module, given: Mapping[str, torch.Tensor], axes: Mapping[str, Axes], outputs: Sequence[str]
) -> None:
    """Write what ``module`` does with a mapping of tensors, shown on ``given``, as a graph with inputs of these names.

    Raises ``InputError`` where something that the model does has no form in a graph.
    """
    with silence():
        try:
            program = torch.onnx.export(
                module.eval(),
                kwargs={"inputs": dict(given)},
                dynamo=True,
                dynamic_shapes={"inputs": {name: dict(axes[name]) for name in given}},
                input_names=list(given),
                output_names=list(outputs),
                opset_version=OPSET,
                external_data=False,
                verbose=False,
            )
        except MemoryError:
            raise
        except Exception as error:  # what some architectures do has no form in a graph
            model = getattr(module, "model", module)
            raise InputError(
                f"{type(model).__name__} cannot be written as a graph: {said(error)}", "Use --to safetensors."
            ) from error
        assert program is not None
        program.save(str(path))


def quantize_graph(path: Path) -> None:
    """Keep weights of linear layers in 8 bits; what they are multiplied with is rounded row by row, as it comes."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    small = path.with_name(f"small-{path.name}")
    with silence():
        quantize_dynamic(path, small, weight_type=QuantType.QInt8, extra_options={"DefaultTensorType": 1})
    small.replace(path)


def open_session(path: Path) -> Any:
    """Return a graph ready to run on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


@contextmanager
def silence() -> Iterator[None]:
    """Hold back what exporting says of libraries that it could have used."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with quiet(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
