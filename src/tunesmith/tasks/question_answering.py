"""Extractive question answering: which words of a text answer a question, or that none do.

Shapes: N rows (questions), U tokens of all windows of the B rows of a micro-batch, A answers of a row, R replicates.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch.nn.utils.rnn import pad_sequence

from tunesmith import metrics
from tunesmith.data.encoded import Array, Encoded, Ragged, Units, as_ragged
from tunesmith.data.forms import Form
from tunesmith.data.question_rows import ANSWERS, CONTEXT, QUESTION, Questions
from tunesmith.tasks.base import Columns, FloatArray, Outputs, Targets, Task
from tunesmith.tasks.card import IN_WINDOWS, TaskCard
from tunesmith.tasks.columns import places
from tunesmith.tasks.losses import widen
from tunesmith.tasks.question_code import answering_code
from tunesmith.tasks.question_encoding import OUTSIDE, answer_spans, encode_questions
from tunesmith.tasks.question_roles import ROLES, fit_of
from tunesmith.tasks.question_rule import answer_by_overlap
from tunesmith.tasks.span_decoding import Candidates, all_candidates, best_threshold
from tunesmith.types import ColumnProfile, HeadSettings, InputError, Problem, Role

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SHORTEST_LIMIT = 30
"""Characters of an answer that may always be predicted, however short those of the training rows are."""
ANSWERED, NOT_ANSWERED = "answer", "no answer"


class QuestionAnswering(Task):
    """Find the words of a text that answer a question, or see that there are none (SQuAD 1 and 2)."""

    name: Literal["question_answering"] = "question_answering"

    title: ClassVar[str] = "Question answering"

    stride: int = Field(default=128, ge=0)
    """Tokens that a window of a long context shares with the one before it; at most half of its room."""
    longest_answer: int | None = Field(default=None, ge=1)
    """Most characters of a predicted answer; those of the longest one of the training rows when not given."""
    unanswerable: bool | None = None
    """Whether "no answer" is among the answers; seen from the training rows when not given."""
    no_answer_threshold: float | None = None
    """Log-odds of no answer against the best span above which none is given (SQuAD's null_score_diff); chosen on the
    validation rows by F1 when not given, and 0 until then."""
    n_best: int = Field(default=5, ge=1)
    """How many answers a prediction lists with their probabilities."""

    reads: ClassVar[Literal["row", "token"]] = "token"
    roles: ClassVar[tuple[Role, ...]] = ROLES
    truths: ClassVar[tuple[str, ...]] = (ANSWERS,)
    inputs: ClassVar[tuple[str, ...]] = (QUESTION, CONTEXT)
    kept_together: ClassVar[str | None] = CONTEXT
    tuned: ClassVar[frozenset[str]] = frozenset({"no_answer_threshold"})
    not_encoded: ClassVar[frozenset[str]] = frozenset(
        {"longest_answer", "unanswerable", "no_answer_threshold", "n_best"}
    )
    rival: ClassVar[Literal["classical", "untuned", "rule"]] = "rule"
    higher_is_better: ClassVar[Mapping[str, bool]] = {
        "f1": True,
        "exact_match": True,
        "answerable_f1": True,
        "unanswerable_accuracy": True,
    }

    # ---- rows ----------------------------------------------------------------------------------

    @classmethod
    def form_for(cls, roles: Collection[str]) -> type[Form]:
        return Questions

    @classmethod
    def fit_score(cls, profiles: Mapping[str, ColumnProfile]) -> tuple[float, str]:
        return fit_of(profiles)

    def bind(self, columns: Columns) -> Self:
        """Fill in how long answers are, and whether there are questions without one."""
        longest, unanswerable = self.longest_answer, self.unanswerable
        if longest is None or unanswerable is None:
            lengths = [[len(answer["text"]) for answer in answers or ()] for answers in columns[ANSWERS]]
            longest = longest or max([SHORTEST_LIMIT, *(length for row in lengths for length in row)])
            unanswerable = not all(lengths) if unanswerable is None else unanswerable
        return self.changed(longest_answer=longest, unanswerable=unanswerable)

    def check(self, split: str, columns: Columns) -> list[Problem]:
        """Report rows whose answers are not in their context, and what cannot be learned or is not predicted."""
        unfit, without = [], []
        for row, (context, answers) in enumerate(zip(columns[CONTEXT], columns[ANSWERS], strict=True)):
            if not _fits(context or "", answers):
                unfit.append(row)
            elif not answers:
                without.append(row)
        problems, num_rows = [], len(columns[ANSWERS])
        if unfit:
            shown = ", ".join(repr(columns[ANSWERS][row]) for row in unfit[:3])
            message = f"{len(unfit)} {split} rows have no answer that stands in their context: {shown}."
            fix = "Correct the answers or their places, or remove the rows."
            problems.append(Problem("error", message, fix, len(unfit), places(split, columns, unfit)))
        if split == "train" and len(without) == num_rows:
            message = "No training row has an answer: there is nothing to learn."
            problems.append(Problem("error", message, "Check data.columns.answers.", num_rows))
        elif without and not self.unanswerable:
            message = f"{len(without)} {split} rows have no answer; this model always gives one, since it was trained "
            message += "on rows that all have one."
            fix = "Train on rows of both kinds."
            problems.append(Problem("warning", message, fix, len(without), places(split, columns, without)))
        return problems

    @property
    def shortening(self) -> str:
        return "lose the end of their question"

    def encode(self, columns: Columns, tokenizer: PreTrainedTokenizerBase, max_length: int) -> Encoded:
        return encode_questions(columns, tokenizer, max_length, self.stride)

    def targets(self, columns: Columns) -> dict[str, Array | Ragged]:
        """Return ``spans``: int32 [N, A, 2], the characters of each answer; which tokens these are tells ``encode``."""
        if not all(map(_fits, columns[CONTEXT], columns[ANSWERS])):
            raise InputError(problem for problem in self.check("given", columns) if problem.severity == "error")
        return {"spans": answer_spans(columns)}

    # ---- loss ----------------------------------------------------------------------------------

    def head(self) -> HeadSettings:
        names = ("start", "end")
        settings = {"id2label": dict(enumerate(names)), "label2id": {name: k for k, name in enumerate(names)}}
        return HeadSettings("AutoModelForQuestionAnswering", 2, settings, default_max_length=384)

    @property
    def sums_over_units(self) -> bool:
        """Begin and end are chosen among all tokens of a row."""
        return False

    def loss_sum(self, scores_UK: torch.Tensor, targets: Mapping[str, torch.Tensor], units: Units) -> torch.Tensor:
        """Return minus the log-probability of a right begin, and of a right end, halved, summed over the rows.

        Both are softmaxes over all tokens of all windows of a row ("shared norm" with the sum over right places: Clark
        and Gardner 2018, sections 3.2 and 4). Of a row with one window and one answer it is the loss of
        ``transformers``, which takes every window for a row of its own.
        """
        marks_U2 = torch.stack([targets["start"], targets["end"]], dim=1).bool()
        scores_U2 = widen(scores_UK)
        right_U2 = scores_U2.masked_fill(~marks_U2, -torch.inf)
        total_B2, right_B2 = (
            pad_sequence(
                list(torch.split(scores, units.per_row)), batch_first=True, padding_value=-torch.inf
            ).logsumexp(dim=1)
            for scores in (scores_U2, right_U2)
        )
        return (total_B2 - right_B2).sum() / 2

    def count_units(self, targets: Mapping[str, torch.Tensor], units: Units) -> float:
        """Return the number of rows."""
        return float(len(units.per_row))

    def collect(
        self, scores_UK: torch.Tensor, targets: Mapping[str, torch.Tensor], units: Units
    ) -> dict[str, torch.Tensor]:
        """Keep ``scores``: of each token as the begin and as the end, float32 [U, 2]."""
        return {"scores": scores_UK.detach().float()}

    # ---- scores to answers and numbers ---------------------------------------------------------

    def _candidates(self, outputs: Outputs, number: int) -> list[Candidates]:
        longest = self.longest_answer or SHORTEST_LIMIT
        return all_candidates(as_ragged(outputs["scores"]), as_ragged(outputs["places"]), longest, number)

    def _answers_none(self, row: Candidates) -> bool:
        """Say whether no answer is given. A context without tokens has none."""
        return not row.best or bool(self.unanswerable and row.odds > (self.no_answer_threshold or 0.0))

    def decode(self, outputs: Outputs, columns: Columns | None = None) -> list[dict[str, Any]]:
        """Return ``answer``, ``start`` and ``end`` (characters of the context), ``score`` and ``n_best`` of each row.

        No answer is an empty one, without a place. Scores are probabilities among all spans that there could be, and no
        answer.
        """
        contexts = _contexts(outputs)
        found = []
        for context, row in zip(contexts, self._candidates(outputs, self.n_best), strict=True):
            listed = [_listed(context, one.start, one.end, self._probability(row, one.score)) for one in row.best]
            if self.unanswerable or not listed:
                none = self._probability(row, row.no_answer) if self.unanswerable else 1.0
                listed.append({"answer": "", "start": None, "end": None, "score": none})
            chosen = listed[-1] if self._answers_none(row) else listed[0]
            listed.sort(key=lambda one: -one["score"])
            found.append({**chosen, "n_best": listed[: self.n_best]})
        return found

    def _probability(self, row: Candidates, score: float) -> float:
        return row.probability(score, with_none=bool(self.unanswerable))

    def truth(self, targets: Targets) -> list[Any]:
        """Return the texts of the true answers of every row; none where there is no answer."""
        return _true_texts(targets)

    def _compared(self, answers: Sequence[str], targets: Targets) -> tuple[FloatArray, FloatArray]:
        pairs = zip(answers, _true_texts(targets), strict=True)
        exact_f1_N2 = np.array([metrics.compare_answer(answer, truths) for answer, truths in pairs]).reshape(-1, 2)
        return exact_f1_N2[:, 0], exact_f1_N2[:, 1]

    def _chosen(self, outputs: Outputs) -> list[str]:
        rows = zip(_contexts(outputs), self._candidates(outputs, 1), strict=True)
        return [
            "" if self._answers_none(row) else context[row.best[0].start : row.best[0].end] for context, row in rows
        ]

    def errors(self, outputs: Outputs, targets: Targets) -> FloatArray:
        """Return [N]: the probability of the answer given where it is no exact match."""
        found = self.decode(outputs)
        exact_N, _ = self._compared([one["answer"] for one in found], targets)
        score_N = np.array([max(one["score"], 1e-12) for one in found])
        return np.where(exact_N > 0, 0.0, score_N)

    def measure(self, outputs: Outputs, targets: Targets, weights_RN: FloatArray) -> dict[str, FloatArray]:
        """Return the metrics of SQuAD; those of the two kinds of rows where there may be no answer."""
        exact_N, f1_N = self._compared(self._chosen(outputs), targets)
        found = metrics.span_metrics(exact_N, f1_N, _is_answerable(targets), weights_RN)
        names = self.higher_is_better if self.unanswerable else ("f1", "exact_match")
        return {name: found[name] for name in names}

    def tune(self, outputs: Outputs, targets: Targets) -> Self:
        """Choose the threshold by which F1 is best on validation rows, unless there is one."""
        if not self.unanswerable or self.no_answer_threshold is not None:
            return self
        rows, contexts = self._candidates(outputs, 1), _contexts(outputs)
        spans = [
            context[row.best[0].start : row.best[0].end] if row.best else ""
            for context, row in zip(contexts, rows, strict=True)
        ]
        (_, answered_N), (_, unanswered_N) = self._compared(spans, targets), self._compared([""] * len(rows), targets)
        odds_N = np.array([row.odds for row in rows])
        return self.changed(no_answer_threshold=best_threshold(odds_N, answered_N, unanswered_N))

    def answer_by_rule(self, train: Columns, rows: Columns) -> tuple[str, dict[str, Any]]:
        return answer_by_overlap(train, rows, may_be_none=bool(self.unanswerable))

    def details(self, outputs: Outputs, targets: Targets) -> dict[str, Any]:
        """Return how often there is an answer, and one was given, where there may be none."""
        if not self.unanswerable:
            return {}
        is_given_N, is_there_N = np.array([bool(answer) for answer in self._chosen(outputs)]), _is_answerable(targets)
        matrix = [
            [int((is_given_N[is_there_N == there] == given).sum()) for given in (True, False)]
            for there in (True, False)
        ]
        return {"counted": "questions", "labels": [ANSWERED, NOT_ANSWERED], "confusion_matrix": matrix}

    # ---- said of the model -----------------------------------------------------------------------

    def card(self, inputs: Sequence[str], tokenizer: PreTrainedTokenizerBase | None = None) -> TaskCard:
        del inputs
        can_say_none = " or says that it holds none" if self.unanswerable else ""
        return TaskCard(
            purpose=f"finds the words of a text that answer a question{can_say_none}",
            pipeline_tag="question-answering",
            too_long=IN_WINDOWS,
            limits=("It answers with words of the given text alone, and knows nothing beside it.",),
            code=answering_code(
                longest=self.longest_answer or SHORTEST_LIMIT,
                threshold=(self.no_answer_threshold or 0.0) if self.unanswerable else None,
                stride=self.stride,
                tokenizer=tokenizer,
            ),
        )


def _fits(context: str, answers: Any) -> bool:
    """Say whether answers are as ``data.question_rows`` makes them, and are words of their context."""
    return isinstance(answers, (list, tuple)) and all(
        isinstance(answer, Mapping) and context.startswith(answer["text"], answer["start"]) for answer in answers
    )


def _contexts(values: Mapping[str, Any]) -> list[str]:
    contexts = as_ragged(values["context"])
    return [contexts[row].tobytes().decode("utf-8") for row in range(len(contexts))]


def _true_texts(targets: Targets) -> list[list[str]]:
    spans_NA2 = np.asarray(targets["spans"])
    return [
        list(dict.fromkeys(context[start:end] for start, end in spans.tolist() if start != OUTSIDE))
        for context, spans in zip(_contexts(targets), spans_NA2, strict=True)
    ]


def _is_answerable(targets: Targets) -> npt.NDArray[np.bool_]:
    is_there_N: npt.NDArray[np.bool_] = np.asarray(targets["spans"])[:, 0, 0] != OUTSIDE
    return is_there_N


def _listed(context: str, start: int, end: int, score: float) -> dict[str, Any]:
    return {"answer": context[start:end], "start": start, "end": end, "score": score}
