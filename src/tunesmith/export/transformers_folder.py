"""``safetensors``: a folder that plain ``transformers`` loads; ``sentence-transformers``: one that it loads, too."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tunesmith.engine.pooling import pooled_padded
from tunesmith.export.greedy_texts import greedy_writer
from tunesmith.export.plain_model import PlainModel
from tunesmith.export.target import BF16, FP16, FP32, Form, Opened, Runtime
from tunesmith.files.operations import make_folder
from tunesmith.models.head_scores import head_inputs, head_scores
from tunesmith.models.observation import RowReading
from tunesmith.models.quiet import quiet
from tunesmith.models.weights import align
from tunesmith.models.wrapping import inputs_for
from tunesmith.run import Run
from tunesmith.run.finish import name_end_tokens
from tunesmith.types import InputError

_TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class TransformersFolder:
    """Weights in safetensors, configuration and tokenizer, as ``from_pretrained`` reads them."""

    name = "safetensors"
    forms: Mapping[str, Form] = {"fp32": FP32, "bf16": BF16, "fp16": FP16}
    program = "transformers"
    is_timed = True

    def refuse(self, run: Run, form: Form) -> None:
        """Every whole model can be written like this."""
        del run, form

    def write(self, run: Run, plain: PlainModel, form: Form, folder: Path, inputs: Sequence[str]) -> Sequence[str]:
        del inputs
        name_end_tokens(run.task, plain.model, plain.tokenizer)
        beside = run.task.files_beside(plain.model, plain.max_length)
        model: Any = plain.model
        model.to(_TYPES[form.name])  # cast last: adapters were added in float32
        with quiet():
            plain.model.save_pretrained(folder)
            plain.tokenizer.save_pretrained(folder)
        for name, content in beside.items():
            make_folder((folder / name).parent)
            (folder / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        return []

    def open(self, run: Run, folder: Path, form: Form) -> Opened:
        model = self.load(run, folder, form)
        return Opened(_scores(model, run.task.row_pooling), greedy_writer(model, run.task))

    def load(self, run: Run, folder: Path, form: Form) -> nn.Module:
        """Return the model in a folder as plain ``transformers`` loads it, in the class that the run's task takes."""
        import transformers

        auto_class = getattr(transformers, run.summary["auto_class"])
        with quiet():
            model: nn.Module = auto_class.from_pretrained(
                folder, dtype=_TYPES[form.name], local_files_only=True, use_safetensors=True
            )
        align(model)
        return model.eval()


def _scores(model: nn.Module, pooling: RowReading | None) -> Runtime:
    def scores(inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
        output = model(**head_inputs(model, inputs))
        if pooling is None:
            return head_scores(output).float()
        return pooled_padded(output.last_hidden_state.float(), inputs["attention_mask"].bool(), pooling)

    return scores


class SentenceTransformersFolder(TransformersFolder):
    """The same, with the files that make it a model of sentence-transformers."""

    name = "sentence-transformers"
    program = "sentence-transformers"

    def refuse(self, run: Run, form: Form) -> None:
        del form
        if not run.task.vectors_of:
            raise InputError(
                f"The run in {run.folder} was trained for {run.task.title.lower()}: sentence-transformers reads models "
                "that give a text a vector.",
                "Use --to safetensors, or a run of the task embedding.",
            )

    def open(self, run: Run, folder: Path, form: Form) -> Opened:
        del run
        try:
            from sentence_transformers import SentenceTransformer
        except ImportError:
            raise InputError(
                "What was written cannot be compared: sentence-transformers is not installed.",
                "pip install sentence-transformers; or use --to safetensors, whose folder sentence-transformers reads "
                "as well.",
            ) from None
        with quiet():
            model = SentenceTransformer(
                str(folder), device="cpu", local_files_only=True, model_kwargs={"dtype": _TYPES[form.name]}
            )

        def vectors(inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
            found: torch.Tensor = model(dict(inputs))["sentence_embedding"]
            return found.float()

        return Opened(vectors)


def example_inputs(plain: PlainModel, names: Sequence[str] = ()) -> dict[str, torch.Tensor]:
    """Return inputs of two short rows, the second padded, as the model takes them; ``names`` are more, of zeros."""
    ids = [int(token) for token in plain.tokenizer("a film worth seeing")["input_ids"]]
    pad = plain.tokenizer.pad_token_id or 0
    rows = torch.tensor([ids, [*ids[:-1], pad]])
    mask = torch.tensor([[1] * len(ids), [*[1] * (len(ids) - 1), 0]])
    return {**inputs_for(plain.model, rows, mask), **{name: torch.zeros_like(rows) for name in names}}
