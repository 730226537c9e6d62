"""Rows as numbers: tokenised inputs and targets, ragged, memory-mapped, cached by content.

A split with T tokens in all is a handful of flat arrays. Nothing is padded: entry ``i`` of a ragged
array is ``values[offsets[i]:offsets[i + 1]]``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from tunesmith.data.pixels import Pixels

Array = npt.NDArray[np.generic]

DECODER = "decoder_"
"""What the names of the decoder's inputs begin with."""
PARTNERS = "partner_ids"
"""The input that holds, of each token, the one that its vector is mixed with; no model is given it."""
SHARE_OF_OWN = "share_of_own"
"""The target that holds what of the vectors of a row's tokens is their own."""


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

    def lengths_of(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return the number of entries of each of these rows: without looking at the others."""
        return self.offsets[rows + 1] - self.offsets[rows]

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
class Units:
    """Which sequence and which row of a micro-batch its units belong to; on the host.

    Units are what a head gives scores for: the tokens read of S sequences, or the sequences themselves. They follow
    each other sequence by sequence, and the sequences row by row.
    """

    sequences: npt.NDArray[np.int64]
    """[S + 1]: the first unit of each sequence; the last entry is U, the number of units."""
    rows: npt.NDArray[np.int64]
    """[B + 1]: the first unit of each row; that of each sequence where these are learned each for itself."""

    @classmethod
    def single(cls, number: int) -> Self:
        """Return the borders of units each of which is a sequence and a row of its own."""
        borders = np.arange(number + 1)
        return cls(borders, borders)

    @property
    def per_sequence(self) -> list[int]:
        """The number of units of each sequence."""
        counts: list[int] = np.diff(self.sequences).tolist()
        return counts

    @property
    def per_row(self) -> list[int]:
        """The number of units of each row: what ``torch.split`` takes to give the scores of each."""
        counts: list[int] = np.diff(self.rows).tolist()
        return counts

    def part(self, units: slice) -> Units:
        """Return the borders of some of the units, which may begin and end within a sequence."""
        first, last = units.start, units.stop
        return Units(*(np.clip(borders, first, last) - first for borders in (self.sequences, self.rows)))


@dataclass(frozen=True, slots=True)
class Encoded:
    """One split of M rows of data, ready for the engine: S sequences of tokens, one or several a row.

    ``inputs`` are named as the model's ``forward`` names them, and come in streams: those that begin with
    ``decoder_`` belong to the decoder, the others to the input. Ragged ones hold tokens and align within their
    stream (``token_type_ids`` with ``input_ids``); arrays [S, ...] hold what has one shape in every sequence, and
    ``Pixels`` images (``pixel_values``). ``targets`` holds what the task's loss reads: arrays with one entry per
    sample, or ragged arrays with one entry per token read.
    """

    inputs: Mapping[str, Ragged | Array | Pixels]
    targets: Mapping[str, Array | Ragged]
    num_truncated: int = 0
    """Rows that were longer than the limit and lost tokens."""
    reads: Ragged | None = None
    """Positions within each sequence that the head reads, ascending, of the decoder's stream where there is one; None
    when it reads one vector a sequence."""
    rows: npt.NDArray[np.int64] | None = None
    """[M + 1]: the first sequence of each row of the data, where rows have others than one; the last entry is S. None
    when each row is one sequence."""
    keeps_rows: bool = False
    """Whether a row's sequences belong together: the loss needs them all at once, and a row is a sample. Otherwise each
    sequence is learned for itself (a piece of a text that is too long) and is a sample of its own."""
    left_out: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Rows of the data that have no sequences, because what encodes them refuses them: by its reason, in words."""
    remarks: Mapping[str, int] = field(default_factory=dict)
    """What is worth saying about rows, each with how many it concerns."""
    extras: Mapping[str, Array | Ragged] = field(default_factory=dict)
    """What the task needs to make the sequences anew (``Objective.corrupt``): arrays of any shape, which no batch
    holds."""
    beside: Mapping[str, Array | Ragged] = field(default_factory=dict)
    """What reading the scores takes besides them (the places of tokens in the text), with one entry per row of the
    data: no batch holds it, and it joins what is kept of the scores."""
    states: Ragged | None = None
    """What a frozen part of the model made of every token, [T, D]; never saved with the rest."""
    read_states: Array | Ragged | None = None
    """What a frozen model made of all that the head reads, [S, D] or ragged [U, D] like ``reads``; never saved either.
    Where it is there, nothing below the head needs to run."""

    def __len__(self) -> int:
        """Return S, the number of sequences."""
        return len(next(iter(self.inputs.values())))

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """[S]: tokens of each sequence, of all streams, and places of its images; 1 where there is neither."""
        streams = [self.stream(prefix) for prefix in ("", DECODER)]
        return self._with_images([stream.lengths for stream in streams if stream is not None], len(self))

    def lengths_of(self, sequences: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return the real tokens of each of these sequences, as ``lengths`` does of all."""
        streams = [self.stream(prefix) for prefix in ("", DECODER)]
        found = [stream.lengths_of(sequences) for stream in streams if stream is not None]
        return self._with_images(found, len(sequences))

    def _with_images(self, lengths: Sequence[npt.NDArray[np.int64]], number: int) -> npt.NDArray[np.int64]:
        """Return [number]: the sum of what each stream has of some sequences, and of what their images take."""
        beside = self.num_image_positions
        if not lengths:
            return np.full(number, max(beside, 1), dtype=np.int64)
        total = sum(lengths[1:], start=lengths[0])
        return total + beside if beside else total

    @property
    def num_image_positions(self) -> int:
        """Places that the images of every sequence take in the model besides its tokens."""
        return sum(one.positions for one in self.inputs.values() if isinstance(one, Pixels))

    def stream(self, prefix: str) -> Ragged | None:
        """Return the first ragged input of the decoder's stream (``DECODER``) or of the input's (an empty prefix)."""
        named = (one for name, one in self.inputs.items() if name.startswith(DECODER) == (prefix == DECODER))
        return next((one for one in named if isinstance(one, Ragged)), None)

    @property
    def num_data_rows(self) -> int:
        """M: rows of the data, which is what metrics count."""
        return len(self) if self.rows is None else len(self.rows) - 1

    @property
    def samples(self) -> npt.NDArray[np.int64]:
        """[E + 1]: the first sequence of each of the E samples, which is what a step counts; the last entry is S.

        A sample is a row of the data or, where ``keeps_rows`` is false, each sequence of one; never without sequences.
        """
        if self.rows is None or not self.keeps_rows:
            return np.arange(len(self) + 1)
        has_any = self.rows[1:] > self.rows[:-1]
        return np.append(self.rows[:-1][has_any], self.rows[-1])

    @property
    def num_samples(self) -> int:
        """E: what training draws from."""
        return len(self.samples) - 1 if self.keeps_rows else len(self)

    @property
    def sample_lengths(self) -> npt.NDArray[np.int64]:
        """[E]: real tokens of each sample."""
        return np.add.reduceat(self.lengths, self.samples[:-1]) if self.keeps_rows and len(self) else self.lengths

    def sequences_of(self, samples: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return the sequences of the given samples, in their order."""
        if self.rows is None or not self.keeps_rows:
            return samples
        starts = self.samples
        return _ranges(starts[samples], starts[samples + 1] - starts[samples])

    @property
    def data_targets(self) -> dict[str, Array | Ragged]:
        """What rows are judged by, with one entry per row of the data: the targets, and what stands ``beside``."""
        if not self.targets:
            return {}
        targets = {
            name: self.join(target) if isinstance(target, Ragged) else target for name, target in self.targets.items()
        }
        return {**targets, **self.beside}

    def join(self, values: Ragged) -> Ragged:
        """Return values of sequences as values of the data's rows: those of a row's sequences follow each other."""
        return values if self.rows is None else Ragged(values.values, values.offsets[self.rows])

    def with_targets(self, added: Mapping[str, Array | Ragged]) -> Self:
        """Return the split with further targets."""
        return replace(self, targets={**self.targets, **added})

    def select(self, sequences: npt.NDArray[np.int64]) -> Self:
        """Return these sequences, in this order, as a split of their own, each a row of its own."""
        if np.array_equal(sequences, np.arange(len(self))):
            return self
        assert not self.keeps_rows, "these rows are samples as a whole"

        def of(values: Array | Ragged) -> Array | Ragged:
            return values.select(sequences) if isinstance(values, Ragged) else values[sequences]

        return type(self)(
            inputs={
                name: values.select(sequences) if isinstance(values, Pixels) else of(values)
                for name, values in self.inputs.items()
            },
            targets={name: of(values) for name, values in self.targets.items()},
            reads=None if self.reads is None else self.reads.select(sequences),
            states=None if self.states is None else self.states.select(sequences),
            read_states=None if self.read_states is None else of(self.read_states),
        )

    def data_rows(self, samples: Sequence[int]) -> list[int]:
        """Return which rows of the data the given samples are from, each once, in order."""
        if self.rows is None:
            return list(samples)
        first = self.samples[np.asarray(samples, dtype=np.int64)]
        found = np.searchsorted(self.rows, first, side="right") - 1
        return list(dict.fromkeys(int(row) for row in found))

    def save(self, folder: Path) -> None:
        """Write the arrays into ``folder``, which must exist and be private to the caller."""
        described: dict[str, object] = {"num_truncated": self.num_truncated, "keeps_rows": self.keeps_rows}
        described["left_out"] = {reason: list(rows) for reason, rows in self.left_out.items()}
        described["remarks"] = dict(self.remarks)
        borders: dict[str, Array | Ragged] = {}
        if self.reads is not None:
            borders["reads"] = self.reads
        if self.rows is not None:
            borders["rows"] = self.rows
        parts: dict[str, Mapping[str, Ragged | Array | Pixels]] = {
            "inputs": self.inputs,
            "targets": self.targets,
            "extras": self.extras,
            "beside": self.beside,
        }
        parts["borders"] = borders
        for name, values in parts.items():
            described[name] = _save_named(folder, name, values)
        (folder / "encoded.json").write_text(json.dumps(described), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Memory-map what ``save`` wrote."""
        described = json.loads((folder / "encoded.json").read_text(encoding="utf-8"))
        inputs, targets, extras, beside, borders = (
            _load_named(folder, name, described[name]) for name in ("inputs", "targets", "extras", "beside", "borders")
        )
        rows = borders.get("rows")
        return cls(
            inputs=inputs,
            targets=targets,
            reads=as_ragged(borders["reads"]) if "reads" in borders else None,
            rows=None if rows is None else np.array(rows, dtype=np.int64),
            keeps_rows=described["keeps_rows"],
            num_truncated=described["num_truncated"],
            left_out={reason: tuple(found) for reason, found in described["left_out"].items()},
            remarks=described["remarks"],
            extras=extras,
            beside=beside,
        )


def _ranges(starts: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the numbers from each start on, as many as its length says, one range after the other."""
    before = np.cumsum(lengths) - lengths
    return np.repeat(starts - before, lengths) + np.arange(int(lengths.sum()))


def _save_named(folder: Path, prefix: str, values: Mapping[str, Array | Ragged | Pixels]) -> dict[str, str]:
    """Write arrays under their names; return of each what kind of array it is."""
    kinds = {}
    for name, value in values.items():
        kinds[name] = "array"
        if isinstance(value, Pixels):
            kinds[name] = "pixels"
            value.save(folder, f"{prefix}.{name}")
        elif isinstance(value, Ragged):
            kinds[name] = "ragged"
            _save_ragged(folder, f"{prefix}.{name}", value)
        else:
            np.save(folder / f"{prefix}.{name}.npy", value, allow_pickle=False)
    return kinds


def _load_named(folder: Path, prefix: str, kinds: Mapping[str, str]) -> dict[str, Any]:
    readers: dict[str, Callable[[Path, str], Any]] = {"ragged": _load_ragged, "array": _load, "pixels": Pixels.load}
    return {name: readers[kind](folder, f"{prefix}.{name}") for name, kind in kinds.items()}


def _save_ragged(folder: Path, name: str, ragged: Ragged) -> None:
    np.save(folder / f"{name}.values.npy", ragged.values, allow_pickle=False)
    np.save(folder / f"{name}.offsets.npy", ragged.offsets, allow_pickle=False)


def _load(folder: Path, name: str) -> Array:
    array: Array = np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
    return array


def _load_ragged(folder: Path, name: str) -> Ragged:
    offsets = np.load(folder / f"{name}.offsets.npy", allow_pickle=False)
    return Ragged(_load(folder, f"{name}.values"), offsets)
