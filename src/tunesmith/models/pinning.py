"""Which weights an adapter was trained beside: recorded with it, compared when it is opened.

A branch of a hub repository moves, and a folder is written again. An adapter beside other weights still
runs, and gives other answers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tunesmith.files.hashing import hash_json
from tunesmith.files.known_hashes import known_hash
from tunesmith.models.origin import Origin
from tunesmith.models.safety import INDEX, WEIGHTS, shard_names
from tunesmith.types import InputError, Problem

if TYPE_CHECKING:
    import torch

ADAPTER_WEIGHTS = "adapter_model.safetensors"

# Of the file of weights, whose metadata other readers ignore: adapter_config.json has no room for more keys.
_NAME, _REVISION, _SHA256 = "base_model", "base_revision", "base_weights_sha256"


@dataclass(frozen=True, slots=True)
class BaseRecord:
    """What an adapter's file says of the weights that it was trained beside."""

    name: str
    revision: str | None
    weights_sha256: str


def weights_hash(folder: Path) -> str:
    """Return one SHA-256 over the weight files of a model folder that ``check_model_folder`` has passed."""
    if (folder / WEIGHTS).is_file():
        return known_hash(folder / WEIGHTS)
    names, problems = shard_names(folder / INDEX)
    if problems:
        raise InputError(problems)
    return hash_json({name: known_hash(folder / name) for name in names})


def describe_base(known: Origin | None) -> dict[str, str]:
    """Return what is to be written into an adapter's file; nothing for a model that was built by hand."""
    if known is None or known.weights_sha256 is None:
        return {}
    found = {_NAME: known.name, _SHA256: known.weights_sha256}
    return found if known.revision is None else {**found, _REVISION: known.revision}


def read_base_record(folder: Path, file_name: str = ADAPTER_WEIGHTS) -> BaseRecord | None:
    """Return what the adapter in ``folder`` says of its base, or nothing where it says nothing (other programs).

    ``file_name`` is that of its weights, where a run has them in a form of its own.
    """
    from safetensors import safe_open

    with safe_open(folder / file_name, framework="numpy") as file:
        found: Mapping[str, str] = file.metadata() or {}
    if _SHA256 not in found:
        return None
    return BaseRecord(found.get(_NAME, ""), found.get(_REVISION), found[_SHA256])


def check_base(folder: Path, known: Origin | None, file_name: str = ADAPTER_WEIGHTS) -> None:
    """Raise ``InputError`` when the adapter in ``folder`` was trained beside other weights than a model's."""
    recorded = read_base_record(folder, file_name)
    if recorded is None or known is None or known.weights_sha256 is None:
        return
    if problem := other_weights(folder, recorded, known.name, known.weights_sha256):
        raise InputError(problem)


def other_weights(folder: Path, recorded: BaseRecord, name: str, weights_sha256: str) -> Problem | None:
    """Return what is wrong when the base called ``name`` is not the one that was recorded; nothing if it is."""
    if recorded.weights_sha256 == weights_sha256:
        return None
    at = f" at revision {recorded.revision}" if recorded.revision else ""
    return Problem(
        "error",
        f"The base model {name} does not hold the weights that the adapter in {folder} was trained beside: their "
        f"SHA-256 begins with {weights_sha256[:12]}, that of the adapter's base ({recorded.name}{at}) with "
        f"{recorded.weights_sha256[:12]}.",
        "Bring the base model back as it was, or train the adapter again.",
    )


def write_tensors(tensors: Mapping[str, torch.Tensor], path: Path, metadata: Mapping[str, str]) -> None:
    """Write a safetensors file whose bytes depend on its content alone: the library puts metadata in any order."""
    from safetensors.torch import save

    data = save(dict(tensors), metadata=dict(metadata))
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    header["__metadata__"] = dict(sorted(metadata.items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode("utf-8")
    text += b" " * (-len(text) % 8)  # tensors begin at a multiple of eight bytes
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.write(memoryview(data)[start:])
