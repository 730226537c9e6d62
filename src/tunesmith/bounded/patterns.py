"""Tokenizers of strangers, tried out in a process with limits."""

from __future__ import annotations

import json
from typing import Any

from tunesmith.types import InputError

LONGEST = 2_000
"""Characters of a text that a tokenizer is tried on."""
MOST_GROWTH = 20
"""Times its length that a normaliser or a splitter may make of a text; the worst of Unicode's own forms is 18."""

PROBES = (
    "a" * LONGEST,
    "a" * LONGEST + "!",
    " " * LONGEST + "a",
    "0" * LONGEST + "x",
    "'" * LONGEST,
    "\n" * LONGEST + "a",
    "ab " * (LONGEST // 3),
    'The quick brown fox jumps over 1234567890 lazy dogs; don\'t they? ("Yes!") \t\n' * 25,
    "".join(map(chr, range(32, 127))) * (LONGEST // 95),
    "\u00e9\u4e2d\u6587\U0001f600\u0301\ufb03\u00df\u0130 " * (LONGEST // 9),
)


def answer(request: bytes) -> bytes:
    """Try the parts of a tokenizer that a request holds, as JSON."""
    _try_tokenizer(json.loads(request))
    return b""


def _try_tokenizer(parts: dict[str, Any]) -> None:
    """Go through the probes with a tokenizer of ``parts`` (normaliser, splitter) that knows no words."""
    from tokenizers import Tokenizer

    bare = {"version": "1.0", "added_tokens": [], "model": {"type": "BPE", "vocab": {}, "merges": []}, **parts}
    tokenizer = Tokenizer.from_str(json.dumps(bare))
    for probe in PROBES:
        text = probe if tokenizer.normalizer is None else tokenizer.normalizer.normalize_str(probe)
        _check_growth(len(probe), len(text))
        if tokenizer.pre_tokenizer is not None:
            pieces = tokenizer.pre_tokenizer.pre_tokenize_str(text)
            _check_growth(len(probe), sum(len(piece) for piece, _ in pieces))


def _check_growth(before: int, after: int) -> None:
    if after > MOST_GROWTH * before:
        raise InputError(f"it makes {after:,} characters of {before:,}.")
