"""What an answer may go on with, where it has to keep to a form that its reader relies on."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch


class Guide(Protocol):
    """Says of one answer, token by token, what may come next. It belongs to that answer alone."""

    def allowed(self) -> npt.NDArray[np.bool_] | None:
        """Return [W]: the tokens that may come next, none beyond W; None where that cannot be told any more."""

    def take(self, token: int) -> None:
        """Take note of the token that was chosen; it is one of those that were allowed, and no end."""

    @property
    def is_complete(self) -> bool:
        """Whether nothing may come any more."""


@torch.inference_mode()
def guided(scores_V: torch.Tensor, guide: Guide) -> torch.Tensor | None:
    """Return the scores of the next token, minus infinity for what may not come; None where the guide has given up."""
    allowed = guide.allowed()
    if allowed is None:
        return None
    hidden_V = np.ones(len(scores_V), dtype=np.bool_)
    size = min(len(scores_V), len(allowed))
    hidden_V[:size] = ~allowed[:size]
    if hidden_V.all():
        return None
    return scores_V.masked_fill(torch.from_numpy(hidden_V).to(scores_V.device), float("-inf"))
