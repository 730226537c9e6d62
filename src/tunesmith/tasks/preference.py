"""Preferences: answers that people like better become likelier than those that they like less.

Shapes: N rows, S answers of all rows, U tokens read in a micro-batch, R replicates.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

import numpy as np
import torch
from pydantic import Field, model_validator

from tunesmith import metrics
from tunesmith.data.encoded import Encoded, Units, as_ragged
from tunesmith.data.forms import Form
from tunesmith.data.preference_rows import Preferences
from tunesmith.data.preferences import PAIRS, preference_roles
from tunesmith.tasks.base import Columns, FloatArray, Outputs, Targets
from tunesmith.tasks.causal_lm import CausalLM
from tunesmith.tasks.chat.encoding import ConversationEncoder
from tunesmith.tasks.chat.tokens import TextTokenizer
from tunesmith.tasks.columns import place
from tunesmith.tasks.objective import SURVEYED, Following, Objective
from tunesmith.tasks.objectives import preference as objectives
from tunesmith.tasks.objectives.preference import ELSEWHERE, REFERENCE, Answers, Loss, pairs_of_rows, per_row
from tunesmith.tasks.preference_encoding import encode_answers, read_rows
from tunesmith.tasks.preference_judgement import Preferred, preferred, shown_answer, truths, verdicts
from tunesmith.tasks.token_scores import ANSWER_METRICS
from tunesmith.types import ColumnProfile, InputError, Problem, Role

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_FORMS = {
    "chosen": "columns '{}' hold a better and a worse answer",
    "answers": "column '{}' holds several answers to each question",
    "thumb": "column '{}' says which answers are good ones",
}


class Preference(CausalLM):
    """Prefer the better one of two answers, or good ones to bad ones: DPO, KTO, ORPO, SimPO and their kin."""

    name: Literal["preference"] = "preference"  # type: ignore[assignment]

    title: ClassVar[str] = "Preference learning"

    loss: Loss | None = None
    """What is minimised: `sigmoid` (DPO), `sigmoid_norm` (DPO by the mean over an answer's tokens), `ipo`, `hinge`,
    `robust`, `simpo` and `orpo` (without a reference), `kto` (answers alone). When not given: `sigmoid` for pairs and
    ranked answers, `kto` for answers with thumbs."""
    beta: Annotated[float, Field(gt=0)] | None = None
    """How closely the model stays to the reference: the larger, the closer (of `simpo` and `orpo`, the weight of the
    preference). When not given: 0.1, and 2 for `simpo`."""
    label_smoothing: Annotated[float, Field(ge=0, lt=0.5)] = 0.0
    """The share of pairs that are taken to be the wrong way round, for `sigmoid`, `sigmoid_norm`, `robust`, `simpo`."""
    gamma: Annotated[float, Field(ge=0)] = 1.0
    """By how much the better answer is to be rewarded more (`simpo`)."""
    desirable_weight: Annotated[float, Field(gt=0)] | None = None
    """Weight of good answers (`kto`). When not given: such that good and bad ones weigh the same in all."""
    undesirable_weight: Annotated[float, Field(gt=0)] | None = None
    """Weight of bad answers (`kto`), as above."""
    train_on: Literal["assistant"] = "assistant"
    """What of an answer is learned: every turn of the assistant in it."""

    roles: ClassVar[tuple[Role, ...]] = PAIRS
    truths: ClassVar[tuple[str, ...]] = ("answers", "ranks")
    not_encoded: ClassVar[frozenset[str]] = frozenset(
        ("beta", "label_smoothing", "gamma", "desirable_weight", "undesirable_weight")
    )
    joins_lines: ClassVar[bool] = False
    plain_cross_entropy: ClassVar[bool] = False
    reduces: ClassVar[bool] = True
    most_epochs: ClassVar[int] = 3
    rate_factor: ClassVar[float] = 0.1
    higher_is_better: ClassVar[Mapping[str, bool]] = {
        "reward_accuracy": True,
        "margin": True,
        "kl": False,
        "chosen_log_probability": True,
        "rejected_log_probability": False,
        **dict.fromkeys(ANSWER_METRICS, True),
    }

    # ---- configuration and rows ------------------------------------------------------------------

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.label_smoothing and self.loss is not None and self.loss not in objectives.SMOOTHED:
            raise ValueError(
                f"label_smoothing: the loss {self.loss} has no word for pairs that are the wrong way round"
            )
        return self

    @classmethod
    def form_for(cls, roles: Collection[str]) -> type[Form]:
        return Preferences

    @classmethod
    def roles_for(cls, profiles: Mapping[str, ColumnProfile], overrides: Mapping[str, str]) -> tuple[Role, ...]:
        """Ask for pairs, for ranked answers, or for answers with thumbs, as the columns are."""
        return preference_roles(profiles, overrides) or cls.roles

    @classmethod
    def fit_score(cls, profiles: Mapping[str, ColumnProfile]) -> tuple[float, str]:
        role = next((role for role in _FORMS if role in profiles), None)
        if role is None:
            return 0.0, "no columns of better and worse answers"
        names = [profiles[name].name for name in (role, "rejected") if name in profiles]
        return 0.98, _FORMS[role].format("' and '".join(names))

    def bind(self, columns: Columns) -> Self:
        """Settle the loss by whether answers are compared or judged alone, and what it leaves open.

        Raises ``InputError`` for answers alone with a loss of pairs.
        """
        bound = super().bind(columns)
        ranks_N = [row.ranks for row in read_rows(columns, None)]
        are_alone = all(len(ranks) < 2 for ranks in ranks_N)
        loss = self.loss or ("kto" if are_alone else "sigmoid")
        if are_alone and loss != "kto":
            raise InputError(
                f"task.loss: {loss} compares two answers to a question, and these rows have one each, with a thumb.",
                "Use --task.loss kto, or give pairs: prompt, chosen, rejected.",
            )
        weights = _balanced([rank for ranks in ranks_N for rank in ranks]) if loss == "kto" else (1.0, 1.0)
        return bound.changed(
            loss=loss,
            beta=self.beta or objectives.DEFAULT_BETA.get(loss, 0.1),
            desirable_weight=self.desirable_weight or weights[0],
            undesirable_weight=self.undesirable_weight or weights[1],
        )

    def check(self, split: str, columns: Columns) -> list[Problem]:
        """Warn of thumbs that all say the same; what else is wrong with rows, their form has told."""
        ranks_N = [row.ranks for row in read_rows(columns, None)]
        found = {rank > 0 for ranks in ranks_N for rank in ranks}
        if len(found) != 1 or split != "train":
            return []
        message = f"All {len(ranks_N)} {split} answers are {'bad' if True in found else 'good'} ones."
        return [Problem("warning", message, "Give answers of both kinds: one is learned against the other.")]

    def encode(self, columns: Columns, tokenizer: PreTrainedTokenizerBase, max_length: int) -> Encoded:
        """Tokenise answers, each with what is asked: a sequence of its own, those of a row together.

        Without ``answers`` (prediction) these are prompts. Raises ``InputError`` where no row is left.
        """
        if "answers" not in columns:
            return self.encode_prompts(columns, tokenizer, max_length)
        encoder = ConversationEncoder(
            self._format(tokenizer), TextTokenizer(tokenizer), max_length, "assistant", self.too_long
        )
        rows = read_rows(columns, self.system)
        encoded = encode_answers(rows, encoder, lambda row: place("row", columns, row), with_others=self.loss == "kto")
        if not len(encoded) and encoded.num_truncated:
            message = f"All {len(rows)} rows have an answer too long for the model's {max_length} tokens."
            raise InputError(message, "Raise model.max_length, or shorten their prompts.")
        return encoded

    def on_texts(self) -> CausalLM:  # type: ignore[override]
        return CausalLM(form="text")

    # ---- loss --------------------------------------------------------------------------------------

    @property
    def _settled(self) -> Loss:
        return self.loss or "sigmoid"

    @property
    def _beta(self) -> float:
        return self.beta or objectives.DEFAULT_BETA.get(self._settled, 0.1)

    @property
    def sums_over_units(self) -> bool:
        return False

    @property
    def surveys(self) -> int:
        return 2 if self.loss == "kto" else 0

    @property
    def reference(self) -> Objective | None:
        return None if self._settled in objectives.WITHOUT_REFERENCE else objectives.TokenLogProbabilities()

    @property
    def followed(self) -> Following | None:
        return None

    def reduce(self, scores_UK: torch.Tensor, targets: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Return [U, 1]: the log-probability of the token that comes next."""
        return objectives.token_log_probabilities(scores_UK, targets["labels"])

    def survey(self, scores_UK: torch.Tensor, targets: Mapping[str, torch.Tensor], units: Units) -> torch.Tensor:
        """Return [2]: how much likelier answers to other questions have become, summed, and how many they are."""
        answers, ranks_S = Answers.of(scores_UK, targets, units), _ranks(targets, units)
        is_other_S = (ranks_S == ELSEWHERE).to(answers.ratio.dtype)
        return torch.stack([(answers.ratio * is_other_S).sum(), is_other_S.sum()])

    def loss_sum(self, scores_UK: torch.Tensor, targets: Mapping[str, torch.Tensor], units: Units) -> torch.Tensor:
        """Return the loss summed over rows (the mean over each one's pairs) or, of ``kto``, over answers."""
        answers, ranks_S = Answers.of(scores_UK, targets, units), _ranks(targets, units)
        if self._settled == "kto":
            surveyed = targets[SURVEYED] if SURVEYED in targets else self.survey(scores_UK.detach(), targets, units)
            distance = (surveyed[0] / surveyed[1].clamp(min=1)).clamp(min=0)
            losses_S = objectives.thumb_losses(
                answers,
                ranks_S == 0,
                distance,
                beta=self._beta,
                desirable=self.desirable_weight or 1.0,
                undesirable=self.undesirable_weight or 1.0,
            )
            return (losses_S * (ranks_S != ELSEWHERE)).sum()
        better, worse, row_P = (torch.from_numpy(part).to(scores_UK.device) for part in pairs_of_rows(units))
        losses_P = objectives.pair_losses(
            self._settled,
            answers.take(better),
            answers.take(worse),
            beta=self._beta,
            label_smoothing=self.label_smoothing,
            gamma=self.gamma,
        )
        return per_row(losses_P, ranks_S[better] < ranks_S[worse], row_P, len(units.per_row)).sum()

    def count_units(self, targets: Mapping[str, torch.Tensor], units: Units) -> float:
        """Return the number of rows or, of ``kto``, of answers."""
        if self._settled == "kto":
            return float((_ranks(targets, units) != ELSEWHERE).sum())
        return float(len(units.per_row))

    def collect(
        self, scores_UK: torch.Tensor, targets: Mapping[str, torch.Tensor], units: Units
    ) -> dict[str, torch.Tensor]:
        """Keep each token's ``log_probability`` and ``reference``, float32 [U], its ``answer`` and that one's ``rank``.

        The reference is 0 where none was asked.
        """
        log_probability_U = scores_UK[:, 0].detach().float()
        return {
            "log_probability": log_probability_U,
            "reference": targets.get(REFERENCE, torch.zeros_like(log_probability_U)),
            "answer": targets["answer"],
            "rank": targets["rank"],
        }

    # ---- judgement ---------------------------------------------------------------------------------

    def _preferred(self, outputs: Outputs) -> Preferred:
        return preferred(outputs, self._settled, self._beta)

    def measure(self, outputs: Outputs, targets: Targets, weights_RN: FloatArray) -> dict[str, FloatArray]:
        """Return accuracy and margin of rewards, distance from the reference, log-probabilities of either side."""
        found: dict[str, FloatArray] = {}
        if "log_probability" in outputs:
            judged = self._preferred(outputs)
            chosen_N, rejected_N = metrics.by_side(judged.answers, judged.log_probabilities)
            found = metrics.preference_metrics(judged.answers, weights_RN)
            if self.reference is not None:
                found["kl"] = metrics.weighted_mean(judged.distances, weights_RN)
            found["chosen_log_probability"] = metrics.weighted_mean(chosen_N, weights_RN)
            found["rejected_log_probability"] = metrics.weighted_mean(rejected_N, weights_RN)
        written = {name: value for name, value in outputs.items() if name.startswith("answer_")}
        return found | super().measure(written, targets, weights_RN)

    def decode(self, outputs: Outputs, columns: Columns | None = None) -> list[dict[str, Any]]:
        """Return for each row which answer is preferred: ``label``, ``score`` and ``margin``; and what was written.

        Given ``columns``, also the ``prompt`` and, where an answer was written, the ``reference``.
        """
        found = verdicts(self._preferred(outputs).answers)
        written = super().decode({"answers": outputs["answers"]}, columns) if "answers" in outputs else []
        if columns is not None and not written:
            found = [{**row, "prompt": text} for row, text in zip(found, columns["text"], strict=True)]
        return [row | answer for row, answer in zip(found, written, strict=True)] if written else found

    def shown(self, answer: Any, columns: Columns, row: int) -> Any:
        return shown_answer(answer, columns, row)

    def truth(self, targets: Targets) -> list[Any]:
        """Return of each row what a right ``label`` is: ``chosen``, or of an answer alone ``good`` or ``bad``."""
        return list(truths(targets))

    def errors(self, outputs: Outputs, targets: Targets) -> FloatArray:
        """Return [N]: how surely each row's preference is wrong; 0 where it is right."""
        rows = zip(verdicts(self._preferred(outputs).answers), self.truth(targets), strict=True)
        return np.array([0.0 if row["label"] == truth else row["score"] or 0.0 for row, truth in rows])

    def details(self, outputs: Outputs, targets: Targets) -> dict[str, Any]:
        """Return how much was judged: ``num_compared`` answers, ``num_pairs``, ``num_tokens``."""
        answers = self._preferred(outputs).answers
        found = {
            "num_compared": len(answers.rows),
            "num_pairs": len(answers.pairs()[0]),
            "num_tokens": len(as_ragged(targets["labels"]).values),
        }
        if "answers" in outputs:
            found["num_answers"] = sum(answer is not None for answer in outputs["answers"])
        return found


def _balanced(ranks: list[int]) -> tuple[float, float]:
    """Return weights of good and bad answers by which both weigh the same in all (section 4.2 of the paper)."""
    num_good = sum(rank == 0 for rank in ranks)
    num_bad = len(ranks) - num_good
    if not num_good or not num_bad:
        return 1.0, 1.0
    return max(num_bad / num_good, 1.0), max(num_good / num_bad, 1.0)


def _ranks(targets: Mapping[str, torch.Tensor], units: Units) -> torch.Tensor:
    """Return [S]: the rank of each answer."""
    return targets["rank"][torch.from_numpy(units.sequences[:-1]).to(targets["rank"].device)]
