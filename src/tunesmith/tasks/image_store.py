"""The images of conversations, each made into text and arrays once: in memory where they are few, else in the cache.

Shapes: I different images, T numbers of all of them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tunesmith.data.encoded import Ragged
from tunesmith.data.image_files import ImageBytes, ImageError, decode, require_pillow, shown_reference
from tunesmith.data.image_rows import CONTENT
from tunesmith.data.pictures import AnyArray, Pictures, mapped
from tunesmith.data.version import reading_version
from tunesmith.files.cache import cached_folder
from tunesmith.files.hashing import hash_json
from tunesmith.models.vision_reader import Seen, VisionReader
from tunesmith.types import InputError
from tunesmith.version import version_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

FEW = 32
"""Images that are held in memory: what is made of one may have megabytes."""
_DESCRIBED = "images.json"


def vision_reader_of(tokenizer: PreTrainedTokenizerBase | VisionReader) -> VisionReader:
    """Return what a vision-language model reads with, as the caller knows that it is one."""
    reader: Any = tokenizer
    assert isinstance(reader, VisionReader)
    return reader


@dataclass(frozen=True, slots=True)
class SeenImages:
    """What the processor of a model makes of some images, which are numbered."""

    texts: tuple[str, ...]
    """[I]: what takes the place of each one's token in a text."""
    values: Mapping[str, AnyArray]
    """By name of an array, the numbers of all images, [T]."""
    shapes: Mapping[str, AnyArray]
    """By name of an array, its shape for each image, [I, axes]."""
    files: Mapping[str, Path]
    """By name of an array, the file that holds its ``values``; empty where they are in memory."""

    def pictures(self, shown: Ragged, reader: VisionReader) -> dict[str, Pictures]:
        """Return what sequences are given that show images by these numbers."""
        numbers, offsets = np.asarray(shown.values, dtype=np.int64), shown.offsets
        return {
            name: Pictures(self.values[name], self.shapes[name], numbers, offsets, kind.joining, self.files.get(name))
            for name, kind in reader.kinds.items()
        }


def distinct_images(rows: Sequence[Sequence[Mapping[str, Any]]]) -> tuple[list[Mapping[str, str]], dict[str, int]]:
    """Return the different images of conversations, and their numbers by their content."""
    numbers: dict[str, int] = {}
    found: list[Mapping[str, str]] = []
    for messages in rows:
        for message in messages:
            for image in message.get("images", ()):
                if image[CONTENT] not in numbers:
                    numbers[image[CONTENT]] = len(found)
                    found.append(image)
    return found, numbers


def see_images(images: Sequence[Mapping[str, str]], reader: VisionReader) -> SeenImages:
    """Return what the processor makes of images, which are given by reference and content.

    Raises ``InputError`` for an image that cannot be read (rows of data have been looked at before), that is another
    one than it was, or that the processor refuses.
    """
    require_pillow()
    if len(images) <= FEW:
        seen = list(_seen(images, reader))
        shapes = {
            name: _shapes([one.arrays[name] for one in seen], kind.num_axes) for name, kind in reader.kinds.items()
        }
        values = {
            name: np.concatenate([np.zeros(0, kind.dtype), *(one.arrays[name].reshape(-1) for one in seen)])
            for name, kind in reader.kinds.items()
        }
        return SeenImages(tuple(one.text for one in seen), values, shapes, {})
    digest = hashlib.sha256("\n".join(image[CONTENT] for image in images).encode())
    libraries = {name: version_of(name) for name in ("pillow", "transformers")}
    key = hash_json([reading_version(), libraries, reader.image_settings, digest.hexdigest()])
    return _kept(cached_folder("images", key, lambda folder: _write(folder, images, reader), hashes=True), reader)


def _shapes(arrays: Sequence[AnyArray], num_axes: int) -> AnyArray:
    return np.array([array.shape for array in arrays], dtype=np.int64).reshape(-1, num_axes)


def _write(folder: Path, images: Sequence[Mapping[str, str]], reader: VisionReader) -> None:
    """Write what is made of images into a folder, one image at a time."""
    texts: dict[str, int] = {}
    numbers: list[int] = []
    shapes: dict[str, list[Any]] = {name: [] for name in reader.kinds}
    with ExitStack() as stack:
        files = {name: stack.enter_context((folder / f"{name}.bin").open("wb")) for name in reader.kinds}
        for seen in _seen(images, reader):
            numbers.append(texts.setdefault(seen.text, len(texts)))
            for name, file in files.items():
                file.write(np.ascontiguousarray(seen.arrays[name]).tobytes())
                shapes[name].append(seen.arrays[name].shape)
    described = {"texts": list(texts), "numbers": numbers, "shapes": shapes}
    (folder / _DESCRIBED).write_text(json.dumps(described), encoding="utf-8")


def _kept(folder: Path, reader: VisionReader) -> SeenImages:
    described = json.loads((folder / _DESCRIBED).read_text(encoding="utf-8"))
    files = {name: folder / f"{name}.bin" for name in reader.kinds}
    shapes = described["shapes"]
    return SeenImages(
        tuple(described["texts"][number] for number in described["numbers"]),
        {name: mapped(file, reader.kinds[name].dtype) for name, file in files.items()},
        {name: np.array(shapes[name], np.int64).reshape(-1, kind.num_axes) for name, kind in reader.kinds.items()},
        files,
    )


def _seen(images: Sequence[Mapping[str, str]], reader: VisionReader) -> Iterator[Seen]:
    with ImageBytes() as source:
        for image in images:
            reference = image["image"]
            try:
                content = source.read(reference)
                rgb = decode(content)
            except ImageError as error:
                raise InputError(
                    f"The image {shown_reference(reference)} cannot be used: {error} ({error.fault}).",
                    "Give the path of a whole PNG, JPEG, GIF, BMP, WebP, TIFF or PPM file.",
                ) from error
            if hashlib.sha256(content).hexdigest() != image[CONTENT]:
                raise InputError(
                    f"The image {shown_reference(reference)} has changed since the data was read.",
                    "Begin again: it is read anew then.",
                )
            try:
                yield reader.see(rgb)
            except (ValueError, TypeError, ZeroDivisionError, OverflowError) as error:
                height, width = rgb.shape[:2]
                raise InputError(
                    f"The model's processor refuses the image {shown_reference(reference)} ({height} x {width} "
                    f"pixels): {next(iter(str(error).splitlines()), type(error).__name__)}",
                    "Remove it, or change its size or proportions.",
                ) from error
