"""What a form of a model for other programs is, and how that program is asked for scores."""

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
    """What reads it."""

    def refuse(self, run: Run) -> None:
        """Raise ``InputError`` where a run cannot be written like this, with what can be done instead."""

    def write(self, run: Run, plain: PlainModel, form: Form, folder: Path, inputs: Sequence[str]) -> None:
        """Write everything that the other program needs into an empty folder; ``inputs`` are what rows come with."""

    def open(self, run: Run, folder: Path, form: Form) -> Runtime:
        """Load what was written as the other program does."""
