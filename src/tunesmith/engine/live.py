"""Answers to prompts that come at any time: every text at work gets a token at each step, and new ones join between.

What is drawn for a text depends on its own seed and tokens, never on who is at work beside it. A model that cannot be
run with a ``Decoder`` writes one text after the other (``engine.generate.stream``).

Shapes: B texts at work, V entries of the vocabulary, K likeliest entries.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Literal, Self

import numpy as np
import torch
from torch import nn

from tunesmith.engine.choice import Chooser, IntArray
from tunesmith.engine.decoding.beginnings import Beginnings
from tunesmith.engine.decoding.decoder import Decoder
from tunesmith.engine.decoding.ready import find_way, ready
from tunesmith.engine.generate import is_simple, stream
from tunesmith.engine.guide import Guide, guided
from tunesmith.engine.sampling import Sampling
from tunesmith.models.wrapping import inner, takes_images

PROMPT_TOKENS = 2048
"""Tokens of new prompts that are read between two steps: those at work wait meanwhile."""

Reason = Literal["stop", "length", "cancelled", "failed"]
"""Why an answer ended; ``failed`` is one whose guide gave up."""


@dataclass(slots=True)
class LiveText:
    """One answer, from its prompt to its end. Whoever asked for it may set ``is_cancelled``."""

    prompt: IntArray
    """[T]: token ids."""
    sampling: Sampling
    num_alternatives: int = 0
    """K: of how many of the likeliest tokens the log-probabilities are noted; none are where it is 0."""
    answer: list[int] = field(default_factory=list)
    log_probabilities: list[float] = field(default_factory=list)
    """Of each token of the answer, where alternatives are asked for."""
    alternatives: list[list[tuple[int, float]]] = field(default_factory=list)
    """K tokens with their log-probabilities for each token of the answer."""
    ended: Reason | None = None
    is_cancelled: bool = False
    guide: Guide | None = None
    """What the answer has to keep to. Not for models that a ``LiveWriter`` cannot guide."""
    beside: Mapping[str, Any] | None = None
    """Further inputs of the prompt, as ``generate`` takes them, of models that see."""
    chooser: Chooser | None = None
    pieces: Generator[int, None, None] | None = None


class LiveWriter:
    """A model at work on the texts of many. A context manager: the model is made ready on entering."""

    def __init__(self, model: nn.Module, num_slots: int, capacity: int, beginning_bytes: int = 0) -> None:
        """Set aside room for ``num_slots`` texts at once, prompt and answer of each at most ``capacity`` tokens.

        What was computed of beginnings that prompts share is kept in up to ``beginning_bytes``.
        """
        self._model = model
        self._num_slots, self.capacity = num_slots, capacity
        self._waiting: deque[LiveText] = deque()
        self._texts: list[LiveText] = []
        """At work; the text at place i is in slot i."""
        self._decoder: Decoder | None = None
        self._beginning_bytes = beginning_bytes
        self.beginnings: Beginnings | None = None
        """What is kept of prompts; nothing where none was asked for, or the model writes one text after the other."""
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        way = find_way(self._model) if is_simple(self._model) and not takes_images(self._model) else None
        if way is not None:
            self._stack.enter_context(ready(self._model, way, keep=True))
            self._decoder = Decoder(self._model, self._num_slots, self.capacity)
            if self._beginning_bytes:
                self.beginnings = Beginnings(self._decoder, self._beginning_bytes)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def can_guide(self) -> bool:
        """Whether texts may have a guide."""
        return self._decoder is not None

    @property
    def num_at_work(self) -> int:
        """Texts that have begun or wait."""
        return len(self._texts) + len(self._waiting)

    def add(self, text: LiveText) -> None:
        """Take a text in; it begins when a slot is free."""
        assert text.guide is None or self.can_guide
        assert len(text.prompt) + text.sampling.max_new_tokens <= self.capacity, "no room was set aside for so much"
        self._waiting.append(text)

    def step(self) -> list[LiveText]:
        """Write a token of every text at work, and return the texts that have more tokens, or have ended, since."""
        moved = [text for text in self._texts if text.is_cancelled]
        moved += [text for text in self._waiting if text.is_cancelled]
        for text in moved:
            text.ended = "cancelled"
        self._waiting = deque(text for text in self._waiting if text.ended is None)
        self._clear()
        return moved + (self._step_plainly() if self._decoder is None else self._step(self._decoder))

    def _step(self, decoder: Decoder) -> list[LiveText]:
        first = len(self._texts)
        if taken := self._take():
            for text in taken:
                text.chooser = Chooser(text.sampling, inner(self._model))
                text.chooser.begin(0, text.prompt)
            self._texts += taken
            scores_BV = self._read(decoder, range(first, len(self._texts)), [text.prompt for text in taken])
        elif self._texts:
            first = 0
            scores_BV = decoder.step(np.array([text.answer[-1] for text in self._texts]))
        else:
            return []
        moved = self._texts[first:]
        for text, scores_V in zip(moved, scores_BV, strict=True):
            _choose(text, scores_V[None])
        self._clear()
        return moved

    def _read(self, decoder: Decoder, slots: Sequence[int], prompts: Sequence[IntArray]) -> torch.Tensor:
        """Read prompts into slots, but for beginnings that are known; return the scores of what follows: [B, V]."""
        if self.beginnings is None:
            return decoder.fill(slots, prompts)
        known = [self.beginnings.put(slot, prompt) for slot, prompt in zip(slots, prompts, strict=True)]
        scores_BV = decoder.fill(slots, prompts, known)
        for slot, prompt in zip(slots, prompts, strict=True):
            self.beginnings.learn(slot, prompt)
        return scores_BV

    def _take(self) -> list[LiveText]:
        taken: list[LiveText] = []
        num_tokens = 0
        while self._waiting and len(self._texts) + len(taken) < self._num_slots:
            num_tokens += len(self._waiting[0].prompt)
            if taken and num_tokens > PROMPT_TOKENS:
                break
            taken.append(self._waiting.popleft())
        return taken

    def _clear(self) -> None:
        """Give back the slots of texts that have ended."""
        for slot in range(len(self._texts) - 1, -1, -1):
            if self._texts[slot].ended is None:
                continue
            last = len(self._texts) - 1
            if slot != last:
                assert self._decoder is not None
                self._decoder.move(last, slot)
                self._texts[slot] = self._texts[last]
            self._texts.pop()

    def _step_plainly(self) -> list[LiveText]:
        """Write a token of the first text; the others wait for its end."""
        if not self._texts and self._waiting:
            text = self._waiting.popleft()
            text.pieces = stream(self._model, text.prompt.tolist(), text.sampling, keep=True, beside=text.beside)
            self._texts.append(text)
        if not self._texts:
            return []
        (text,) = self._texts
        assert text.pieces is not None
        token = next(text.pieces, None)
        if token is not None:
            text.answer.append(token)
        if token is None or len(text.answer) >= text.sampling.max_new_tokens:
            text.ended = "stop" if token is None else "length"
            text.pieces.close()
        self._clear()
        return [text]


def _choose(text: LiveText, scores_1V: torch.Tensor) -> None:
    """Add the next token to a text, or end it."""
    chooser = text.chooser
    assert chooser is not None
    allowed_V = scores_1V[0] if text.guide is None else guided(scores_1V[0], text.guide)
    if allowed_V is None:
        text.ended = "failed"
        return
    token = int(chooser.choose(allowed_V[None], [0])[0])
    if token in chooser.stops:
        text.ended = "stop"
        return
    text.answer.append(token)
    if text.num_alternatives:
        _note_probabilities(text, scores_1V[0], token)
    if text.guide is not None:
        text.guide.take(token)
    if text.guide is not None and text.guide.is_complete:
        text.ended = "stop"
    elif len(text.answer) >= text.sampling.max_new_tokens:
        text.ended = "length"


@torch.inference_mode()
def _note_probabilities(text: LiveText, scores_V: torch.Tensor, token: int) -> None:
    log_probabilities_V = scores_V.float().log_softmax(-1)
    text.log_probabilities.append(float(log_probabilities_V[token]))
    values_K, tokens_K = log_probabilities_V.topk(min(text.num_alternatives, len(scores_V)))
    text.alternatives.append(list(zip(tokens_K.tolist(), values_K.tolist(), strict=True)))
