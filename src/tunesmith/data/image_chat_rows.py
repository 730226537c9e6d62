"""Conversations with images in them: each image has its place in a message, and is opened once.

A canonical message keeps its text, in which ``IMAGE_PLACE`` stands for each image; its ``images`` list them in that
order as ``{"image": reference, "content": SHA-256 of the bytes}``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa

from tunesmith.data.chat_layout import MESSAGES, Cells, Layout
from tunesmith.data.chat_rows import Conversations
from tunesmith.data.clean import Tally
from tunesmith.data.config import CleanConfig
from tunesmith.data.conversations import IMAGES
from tunesmith.data.forms import Columns, Misfit
from tunesmith.data.image_columns import below
from tunesmith.data.image_files import (
    WRITTEN_OUT,
    Fault,
    ImageBytes,
    ImageError,
    decode,
    is_reference,
    require_pillow,
    shown_reference,
)
from tunesmith.data.image_rows import CONTENT, ImageRows
from tunesmith.data.message_cells import MisfitError, decode_cell
from tunesmith.data.messages import IMAGE_PLACE, Message, image_of, read_messages
from tunesmith.data.rows import Rows
from tunesmith.types import InputError

MARKER = "<image>"
"""How LLaVA's and LLaMA-Factory's rows write the place of an image of their column of images."""
_COUNT = Misfit(
    "image count",
    f"there are more or fewer places of images in their messages (parts, or {MARKER} in a text) than images.",
    refuses_prediction=True,
    recorded="places and images of different number",
)
_NO_IMAGES = "-"
"""Stands for the content of no image: texts by which rows are compared are never empty."""
_OPENED_LATELY = 65_536


class ImageConversations(Conversations):
    """``text``, ``messages``, perhaps ``tools``, and the ``content`` of all images of a row."""

    misfits: ClassVar[tuple[Misfit, ...]] = (
        *(one for one in Conversations.misfits if one.what != "content"),
        Misfit(
            "content",
            "a turn holds something other than text and images.",
            refuses_prediction=True,
            recorded="turns that are neither text nor image",
        ),
        _COUNT,
        *ImageRows.misfits,
    )
    with_images: ClassVar[bool] = True

    def __init__(self, columns: Columns, layout: Layout, shape: tuple[str, ...], *, for_prediction: bool) -> None:
        super().__init__(columns, layout, shape, for_prediction=for_prediction)
        fields = [field for field in self.schema if field.name != "row"]
        self.schema = pa.schema([*fields, (CONTENT, pa.string()), ("row", pa.string())])
        self.texts = ("text", CONTENT)
        self._bytes = ImageBytes()
        self._look = lru_cache(_OPENED_LATELY)(self._opened)
        self._contents: list[str] = []

    def batches(self, dataset: Rows, clean: CleanConfig, tally: Tally) -> Iterator[pa.RecordBatch]:
        """Yield all rows as canonical batches, archives staying open meanwhile."""
        require_pillow()
        with self._bytes:
            yield from super().batches(dataset, clean, tally)

    def contents(self, batch: pa.RecordBatch) -> list[Any]:
        """Return what rows of the same text and images still differ in: where an image lies is no difference."""
        told = [None if cell is None else _without_places(cell) for cell in batch.column(MESSAGES).to_pylist()]
        tools = batch.column("tools").to_pylist() if "tools" in self.schema.names else [None] * len(told)
        return [repr(parts) for parts in zip(told, tools, strict=True)]

    def group_values(self, column: str, values: Sequence[Any], batch: pa.RecordBatch) -> list[Any]:
        if column not in self.columns.get(IMAGES.name, ()):
            return super().group_values(column, values, batch)
        return list(batch.column(CONTENT).to_pylist())

    def further(self, batch: pa.RecordBatch) -> list[pa.Array]:
        del batch
        found, self._contents = self._contents, []
        return [pa.array(found, pa.string())]

    def read(self, cells: Cells) -> tuple[list[Message], str | None, str]:
        # Whoever writes the character that stands for images has written text.
        texts = {role: cell.replace(IMAGE_PLACE, "\ufffd") for role, cell in cells.items() if isinstance(cell, str)}
        found = super().read({**cells, **texts})
        shown = [image[CONTENT] for message in found[0] for image in message.get("images", ())]
        self._contents.append(" ".join(shown) or _NO_IMAGES)
        return found

    def read_images(self, cells: Cells, messages: list[Message]) -> list[Message]:
        if IMAGES.name in self.columns:
            messages = placed(messages, _listed(cells.get(IMAGES.name)))
        return [self._seen(message) for message in messages]

    def _seen(self, message: Message) -> Message:
        """Return a message whose images have been opened."""
        if message["content"].count(IMAGE_PLACE) != len(message.get("images", ())):
            raise MisfitError(_COUNT.what)
        if not message.get("images"):
            return message
        found = []
        for reference in message["images"]:
            if reference is None:
                raise MisfitError(_COUNT.what)
            # Images that stand in the rows themselves are large: they are not kept as keys.
            content, fault = (self._opened if WRITTEN_OUT.match(reference) else self._look)(reference)
            if content is None:
                raise MisfitError(fault or "unreadable")
            found.append({"image": reference, CONTENT: content})
        return {**message, "images": found}

    def _opened(self, reference: str) -> tuple[str | None, Fault | None]:
        """Return the hash of an image's bytes, or what is wrong with it."""
        if not is_reference(reference):
            return None, "missing"
        try:
            return look_at(self._bytes, reference), None
        except ImageError as error:
            return None, error.fault


def look_at(source: ImageBytes, reference: str) -> str:
    """Return the SHA-256 of an image's bytes, which can be shown to a model. Raises ``ImageError`` otherwise."""
    content = source.read(reference)
    decode(content)
    return hashlib.sha256(content).hexdigest()


def placed(messages: Sequence[Message], images: Sequence[str | None]) -> list[Message]:
    """Return messages with the images of a row's own column in their places.

    These are, in their order, parts that say of no image where it is, and ``MARKER`` in a text. Where there are
    neither, all images stand before what the user says first. Raises ``MisfitError`` where the numbers differ.
    """
    waiting = iter(images)
    found, num_places = [], 0
    for message in messages:
        own = iter(message.get("images", ()))
        texts, shown = [], []
        for piece in _pieces(message["content"]):
            reference = next(own, None) if piece == IMAGE_PLACE else None
            if piece in (IMAGE_PLACE, MARKER):
                if reference is None:
                    num_places += 1
                    reference = next(waiting, None)
                texts.append(IMAGE_PLACE)
                shown.append(reference)
            else:
                texts.append(piece)
        changed = {**message, "content": "".join(texts)}
        found.append({**changed, "images": shown} if shown else changed)
    if not num_places and images:
        return _before_the_first_question(found, images)
    if num_places != len(images):
        raise MisfitError(_COUNT.what)
    return found


def _before_the_first_question(messages: Sequence[Message], images: Sequence[str | None]) -> list[Message]:
    first = next((place for place, message in enumerate(messages) if message["role"] == "user"), None)
    if first is None:
        raise MisfitError(_COUNT.what)
    asked = messages[first]
    content = IMAGE_PLACE * len(images) + asked["content"]
    asked = {**asked, "content": content, "images": [*images, *asked.get("images", ())]}
    return [*messages[:first], asked, *messages[first + 1 :]]


def _pieces(text: str) -> Iterator[str]:
    """Yield a text piece by piece, each place of an image by itself."""
    for number, between in enumerate(text.split(IMAGE_PLACE)):
        if number:
            yield IMAGE_PLACE
        for index, plain in enumerate(between.split(MARKER)):
            if index:
                yield MARKER
            yield plain


def _listed(cell: Any) -> list[str | None]:
    """Return the references of a row's cell of images: a list of them, or a single one."""
    value = decode_cell(cell) if isinstance(cell, str) and cell.lstrip().startswith("[") else cell
    if value is None or (isinstance(value, str) and not value.strip()):
        return []
    values = value if isinstance(value, list) else [value]
    return [image_of(one) for one in values]


def _without_places(cell: str) -> str:
    messages = json.loads(cell)
    for message in messages:
        if "images" in message:
            message["images"] = [image[CONTENT] for image in message["images"]]
    return json.dumps(messages, ensure_ascii=False)


def read_conversation(messages: Sequence[Mapping[str, Any]]) -> list[Message]:
    """Return the canonical messages of a conversation that a program holds: its images are opened.

    Paths begin where the program runs. Raises ``InputError`` for messages, or images, that cannot be used.
    """
    try:
        read = read_messages([dict(message) for message in messages], with_images=True)
    except MisfitError as error:
        raise InputError(
            f"The conversation cannot be read ({error.what}{f': {error.detail}' if error.detail else ''}).",
            'Give messages as {"role": "user", "content": [{"type": "image", "image": "photo.png"}, {"type": "text", '
            '"text": "What is it?"}]}.',
        ) from error
    with ImageBytes() as source:
        return [{**one, "images": _all_seen(source, one["images"])} if one.get("images") else one for one in read]


def _all_seen(source: ImageBytes, images: Sequence[str | None]) -> list[dict[str, str]]:
    require_pillow()
    found = []
    for given in images:
        named = (given or "").strip().removeprefix("file://")
        reference = named if WRITTEN_OUT.match(named) or not named else below(named, Path.cwd(), is_free=True)
        try:
            found.append({"image": reference, CONTENT: look_at(source, reference)})
        except ImageError as error:
            raise InputError(
                f"The image {shown_reference(named) or 'of a message'} cannot be used: {error} ({error.fault}).",
                "Give the path of a whole PNG, JPEG, GIF, BMP, WebP, TIFF or PPM file.",
            ) from error
    return found
