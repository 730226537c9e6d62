"""Multiple choice: which of several answers to a question is right; each is read with it as a sequence of its own.

Shapes: N rows, B rows of a micro-batch, U sequences of them (one for each choice), C choices of a row, R replicates.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from tunesmith.data.choice_rows import CHOICES, CONTEXT, LABEL, QUESTION, Choices
from tunesmith.data.encoded import Array, Encoded, Ragged, Units, as_ragged
from tunesmith.data.forms import Form
from tunesmith.metrics.weighting import ratio
from tunesmith.tasks.base import Columns, FloatArray, Outputs, Targets, Task
from tunesmith.tasks.card import TaskCard
from tunesmith.tasks.choice_roles import ROLES, fit_of, roles_of
from tunesmith.tasks.choice_rule import choose_by_rule
from tunesmith.tasks.columns import places
from tunesmith.tasks.encoding import encode_texts
from tunesmith.tasks.losses import widen
from tunesmith.types import ColumnProfile, HeadSettings, InputError, Problem, Role

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class MultipleChoice(Task):
    """Choose the right one of several answers, however many a question has."""

    name: Literal["multiple_choice"] = "multiple_choice"

    title: ClassVar[str] = "Multiple choice"
    roles: ClassVar[tuple[Role, ...]] = ROLES
    inputs: ClassVar[tuple[str, ...]] = (QUESTION, CHOICES, CONTEXT)
    kept_together: ClassVar[str | None] = CONTEXT
    rival: ClassVar[Literal["classical", "untuned", "rule"]] = "rule"
    higher_is_better: ClassVar[Mapping[str, bool]] = {"accuracy": True, "log_loss": False}

    # ---- rows ----------------------------------------------------------------------------------

    @classmethod
    def form_for(cls, roles: Collection[str]) -> type[Form]:
        return Choices

    @classmethod
    def roles_for(cls, profiles: Mapping[str, ColumnProfile], overrides: Mapping[str, str]) -> tuple[Role, ...]:
        """Take columns of one choice each together, where there is none of lists."""
        return roles_of(profiles)

    @classmethod
    def fit_score(cls, profiles: Mapping[str, ColumnProfile]) -> tuple[float, str]:
        return fit_of(profiles)

    def check(self, split: str, columns: Columns) -> list[Problem]:
        """Report rows whose label is none of their choices, and a label that is always the same place."""
        wrong = [
            row
            for row, (choices, label) in enumerate(zip(columns[CHOICES], columns[LABEL], strict=True))
            if not _fits(choices, label)
        ]
        if wrong:
            shown = ", ".join(repr(columns[LABEL][row]) for row in wrong[:3])
            message = f"{len(wrong)} {split} rows have a label that names none of their choices: {shown}."
            fix = "Correct them, or remove the rows."
            return [Problem("error", message, fix, len(wrong), places(split, columns, wrong))]
        if split == "train" and len(columns[LABEL]) > 1 and len(set(columns[LABEL])) == 1:
            message = "The right choice stands at the same place in every training row."
            return [Problem("warning", message, "Check data.columns.label.")]
        return []

    @property
    def shortening(self) -> str:
        return "lose the end of their longer part, the context or question first"

    def texts(self, columns: Columns) -> dict[str, Sequence[str | None]]:
        found: dict[str, Sequence[str | None]] = {
            name: columns[name] for name in (QUESTION, CONTEXT) if name in columns
        }
        if CHOICES in columns:
            found[CHOICES] = ["\n".join(choices or ()) for choices in columns[CHOICES]]
        return found

    def encode(self, columns: Columns, tokenizer: PreTrainedTokenizerBase, max_length: int) -> Encoded:
        """Tokenise each choice with its row's texts: after the question or, where there is a context, after both."""
        counts = [len(choices) for choices in columns[CHOICES]]
        row_of = np.repeat(np.arange(len(counts)), counts).tolist()
        questions = [columns[QUESTION][row] or "" for row in row_of]
        choices = [choice for row in columns[CHOICES] for choice in row]
        if CONTEXT in columns:
            firsts: Sequence[str] = [columns[CONTEXT][row] or "" for row in row_of]
            seconds = [f"{question} {choice}".strip() for question, choice in zip(questions, choices, strict=True)]
        else:
            firsts, seconds = questions, choices
        inputs, num_truncated = encode_texts(tokenizer, firsts, seconds, max_length)
        targets = self.targets(columns) if LABEL in columns else {}
        rows = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        return Encoded(inputs, targets, num_truncated, rows=rows, keeps_rows=True)

    def targets(self, columns: Columns) -> dict[str, Array | Ragged]:
        """Return ``label``: int64 [N], the number of each row's right choice."""
        if not all(map(_fits, columns[CHOICES], columns[LABEL])):
            raise InputError(problem for problem in self.check("given", columns) if problem.severity == "error")
        return {"label": np.array(list(columns[LABEL]), dtype=np.int64)}

    # ---- loss ----------------------------------------------------------------------------------

    def head(self) -> HeadSettings:
        return HeadSettings("AutoModelForMultipleChoice", 1, {"id2label": {0: "fit"}, "label2id": {"fit": 0}})

    @property
    def sums_over_units(self) -> bool:
        """A choice is right beside the others of its row."""
        return False

    def loss_sum(self, scores_UK: torch.Tensor, targets: Mapping[str, torch.Tensor], units: Units) -> torch.Tensor:
        """Return the cross-entropy over each row's choices, summed: that of ``transformers`` where all have as many."""
        rows = list(torch.split(widen(scores_UK).squeeze(-1), units.per_row))
        scores_BC = pad_sequence(rows, batch_first=True, padding_value=-torch.inf)
        return functional.cross_entropy(scores_BC, targets["label"].long(), reduction="sum")

    def count_units(self, targets: Mapping[str, torch.Tensor], units: Units) -> float:
        """Return the number of rows."""
        return float(len(units.per_row))

    def collect(
        self, scores_UK: torch.Tensor, targets: Mapping[str, torch.Tensor], units: Units
    ) -> dict[str, torch.Tensor]:
        """Keep ``scores``: of each choice, float32 [U]."""
        return {"scores": scores_UK.detach().squeeze(-1).float()}

    # ---- scores to answers and numbers ---------------------------------------------------------

    def _probabilities(self, outputs: Outputs) -> list[FloatArray]:
        """Return [C] of each row."""
        scores = as_ragged(outputs["scores"])
        return [_softmax(scores[row]) for row in range(len(scores))]

    def decode(self, outputs: Outputs, columns: Columns | None = None) -> list[dict[str, Any]]:
        """Return ``label`` (the number of the choice, from 0), its ``score``, the ``scores`` of all, and ``choice``."""
        found = []
        for row, chances in enumerate(self._probabilities(outputs)):
            label = int(chances.argmax())
            answer: dict[str, Any] = {"label": label, "score": float(chances[label]), "scores": chances.tolist()}
            if columns is not None:
                answer["choice"] = columns[CHOICES][row][label]
            found.append(answer)
        return found

    def shown(self, answer: Any, columns: Columns, row: int) -> Any:
        """Return the words of a choice."""
        return columns[CHOICES][row][answer]

    def truth(self, targets: Targets) -> list[Any]:
        labels: list[Any] = np.asarray(targets["label"]).tolist()
        return labels

    def errors(self, outputs: Outputs, targets: Targets) -> FloatArray:
        """Return [N]: the probability of the choice made where it is wrong."""
        pairs = zip(self._probabilities(outputs), self.truth(targets), strict=True)
        return np.array([0.0 if chances.argmax() == label else float(chances.max()) for chances, label in pairs])

    def measure(self, outputs: Outputs, targets: Targets, weights_RN: FloatArray) -> dict[str, FloatArray]:
        """Return ``accuracy``, and ``log_loss`` over the choices of each row."""
        chances, labels = self._probabilities(outputs), self.truth(targets)
        right_N = np.array([float(own.argmax() == label) for own, label in zip(chances, labels, strict=True)])
        loss_N = np.array([-np.log(max(own[label], 1e-12)) for own, label in zip(chances, labels, strict=True)])
        total_R = weights_RN.sum(axis=1)
        return {
            name: ratio(weights_RN @ values, total_R, np.nan)
            for name, values in (("accuracy", right_N), ("log_loss", loss_N))
        }

    def outputs_from(self, predictions: Any) -> dict[str, Any]:
        """Return outputs of the probabilities of each row's choices, ``Ragged``."""
        return {"scores": Ragged(np.log(np.clip(predictions.values, 1e-12, 1.0)), predictions.offsets)}

    def answer_by_rule(self, train: Columns, rows: Columns) -> tuple[str, dict[str, Any]]:
        return choose_by_rule(train, rows)

    # ---- said of the model -----------------------------------------------------------------------

    def card(self, inputs: Sequence[str], tokenizer: PreTrainedTokenizerBase | None = None) -> TaskCard:
        del tokenizer
        return TaskCard(
            purpose="chooses the right one of several answers to a question",
            pipeline_tag="multiple-choice",
            code=_code(has_context=CONTEXT in inputs),
        )


def _fits(choices: Any, label: Any) -> bool:
    """Say whether a label is the number of one of the choices."""
    return isinstance(label, int) and not isinstance(label, bool) and 0 <= label < len(choices or ())


def _softmax(scores_C: Array) -> FloatArray:
    scores = np.asarray(scores_C, dtype=np.float64)
    exponents = np.exp(scores - scores.max())
    chances: FloatArray = exponents / exponents.sum()
    return chances


def _code(*, has_context: bool) -> tuple[str, ...]:
    """Return the lines that print the probability of each choice."""
    pairs = (
        (
            'context = "The sun shines."',
            'pairs = [context] * len(choices), [f"{question} {choice}" for choice in choices]',
        )
        if has_context
        else ("pairs = [question] * len(choices), choices",)
    )
    return (
        'question, choices = "What is warm?", ["Ice.", "The sun.", "Snow."]',
        *pairs,
        'inputs = tokenizer(*pairs, return_tensors="pt", padding=True, truncation=True)',
        "with torch.no_grad():",
        "    scores = model(**{name: values[None] for name, values in inputs.items()}).logits[0]",
        "print(scores.softmax(-1).tolist())",
    )
