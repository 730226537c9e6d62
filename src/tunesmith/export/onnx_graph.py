"""``onnx``: one graph from tokens to scores, for ONNX Runtime; in float32, or with weights of 8 bits.

Rows and tokens are dynamic axes. ``tokenizer.json`` stands beside the graph.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tunesmith.engine.pooling import pooled_padded
from tunesmith.export.plain_model import PlainModel
from tunesmith.export.target import Form, Runtime
from tunesmith.export.transformers_folder import example_inputs
from tunesmith.models.failures import said
from tunesmith.models.head_scores import head_inputs
from tunesmith.models.observation import RowReading
from tunesmith.models.quiet import quiet
from tunesmith.models.wrapping import writes_from_encoder
from tunesmith.run import Run
from tunesmith.types import InputError

FILE = "model.onnx"
OPSET = 20
VECTOR = "sentence_embedding"


class OnnxGraph:
    """One graph of everything between tokens and scores."""

    name = "onnx"
    forms: Mapping[str, Form] = {"fp32": Form("fp32", 1e-3), "int8": Form("int8", None)}
    program = "ONNX Runtime"

    def refuse(self, run: Run) -> None:
        _require_library("onnx")
        _require_library("onnxruntime")
        if run.task.writer is not None or writes_from_encoder(run.network.model):
            raise InputError(
                f"The run in {run.folder} writes ({run.task.name}): a graph without a cache computes every token anew.",
                "Use --to gguf for llama.cpp, or --to safetensors for transformers and vLLM.",
            )

    def write(self, run: Run, plain: PlainModel, form: Form, folder: Path, inputs: Sequence[str]) -> None:
        graph = _Graph(plain.model, run.task.row_pooling)
        given = example_inputs(plain, [name for name in inputs if name == "token_type_ids"])
        axes = {0: torch.export.Dim("rows"), 1: torch.export.Dim("tokens", min=2)}
        with _silence():
            whole: Any = plain.model
            whole.set_attn_implementation("eager")
            try:
                program = torch.onnx.export(
                    graph.eval(),
                    kwargs={"inputs": given},
                    dynamo=True,
                    dynamic_shapes={"inputs": dict.fromkeys(given, axes)},
                    input_names=list(given),
                    output_names=graph.output_names(given),
                    opset_version=OPSET,
                    external_data=False,
                    verbose=False,
                )
            except MemoryError:
                raise
            except Exception as error:  # what some architectures do has no form in a graph
                raise InputError(
                    f"{type(whole).__name__} cannot be written as a graph: {said(error)}", "Use --to safetensors."
                ) from error
            assert program is not None
            program.save(str(folder / FILE))
        if form.name == "int8":
            _quantize(folder)
        with quiet():
            plain.tokenizer.save_pretrained(folder)
        config = {**run.task.head().config, "max_length": plain.max_length, "inputs": list(given)}
        (folder / "model.json").write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

    def open(self, run: Run, folder: Path, form: Form) -> Runtime:
        del run, form
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(str(folder / FILE), options, providers=["CPUExecutionProvider"])
        names = [one.name for one in session.get_inputs()]

        def scores(inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
            found = session.run(None, {name: inputs[name].numpy() for name in names})
            parts = [torch.from_numpy(one) for one in found]
            return parts[0] if len(parts) == 1 else torch.stack(parts, dim=-1)

        return scores


class _Graph(nn.Module):
    """A model whose outputs are tensors: its scores, or of a model without a head the vector of each row."""

    def __init__(self, model: nn.Module, pooling: RowReading | None) -> None:
        super().__init__()
        self.model = model
        self.pooling = pooling

    def forward(self, inputs: dict[str, torch.Tensor]) -> Any:
        output = self.model(**head_inputs(self.model, inputs))
        if self.pooling is not None:
            pooled = pooled_padded(output.last_hidden_state, inputs["attention_mask"].bool(), self.pooling)
            return nn.functional.normalize(pooled, dim=-1)
        if getattr(output, "logits", None) is not None:
            return output.logits
        return tuple(value for name, value in output.items() if name.endswith("_logits"))

    def output_names(self, inputs: dict[str, torch.Tensor]) -> list[str]:
        """Return the names of what ``forward`` returns, which are those that ``transformers`` gives them."""
        if self.pooling is not None:
            return [VECTOR]
        with torch.no_grad():
            output = self.model(**head_inputs(self.model, inputs))
        if getattr(output, "logits", None) is not None:
            return ["logits"]
        return [name for name in output if name.endswith("_logits")]


def _quantize(folder: Path) -> None:
    """Keep weights of linear layers in 8 bits; what they are multiplied with is rounded row by row, as it comes."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    whole, small = folder / FILE, folder / "int8.onnx"
    with _silence():
        quantize_dynamic(whole, small, weight_type=QuantType.QInt8, extra_options={"DefaultTensorType": 1})
    small.replace(whole)


@contextmanager
def _silence() -> Iterator[None]:
    """Hold back what exporting says of libraries that it could have used."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with quiet(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _require_library(name: str) -> None:
    from importlib.util import find_spec

    if find_spec(name) is None:
        raise InputError(
            f"Writing graphs for ONNX Runtime needs the package {name}, which is not installed.",
            "pip install 'tunesmith[onnx]'",
        )
