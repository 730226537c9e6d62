"""Text files whose rows, if they have any, stand between marks of another format: what they are, and the way out."""

from __future__ import annotations

import re
from pathlib import Path

from tunesmith.data.encodings import open_text
from tunesmith.types import InputError

_EXPORT = "Export them as CSV or JSONL."
_TRANSLATIONS = "Write them as a table with a column for each language, or as two files of a sentence a line, such as"
_TRANSLATIONS += " train.en and train.de."
_SUBTITLES = "Take the times out: what is said in a line, one line each."
_SCRIPT = "Delete what stands before the first [ or {, and the semicolon at the end; save the rest as .json."
_TABLE = "Load it into a database and export the table as CSV."
_INTENTS = "Convert it with Rasa: rasa data convert nlu -f json --data FILE --out nlu.json; that file is read."

_MARKUP = (
    (r"<\?xml\b[^<]*(?:<!--.*?-->\s*)*(?:<!doctype[^<]*)?<(?:tmx|xliff)\b", "TMX or XLIFF", _TRANSLATIONS),
    (r"<\?xml\b", "XML", _EXPORT),
    (r"<!doctype html|<html\b", "HTML", _EXPORT),
    (r"<(?:srcset|refset|tstset|mteval)\b", "SGML of a translation contest", _TRANSLATIONS),
    (r"<!doctype\b|<[a-z][\w-]*(?:\s+[\w:-]+=(?:\"[^\"]*\"|'[^']*'))+\s*>\s*[\r\n]+\s*<", "SGML or XML", _EXPORT),
    (r"\{\\rtf", "RTF", _EXPORT),
    (r"(?:%.*\s+)*@relation\b", "ARFF", _EXPORT),
    (r"(?:#.*\s+)*msgid \"", "a gettext catalogue (PO)", _TRANSLATIONS),
    (r"WEBVTT\b|1\s+\d\d:\d\d:\d\d[,.]\d{3} --> ", "subtitles", _SUBTITLES),
    (
        r"version https://git-lfs\.github\.com/spec",
        "a pointer of Git LFS, not the file itself",
        "Fetch it: git lfs pull.",
    ),
    (r"(?:window\.[\w.]+|(?:var|let|const)\s+\w+|module\.exports)\s*=\s*[\[{]", "JavaScript", _SCRIPT),
    (
        (
            r"(?:(?:--|/\*|#)[^\n]*\n\s*|set\b[^\n]*;\s*)*(?:insert into\s+[`\"\w.]+\s*(?:\(|values\b)"
            r"|(?:create (?:table|database)|drop table)\s+(?:if (?:not )?exists\s+)?[`\"\w.]+\s*[(;])"
        ),
        "SQL",
        _TABLE,
    ),
    (r"(?:version:.*\s+)?nlu:\s+- intent:|## ?intent:", "training data of Rasa", _INTENTS),
)
"""What a file begins with, what it then is, and how its rows can be had."""
_START = 4_096
_FEATURES = re.compile(r"[+-]?\d+(?:\.\d+)?(?:,\d+)*(?:\s+\d+:[+-]?[\d.]+(?:[eE][+-]?\d+)?)+\s*(?:#.*)?")
_LEAST_LINES = 3


def refuse_markup(path: Path, name: str, encoding: str, *, is_wanted: bool) -> None:
    """Raise ``InputError`` for a document whose rows, if it has any, stand between marks that nobody wants to learn."""
    if is_wanted:
        return
    with open_text(path, encoding) as text:
        start = text.read(_START).lstrip("\ufeff \t\r\n")
    kind, fix = next(
        ((kind, fix) for pattern, kind, fix in _MARKUP if re.match(pattern, start, re.IGNORECASE)), ("", "")
    )
    if kind:
        raise InputError(
            f"{name} is {kind}; its rows cannot be read.",
            f"{fix} To learn the file's own text, marks and all: data.passage 0 (a row a line), or another size.",
        )
    lines = start.splitlines()[:-1]
    if len(lines) >= _LEAST_LINES and all(_FEATURES.fullmatch(line.strip()) for line in lines):
        raise InputError(
            f"{name} holds numbered features (libsvm, svmlight), and no text.",
            "Give the texts that they were made of, with the labels that stand first in the lines.",
        )
