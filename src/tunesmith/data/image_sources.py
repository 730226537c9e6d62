"""Images in folders and archives: one row an image, whose folder names its class and whether it is a test row."""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from tunesmith.data.encodings import show_name
from tunesmith.data.image_files import file_of, has_image_suffix
from tunesmith.data.records import ROW, guess_to_dict
from tunesmith.data.sources import ImageFile, ImageFiles, split_named
from tunesmith.data.tables import TableWriter
from tunesmith.types import Guess, InputError, Problem

IMAGE, LABEL = "image", "label"

_GENERIC = frozenset(["image", "images", "img", "imgs", "picture", "pictures", "photo", "photos", "data", "png", "jpg"])
"""Names of folders that say no more than that there are images."""
_SPLIT_WORDS = frozenset(
    ["train", "training", "dev", "development", "val", "valid", "validation", "test", "testing", "set", "split"]
)
_HIDDEN = ("__MACOSX",)
_SHOWN = 5


def is_archive(path: Path) -> bool:
    """Say whether a file is an archive by its name, and one indeed."""
    return path.suffix.lower() == ".zip" and zipfile.is_zipfile(path)


def members_of(path: Path) -> list[str]:
    """Return the names of the images in an archive, in their order; nothing where it is damaged."""
    try:
        with zipfile.ZipFile(path) as archive:
            return [name for name in archive.namelist() if has_image_suffix(name) and not _is_hidden(name.split("/"))]
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return []


def holds_images(path: Path) -> bool:
    """Say whether a file is an image, or an archive of some, by its name and the names in it."""
    return has_image_suffix(path.name) or (is_archive(path) and bool(members_of(path)))


def image_sources(path: Path, alone: str = "train") -> tuple[list[ImageFiles], list[Problem]]:
    """Return the images of a folder, of an archive, or of a single file, by split; nothing where there are none.

    The innermost folder that says more than "images" or "train" names an image's class. Images whose folders name no
    split are of the split ``alone``. Raises ``InputError`` where there are test images and none to train on.
    """
    found: dict[str | None, list[ImageFile]] = {}
    for reference, folders, place in _images(path):
        split, label = _said_by(folders)
        found.setdefault(split, []).append(ImageFile(reference, label, place))
    if not found:
        return [], []
    problems = []
    unnamed = found.pop(None, [])
    if unnamed and alone in found:
        message = f"Not read: {len(unnamed):,} images of {show_name(path)} that lie in no folder of a split."
        problems.append(Problem("note", message, count=len(unnamed)))
    elif unnamed:
        found[alone] = unnamed
    if "train" not in found and len(found) > 1:
        raise InputError(
            f"{path} has images for {' and '.join(map(str, found))}, but none for training.",
            "Name the folder of training images train, or give it as data.path, and the others as data.validation and "
            "data.test.",
        )
    labels = {image.label for images in found.values() for image in images} - {None}
    if len(labels) < 2:  # a folder that all of them lie in says nothing
        found = {split: [image._replace(label=None) for image in images] for split, images in found.items()}
    name = show_name(path)
    return [ImageFiles(name, str(split), tuple(images)) for split, images in sorted(found.items(), key=str)], problems


def _images(path: Path) -> Iterator[tuple[str, list[str], str]]:
    """Yield the reference of every image, the folders that it lies in, and its place below ``path``."""
    if path.is_file():
        yield from _images_of(path, [], path.name)
        return
    for folder, folders, names in os.walk(path):
        folders[:] = sorted(name for name in folders if not _is_hidden([name]))
        inside = list(Path(folder).relative_to(path).parts)
        for name in sorted(names):
            if not _is_hidden([name]):
                yield from _images_of(Path(folder) / name, inside, "/".join([*inside, name]))


def _images_of(path: Path, folders: list[str], place: str) -> Iterator[tuple[str, list[str], str]]:
    # A name that is no UTF-8 cannot be written into a table: such an image is then one that is not there.
    reference = str(path.absolute()).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    if has_image_suffix(path.name):
        yield reference, folders, place
    elif is_archive(path):
        for member in sorted(members_of(path)):
            yield f"{reference}!{member}", [*folders, path.stem, *member.split("/")[:-1]], f"{place}!{member}"


def _is_hidden(parts: Sequence[str]) -> bool:
    return any(part.startswith(".") or part in _HIDDEN for part in parts)


def _said_by(folders: Sequence[str]) -> tuple[str | None, str | None]:
    """Return the split and the class that the folders of an image name."""
    split = label = None
    for folder in folders:
        words = [word for word in re.split(r"[^a-z]+", folder.lower()) if word]
        named = split_named(folder)
        if named is not None and set(words) <= _SPLIT_WORDS | _GENERIC:
            split = split or named
        elif folder.lower() not in _GENERIC:
            label = folder
    return split, label


def stamp_of(reference: str) -> list[Any]:
    """Return what changes when the file behind a reference does: its path, size and time."""
    try:
        found = file_of(reference).stat()
    except (OSError, ValueError):
        return [reference, None]
    return [reference, found.st_size, found.st_mtime_ns]


def read_image_files(files: ImageFiles, target: Path) -> tuple[dict[str, Any], list[Problem]]:
    """Write ``image`` (a reference), ``label`` where folders name it, and ``__row__`` to ``target``."""
    labels = sorted({image.label for image in files.files if image.label is not None})
    fields = [(IMAGE, pa.string()), *([(LABEL, pa.string())] if labels else []), (ROW, pa.string())]
    with TableWriter(target, pa.schema(fields)) as writer:
        for image in files.files:
            place = show_name(Path(image.place)) if "/" not in image.place else _shown_place(image.place)
            cells = [image.reference, *([image.label] if labels else []), place]
            writer.add(cells, len(image.reference) + len(image.place))
    if not labels:
        return {"format": "images", "guesses": []}, []
    guess = Guess("folder", "a folder per class", len(files.files))
    shown = ", ".join(labels[:_SHOWN]) + (", …" if len(labels) > _SHOWN else "")
    note = Problem("note", f"{files.name}: each file is an image, and the folder's name its label: {shown}.")
    details = {"format": "images by class", "guesses": [guess_to_dict(guess)]}
    return details, [note] if files.split == "train" else []


def _shown_place(place: str) -> str:
    return "/".join(show_name(Path(part)) for part in place.split("/"))
