"""How much each word of a sequence added to a number that a model gives: four methods.

A word that is taken away gets the vector of a blank (the mask token, where the model has learned one) in the place of
each of its tokens. What the tokenizer added stays as it is, and so do places and lengths.

- ``integrated-gradients`` (Sundararajan, Taly and Yan 2017, equation 3): the gradient along the straight line from the
  blanked sequence to the sequence itself, by Gauss-Legendre quadrature; the scores add up to the difference of both.
- ``gradient-x-input`` (Shrikumar et al. 2016): the gradient at the sequence, times its vectors; one pass.
- ``occlusion`` (Zeiler and Fergus 2014): what the number loses where the word alone is taken away.
- ``shapley``: what the word adds to those before it, over orders of the words drawn at random, each with its reverse
  (Castro, Gomez and Tejada 2009); the scores add up, as those of integrated gradients do.

Shapes: B copies, L tokens, D numbers a vector, W words that may be taken away.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from tunesmith.trust.explained_target import Target, Value
from tunesmith.trust.questioned_model import QuestionedModel, blank_token
from tunesmith.trust.questioned_model import Sequence as Asked
from tunesmith.trust.words import Word, words_of

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

NUM_POINTS = (32, 128, 512)
"""Points of the line along which gradients are integrated: so many more while the scores do not add up."""
MISSED = 0.02
"""How far they may be from that, as a part of the difference (of one, where it is smaller)."""
NUM_ORDERS = 16
"""Orders of the words, of which each second one is the reverse of the one before."""


@dataclass(frozen=True)
class Question:
    """A sequence, what is explained of it, and the words that may be taken away."""

    model: QuestionedModel
    sequence: Asked
    target: Target
    words: tuple[Word, ...]
    """All words of the sequence."""
    vectors: torch.Tensor
    blank: torch.Tensor
    """The same with a blank in the place of every token of ``open_words``."""
    at_once: int
    """Copies of a pass."""

    @classmethod
    def of(
        cls, model: QuestionedModel, sequence: Asked, target: Target, *, num_scores: int, before: int | None = None
    ) -> Question:
        """Ask about a sequence; of one that an answer follows in, only what stands ``before`` that place is explained.

        Call it where the model ``asked`` is as its authors wrote it.
        """
        ids = sequence.inputs["input_ids"]
        words = tuple(words_of(model.tokenizer, sequence.ids))
        is_open = torch.zeros(ids.shape[1], dtype=torch.bool)
        for word in words:
            if not word.is_special and (before is None or word.places[-1] < before):
                is_open[list(word.places)] = True
        blanked = torch.where(is_open.to(ids.device), blank_token(model.tokenizer), ids[0])
        kept = tuple(word for word in words if before is None or word.places[-1] < before)
        return cls(
            model,
            sequence,
            target,
            kept,
            model.vectors(ids)[0],
            model.vectors(blanked[None])[0],
            model.copies_at_once(sequence, num_scores),
        )

    @property
    def open_words(self) -> tuple[Word, ...]:
        """The W words that may be taken away: those that the tokenizer did not add."""
        return tuple(word for word in self.words if not word.is_special)

    def values(self, vectors: Sequence[torch.Tensor] | torch.Tensor, value: Value | None = None) -> torch.Tensor:
        """Return [B]: the number of each copy, whose vectors are [L, D] each."""
        value, found = value or self.target.value, []
        with torch.no_grad():
            for start in range(0, len(vectors), self.at_once):
                part = vectors[start : start + self.at_once]
                copies = part if isinstance(part, torch.Tensor) else torch.stack(list(part))
                found.append(value(self.model.scores(self.sequence, copies)).double().cpu())
        return torch.cat(found) if found else torch.zeros(0, dtype=torch.float64)

    def values_with(self, is_there_BW: BoolArray, value: Value | None = None) -> FloatArray:
        """Return [B]: the number where only the words marked are there and the others are blanks."""
        found = [self.values(part, value) for part in self._copies(is_there_BW)]
        return torch.cat(found).numpy() if found else np.zeros(0)

    def _copies(self, is_there_BW: BoolArray) -> Iterator[torch.Tensor]:
        words = self.open_words
        of_token = np.full(len(self.vectors), -1)
        for number, word in enumerate(words):
            of_token[list(word.places)] = number
        for start in range(0, len(is_there_BW), self.at_once):
            part = is_there_BW[start : start + self.at_once]
            # A token of no word keeps its vector, which is also that of the blanked sequence.
            shown_BL = np.concatenate([part, np.ones((len(part), 1), dtype=np.bool_)], axis=1)[:, of_token]
            mask = torch.from_numpy(shown_BL).to(self.vectors.device)[..., None]
            yield torch.where(mask, self.vectors, self.blank)

    def gradients(self, vectors_BLD: torch.Tensor, value: Value) -> torch.Tensor:
        """Return [B, L, D]: the gradient of each copy's number with respect to its vectors."""
        found = []
        for start in range(0, len(vectors_BLD), self.at_once):
            copies = vectors_BLD[start : start + self.at_once].detach().clone().requires_grad_()
            with torch.enable_grad():
                total = value(self.model.scores(self.sequence, copies)).sum()
                found.append(torch.autograd.grad(total, copies)[0])
        return torch.cat(found)

    def per_word(self, scores_L: torch.Tensor) -> FloatArray:
        """Return [W]: the sum over each word's tokens."""
        scores = scores_L.double().cpu().numpy()
        return np.array([scores[list(word.places)].sum() for word in self.open_words])


def integrated_gradients(question: Question, value: Value, seed: int = 0) -> FloatArray:
    """Return [W]; ``seed`` is of no account."""
    del seed
    blank, whole = question.values(torch.stack([question.blank, question.vectors]), value).tolist()
    for number in NUM_POINTS:
        scores_L = along_the_line(question, value, number)
        if abs(float(scores_L.sum()) - (whole - blank)) <= MISSED * max(1.0, abs(whole - blank)):
            break
    return question.per_word(scores_L)


def along_the_line(question: Question, value: Value, number: int) -> torch.Tensor:
    """Return [L]: what each token's vector adds on the way from the blanked sequence, by so many points."""
    nodes, weights = np.polynomial.legendre.leggauss(number)
    like, blank = question.vectors, question.blank
    places = torch.from_numpy((nodes + 1) / 2).to(like)
    shares = torch.from_numpy(weights / 2).to(like)
    line = like - blank
    total = torch.zeros_like(like)
    for start in range(0, number, question.at_once):
        part = slice(start, start + question.at_once)
        places_B, shares_B = places[part], shares[part]
        gradients_BLD = question.gradients(blank + places_B[:, None, None] * line, value)
        total += (shares_B[:, None, None] * gradients_BLD).sum(dim=0)
    return (line * total).sum(dim=-1)


def gradient_x_input(question: Question, value: Value, seed: int = 0) -> FloatArray:
    """Return [W]; ``seed`` is of no account."""
    del seed
    gradient_LD = question.gradients(question.vectors[None], value)[0]
    return question.per_word((gradient_LD * question.vectors).sum(dim=-1))


def occlusion(question: Question, value: Value, seed: int = 0) -> FloatArray:
    """Return [W]; ``seed`` is of no account."""
    del seed
    num_words = len(question.open_words)
    there = np.concatenate([np.ones((1, num_words), dtype=np.bool_), ~np.eye(num_words, dtype=np.bool_)])
    found = question.values_with(there, value)
    lost: FloatArray = found[0] - found[1:]
    return lost


def shapley(question: Question, value: Value, seed: int = 0) -> FloatArray:
    """Return [W], the mean over ``NUM_ORDERS`` orders drawn by ``seed``."""
    num_words, random = len(question.open_words), np.random.default_rng(seed)
    total = np.zeros(num_words)
    for _ in range(NUM_ORDERS // 2):
        order = random.permutation(num_words)
        for way in (order, order[::-1]):
            steps = np.zeros((num_words + 1, num_words), dtype=np.bool_)
            for number, word in enumerate(way):
                steps[number + 1 :, word] = True
            total[way] += np.diff(question.values_with(steps, value))
    return total / (2 * (NUM_ORDERS // 2))


METHODS: dict[str, Callable[[Question, Value, int], FloatArray]] = {
    "integrated-gradients": integrated_gradients,
    "gradient-x-input": gradient_x_input,
    "occlusion": occlusion,
    "shapley": shapley,
}
"""Names -> what scores the words of a question."""
