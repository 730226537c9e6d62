"""``onnx``: graphs from tokens to scores for ONNX Runtime; in float32, or with weights of 8 bits.

Rows and tokens are dynamic axes. ``tokenizer.json`` stands beside the graphs. Those of models that write are in
``tunesmith.export.onnx_writers``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tunesmith.engine.pooling import pooled_padded
from tunesmith.export.greedy_texts import first_tokens
from tunesmith.export.onnx_files import open_session, quantize_graph, require_runtime, write_graph
from tunesmith.export.onnx_writers import open_writer, write_writer
from tunesmith.export.plain_model import PlainModel
from tunesmith.export.target import Form, Opened
from tunesmith.export.transformers_folder import example_inputs
from tunesmith.models.head_scores import head_inputs
from tunesmith.models.observation import RowReading
from tunesmith.models.quiet import quiet
from tunesmith.models.wrapping import writes_from_encoder
from tunesmith.run import Run
from tunesmith.run.written_answers import Writing, sampling_for

FILE = "model.onnx"
VECTOR = "sentence_embedding"


class OnnxGraph:
    """Everything between tokens and scores."""

    name = "onnx"
    forms: Mapping[str, Form] = {"fp32": Form("fp32", 1e-3), "int8": Form("int8", None)}
    program = "ONNX Runtime"
    is_timed = True

    def refuse(self, run: Run, form: Form) -> None:
        del run, form
        require_runtime()

    def write(self, run: Run, plain: PlainModel, form: Form, folder: Path, inputs: Sequence[str]) -> Sequence[str]:
        config: dict[str, Any] = {**run.task.head().config, "max_length": plain.max_length}
        if _writes(run):
            config["files"] = write_writer(plain, run.task, folder, in_8_bits=form.name == "int8")
            config["stops"] = sorted(sampling_for(run.network, run.task, Writing()).stops(plain.model))
            if writes_from_encoder(plain.model):
                config["begins"] = first_tokens(plain.model, run.task)
        else:
            config["inputs"] = _write_reader(run, plain, folder / FILE, inputs)
            if form.name == "int8":
                quantize_graph(folder / FILE)
        with quiet():
            plain.tokenizer.save_pretrained(folder)
        (folder / "model.json").write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        return []

    def open(self, run: Run, folder: Path, form: Form) -> Opened:
        del form
        if _writes(run):
            return open_writer(run.network.model, run.task, folder)
        session = open_session(folder / FILE)
        names = [one.name for one in session.get_inputs()]

        def scores(inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
            found = session.run(None, {name: inputs[name].numpy() for name in names})
            parts = [torch.from_numpy(one) for one in found]
            return parts[0] if len(parts) == 1 else torch.stack(parts, dim=-1)

        return Opened(scores)


def _writes(run: Run) -> bool:
    return run.task.writer is not None


def _write_reader(run: Run, plain: PlainModel, path: Path, inputs: Sequence[str]) -> list[str]:
    """Write the graph of a model that reads only; return what it takes."""
    graph = _Graph(plain.model, run.task.row_pooling)
    given = example_inputs(plain, [name for name in inputs if name == "token_type_ids"])
    axes = {0: torch.export.Dim("rows"), 1: torch.export.Dim("tokens", min=2)}
    whole: Any = plain.model
    whole.set_attn_implementation("eager")
    write_graph(path, graph, given, dict.fromkeys(given, axes), graph.output_names(given))
    return list(given)


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
