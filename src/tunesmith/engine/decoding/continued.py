"""Attention of prompts whose beginnings are kept already: new tokens see those, and one another.

Shapes: B texts, N new tokens of all of them, T tokens of all of them, L of one, H heads of queries, G of keys and
values (G divides H), D numbers per head.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from tunesmith.engine.decoding.cache import Kept, NativeKept, Seeing
from tunesmith.kernels import attention as native

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Continued:
    """Texts whose slots hold more than what is read now."""

    slots: tuple[int, ...]
    """[B]"""
    begins: tuple[int, ...]
    """[B]: how many tokens are there before the new ones."""
    lengths: tuple[int, ...]
    """[B]: how many tokens are there with them."""
    borders: torch.Tensor
    """[B + 1] int32: where each text begins and ends among the T tokens."""
    queries: native.Queries

    @classmethod
    def of(cls, slots: IntArray, begins: IntArray, num_new: IntArray, device: torch.device) -> Continued:
        """Return how texts go on: ``num_new`` tokens of each after those that there are, in the order of the pass."""
        lengths = begins + num_new
        places = np.concatenate([np.arange(begin, end) for begin, end in zip(begins, lengths, strict=True)])
        borders, asking, places_N = (
            torch.from_numpy(numbers.astype(np.int32)).to(device)
            for numbers in (np.cumsum([0, *lengths]), np.cumsum([0, *num_new]), places)
        )
        queries = native.Queries(asking, places_N)
        return cls(tuple(slots.tolist()), tuple(begins.tolist()), tuple(lengths.tolist()), borders, queries)

    def attend(self, query_NHD: torch.Tensor, kept: Kept | NativeKept, seeing: Seeing) -> torch.Tensor:
        """Return what each new query sees, [N, H * D]; the new keys and values are kept already.

        Queries and keys are turned to their positions.
        """
        texts = [kept.read(slot, length) for slot, length in zip(self.slots, self.lengths, strict=True)]
        behind = native.EVERYTHING if seeing.window is None else seeing.window - 1
        pattern = native.Pattern(self.borders, seeing.scale, 0, behind, queries=self.queries)
        heads = (query_NHD, torch.cat([keys for keys, _ in texts]), torch.cat([values for _, values in texts]))
        if native.serves_heads(heads, pattern):
            return native.attend(*heads, pattern)
        num_new = [end - begin for begin, end in zip(self.begins, self.lengths, strict=True)]
        news = torch.split(query_NHD, num_new)
        found = [
            _attend_one(new, *text, begin, seeing) for new, text, begin in zip(news, texts, self.begins, strict=True)
        ]
        return torch.cat(found).flatten(1)


def _attend_one(
    query_nHD: torch.Tensor, key_LGD: torch.Tensor, value_LGD: torch.Tensor, begin: int, seeing: Seeing
) -> torch.Tensor:
    """Return [n, H, D]: what the last n tokens of one text see of it."""
    query_1HnD, key_1GLD, value_1GLD = (tensor.transpose(0, 1)[None] for tensor in (query_nHD, key_LGD, value_LGD))
    places_n1 = torch.arange(begin, len(key_LGD), device=query_nHD.device)[:, None]
    distance_nL = places_n1 - torch.arange(len(key_LGD), device=query_nHD.device)
    seen_nL = distance_nL >= 0 if seeing.window is None else (distance_nL >= 0) & (distance_nL < seeing.window)
    num_repeats = query_1HnD.shape[1] // key_1GLD.shape[1]
    keys, values = (tensor.repeat_interleave(num_repeats, dim=1) for tensor in (key_1GLD, value_1GLD))
    attended_1HnD = functional.scaled_dot_product_attention(
        query_1HnD, keys, values, attn_mask=seen_nL, scale=seeing.scale
    )
    return attended_1HnD[0].transpose(0, 1)
