"""Images as a model takes them: small integers on disk, fractions only for the rows of a batch.

Shapes: I images, S sequences (rows that show one image each, some the same one), C colours, H and W pixels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from tunesmith.files.operations import link_or_copy

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Pixels:
    """One image for each of S sequences, of one size."""

    images: npt.NDArray[np.uint8]
    """[I, C, H, W]: every image once, resized, memory-mapped where they are many."""
    rows: IntArray
    """[S]: which of the images each sequence shows."""
    values: npt.NDArray[np.float32]
    """[C, 256]: the number that the model is given for each shade."""
    positions: int
    """Places that an image takes in the model (its patches): what it costs, counted in tokens."""
    file: Path | None = None
    """The file that holds all ``images`` and nothing else; None where they are in memory."""
    boxes: IntArray | None = None
    """[S, 4]: the part of each image that is seen (left, upper, right, lower), stretched to the whole; None for all."""
    mirrored: npt.NDArray[np.bool_] | None = None
    """[S]: whether left and right change places."""

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, sequences: IntArray) -> npt.NDArray[np.float32]:
        """Return [n, C, H, W]: the numbers that a model is given for these sequences."""
        chosen = self.rows[sequences]
        shades = np.array(self.images[chosen])
        if self.boxes is not None:
            for place, box in enumerate(self.boxes[sequences].tolist()):
                shades[place] = _stretched(shades[place], tuple(box))
        if self.mirrored is not None:
            turned = self.mirrored[sequences]
            shades[turned] = shades[turned, :, :, ::-1]
        found = np.empty(shades.shape, dtype=np.float32)
        for colour, values in enumerate(self.values):
            found[:, colour] = values[shades[:, colour]]
        return found

    def select(self, sequences: IntArray) -> Self:
        """Return these sequences, in this order; no image is looked at."""
        return replace(
            self,
            rows=self.rows[sequences],
            boxes=None if self.boxes is None else self.boxes[sequences],
            mirrored=None if self.mirrored is None else self.mirrored[sequences],
        )

    def changed(self, boxes: IntArray | None, mirrored: npt.NDArray[np.bool_] | None) -> Self:
        """Return the same images, seen in part or in a mirror."""
        return replace(self, boxes=boxes, mirrored=mirrored)

    def followed_by(self, other: Pixels) -> Self:
        """Return the sequences of both, whose images are in memory afterwards."""
        images = np.concatenate([self.images, other.images])
        return replace(self, images=images, rows=np.concatenate([self.rows, other.rows + len(self.images)]), file=None)

    def save(self, folder: Path, name: str) -> None:
        """Write the sequences into ``folder``; images that lie in a file of their own are not written twice."""
        assert self.boxes is None, "what is drawn at random is never kept"
        assert self.mirrored is None, "what is drawn at random is never kept"
        arrays: dict[str, npt.NDArray[Any]] = {
            "rows": self.rows,
            "values": self.values,
            "positions": np.array(self.positions),
        }
        for part, array in arrays.items():
            np.save(folder / f"{name}.{part}.npy", array, allow_pickle=False)
        target = folder / f"{name}.images.npy"
        if self.file is None:
            np.save(target, self.images, allow_pickle=False)
            return
        link_or_copy(self.file, target)

    @classmethod
    def load(cls, folder: Path, name: str) -> Self:
        """Memory-map what ``save`` wrote."""
        file = folder / f"{name}.images.npy"
        rows, values, positions = (
            np.load(folder / f"{name}.{part}.npy", allow_pickle=False) for part in ("rows", "values", "positions")
        )
        return cls(np.load(file, mmap_mode="r", allow_pickle=False), rows, values, int(positions), file)


def _stretched(image_CHW: npt.NDArray[np.uint8], box: tuple[int, int, int, int]) -> npt.NDArray[np.uint8]:
    """Return a part of an image, stretched to the size of the whole."""
    from PIL import Image

    height, width = image_CHW.shape[1:]
    whole = Image.fromarray(np.ascontiguousarray(image_CHW.transpose(1, 2, 0)))
    part = whole.crop(box).resize((width, height), Image.Resampling.BILINEAR)  # nothing beyond its border counts
    return np.asarray(part, dtype=np.uint8).transpose(2, 0, 1)
