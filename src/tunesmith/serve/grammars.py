"""Answers that keep to a grammar, JSON of a schema above all: what may come next is found by llguidance.

The tokens that may follow one that was chosen are found in a thread of their own while the model reads that one, so
that texts without a grammar, which are written beside, need not wait for it.

Shapes: W tokens that the tokenizer knows.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from importlib.util import find_spec
from typing import Any

import numpy as np
import numpy.typing as npt

from tunesmith.serve.errors import RefusedError

MAX_SCHEMA_BYTES = 200_000
COMPACT = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
"""JSON is written as Python's ``json.dumps`` writes it: where any white space may stand, a weak model fills its answer
with it."""
EXTRA = (
    "response_format and tool_choice: JSON output needs llguidance, not installed here: pip install 'tunesmith[json]'."
)


class JsonGuide:
    """Leads one answer. See ``tunesmith.engine.guide``."""

    def __init__(self, matcher: Any, pool: ThreadPoolExecutor) -> None:
        self._matcher, self._pool = matcher, pool
        self._is_complete = False
        self._next: Future[npt.NDArray[np.bool_] | None] = pool.submit(self._look)

    def allowed(self) -> npt.NDArray[np.bool_] | None:
        """Return [W]: the tokens that may come next; None where the grammar grew beyond its limits."""
        return self._next.result()

    def take(self, token: int) -> None:
        """Take note of a token, and begin to look for what may follow it."""
        self._matcher.consume_token(token)
        self._is_complete = self._matcher.is_stopped() and not self._matcher.is_error()
        if not self._is_complete:
            self._next = self._pool.submit(self._look)

    @property
    def is_complete(self) -> bool:
        """Whether the answer is whole, and nothing may be added to it."""
        return self._is_complete

    def _look(self) -> npt.NDArray[np.bool_] | None:
        bits = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
        return None if self._matcher.is_error() else np.unpackbits(bits, bitorder="little").view(np.bool_)


class Grammars:
    """Grammars over the tokens of one model."""

    def __init__(self, tokenizer: Any, stops: frozenset[int]) -> None:
        """Take a tokenizer, and the tokens that end an answer."""
        self._tokenizer, self._stops = tokenizer, stops
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="grammar")

    def of_json(self, schema: Any) -> Callable[[], JsonGuide]:
        """Return what makes guides, one for each answer, that lead to JSON of a schema.

        Raises ``RefusedError`` for schemas that are wrong, or hold what cannot be kept to.
        """
        return self._guides(lambda matcher: matcher.grammar_from_json_schema(_spelt(schema), overrides=COMPACT))

    def of_call(self, schema: Any, before: str, after: str) -> Callable[[], JsonGuide]:
        """Return the same for JSON between two texts (``<tool_call>``), each of which may be tokens of its own."""
        options = {**schema, "x-guidance": COMPACT}
        lark = f"start: {self._literal(before)} call {self._literal(after)}\ncall: %json {_spelt(options)}\n"
        return self._guides(lambda matcher: matcher.grammar_from_lark(lark))

    def close(self) -> None:
        """Let the thread end."""
        self._pool.shutdown(wait=False)

    def _guides(self, grammar_of: Callable[[Any], str]) -> Callable[[], JsonGuide]:
        if find_spec("llguidance") is None:
            raise RefusedError(400, EXTRA, "unsupported", param="response_format")
        from llguidance import LLMatcher

        with self._lock:
            vocabulary = self._vocabulary
        try:
            matcher = LLMatcher(vocabulary, grammar_of(LLMatcher), log_level=0)
        except ValueError as error:
            raise _unusable(str(error)) from error
        if matcher.is_error():
            raise _unusable(matcher.get_error())
        return lambda: JsonGuide(matcher.deep_copy(), self._pool)

    @cached_property
    def _vocabulary(self) -> Any:
        """The tokenizer as llguidance reads it; that takes about a second."""
        from llguidance.hf import from_tokenizer

        try:
            return from_tokenizer(self._tokenizer, eos_token=sorted(self._stops) or None)
        except Exception as error:  # what it makes of a tokenizer of a kind that it does not know
            message = f"response_format: answers of this model cannot be kept to JSON (its tokenizer: {_line(error)})."
            raise RefusedError(400, message, "unsupported", param="response_format") from error

    def _literal(self, text: str) -> str:
        """Return how a grammar names a text: what the tokenizer has a token of its own for is that token."""
        parts = []
        for part in text.split("\n"):
            token = self._tokenizer.added_tokens_encoder.get(part)
            parts.append([f"<[{token}]>"] if token is not None else [json.dumps(part)] if part else [])
        joined = [name for part in parts for name in ([*part, '"\\n"'])][:-1]
        return " ".join(joined) or '""'


def _spelt(schema: Any) -> str:
    text = json.dumps(schema)
    if len(text) > MAX_SCHEMA_BYTES:
        raise _unusable(f"it has {len(text)} characters, and may have {MAX_SCHEMA_BYTES}")
    return text


def _unusable(why: str) -> RefusedError:
    return RefusedError(400, f"The JSON schema cannot be used: {_line(why)}.", "bad_schema", param="response_format")


def _line(words: object) -> str:
    return " ".join(str(words).split())[:300].rstrip(".")
