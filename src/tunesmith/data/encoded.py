"""Rows as numbers: tokenised inputs and targets, ragged, memory-mapped, cached by content.

A split of N rows with T tokens in all is a handful of flat arrays. Nothing is padded:
row ``i`` of a ragged array is ``values[offsets[i]:offsets[i + 1]]``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.generic]


@dataclass(frozen=True, slots=True)
class Ragged:
    """N rows of different lengths in one flat array."""

    values: Array
    """[T], or [T, K] where every token carries K numbers."""
    offsets: npt.NDArray[np.int64]
    """[N + 1]: where each row starts; the last entry is T."""

    @classmethod
    def from_rows(cls, rows: Sequence[Sequence[int] | Array], dtype: npt.DTypeLike = np.int32) -> Self:
        offsets = _offsets_of(np.fromiter(map(len, rows), dtype=np.int64, count=len(rows)))
        if rows and isinstance(rows[0], np.ndarray):
            values = np.concatenate([np.asarray(row, dtype=dtype) for row in rows])
        else:
            values = np.fromiter(chain.from_iterable(rows), dtype=dtype, count=int(offsets[-1]))
        return cls(values, offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> Array:
        return self.values[self.offsets[row] : self.offsets[row + 1]]

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """[N]: number of entries of each row."""
        return np.diff(self.offsets)

    def take(self, rows: Sequence[int] | npt.NDArray[np.int64]) -> Array:
        """Return the entries of ``rows``, in that order, as one flat array."""
        return np.concatenate([self[int(row)] for row in rows])

    def select(self, rows: Sequence[int] | npt.NDArray[np.int64]) -> Self:
        """Return these rows, in that order, as a ragged array of their own."""
        offsets = _offsets_of(self.lengths[np.asarray(rows, dtype=np.int64)])
        return type(self)(self.take(rows) if len(rows) else self.values[:0], offsets)


class RaggedBuilder:
    """A ragged array as it is made, batch by batch: what is held are the values and a length for each row."""

    def __init__(self, dtype: npt.DTypeLike = np.int32) -> None:
        self._dtype = np.dtype(dtype)
        self._values: list[Array] = []
        self._lengths: list[npt.NDArray[np.int64]] = []
        self.num_rows = 0
        self.num_values = 0

    def add(self, values: Array, lengths: npt.NDArray[np.int64]) -> None:
        """Add rows, given as ``Ragged`` holds them: all values [T] one after the other, and each row's length [N]."""
        self._values.append(values)
        self._lengths.append(lengths)
        self.num_rows += len(lengths)
        self.num_values += len(values)

    def finish(self) -> Ragged:
        """Return all rows; the builder is empty afterwards."""
        values = np.empty(self.num_values, dtype=self._dtype)
        place = 0
        # Each piece is given back as soon as it is copied: there is never a second copy of them all.
        self._values.reverse()
        while self._values:
            piece = self._values.pop()
            values[place : place + len(piece)] = piece
            place += len(piece)
        offsets = _offsets_of(np.concatenate([np.zeros(0, dtype=np.int64), *self._lengths]))
        self._lengths = []
        self.num_rows = self.num_values = 0
        return Ragged(values, offsets)


def _offsets_of(lengths: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return [N + 1]: where rows of these lengths start."""
    offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def as_ragged(values: object) -> Ragged:
    """Return values that are ragged, as the caller knows: those of tasks that read tokens."""
    assert isinstance(values, Ragged)
    return values


@dataclass(frozen=True, slots=True)
class Encoded:
    """One split, ready for the engine.

    ``inputs`` always holds ``input_ids``; other entries (``token_type_ids``) align with it
    token by token. ``targets`` holds what the task's loss reads: arrays with one entry per
    row, or, for tasks that read tokens, ragged arrays with one entry per token read.
    """

    inputs: Mapping[str, Ragged]
    targets: Mapping[str, Array | Ragged]
    num_truncated: int = 0
    """Rows that were longer than the limit and lost tokens."""
    reads: Ragged | None = None
    """Positions within each row that the head reads, ascending; None when it reads one vector a row."""
    windows: npt.NDArray[np.int64] | None = None
    """[M + 1]: the first row of each of the M rows of the data, where long ones were cut into several rows here
    (windows); the last entry is the number of rows here. None when each row of the data is one row here."""
    left_out: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Rows of the data that have no rows here, because what encodes them refuses them: by its reason, in words."""
    remarks: Mapping[str, int] = field(default_factory=dict)
    """What is worth saying about rows, each with how many it concerns."""
    extras: Mapping[str, Array | Ragged] = field(default_factory=dict)
    """What the task needs to make the rows anew (``Task.corrupt``): arrays of any shape, which no batch holds."""
    states: Ragged | None = None
    """What a frozen part of the model made of every token, [T, D]; never saved with the rest."""
    read_states: Array | Ragged | None = None
    """What a frozen model made of all that the head reads, [N, D] or ragged [U, D] like ``reads``; never saved either.
    Where it is there, nothing below the head needs to run."""

    def __len__(self) -> int:
        return len(self.inputs["input_ids"])

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """[N]: real tokens of each row."""
        return self.inputs["input_ids"].lengths

    @property
    def num_data_rows(self) -> int:
        """M: rows of the data, which is what metrics count."""
        return len(self) if self.windows is None else len(self.windows) - 1

    @property
    def data_targets(self) -> dict[str, Array | Ragged]:
        """The targets with one entry per row of the data."""
        return {name: self.join(target) for name, target in self.targets.items()}

    def join(self, values: Array | Ragged) -> Array | Ragged:
        """Return values of the rows here as values of the data's rows: those of a row's windows follow each other."""
        if self.windows is None:
            return values
        assert isinstance(values, Ragged), "only what is read token by token can be cut into windows"
        return Ragged(values.values, values.offsets[self.windows])

    def select(self, rows: npt.NDArray[np.int64]) -> Self:
        """Return these rows, in this order, as a split of their own: of windows, where long rows were cut into some."""
        if np.array_equal(rows, np.arange(len(self))):
            return self
        return type(self)(
            inputs={name: ragged.select(rows) for name, ragged in self.inputs.items()},
            targets={
                name: target.select(rows) if isinstance(target, Ragged) else target[rows]
                for name, target in self.targets.items()
            },
            reads=None if self.reads is None else self.reads.select(rows),
            states=None if self.states is None else self.states.select(rows),
            read_states=self.read_states[rows]
            if isinstance(self.read_states, np.ndarray)
            else self.read_states and self.read_states.select(rows),
        )

    def data_rows(self, rows: Sequence[int]) -> list[int]:
        """Return which rows of the data the given rows here are from, each once, in order."""
        if self.windows is None:
            return list(rows)
        found = np.searchsorted(self.windows, np.asarray(rows, dtype=np.int64), side="right") - 1
        return list(dict.fromkeys(int(row) for row in found))

    def save(self, folder: Path) -> None:
        """Write the arrays into ``folder``, which must exist and be private to the caller."""
        described: dict[str, object] = {"num_truncated": self.num_truncated, "inputs": list(self.inputs)}
        described["left_out"] = {reason: list(rows) for reason, rows in self.left_out.items()}
        described["remarks"] = dict(self.remarks)
        for name, ragged in self.inputs.items():
            _save_ragged(folder, f"inputs.{name}", ragged)
        described["reads"] = self.reads is not None
        if self.reads is not None:
            _save_ragged(folder, "reads", self.reads)
        described["windows"] = self.windows is not None
        if self.windows is not None:
            np.save(folder / "windows.npy", self.windows, allow_pickle=False)
        described["targets"] = _save_named(folder, "targets", self.targets)
        described["extras"] = _save_named(folder, "extras", self.extras)
        (folder / "encoded.json").write_text(json.dumps(described), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Memory-map what ``save`` wrote."""
        described = json.loads((folder / "encoded.json").read_text(encoding="utf-8"))
        return cls(
            inputs={name: _load_ragged(folder, f"inputs.{name}") for name in described["inputs"]},
            targets=_load_named(folder, "targets", described["targets"]),
            reads=_load_ragged(folder, "reads") if described["reads"] else None,
            windows=np.load(folder / "windows.npy", allow_pickle=False) if described.get("windows") else None,
            num_truncated=described["num_truncated"],
            left_out={reason: tuple(rows) for reason, rows in described.get("left_out", {}).items()},
            remarks=described.get("remarks", {}),
            extras=_load_named(folder, "extras", described.get("extras", {})),
        )


def _save_named(folder: Path, prefix: str, values: Mapping[str, Array | Ragged]) -> dict[str, str]:
    """Write arrays under their names; return of each whether it is ragged."""
    for name, value in values.items():
        if isinstance(value, Ragged):
            _save_ragged(folder, f"{prefix}.{name}", value)
        else:
            np.save(folder / f"{prefix}.{name}.npy", value, allow_pickle=False)
    return {name: "ragged" if isinstance(value, Ragged) else "array" for name, value in values.items()}


def _load_named(folder: Path, prefix: str, kinds: Mapping[str, str]) -> dict[str, Array | Ragged]:
    return {
        name: _load_ragged(folder, f"{prefix}.{name}") if kind == "ragged" else _load(folder, f"{prefix}.{name}")
        for name, kind in kinds.items()
    }


def _save_ragged(folder: Path, name: str, ragged: Ragged) -> None:
    np.save(folder / f"{name}.values.npy", ragged.values, allow_pickle=False)
    np.save(folder / f"{name}.offsets.npy", ragged.offsets, allow_pickle=False)


def _load(folder: Path, name: str) -> Array:
    array: Array = np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
    return array


def _load_ragged(folder: Path, name: str) -> Ragged:
    offsets = np.load(folder / f"{name}.offsets.npy", allow_pickle=False)
    return Ragged(_load(folder, f"{name}.values"), offsets)
