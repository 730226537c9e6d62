"""Preferences as canonical columns, for the tests."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

Row = tuple[list[Any], list[list[Any]], list[int]]
"""The messages asked, those of each answer, and the answers' ranks."""


def columns_of_answers(rows: Sequence[Row]) -> dict[str, list[Any]]:
    """Return the canonical columns of rows."""
    return {
        "text": ["\n".join(f"{turn['role']}: {turn['content']}" for turn in prompt) for prompt, _, _ in rows],
        "messages": [json.dumps([*prompt, *(answers[0] if ranks[0] == 0 else [])]) for prompt, answers, ranks in rows],
        "prompt": [json.dumps(prompt) for prompt, _, _ in rows],
        "answers": [json.dumps(answers) for _, answers, _ in rows],
        "ranks": [json.dumps(ranks) for _, _, ranks in rows],
        "row": [f"rows.jsonl:{i + 1}" for i in range(len(rows))],
    }
