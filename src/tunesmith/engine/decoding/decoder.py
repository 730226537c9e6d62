"""A model at work on several texts: prompts in, scores of the next token out, one token more for each at a time.

Shapes: S slots, B texts at work, T tokens of prompts, V entries of the vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from tunesmith.engine.batch import find_borders
from tunesmith.engine.decoding.cache import Cache, Places, States, Step
from tunesmith.engine.decoding.continued import Continued
from tunesmith.engine.decoding.work import Work, working
from tunesmith.engine.scorer import Scorer
from tunesmith.models.anatomy import Anatomy

SLOT_STEP = 8
"""The texts at work are rounded up to a multiple of it: libraries compile a kernel for every shape."""

IntArray = npt.NDArray[np.int64]


class Decoder:
    """A model with a cache. It must have been made ready (``engine.decoding.ready``)."""

    def __init__(self, model: nn.Module, num_slots: int, capacity: int) -> None:
        """Set aside room for ``num_slots`` texts of at most ``capacity`` tokens."""
        anatomy = Anatomy.of(model)
        self._base: Any = anatomy.base
        self._scorer = Scorer(model, "flat", "token")
        self._offset = anatomy.position_offset
        self._device = next(model.parameters()).device
        self._cache = Cache(_rounded(num_slots), capacity)
        self.num_slots = num_slots
        self.lengths: IntArray = np.zeros(self._cache.num_slots, dtype=np.int64)
        """[S]: tokens kept of each text."""

    @torch.inference_mode()
    def fill(
        self, slots: Sequence[int], prompts: Sequence[IntArray], known: Sequence[int] | None = None
    ) -> torch.Tensor:
        """Read prompts into slots; return the scores of what follows each: [B, V]. Slots are in ascending order.

        ``known`` is how many tokens of each prompt its slot holds already (``put``): fewer than all.
        """
        begins_B = np.zeros(len(prompts), dtype=np.int64) if known is None else np.array(known, dtype=np.int64)
        rests = [prompt[begin:] for prompt, begin in zip(prompts, begins_B, strict=True)]
        order = np.argsort([len(rest) for rest in rests], kind="stable")
        begins, lengths = begins_B[order], np.array([len(rests[index]) for index in order])
        into = np.array(slots)[order]
        self.lengths[into] = begins + lengths
        ids = np.concatenate([rests[index] for index in order]).astype(np.int64)
        places = np.concatenate([np.arange(begin, begin + n) for begin, n in zip(begins, lengths, strict=True)])
        at = Places(*map(self._tensor, (np.repeat(into, lengths), places)))
        borders = find_borders(lengths.tolist(), self._device)
        continued = Continued.of(into, begins, lengths, self._device) if begins.any() else None
        hidden_TD = self._hidden(self._tensor(ids), at.places, Work(self._cache, at, borders, None, continued))
        last = np.empty_like(order)
        last[order] = np.cumsum(lengths) - 1
        return self._scorer.head(hidden_TD[self._tensor(last)])

    @torch.inference_mode()
    def kept(self, slot: int, length: int) -> States:
        """Return a copy of what is kept of the first tokens in a slot."""
        return self._cache.read(slot, length)

    @torch.inference_mode()
    def put(self, slot: int, states: States, length: int) -> None:
        """Let a slot hold the first tokens of what ``kept`` returned; ``fill`` is to read the rest next."""
        self._cache.put(slot, states, length)

    @torch.inference_mode()
    def step(self, tokens: IntArray) -> torch.Tensor:
        """Add a token to each of the first B texts; return the scores of what follows: [B, V]."""
        num_rows = len(tokens)
        num_slots = _rounded(num_rows)
        ids, places = np.zeros(num_slots, dtype=np.int64), self.lengths[:num_slots].copy()
        ids[:num_rows] = tokens
        places[num_rows:] = 0  # of slots that are free
        self.lengths[:num_rows] += 1
        at = Places(torch.arange(num_slots, device=self._device), self._tensor(places))
        step = Step(at, at.places.int(), int(places.max()) + 1)
        hidden_BD = self._hidden(self._tensor(ids), at.places, Work(self._cache, at, None, step))
        return self._scorer.head(hidden_BD)[:num_rows]

    @torch.inference_mode()
    def move(self, source: int, target: int) -> None:
        """Let the text in the slot ``source`` go on in the slot ``target``."""
        self._cache.move(source, target, int(self.lengths[source]))
        self.lengths[target] = self.lengths[source]

    def _hidden(self, ids_N: torch.Tensor, places_N: torch.Tensor, work: Work) -> torch.Tensor:
        with working(work):
            made = self._base(input_ids=ids_N[None], position_ids=places_N[None] + self._offset, use_cache=False)
        hidden: torch.Tensor = made.last_hidden_state[0]
        return hidden

    def _tensor(self, array: npt.NDArray[Any]) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self._device)


def _rounded(num_rows: int) -> int:
    """Return a number of rows for which kernels are compiled: 1, 2, 4, 8, 16, 24, ..."""
    small = next((size for size in (1, 2, 4) if num_rows <= size), None)
    return small or -(-num_rows // SLOT_STEP) * SLOT_STEP
