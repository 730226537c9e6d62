"""What a model's image processor made of images, for sequences that show any number of them.

Processors of vision-language models give several arrays, each under the name that ``forward`` has for it, and their
sizes depend on the image: patches, pieces of a large image, its size. Each array has ``Pictures`` of its own.

Shapes: I different images, S sequences, T numbers of all images.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt

from tunesmith.files.operations import link_or_copy

IntArray = npt.NDArray[np.int64]
AnyArray = npt.NDArray[Any]

Joining = Literal["images", "sequences"]
"""How a batch is made of the arrays of its images: one image after the other along the first axis, or a row for each
sequence, whose images follow each other along the second. Where other axes differ, zeros are put at their ends."""


@dataclass(frozen=True, slots=True)
class Pictures:
    """One of the arrays that images become, for each of S sequences."""

    values: AnyArray
    """[T]: the numbers of every image once, one image after the other; memory-mapped where they are many."""
    shapes: IntArray
    """[I, axes]: the shape of each image's array."""
    shown: IntArray
    """Which of the images the sequences show, one sequence after the other."""
    offsets: IntArray
    """[S + 1]: where each sequence begins in ``shown``; the last entry is its length."""
    joining: Joining
    file: Path | None = None
    """The file that holds all ``values`` and nothing else; None where they are in memory."""

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, sequences: IntArray) -> AnyArray | None:
        """Return what a model is given for these sequences; None where none of them shows an image."""
        shown = [self._shown_by(int(one)) for one in sequences]
        if not any(map(len, shown)):
            return None
        ends = self.shapes.prod(axis=1).cumsum()

        def image(number: int) -> AnyArray:
            first = 0 if number == 0 else int(ends[number - 1])
            return np.array(self.values[first : int(ends[number])]).reshape(self.shapes[number])

        if self.joining == "images":
            return joined([image(int(one)) for images in shown for one in images], axis=0)
        empty = np.zeros((1, 0, *([0] * (self.shapes.shape[1] - 2))), dtype=self.values.dtype)
        rows = [joined([image(int(one)) for one in images], axis=1) if len(images) else empty for images in shown]
        return joined(rows, axis=0)

    def _shown_by(self, sequence: int) -> IntArray:
        return self.shown[self.offsets[sequence] : self.offsets[sequence + 1]]

    def shapes_of(self, sequence: int) -> IntArray:
        """Return the shapes of the arrays of the images that a sequence shows."""
        found: IntArray = self.shapes[self._shown_by(sequence)]
        return found

    def select(self, sequences: IntArray) -> Self:
        """Return these sequences, in this order; no image is looked at."""
        shown = [self._shown_by(int(one)) for one in sequences]
        offsets = np.cumsum([0, *map(len, shown)], dtype=np.int64)
        return replace(self, shown=np.concatenate([self.shown[:0], *shown]), offsets=offsets)

    def followed_by(self, other: Pictures) -> Self:
        """Return the sequences of both, whose images are in memory afterwards."""
        assert self.joining == other.joining, "images of one processor are joined"
        return replace(
            self,
            values=np.concatenate([self.values, other.values]),
            shapes=np.concatenate([self.shapes, other.shapes]),
            shown=np.concatenate([self.shown, other.shown + len(self.shapes)]),
            offsets=np.concatenate([self.offsets, self.offsets[-1] + other.offsets[1:]]),
            file=None,
        )

    def save(self, folder: Path, name: str) -> None:
        """Write the sequences into ``folder``; images that lie in a file of their own are not written twice."""
        for part, array in (("shapes", self.shapes), ("shown", self.shown), ("offsets", self.offsets)):
            np.save(folder / f"{name}.{part}.npy", array, allow_pickle=False)
        described = json.dumps({"joining": self.joining, "dtype": self.values.dtype.name})
        (folder / f"{name}.json").write_text(described, encoding="utf-8")
        target = folder / f"{name}.bin"
        if self.file is None:
            target.write_bytes(np.ascontiguousarray(self.values).tobytes())
            return
        link_or_copy(self.file, target)

    @classmethod
    def load(cls, folder: Path, name: str) -> Self:
        """Memory-map what ``save`` wrote."""
        shapes, shown, offsets = (
            np.load(folder / f"{name}.{part}.npy", allow_pickle=False) for part in ("shapes", "shown", "offsets")
        )
        described = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
        file = folder / f"{name}.bin"
        return cls(mapped(file, described["dtype"]), shapes, shown, offsets, described["joining"], file)


def mapped(file: Path, dtype: str) -> AnyArray:
    """Return the numbers of a file as they lie on the disk."""
    if not file.stat().st_size:
        return np.zeros(0, dtype=dtype)
    found: AnyArray = np.memmap(file, dtype=dtype, mode="r")
    return found


def joined(arrays: Sequence[AnyArray], axis: int) -> AnyArray:
    """Return arrays one after the other along an axis; where others differ in size, with zeros at their ends."""
    sizes = np.array([array.shape for array in arrays])
    largest = sizes.max(axis=0)
    largest[axis] = sizes[:, axis].sum()
    whole = np.zeros(tuple(largest), dtype=arrays[0].dtype)
    first = 0
    for array in arrays:
        places = [slice(0, size) for size in array.shape]
        places[axis] = slice(first, first + array.shape[axis])
        whole[tuple(places)] = array
        first += array.shape[axis]
    return whole
