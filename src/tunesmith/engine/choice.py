"""Choosing the next token of every text at work.

What is drawn for a text depends on the seed, the text's row and its own tokens, never on the other texts.

Shapes: B texts at work, V entries of the vocabulary, K likeliest entries.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from tunesmith.engine.sampling import Sampling

IntArray = npt.NDArray[np.int64]

FEW_TOKENS = 256
"""The likeliest tokens that are looked at first: sorting a whole vocabulary takes longer than a step."""


class Chooser:
    """Chooses tokens for texts, known by their rows."""

    def __init__(self, sampling: Sampling, model: Any) -> None:
        self.stops = sampling.stops(model)
        self._sampling = sampling
        self._penalty = float(getattr(getattr(model, "generation_config", None), "repetition_penalty", None) or 1.0)
        self._seen: dict[int, set[int]] = {}
        self._random: dict[int, np.random.Generator] = {}

    def begin(self, row: int, prompt: npt.NDArray[Any]) -> None:
        """Take note of a text that is going to be written."""
        self._random[row] = np.random.default_rng([self._sampling.seed, row])
        if self._penalty != 1.0:
            self._seen[row] = set(prompt.tolist())

    @torch.inference_mode()
    def choose(self, scores_BV: torch.Tensor, rows: Sequence[int]) -> IntArray:
        """Return a token for each of the texts ``rows`` from the scores of what may come next."""
        scores_BV = scores_BV.float()
        if self._penalty != 1.0:
            scores_BV = self._penalised(scores_BV, rows)
        tokens = self._drawn(scores_BV, rows) if self._sampling.temperature > 0 else _likeliest(scores_BV)
        if self._penalty != 1.0:
            for row, token in zip(rows, tokens.tolist(), strict=True):
                self._seen[row].add(token)
        return tokens

    def _penalised(self, scores_BV: torch.Tensor, rows: Sequence[int]) -> torch.Tensor:
        """Make what a text holds already less likely (Keskar et al. 2019, section 4.1)."""
        scores_BV = scores_BV.clone()
        for scores_V, row in zip(scores_BV, rows, strict=True):
            seen = torch.tensor(sorted(self._seen[row]), device=scores_BV.device)
            found = scores_V[seen]
            scores_V[seen] = torch.where(found < 0, found * self._penalty, found / self._penalty)
        return scores_BV

    def _drawn(self, scores_BV: torch.Tensor, rows: Sequence[int]) -> IntArray:
        uniform_B = torch.tensor([self._random[row].random() for row in rows], device=scores_BV.device)
        probabilities_BV = torch.softmax(scores_BV / self._sampling.temperature, dim=-1)
        if self._sampling.top_p >= 1:
            return _at(probabilities_BV.cumsum(-1), uniform_B).cpu().numpy()
        likely_BK, tokens_BK = probabilities_BV.topk(min(FEW_TOKENS, probabilities_BV.shape[1]))
        if float(likely_BK.sum(-1).min()) < self._sampling.top_p:
            likely_BK, tokens_BK = probabilities_BV.sort(-1, descending=True)
        before_BK = likely_BK.cumsum(-1) - likely_BK
        kept_BK = likely_BK.masked_fill(before_BK >= self._sampling.top_p, 0.0)
        chosen_B1 = _at(kept_BK.cumsum(-1), uniform_B)[:, None]
        return tokens_BK.gather(1, chosen_B1)[:, 0].cpu().numpy()


def _at(cumulative_BK: torch.Tensor, uniform_B: torch.Tensor) -> torch.Tensor:
    """Return the first entry whose cumulative weight exceeds a share ``uniform`` of the whole: [B]."""
    total_B1 = cumulative_BK[:, -1:]
    wanted_B1 = torch.minimum(uniform_B[:, None].to(total_B1.dtype) * total_B1, total_B1 * (1 - 1e-7))
    return torch.searchsorted(cumulative_BK, wanted_B1, right=True)[:, 0].clamp(max=cumulative_BK.shape[1] - 1)


def _likeliest(scores_BV: torch.Tensor) -> IntArray:
    """Return the likeliest tokens; numpy finds them in a tenth of the time that torch takes on a CPU."""
    tokens_B: IntArray = scores_BV.numpy().argmax(-1) if scores_BV.is_cpu else scores_BV.argmax(-1).cpu().numpy()
    return tokens_B
