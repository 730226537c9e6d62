"""What is to be learned, by which model, in numbers that a method can be chosen by."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Situation:
    """What is to be learned, by which model."""

    num_rows: int
    """Training rows."""
    num_answers: int
    """What is to be learned of them: labels, or tokens of answers."""
    writes: bool
    """Whether the answers are written, token by token."""
    noise: float
    """Share of training rows that have the text of another one and not its label."""
    num_weights: int
    has_classes: bool = False
    """Whether every row is of one of several classes."""
    free_memory: int | None = None
    """Bytes that can be taken, where that is known."""
