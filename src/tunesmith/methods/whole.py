"""Saving the whole model, for methods that train the model's own parameters."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from tunesmith.methods.base import Method
from tunesmith.models.quiet import quiet
from tunesmith.models.wrapping import inner

if TYPE_CHECKING:
    from torch import nn


class WholeModel(Method):
    """A method whose result is a full model: ``config.json`` and ``model.safetensors``.

    ``tunesmith.models.load_trained`` opens it again.
    """

    result: ClassVar[Literal["model", "adapter", "own"]] = "model"

    def save(self, model: nn.Module, folder: Path) -> None:
        """Write ``config.json`` and safetensors that plain ``transformers`` loads; large models in shards."""
        with quiet():
            inner(model).save_pretrained(folder)
