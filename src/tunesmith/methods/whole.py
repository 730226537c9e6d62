"""Saving and loading the whole model, for methods that train the model's own parameters."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from torch import nn

from tunesmith.methods.base import Method
from tunesmith.models.quiet import quiet
from tunesmith.models.safety import check_model_folder
from tunesmith.models.wrapping import inner
from tunesmith.types import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class WholeModel(Method):
    """A method whose result is a full model: ``config.json`` and ``model.safetensors``."""

    result: ClassVar[Literal["model", "adapter", "own"]] = "model"

    def save(self, model: nn.Module, folder: Path) -> None:
        """Write ``config.json`` and safetensors that plain ``transformers`` loads; large models in shards."""
        with quiet():
            inner(model).save_pretrained(folder)

    def load(self, model: PreTrainedModel, folder: Path) -> nn.Module:
        """Return ``model``, trained as ``apply`` says, with the saved weights copied into it.

        Raises ``InputError`` when the files are damaged or hold other weights than the model has.
        """
        check_model_folder(folder, tokenizer=False)
        trained = self.apply(model)
        _copy_weights(folder, model)
        return trained


@torch.no_grad()
def _copy_weights(folder: Path, model: PreTrainedModel) -> None:
    """Let ``transformers`` read the folder (it undoes its own renaming of weights), then copy in place."""
    with quiet(), torch.random.fork_rng(devices=[]):
        loaded: Any = type(model).from_pretrained(
            folder,
            config=copy.deepcopy(model.config),
            dtype=model.dtype,
            use_safetensors=True,
            local_files_only=True,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    saved, found = loaded
    mismatched = {key for key, *_ in found["mismatched_keys"]}
    wrong = sorted({*found["missing_keys"], *found["unexpected_keys"], *mismatched})
    if wrong:
        raise InputError(
            f"The weights in {folder} are not those of this {type(model).__name__}: {len(wrong)} are missing, unknown "
            f"or of another shape ({', '.join(wrong[:3])}{', …' if len(wrong) > 3 else ''}).",
            "Use the model and the settings that the run was started with.",
        )
    model.load_state_dict(saved.state_dict())
