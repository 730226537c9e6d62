"""Losses of preferences: what makes good answers likelier than bad ones, and not too unlike a reference.

Written for one answer ``y`` to what is asked, ``x``: ``log p`` is the log-probability that the model gives all its
tokens, ``log q`` what the reference gives them, ``|y|`` their number; ``w`` is the better answer, ``l`` the worse one.
``d = (log p_w - log q_w) - (log p_l - log q_l)`` is how much more the model prefers the better answer than the
reference does, ``s`` the logistic function. Of a pair:

- ``sigmoid``: ``-log s(beta d)``, DPO (Rafailov et al. 2023, eq. 7); with ``label_smoothing`` ``e`` the share of pairs
  that are the wrong way round: ``-(1 - e) log s(beta d) - e log s(-beta d)`` (Mitchell 2023, eq. 3);
- ``sigmoid_norm``: the same with each ``log p - log q`` divided by ``|y|`` (length-normalised DPO; Lambert et al. 2024,
  section 5.1.2);
- ``ipo``: ``(d' - 1 / (2 beta))^2`` (Azar et al. 2023, eq. 17), ``d'`` being ``d`` with each part divided by ``|y|``;
- ``hinge``: ``max(0, 1 - beta d)`` (SLiC, Zhao et al. 2023; as in RSO, Liu et al. 2023, eq. 10);
- ``robust``: ``[-(1 - e) log s(beta d) + e log s(-beta d)] / (1 - 2 e)`` (Chowdhury et al. 2024, eq. 12);
- ``simpo``: ``-log s(beta log p_w / |y_w| - beta log p_l / |y_l| - gamma)``, without a reference (Meng et al. 2024,
  eq. 6);
- ``orpo``: ``-log p_w / |y_w| - beta log s(log odds_w - log odds_l)``, ``odds = P / (1 - P)`` and
  ``log P = log p / |y|``, without a reference (Hong et al. 2024, eq. 6 and 7).

Of an answer alone, ``kto`` (Ethayarajh et al. 2024, eq. 7 and 8): ``desirable (1 - s(beta (r - z)))`` for a good one,
``undesirable (1 - s(beta (z - r)))`` for a bad one, ``r = log p - log q``; ``z`` is how far the model is from the
reference, ``max(0, mean of r)`` over answers to other questions, of the whole step.

Shapes: U tokens of all answers, S answers, P pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from tunesmith.data.encoded import Units
from tunesmith.tasks.losses import widen
from tunesmith.tasks.objective import Objective

IntArray = npt.NDArray[np.int64]

Loss = Literal["sigmoid", "sigmoid_norm", "ipo", "hinge", "robust", "simpo", "orpo", "kto"]

REFERENCE = "reference"
"""The target that holds the reference's log-probability of each token, [U]."""
WITHOUT_REFERENCE = frozenset({"simpo", "orpo"})
NORMALISED = frozenset({"sigmoid_norm", "ipo", "simpo", "orpo"})
"""Losses that look at the mean log-probability of an answer's tokens rather than at their sum."""
SMOOTHED = frozenset({"sigmoid", "sigmoid_norm", "robust", "simpo"})
"""Losses that ``label_smoothing`` says something to."""
DEFAULT_BETA: Mapping[str, float] = {"simpo": 2.0}
"""Where it is not 0.1, as in the papers."""
ELSEWHERE = -1
"""The rank of an answer to another question: ``kto`` looks at it to see how far the model is from the reference."""

_CERTAIN = 1e-7
"""The odds of an answer are taken for those of a log-probability of at least so much below 0."""


class Answers(NamedTuple):
    """What losses read of answers, [S] or, of one side of pairs, [P]."""

    log_probability: torch.Tensor
    """Of all tokens of each, summed."""
    reference: torch.Tensor
    """The same by the reference; zeros where none has been asked."""
    length: torch.Tensor
    """Tokens."""

    @classmethod
    def of(cls, values_U1: torch.Tensor, targets: Mapping[str, torch.Tensor], units: Units) -> Answers:
        """Add up what the tokens of each answer have."""
        values_U = values_U1[:, 0]
        counts_S = torch.tensor(units.per_sequence, device=values_U.device)
        of_answer_U = torch.repeat_interleave(
            torch.arange(len(counts_S), device=values_U.device), counts_S, output_size=len(values_U)
        )
        zeros_S = values_U.new_zeros(len(counts_S))
        reference_S = zeros_S
        if REFERENCE in targets:
            reference_S = zeros_S.index_add(0, of_answer_U, targets[REFERENCE].to(values_U.dtype))
        sums_S = zeros_S.index_add(0, of_answer_U, values_U)
        return cls(sums_S, reference_S, counts_S.to(values_U.dtype).clamp(min=1))

    def take(self, chosen: torch.Tensor) -> Answers:
        """Return some of them."""
        return Answers(*(values[chosen] for values in self))

    @property
    def ratio(self) -> torch.Tensor:
        """How much likelier the model finds each answer than the reference does, as a logarithm."""
        return self.log_probability - self.reference

    @property
    def mean(self) -> torch.Tensor:
        """The mean log-probability of each answer's tokens."""
        return self.log_probability / self.length


def pair_losses(
    loss: Loss, better: Answers, worse: Answers, *, beta: float, label_smoothing: float = 0.0, gamma: float = 0.0
) -> torch.Tensor:
    """Return [P]: the loss of each pair."""
    ratio_P = better.ratio - worse.ratio
    mean_ratio_P = better.ratio / better.length - worse.ratio / worse.length
    losses: Mapping[str, Callable[[], torch.Tensor]] = {
        "sigmoid": lambda: _logistic(beta * ratio_P, label_smoothing),
        "sigmoid_norm": lambda: _logistic(beta * mean_ratio_P, label_smoothing),
        "ipo": (mean_ratio_P - 1 / (2 * beta)).square,
        "hinge": lambda: torch.relu(1 - beta * ratio_P),
        "robust": lambda: _robust(beta * ratio_P, label_smoothing),
        "simpo": lambda: _logistic(beta * (better.mean - worse.mean) - gamma, label_smoothing),
        "orpo": lambda: -better.mean - beta * functional.logsigmoid(log_odds(better.mean) - log_odds(worse.mean)),
    }
    return losses[loss]()


def thumb_losses(
    answers: Answers,
    is_good: torch.Tensor,
    distance: torch.Tensor,
    *,
    beta: float,
    desirable: float,
    undesirable: float,
) -> torch.Tensor:
    """Return [S]: the loss ``kto`` of each answer; ``distance`` is ``z``, a scalar."""
    gain_S = beta * (answers.ratio - distance)
    good_S, bad_S = desirable * (1 - gain_S.sigmoid()), undesirable * (1 - (-gain_S).sigmoid())
    return torch.where(is_good, good_S, bad_S)


def pairs_of_rows(units: Units) -> tuple[IntArray, IntArray, IntArray]:
    """Return all pairs of answers of a row, as they follow each other there, and the row of each pair: [P] each."""
    firsts = np.searchsorted(units.sequences[:-1], units.rows)
    none = np.zeros(0, dtype=np.int64)
    first_P, second_P, row_P = [none], [none], [none]
    for row, (first, last) in enumerate(zip(firsts[:-1].tolist(), firsts[1:].tolist(), strict=True)):
        one, other = np.triu_indices(last - first, k=1)
        first_P.append(first + one)
        second_P.append(first + other)
        row_P.append(np.full(len(one), row, dtype=np.int64))
    return np.concatenate(first_P), np.concatenate(second_P), np.concatenate(row_P)


def per_row(losses_P: torch.Tensor, differ_P: torch.Tensor, row_P: torch.Tensor, num_rows: int) -> torch.Tensor:
    """Return [P]: each loss's share of the mean over those pairs of its row whose answers ``differ``."""
    weights_P = differ_P.to(losses_P.dtype)
    pairs_B = weights_P.new_zeros(num_rows).index_add(0, row_P, weights_P)
    return losses_P * weights_P / pairs_B.clamp(min=1)[row_P]


def log_odds(log_probability: torch.Tensor) -> torch.Tensor:
    """Return ``log(P / (1 - P))`` for ``log P``."""
    below = log_probability.clamp(max=-_CERTAIN)
    return below - torch.log(-torch.expm1(below))


def _logistic(margin_P: torch.Tensor, smoothing: float) -> torch.Tensor:
    right_P = -functional.logsigmoid(margin_P)
    return right_P if not smoothing else (1 - smoothing) * right_P - smoothing * functional.logsigmoid(-margin_P)


def _robust(margin_P: torch.Tensor, smoothing: float) -> torch.Tensor:
    right_P, wrong_P = functional.logsigmoid(margin_P), functional.logsigmoid(-margin_P)
    return (smoothing * wrong_P - (1 - smoothing) * right_P) / (1 - 2 * smoothing)


def token_log_probabilities(scores_UK: torch.Tensor, labels_U: torch.Tensor) -> torch.Tensor:
    """Return [U, 1]: the log-probability of the token that comes next, in float32 or wider."""
    return -functional.cross_entropy(widen(scores_UK), labels_U.long(), reduction="none")[:, None]


@dataclass(frozen=True)
class TokenLogProbabilities(Objective):
    """What is asked of a model about answers: the log-probability of every token, by a name."""

    name: str = REFERENCE
    temperature: float = 1.0
    """Of the sampling: scores are divided by it."""

    reduces = True

    def reduce(self, scores_UK: torch.Tensor, targets: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return token_log_probabilities(widen(scores_UK) / self.temperature, targets["labels"])

    def loss_sum(self, scores_UK: torch.Tensor, targets: Mapping[str, torch.Tensor], units: Units) -> torch.Tensor:
        return -scores_UK.sum()

    def count_units(self, targets: Mapping[str, torch.Tensor], units: Units) -> float:
        return float(targets["labels"].numel())

    def collect(
        self, scores_UK: torch.Tensor, targets: Mapping[str, torch.Tensor], units: Units
    ) -> dict[str, torch.Tensor]:
        return {self.name: scores_UK[:, 0].float()}
