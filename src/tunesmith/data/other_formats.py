"""Text files whose rows, if they have any, stand between marks of another format: what they are, and the way out."""

from __future__ import annotations

import re
from pathlib import Path

from tunesmith.data.encodings import open_text
from tunesmith.types import InputError

_MARKUP = (
    (r"<\?xml\b", "XML"),
    (r"<!doctype html|<html\b", "HTML"),
    (r"\{\\rtf", "RTF"),
    (r"(?:%.*\s+)*@relation\b", "ARFF"),
)
_MARKUP_START = 4_096


def refuse_markup(path: Path, name: str, encoding: str, *, is_wanted: bool) -> None:
    """Raise ``InputError`` for a document whose rows, if it has any, stand between marks that nobody wants to learn."""
    if is_wanted:
        return
    with open_text(path, encoding) as text:
        start = text.read(_MARKUP_START).lstrip("\ufeff \t\r\n")
    kind = next((kind for pattern, kind in _MARKUP if re.match(pattern, start, re.IGNORECASE)), "")
    if not kind and {suffix.lower() for suffix in path.suffixes} & {".yaml", ".yml"}:
        kind = "YAML"  # nothing at its beginning tells it from other text
    if kind:
        raise InputError(
            f"{name} is {kind}; its rows cannot be read.",
            "Export them as CSV or JSONL. To learn the file's own text, marks and all: data.passage 0 "
            "(a row a line), or another size.",
        )


