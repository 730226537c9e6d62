"""What heads take and give that is not what most of them do: options side by side, scores apart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from tunesmith.models.wrapping import inner


def head_scores(output: Any) -> torch.Tensor:
    """Return [..., K]: an output's ``logits`` or, of a head that gives its scores apart, these side by side.

    Such is a head for answers in a text: one score of every token as the beginning (``start_logits``), one as the end.
    """
    scores: torch.Tensor | None = getattr(output, "logits", None)
    if scores is not None:
        return scores
    return torch.stack([value for name, value in output.items() if name.endswith("_logits")], dim=-1)


def scores_options(model: nn.Module) -> bool:
    """Say whether a model takes the options of a row together, as [rows, options, tokens]."""
    return type(inner(model)).__name__.endswith("ForMultipleChoice")


def head_inputs(model: nn.Module, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return inputs [S, L] as the model takes them: each sequence the only option of a row, where it scores options.

    Fractions (the pixels of images) come in the number format of the weights.
    """
    if not scores_options(model):
        if any(values.is_floating_point() for values in inputs.values()):
            kind = next(model.parameters()).dtype
            return {name: one.to(kind) if one.is_floating_point() else one for name, one in inputs.items()}
        return dict(inputs)
    return {name: values[:, None] for name, values in inputs.items()}
