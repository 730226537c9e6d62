"""Objects that hold several rows: questions on an article, sentences of a document, answers in a tree."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

OTHER_MESSAGES = "num_other_messages"
"""Column of how many messages of a tree are not in the conversation that is its row."""


def rows_in(value: Any) -> Iterator[tuple[str, dict[str, Any]]] | None:
    """Return the rows of an object that holds several, each with its mark (``#`` and a number); None for others.

    Known are questions with choices on one article (RACE), sentences of tokens with entities (spaCy's training format)
    and trees of messages (Open Assistant).
    """
    if not isinstance(value, dict):
        return None
    found = _questions_with_options(value) or _sentences(value) or _conversation(value)
    return None if found is None else ((f"#{number}", row) for number, row in enumerate(found, 1))


def _questions_with_options(value: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """Return a row for each question on an article whose options and answers are listed beside them."""
    asked, options, answers = value.get("questions"), value.get("options"), value.get("answers")
    if not isinstance(asked, list) or not isinstance(options, list) or not asked or len(asked) != len(options):
        return None
    if not all(isinstance(one, str) for one in asked) or not all(isinstance(one, list) for one in options):
        return None
    rest = {name: one for name, one in value.items() if name not in ("questions", "options", "answers")}
    rows = [rest | {"question": one, "options": choices} for one, choices in zip(asked, options, strict=True)]
    if isinstance(answers, list) and len(answers) == len(rows):
        rows = [row | {"answer": answer} for row, answer in zip(rows, answers, strict=True)]
    return rows


def _sentences(value: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """Return the sentences of a document in spaCy's training format, or its paragraphs where these have classes."""
    paragraphs = value.get("paragraphs")
    if not isinstance(paragraphs, list) or not paragraphs or not all(map(_is_paragraph, paragraphs)):
        return None
    rows: list[dict[str, Any]] = []
    for paragraph in paragraphs:
        cats = paragraph.get("cats")
        if cats and isinstance(paragraph.get("raw"), str):
            classes = {str(one.get("label")): one.get("value") for one in cats if isinstance(one, dict)}
            rows.append({"text": paragraph["raw"], "cats": classes})
            continue
        for sentence in paragraph["sentences"]:
            tokens = [token for token in sentence["tokens"] if isinstance(token, dict)]
            row: dict[str, Any] = {"tokens": [str(token.get("orth", "")) for token in tokens]}
            for name, key in (("ner_tags", "ner"), ("pos_tags", "tag")):
                if any(token.get(key) for token in tokens):
                    row[name] = ["O" if token.get(key) in (None, "-", "") else token[key] for token in tokens]
            rows.append(row)
    return rows


def _is_paragraph(value: Any) -> bool:
    if not isinstance(value, dict) or not isinstance(value.get("sentences"), list):
        return False
    return all(isinstance(one, dict) and isinstance(one.get("tokens"), list) for one in value["sentences"])


def _conversation(value: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """Return the best conversation of a tree of messages: at each turn the reply of the lowest rank, or the first."""
    first = value.get("prompt")
    if not isinstance(first, dict) or not isinstance(first.get("replies"), list) or "text" not in first:
        return None
    turns: list[dict[str, Any]] = []
    turn: Any = first
    while isinstance(turn, dict) and isinstance(turn.get("text"), str):
        turns.append({"role": turn.get("role"), "content": turn["text"]})
        replies = [one for one in turn.get("replies") or () if isinstance(one, dict) and not one.get("deleted")]
        turn = min(replies, key=_rank, default=None)
    while turns and turns[-1]["role"] == "prompter":
        turns.pop()
    rest = {name: one for name, one in value.items() if isinstance(one, str)}
    return [{**rest, "messages": turns, OTHER_MESSAGES: _num_messages(first) - len(turns)}]


def _num_messages(first: Mapping[str, Any]) -> int:
    """Return how many messages a tree has; as deep as JSON may be."""
    number, waiting = 0, [first]
    while waiting:
        turn = waiting.pop()
        number += 1
        waiting += [one for one in turn.get("replies") or () if isinstance(one, dict)]
    return number


def _rank(reply: Mapping[str, Any]) -> float:
    rank = reply.get("rank")
    return float(rank) if isinstance(rank, (int, float)) else float("inf")
