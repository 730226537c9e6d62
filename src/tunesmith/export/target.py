"""What a form of a model for other programs is, and how that program is asked for scores and for texts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch

from tunesmith.export.plain_model import PlainModel
from tunesmith.run import Run

Runtime = Callable[[Mapping[str, torch.Tensor]], torch.Tensor]
"""The other program: from inputs [S, L] each, padded on the right, to scores [S, K], or [S, L, K] of tokens."""
Writes = Callable[[Sequence[int], int, frozenset[int]], list[int]]
"""The other program, writing: from the ids of a prompt, how many tokens at most, and those that end an answer, to the
likeliest token after the other, without the one that ends it."""


@dataclass(frozen=True, slots=True)
class Opened:
    """What was written, loaded by the program that it is for."""

    scores: Runtime
    writes: Writes | None = None
    """None where it is not for writing."""


@dataclass(frozen=True, slots=True)
class Form:
    """How the numbers of a target are kept, and what that may change."""

    name: str
    tolerance: float | None
    """Largest difference between scores, relative to the largest of them, that the form explains. None where rows
    decide: numbers of 8 bits and less move scores by as much as the model lets them."""


FP32 = Form("fp32", 1e-4)
BF16 = Form("bf16", 0.05)
"""8 bits of a number are kept: each weight is off by up to 0.4%, and layers add up."""
FP16 = Form("fp16", 0.01)


class Target(Protocol):
    """One form; ``export`` knows them by their names."""

    name: str
    forms: Mapping[str, Form]
    """By the name that the user gives it; the first is usual."""
    program: str
    """What reads it, and compares it."""
    is_timed: bool
    """Whether that is the program that people use it with, so that its speed is worth knowing."""

    def refuse(self, run: Run, form: Form) -> None:
        """Raise ``InputError`` where a run cannot be written like this, with what can be done instead."""

    def write(self, run: Run, plain: PlainModel, form: Form, folder: Path, inputs: Sequence[str]) -> Sequence[str]:
        """Write everything that the other program needs into an empty folder; ``inputs`` are what rows come with.

        Returns sentences that the user is to be told, of what is not as the form says.
        """

    def open(self, run: Run, folder: Path, form: Form) -> Opened:
        """Load what was written as the other program does."""
