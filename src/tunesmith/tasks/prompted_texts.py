"""Texts to be made of others, asked of a model that only goes on with texts: a conversation for every one."""

from __future__ import annotations

from collections.abc import Sequence

from tunesmith.tasks.base import Columns
from tunesmith.tasks.writer import EXAMPLES


def conversation(source: str, target: str | None = None) -> list[dict[str, str]]:
    """Return the messages that ask for what is made of a source, with the answer if there is one."""
    answer = [] if target is None else [{"role": "assistant", "content": target}]
    return [{"role": "user", "content": source}, *answer]


def conversations(sources: Sequence[str], columns: Columns, targets: Sequence[Sequence[str]] | None = None) -> Columns:
    """Return the columns of conversations about sources: one for every target or, without any, for every row."""
    answers: Sequence[Sequence[str | None]] = [[None]] * len(sources) if targets is None else targets
    rows = [row for row, texts in enumerate(answers) for _ in texts]
    messages = [conversation(source, text) for source, texts in zip(sources, answers, strict=True) for text in texts]
    others = {name: [columns[name][row] for row in rows] for name in ("row", EXAMPLES) if name in columns}
    return {"messages": messages, **others}
