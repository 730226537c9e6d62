"""A model's safetensors files, mapped: a weight is read when it is touched, and its memory can be taken back.

The library of safetensors maps files for writing, so that all of them count as the process's own data; here they are
mapped for reading only, which counts as nobody's. Whoever writes to such a tensor is ended by the system.

Where a tensor lies decides which kernels read it, and so the last bit of what they compute. In files that are written
here, every large tensor begins at a multiple of ``ALIGNMENT``.
"""

from __future__ import annotations

import json
import math
import mmap
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import torch

from tunesmith.files.cache import cached_folder
from tunesmith.files.root import cache_root
from tunesmith.files.space import require_space
from tunesmith.models.safety import INDEX, WEIGHTS, shard_names
from tunesmith.types import InputError

ALIGNMENT = 64
"""Bytes: a cache line, and torch's own memory."""

_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
KINDS = {dtype: name for name, dtype in _DTYPES.items()}
"""What safetensors calls kinds of numbers."""
_PAGE = mmap.PAGESIZE
_CHUNK = 1 << 22
"""Numbers that are converted at once."""


class MappedFile:
    """A file that is mapped for as long as one of its tensors is used."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open("rb") as file:
            self.content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    def is_needed(self, start: int, end: int) -> None:
        """Have the system read these bytes while others are computed with."""
        self._advise("MADV_WILLNEED", start, end)

    def is_done(self, start: int, end: int) -> None:
        """Give back the memory of these bytes; they are read again where they are touched again."""
        self._advise("MADV_DONTNEED", start, end)

    def _advise(self, what: str, start: int, end: int) -> None:
        advice = getattr(mmap, what, None)
        if advice is not None:
            start -= start % _PAGE
            self.content.madvise(advice, start, end - start)


@dataclass(frozen=True, slots=True, eq=False)
class Stored:
    """A tensor in a file."""

    file: MappedFile
    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int
    """Of its bytes, in the file."""
    end: int

    @property
    def num_bytes(self) -> int:
        """Of it in the file."""
        return self.end - self.start

    @property
    def is_aligned(self) -> bool:
        """Whether it lies where torch would have put it."""
        return self.start % ALIGNMENT == 0

    def give_back(self) -> None:
        """Give back the memory of what was read of it."""
        self.file.is_done(self.start, self.end)

    def tensor(self) -> torch.Tensor:
        """Return it, mapped: for reading only."""
        if self.start == self.end:
            return torch.empty(self.shape, dtype=self.dtype)
        content = np.frombuffer(self.file.content, np.uint8, self.end - self.start, self.start)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that it must not be written to
            return torch.from_numpy(content).view(self.dtype).view(self.shape)


def weight_names(folder: Path) -> list[str]:
    """Return the names of the weight files of a folder that ``check_model_folder`` has passed."""
    if (folder / WEIGHTS).is_file():
        return [WEIGHTS]
    names, problems = shard_names(folder / INDEX)
    if problems:
        raise InputError(problems)
    return names


def open_weights(paths: Sequence[Path]) -> dict[str, Stored]:
    """Return every tensor of some safetensors files by its name, in the order of the files.

    Raises ``InputError`` for numbers of a kind that is not known here.
    """
    return {name: stored for path in paths for name, stored in _read(path)}


def _read(path: Path) -> Iterator[tuple[str, Stored]]:
    """Yield the tensors of a file, whose header the library has checked (``check_model_folder``)."""
    file = MappedFile(path)
    header, start = _header(path)
    for name, entry in sorted(header.items(), key=lambda one: cast("list[int]", one[1]["data_offsets"])):
        if entry["dtype"] not in _DTYPES:
            message = f"{path}: the weight {name} is of the kind {entry['dtype']}, which cannot be mapped."
            raise InputError(message, "Set compute.offload to none, or save the model in float32 or bfloat16.")
        first, last = entry["data_offsets"]
        yield name, Stored(file, _DTYPES[entry["dtype"]], tuple(entry["shape"]), start + first, start + last)


def _header(path: Path) -> tuple[dict[str, Any], int]:
    """Return what a file says of its tensors, by name, and where their bytes begin."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header: dict[str, Any] = json.loads(file.read(length))
    header.pop("__metadata__", None)
    return header, 8 + length


def bytes_in_memory(folder: Path) -> int:
    """Return what a model folder's weights take in float32, in which they are loaded, in bytes."""
    headers = (_header(folder / name)[0] for name in weight_names(folder))
    num_weights: int = sum(math.prod(entry["shape"]) for header in headers for entry in header.values())
    return 4 * num_weights


def weights_in(
    folder: Path, weights_sha256: str, dtype: torch.dtype, *, aligned: bool
) -> tuple[dict[str, Stored], Path]:
    """Return a model folder's tensors with all of their numbers in ``dtype``, and the folder where they are.

    That is the model's own, if they are so already; else a copy in the cache, which is made with little memory.

    Args:
        folder: A folder that ``check_model_folder`` has passed.
        weights_sha256: Tells its weights from others.
        dtype: Of weights; what is no floating point stays as it is.
        aligned: Whether kernels read the tensors where they are.

    Raises:
        InputError: The disk has no room for the copy, or the files hold numbers of an unknown kind.
    """
    names = weight_names(folder)
    own = open_weights([folder / name for name in names])
    if suit(own.values(), dtype, aligned=aligned):
        return own, folder
    num_bytes = sum(math.prod(stored.shape) * dtype.itemsize for stored in own.values())

    def build(place: Path) -> None:
        require_space(place, num_bytes)
        for name in names:
            of_file = {key: one for key, one in own.items() if one.file.path.name == name}
            _write(of_file, dtype, place / name)

    cache_root().mkdir(parents=True, exist_ok=True)
    made = cached_folder("streamed", f"{weights_sha256[:32]}-{KINDS[dtype].lower()}", build)
    return open_weights([made / name for name in names]), made


def suit(tensors: Iterable[Stored], dtype: torch.dtype, *, aligned: bool) -> bool:
    """Say whether weights can be computed with in ``dtype`` as they are; ``aligned`` is that of ``weights_in``."""
    return all(_suits(stored, dtype, aligned=aligned) for stored in tensors)


def _suits(stored: Stored, dtype: torch.dtype, *, aligned: bool) -> bool:
    right = stored.dtype == dtype or not stored.dtype.is_floating_point
    return right and (not aligned or stored.is_aligned or stored.num_bytes % ALIGNMENT != 0)


def _write(tensors: Mapping[str, Stored], dtype: torch.dtype, path: Path) -> None:
    """Write a safetensors file of ``tensors`` in ``dtype``, a part of one at a time in memory.

    The form allows no gaps: those whose bytes are a multiple of ``ALIGNMENT`` come first, so that all of them lie well.
    """
    kinds = {name: dtype if one.dtype.is_floating_point else one.dtype for name, one in tensors.items()}
    sizes = {name: math.prod(one.shape) * kinds[name].itemsize for name, one in tensors.items()}
    names = sorted(tensors, key=lambda name: sizes[name] % ALIGNMENT != 0)
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    place = 0
    for name in names:
        entry = {"dtype": KINDS[kinds[name]], "shape": list(tensors[name].shape)}
        header[name] = entry | {"data_offsets": [place, place + sizes[name]]}
        place += sizes[name]
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode("utf-8")
    text += b" " * (-(len(text) + 8) % _PAGE)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in names:
            _write_tensor(tensors[name], kinds[name], file)


def _write_tensor(stored: Stored, dtype: torch.dtype, file: BinaryIO) -> None:
    for part in stored.tensor().reshape(-1).split(_CHUNK):  # type: ignore[no-untyped-call]
        made = part.float().to(dtype) if dtype.is_floating_point else part  # by float32, as models are loaded
        file.write(memoryview(made.contiguous().view(torch.uint8).numpy()))
    stored.give_back()
