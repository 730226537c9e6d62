"""A chat template as a program: sandboxed, bounded, and otherwise the same as in ``transformers``.

Templates run in a process of their own (``bounded.templates``), whose processor time and memory the kernel
limits: whatever a template does, in Python or below it, it ends. The process is started once and serves all
templates; texts that are known to be needed are asked for many at once.
"""

from __future__ import annotations

import functools
import json
import marshal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, cast

from tunesmith.bounded import StoppedError, Worker
from tunesmith.bounded.templates import STOPPED, TEXT
from tunesmith.types import InputError

MAX_SOURCE = 64_000
"""Longest template in characters; those of known models have some thousands."""
MAX_SECONDS = 2.0
"""Processor time of one rendering, and for each million bytes of its conversation."""
MAX_BYTES = 1 << 30
"""Memory of the process."""

_FIX = "Use another chat template: give task.template."
_worker = Worker("tunesmith.bounded.templates:answer")


class RefusedError(Exception):
    """The template refuses a conversation; the message holds the template's own words."""


@dataclass(frozen=True, slots=True)
class Rendered:
    """A conversation as text."""

    text: str
    marks: tuple[tuple[int, int], ...] | None = None
    """Start and end of what ``{% generation %}`` marks in ``text``; None where the template has no (usable) marks."""


class ChatTemplate:
    """One compiled template.

    Raises ``InputError`` where the source is no template, or is too long.
    """

    def __init__(self, source: str) -> None:
        if len(source) > MAX_SOURCE:
            message = f"The chat template has {len(source)} characters; at most {MAX_SOURCE} are read."
            raise InputError(message, _FIX)
        self._source = source
        self._ready: dict[bytes, list[Any]] = {}
        self.has_marks, _ = self._ask([])

    def render(self, variables: Mapping[str, Any]) -> Rendered:
        """Return the text of a conversation.

        ``variables`` hold plain JSON values: ``messages``, ``tools``, ``documents``, ``add_generation_prompt``,
        the names of special tokens, and whatever else the template reads. ``strftime_now`` is left undefined for
        templates that look whether it is there, and else always gives the same day: training, serving and every
        day have the same text.

        Raises:
            RefusedError: The template refuses this conversation.
            InputError: The template does what no template may: it takes too long, makes too much, or reaches
                for Python's insides.
        """
        request = packed(variables)
        result = self._ready.get(request)
        if result is None:
            _, (result,) = self._ask([request])
        kind, text, marks = result
        if kind == TEXT:
            return Rendered(text, None if marks is None else tuple((start, end) for start, end in marks))
        if kind == STOPPED:
            raise _stopped(text)
        raise RefusedError(text)

    def prepare(self, requests: Sequence[bytes]) -> None:
        """Render variables that are ``packed`` all at once and keep the texts until the next call."""
        self._ready = {}
        if requests:
            requests = list(dict.fromkeys(requests))
            with suppress(InputError):  # raised again for the conversation that is to blame
                self._ready = dict(zip(requests, self._ask(requests)[1], strict=True))

    def _ask(self, requests: Sequence[bytes]) -> tuple[bool, list[list[Any]]]:
        seconds = MAX_SECONDS * (1 + max(map(len, requests), default=0) / 1e6)
        try:
            answer = _worker.ask(
                marshal.dumps((self._source, seconds, list(requests)), 2), seconds=seconds, max_bytes=MAX_BYTES
            )
        except StoppedError as error:
            raise _stopped(str(error)) from None
        return cast("tuple[bool, list[list[Any]]]", json.loads(answer))


def packed(variables: Mapping[str, Any]) -> bytes:
    """Return plain values as bytes, equal ones as equal bytes (later formats depend on who else holds a value)."""
    try:
        return marshal.dumps(dict(variables), 2)
    except ValueError:  # a mapping or a text of another class
        return marshal.dumps(json.loads(json.dumps(dict(variables), default=str)), 2)


def _stopped(reason: str) -> InputError:
    return InputError(f"The chat template was stopped: {reason}.", _FIX)


@functools.lru_cache(maxsize=32)
def compiled(source: str) -> ChatTemplate:
    """Return the compiled template; each source is compiled once."""
    return ChatTemplate(source)
