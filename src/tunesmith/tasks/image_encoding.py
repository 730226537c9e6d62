"""References to images as pixels: each image opened, cut and resized once, and kept as small integers.

Shapes: I different images, S rows, C colours, H and W pixels.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tunesmith.data.image_files import ImageBytes, ImageError, decode, require_pillow, shown_reference
from tunesmith.data.pixels import IntArray, Pixels
from tunesmith.data.version import reading_version
from tunesmith.files.cache import cached_folder
from tunesmith.files.hashing import hash_json
from tunesmith.files.operations import reserve
from tunesmith.models.image_reader import ImageReader
from tunesmith.types import InputError
from tunesmith.version import version_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

FEW = 512
"""Images that are held in memory; more are written to the cache one by one, and mapped from there."""
_FILE = "images.npy"


def image_reader_of(tokenizer: PreTrainedTokenizerBase) -> ImageReader:
    """Return what a model reads images with, as the caller knows that it reads some."""
    reader: Any = tokenizer
    assert isinstance(reader, ImageReader)
    return reader


def encode_images(
    references: Sequence[str | None], contents: Sequence[str | None] | None, reader: ImageReader
) -> Pixels:
    """Return the images that rows name; those of equal content once.

    ``contents`` are the SHA-256 of the images' bytes, where they are known. Raises ``InputError`` for an image that
    cannot be read (rows of data have been looked at before), or is another one than it was.
    """
    require_pillow()
    first, rows = _distinct(list(references if contents is None else contents))
    chosen = [str(references[row] or "") for row in first]
    expected = [None if contents is None else contents[row] for row in first]
    shape = (len(chosen), 3, *reader.size)
    if len(chosen) <= FEW:
        images, file = np.empty(shape, dtype=np.uint8), None
        _fill(images, chosen, expected, reader)
    else:
        file = _kept(shape, chosen, expected, reader)
        images = np.load(file, mmap_mode="r", allow_pickle=False)
    return Pixels(images, rows, reader.values(), reader.num_positions, file)


def _distinct(keys: Sequence[str | None]) -> tuple[list[int], IntArray]:
    """Return the first row of every different key, and [S]: which of the keys each row has."""
    numbers: dict[str | None, int] = {}
    first: list[int] = []
    rows = np.empty(len(keys), dtype=np.int64)
    for row, key in enumerate(keys):
        if key not in numbers:
            numbers[key] = len(first)
            first.append(row)
        rows[row] = numbers[key]
    return first, rows


def _kept(shape: tuple[int, ...], chosen: Sequence[str], expected: Sequence[str | None], reader: ImageReader) -> Path:
    """Return the file of many images in the cache, made one image at a time."""
    digest = hashlib.sha256("\n".join(key or name for key, name in zip(expected, chosen, strict=True)).encode())
    libraries = {name: version_of(name) for name in ("pillow", "transformers")}
    key = hash_json([reading_version(), libraries, reader.image_settings, list(reader.size), digest.hexdigest()])

    def build(folder: Path) -> None:
        path = folder / _FILE
        images: npt.NDArray[np.uint8] = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
        reserve(path)
        _fill(images, chosen, expected, reader)
        images.flush()  # type: ignore[attr-defined]

    return cached_folder("images", key, build, hashes=True) / _FILE


def _fill(
    images: npt.NDArray[np.uint8], chosen: Sequence[str], expected: Sequence[str | None], reader: ImageReader
) -> None:
    with ImageBytes() as source:
        for place, (reference, sha256) in enumerate(zip(chosen, expected, strict=True)):
            try:
                content = source.read(reference)
                images[place] = reader.resized(decode(content))
            except ImageError as error:
                raise InputError(
                    f"The image {shown_reference(reference) or 'of a row'} cannot be used: {error} ({error.fault}).",
                    "Give the path of a whole PNG, JPEG, GIF, BMP, WebP, TIFF or PPM file.",
                ) from error
            if sha256 is not None and hashlib.sha256(content).hexdigest() != sha256:
                raise InputError(
                    f"The image {shown_reference(reference)} has changed since the data was read.",
                    "Begin again: it is read anew then.",
                )
