"""A file of tensors written one after the other, so that it may be larger than memory.

The form is that of safetensors (https://github.com/huggingface/safetensors#format): eight bytes with the length of a
header, the header in JSON, and the numbers, little-endian and row by row.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Described:
    """A tensor that is to be written."""

    name: str
    kind: str
    """What the form calls its numbers: F32, BF16, I64, ..."""
    shape: tuple[int, ...]
    num_bytes: int


def write_tensors(path: Path, described: Sequence[Described], contents: Iterable[memoryview]) -> None:
    """Write tensors of which ``contents`` gives the bytes, in the order in which they are described.

    To be used inside ``new_folder``, which makes the file durable.
    """
    header: dict[str, object] = {}
    end = 0
    for one in described:
        start, end = end, end + one.num_bytes
        header[one.name] = {"dtype": one.kind, "shape": list(one.shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode("utf-8")
    text += b" " * (-len(text) % 8)  # numbers begin at a multiple of eight bytes
    with path.open("xb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for one, content in zip(described, contents, strict=True):
            assert content.nbytes == one.num_bytes, f"{one.name} is as large as described"
            file.write(content)
