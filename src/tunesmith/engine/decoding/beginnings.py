"""Beginnings that prompts share, a system message above all: what a model computes of them is kept and used again.

A prompt is remembered by its tokens alone. Once a second one begins as it did, the keys and values of what they share
are kept, and the third need not have them computed. What is kept are the very bits; the tokens that follow go through
matrix products of fewer rows, which may round otherwise, as they do beside other prompts, too.

Shapes: L tokens of a beginning.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass

from tunesmith.engine.decoding.cache import States
from tunesmith.engine.decoding.decoder import Decoder, IntArray

FEWEST_TOKENS = 32
"""Shorter beginnings are as quickly computed as they are looked up."""
NUM_REMEMBERED = 64
"""Prompts whose tokens are compared with those of a new one."""


@dataclass(frozen=True, slots=True)
class _Beginning:
    ids: IntArray
    """[L]"""
    states: States

    @property
    def num_bytes(self) -> int:
        return sum(tensor.nbytes for pair in self.states.values() for tensor in pair)


class Beginnings:
    """The beginnings that are kept beside a decoder; the one that was not used for longest goes first."""

    def __init__(self, decoder: Decoder, max_bytes: int) -> None:
        self._decoder, self._max_bytes = decoder, max_bytes
        self._kept: OrderedDict[bytes, _Beginning] = OrderedDict()
        self._remembered: deque[IntArray] = deque(maxlen=NUM_REMEMBERED)
        self.num_hits = 0
        """Prompts of which a beginning was known."""
        self.num_tokens = 0
        """Tokens that were not computed again."""
        self.num_bytes = 0

    def put(self, slot: int, prompt: IntArray) -> int:
        """Let a slot hold as much of a prompt as is known; return how many tokens, always fewer than all.

        The decoder is to read the rest next, before any other step.
        """
        found, length = self._longest(prompt[:-1])
        if found is None or length < FEWEST_TOKENS:
            return 0
        beginning = self._kept[found]
        self._kept.move_to_end(found)
        self._decoder.put(slot, beginning.states, length)
        self.num_hits += 1
        self.num_tokens += length
        return length

    def learn(self, slot: int, prompt: IntArray) -> None:
        """Take note of a prompt that was read into a slot, and keep what it shares with an earlier one."""
        shared = max((_shared(prompt, other) for other in self._remembered), default=0)
        self._remembered.append(prompt)
        if shared < FEWEST_TOKENS or self._longest(prompt)[1] >= shared:
            return
        new = _Beginning(prompt[:shared].copy(), self._decoder.kept(slot, shared))
        for key in [key for key, old in self._kept.items() if _shared(old.ids, new.ids) == len(old.ids)]:
            self._drop(key)  # it is the beginning of the new one
        if new.num_bytes > self._max_bytes:
            return
        self._kept[new.ids.tobytes()] = new
        self.num_bytes += new.num_bytes
        while self.num_bytes > self._max_bytes:
            self._drop(next(iter(self._kept)))

    def _longest(self, prompt: IntArray) -> tuple[bytes | None, int]:
        """Return what is kept that shares most with a prompt, and how many tokens those are."""
        lengths = {key: _shared(prompt, beginning.ids) for key, beginning in self._kept.items()}
        found = max(lengths, key=lengths.__getitem__, default=None)
        return found, 0 if found is None else lengths[found]

    def _drop(self, key: bytes) -> None:
        self.num_bytes -= self._kept.pop(key).num_bytes


def _shared(first: IntArray, second: IntArray) -> int:
    """Return how many tokens two prompts have in common at their beginning."""
    length = min(len(first), len(second))
    differs = first[:length] != second[:length]
    return int(differs.argmax()) if differs.any() else length
