"""Rewards as users write them."""

from __future__ import annotations

from typing import Any


def score(answer: str, reference: str | None) -> bool:
    return answer == reference


def by_row(prompt: str, row: dict[str, Any]) -> float:
    return len(prompt) * row["factor"]


def broken(answer: str) -> float:
    return 1 / (len(answer) - 3)


def silent(**_: Any) -> None:
    return None


def asks_for_more(answer: str, tokenizer: Any) -> float:
    return 0.0
