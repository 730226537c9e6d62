"""Where images stand in a conversation, from its messages to the text that the model reads.

In the content of a message each image is a stand-in: one character of a plane that nobody writes in, which tells which
of the message's images (``pictures``, numbers) it is. Templates are given lists of parts in its place, and write the
image's token, or the text with the stand-in, where they know of no parts. Either becomes what the processor makes of
that image.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tunesmith.tasks.chat.controls import Span
from tunesmith.tasks.chat.masks import TextRow
from tunesmith.tasks.chat.sandbox import RefusedError

_FIRST, _LAST = 0xF0000, 0xFFFFD
STAND_INS = re.compile(f"[{chr(_FIRST)}-{chr(_LAST)}]")
"""Finds stand-ins: characters for private use."""
MOST_IMAGES = _LAST - _FIRST + 1
"""Of one message."""
PICTURES = "pictures"
"""The key of a message under which the numbers of its images are."""


def stand_in(place: int) -> str:
    """Return what stands for one of a message's images in its content."""
    return chr(_FIRST + place)


def parts_of(content: str) -> list[dict[str, str]]:
    """Return a content as templates of vision-language models take it: parts that are images, and parts of text."""
    parts: list[dict[str, str]] = []
    first = 0
    for found in STAND_INS.finditer(content):
        if found.start() > first:
            parts.append({"type": "text", "text": content[first : found.start()]})
        parts.append({"type": "image"})
        first = found.end()
    if first < len(content) or not parts:
        parts.append({"type": "text", "text": content[first:]})
    return parts


def numbers_in(messages: Sequence[Mapping[str, Any]]) -> list[int]:
    """Return the numbers of the images that messages show, in the order in which they stand there."""
    return [
        message[PICTURES][ord(found) - _FIRST]
        for message in messages
        for found in STAND_INS.findall(message["content"])
    ]


@dataclass(frozen=True, slots=True)
class ImagePlaces:
    """Puts what a processor makes of images into texts that a template wrote."""

    texts: Sequence[str]
    """By number of an image: what takes the place of its token."""
    token: str | None
    """What the template writes for an image; None where it leaves the stand-in."""
    token_ids: frozenset[int]
    """The tokens at which the model puts what it sees."""

    def written(self, row: TextRow, messages: Sequence[Mapping[str, Any]]) -> TextRow:
        """Return a row, written of the beginning of ``messages``, with its images; none of them is trained.

        Raises ``RefusedError`` where the template writes another number of images than there are.
        """
        numbers = numbers_in(messages[: row.num_messages])
        places = [found.span() for found in self._pattern.finditer(row.text)]
        if len(places) != len(numbers):
            raise RefusedError(f"it writes {len(places)} images where messages show {len(numbers)}")
        if not places:
            return row
        pieces: list[str] = []
        moved: list[tuple[Span, Span]] = []
        first = length = 0
        for (start, end), number in zip(places, numbers, strict=True):
            pieces += [row.text[first:start], self.texts[number]]
            start_now = length + start - first
            length = start_now + len(self.texts[number])
            moved.append(((start, end), (start_now, length)))
            first = end
        text = "".join([*pieces, row.text[first:]])
        return replace(row, text=text, spans=tuple(_moved(row.spans, moved)), pictures=tuple(numbers))

    @property
    def _pattern(self) -> re.Pattern[str]:
        return STAND_INS if self.token is None else re.compile(re.escape(self.token))


def _moved(spans: Sequence[Span], images: Sequence[tuple[Span, Span]]) -> Iterator[Span]:
    """Yield spans as they lie once images have taken their room; images within them are left out."""
    for start, end in spans:
        first = start
        for (image_start, image_end), _ in images:
            if start <= image_start and image_end <= end:
                if first < image_start:
                    yield _place(first, images), _place(image_start, images)
                first = image_end
        if first < end or start == end:
            yield _place(first, images), _place(end, images)


def _place(place: int, images: Sequence[tuple[Span, Span]]) -> int:
    """Return where a place of the text without images is now: before an image that begins there."""
    shift = sum((new[1] - new[0]) - (old[1] - old[0]) for old, new in images if old[1] <= place)
    return place + shift
