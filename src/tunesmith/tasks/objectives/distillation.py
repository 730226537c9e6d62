"""Learning from a teacher besides the labels, in one place for every task (Hinton et al. 2015).

The loss of a unit is ``(1 - mix) * L + mix * D``: ``L`` is the task's own, ``D`` says how far the student's scores are
from the teacher's. Where only the teacher speaks (rows without labels) it is ``D``. A step's loss is the mean of all
that is said, each weighing as above. What ``D`` is follows from ``Objective.followed``:

- ``classes``: ``T^2 KL(teacher_T || student_T)``, both softened by the temperature ``T`` (section 2 there);
- ``labels``: the same of each label's yes and no;
- ``value``: the squared error;
- ``vocabulary``: as ``classes``, over the teacher's likeliest tokens and one answer that stands for all others: no
  larger than the divergence over the whole vocabulary, and equal to it where all tokens are kept.

Shapes: U units of a micro-batch, K scores a unit, k tokens kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch.nn import functional

from tunesmith.data.encoded import Array, Encoded, Ragged, Units
from tunesmith.tasks.losses import widen
from tunesmith.tasks.objective import Objective
from tunesmith.tasks.objectives.around import Around

SCORES = "teacher_scores"
"""The target that holds what the teacher says of a unit: its scores, [K], or the log-probabilities of tokens, [k]."""
TOKENS = "teacher_tokens"
"""The target that holds which tokens these are, [k]."""
ALONE = "teacher_alone"
"""The target that says whether a unit has no label: only the teacher speaks there."""
_OWN = frozenset({SCORES, TOKENS, ALONE})

Targets = Mapping[str, torch.Tensor]


def taught(
    data: Encoded, said: Mapping[str, Array | Ragged], alone: Array | Ragged | None = None
) -> Mapping[str, Array | Ragged]:
    """Return the targets of ``data`` with what the teacher ``said`` of its units, and which of them have no label."""
    return {**data.targets, **said, **({} if alone is None else {ALONE: alone})}


@dataclass(frozen=True)
class Distilled(Around):
    """A task's objective with a teacher besides the labels."""

    mix: float
    """The teacher's share of the loss, above 0."""
    temperature: float

    @property
    def sums_over_units(self) -> bool:
        return self.task.sums_over_units

    def loss_sum(self, scores_UK: torch.Tensor, targets: Targets, units: Units) -> torch.Tensor:
        scores_UK = widen(scores_UK)
        apart_U = self._apart(scores_UK, targets)
        alone_U = targets.get(ALONE)
        if alone_U is None:
            said, share = apart_U.sum() * self.mix, 1.0 - self.mix
            return said if not share else said + share * self.task.loss_sum(scores_UK.clone(), _own(targets), units)
        said = (apart_U * torch.where(alone_U.bool(), 1.0, self.mix).to(apart_U.dtype)).sum()
        labelled = (~alone_U.bool()).nonzero()[:, 0]
        if self.mix == 1.0 or not len(labelled):
            return said
        own, own_units = _own(targets, labelled), Units.single(len(labelled))
        return said + (1.0 - self.mix) * self.task.loss_sum(scores_UK[labelled], own, own_units)

    def _apart(self, scores_UK: torch.Tensor, targets: Targets) -> torch.Tensor:
        """Return [U]: how far the student's scores are from the teacher's."""
        kind, heat = self.task.followed, self.temperature
        teacher = targets[SCORES].to(scores_UK.dtype)
        match kind:
            case "value":
                return (scores_UK - teacher).square().sum(dim=-1)
            case "labels":
                soft = (teacher / heat).sigmoid()
                cross = functional.binary_cross_entropy_with_logits(scores_UK / heat, soft, reduction="none")
                own = functional.binary_cross_entropy_with_logits(teacher / heat, soft, reduction="none")
                return heat**2 * (cross - own).sum(dim=-1)
            case "classes":
                student, teacher = (functional.log_softmax(one / heat, dim=-1) for one in (scores_UK, teacher))
                return heat**2 * _divergence(teacher, student)
            case "vocabulary":
                student = functional.log_softmax(scores_UK / heat, dim=-1).gather(1, targets[TOKENS].long())
                return heat**2 * (_divergence(teacher, student) + _divergence(*map(_of_others, (teacher, student))))
        raise AssertionError(f"{type(self.task).__name__} has no word for what a teacher says")

    def count_units(self, targets: Targets, units: Units) -> float:
        """Return what weighs in: labels with 1 - mix, the teacher with mix, and with 1 where only it speaks."""
        num_units = len(targets[SCORES])
        of_unit = targets[SCORES].shape[-1] if self.task.followed == "labels" else 1
        alone_U = targets.get(ALONE)
        if alone_U is None:
            return self._weigh(self.task.count_units(_own(targets), units), num_units * of_unit)
        labelled = (~alone_U.bool()).nonzero()[:, 0]
        own = self.task.count_units(_own(targets, labelled), Units.single(len(labelled))) if len(labelled) else 0.0
        return self._weigh(own, len(labelled) * of_unit) + (num_units - len(labelled)) * of_unit

    def _weigh(self, labels: float, units: float) -> float:
        return units if labels == units else (1.0 - self.mix) * labels + self.mix * units

    def collect(self, scores_UK: torch.Tensor, targets: Targets, units: Units) -> dict[str, torch.Tensor]:
        return self.task.collect(scores_UK, _own(targets), units)


@dataclass(frozen=True)
class LikeliestTokens(Objective):
    """What is kept of a language model that teaches: the likeliest tokens at every place, softened."""

    temperature: float
    num_tokens: int
    """k."""
    vocabulary: int
    """Tokens that the tokenizer knows; a model may have scores for more, which nobody means."""

    @property
    def sums_over_units(self) -> bool:
        return True

    def collect(self, scores_UK: torch.Tensor, targets: Targets, units: Units) -> dict[str, torch.Tensor]:
        """Return the ids of the tokens, int32 [U, k], and their log-probabilities, float32 [U, k], likeliest first."""
        scores_UK = widen(scores_UK)[:, : self.vocabulary]
        logs_UK = functional.log_softmax(scores_UK / self.temperature, dim=-1)
        best = logs_UK.topk(min(self.num_tokens, logs_UK.shape[1]), dim=-1)
        return {TOKENS: best.indices.to(torch.int32), SCORES: best.values.float()}


def _own(targets: Targets, units_V: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
    """Return the targets of the task itself, of all units or of some."""
    own = {name: target for name, target in targets.items() if name not in _OWN}
    return own if units_V is None else {name: target[units_V] for name, target in own.items()}


def _divergence(teacher_UK: torch.Tensor, student_UK: torch.Tensor) -> torch.Tensor:
    """Return [U]: the sum of p log(p / q) for log-probabilities log p and log q."""
    return functional.kl_div(student_UK, teacher_UK, reduction="none", log_target=True).sum(dim=-1)


def _of_others(logs_Uk: torch.Tensor) -> torch.Tensor:
    """Return [U, 1]: the log-probability of all tokens but those given, kept off that of nothing."""
    given_U1 = logs_Uk.logsumexp(dim=-1, keepdim=True).clamp(max=-torch.finfo(logs_Uk.dtype).eps)
    return torch.log(-torch.expm1(given_U1))
