"""Questions that stand within the text that they are about, as SQuAD and its relatives write them: a row each.

SQuAD 1 and 2 (articles with paragraphs with questions), DRCD, KorQuAD and XQuAD in the same form; CMRC 2018 and MRQA,
whose objects are paragraphs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_CONTEXTS = ("context", "context_text", "passage", "paragraph", "text")
_QUESTIONS = ("question", "query_text", "query")
_KEYS = ("id", "query_id", "qid")


def questions_within(value: Any) -> Iterator[tuple[str, dict[str, Any]]] | None:
    """Return the questions of an article or a paragraph, each with its mark; None where the value is neither.

    A question is a row of ``context``, ``question``, perhaps ``answers`` (as they are written), and what else is said
    of it. Its mark is ``#`` and its key in the file, or its number among those of the value. One that is said to have
    no answer has none, whatever is written beside it.
    """
    paragraphs = _paragraphs(value)
    return None if paragraphs is None else _rows(value, paragraphs)


def _paragraphs(value: Any) -> list[Any] | None:
    if not isinstance(value, Mapping):
        return None
    if isinstance(value.get("paragraphs"), list) and all(map(_is_paragraph, value["paragraphs"])):
        return list(value["paragraphs"])
    return [value] if _is_paragraph(value) else None


def _is_paragraph(value: Any) -> bool:
    return isinstance(value, Mapping) and isinstance(value.get("qas"), list)


def _rows(value: Mapping[str, Any], paragraphs: list[Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    title = {"title": value["title"]} if isinstance(value.get("title"), str) else {}
    number = 0
    for paragraph in paragraphs:
        context = next((paragraph[name] for name in _CONTEXTS if name in paragraph), None)
        for asked in paragraph["qas"]:
            number += 1
            key = next((asked[name] for name in _KEYS if name in asked), None) if isinstance(asked, Mapping) else None
            yield f"#{number if key is None else key}", title | {"context": context} | _question(asked)


def _question(asked: Any) -> dict[str, Any]:
    """Return the columns of a question; of what is no object, whatever it is as the question alone."""
    if not isinstance(asked, Mapping):
        return {"question": asked}
    name = next((name for name in _QUESTIONS if name in asked), None)
    row = {} if name is None else {"question": asked[name]}
    row |= {key: value for key, value in asked.items() if key not in {name, "plausible_answers"}}
    if row.get("is_impossible") is True:
        row["answers"] = []
    return row
