"""A folder that holds a whole model in plain form: the one thing that weights are loaded from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from tunesmith.models.pinning import weights_hash


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """A folder with config, tokenizer and safetensors, and what they are called elsewhere."""

    folder: Path
    source: str
    """What a run records."""
    name: str
    """Hub id, or absolute folder, from which plain ``transformers`` loads the same weights."""
    revision: str | None = None
    weights_sha256: str | None = None
    """What tells these weights from others, where something else than the files in ``folder`` does: these may have
    been made of others on this machine."""

    def identified(self) -> ModelFolder:
        """Return the same folder with ``weights_sha256``; it has passed ``check_model_folder``."""
        return self if self.weights_sha256 else replace(self, weights_sha256=weights_hash(self.folder))
