"""Reranking: candidates put in order by how well they answer a query, each read together with it (a cross-encoder).

Nogueira and Cho 2019 (arXiv:1901.04085). A candidate is a sequence of its own, those of a query stand in one row.

Shapes: N rows, B rows of a micro-batch, U candidates of them, C candidates of a row, P pairs, R replicates.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
import torch
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from tunesmith import metrics
from tunesmith.data.candidate_rows import CANDIDATES, GRADES, QUERY, Candidates
from tunesmith.data.encoded import Array, Encoded, Ragged, Units, as_ragged
from tunesmith.data.forms import Form
from tunesmith.tasks.base import Columns, FloatArray, Outputs, Targets, Task
from tunesmith.tasks.card import TaskCard
from tunesmith.tasks.columns import places
from tunesmith.tasks.encoding import encode_texts
from tunesmith.tasks.losses import widen
from tunesmith.tasks.objectives.preference import pairs_of_rows, per_row
from tunesmith.tasks.reranking_columns import ROLES, fit_score, roles_for
from tunesmith.tasks.word_overlap import WordOverlap
from tunesmith.types import ColumnProfile, HeadSettings, InputError, Problem, Role

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_OUT = -1e9
"""The score of places without a candidate."""


class Reranking(Task):
    """Put candidates in the order in which they answer a query."""

    name: Literal["reranking"] = "reranking"

    title: ClassVar[str] = "Reranking"

    loss: Literal["listwise", "pairwise", "binary"] | None = None
    """`listwise`: the cross-entropy of a softmax over a query's candidates with their grades (ListNet, Cao et al.
    2007). `pairwise`: of each two candidates of different grades the better one is to score more (RankNet, Burges et
    al. 2005). `binary`: each candidate by itself, by a sigmoid. By the rows when not given: `binary` where most of them
    are one candidate, else `listwise`."""
    relevant: float = 0.0
    """Candidates with a grade above this are right, for MRR, recall and nDCG, whose gain is what is above it."""
    grade_range: tuple[float, float] | None = None
    """The grades that stand for 0 and 1; learned from the training rows: 0, or a lower one, and the highest."""

    roles: ClassVar[tuple[Role, ...]] = ROLES
    truths: ClassVar[tuple[str, ...]] = (GRADES,)
    inputs: ClassVar[tuple[str, ...]] = (QUERY, CANDIDATES)
    found_by_name: ClassVar[bool] = True
    kept_together: ClassVar[str | None] = QUERY
    not_encoded: ClassVar[frozenset[str]] = frozenset(("loss", "relevant", "grade_range"))
    rival: ClassVar[Literal["classical", "untuned", "rule"]] = "rule"
    higher_is_better: ClassVar[Mapping[str, bool]] = dict.fromkeys(
        ("ndcg_at_10", "mrr", "recall_at_1", "accuracy"), True
    )

    # ---- rows ----------------------------------------------------------------------------------

    @classmethod
    def form_for(cls, roles: Collection[str]) -> type[Form]:
        return Candidates

    @classmethod
    def roles_for(cls, profiles: Mapping[str, ColumnProfile], overrides: Mapping[str, str]) -> tuple[Role, ...]:
        return roles_for(profiles, overrides)

    @classmethod
    def fit_score(cls, profiles: Mapping[str, ColumnProfile]) -> tuple[float, str]:
        return fit_score(profiles)

    def bind(self, columns: Columns) -> Self:
        """Fill in the loss that suits the rows, and the range of the grades."""
        if self.loss is not None and self.grade_range is not None:
            return self
        grades = [given for given in columns[GRADES] if given]
        known = [grade for given in grades for grade in given]
        low, high = min([0.0, *known]), max(known, default=0.0)
        if low == high:
            raise InputError(
                f"All {len(known)} candidates of the training rows have the same grade ({high:g}): nothing tells which "
                "are the better ones.",
                "Give candidates that do not answer their query, too, with a lower grade (0).",
            )
        are_alone = 2 * sum(len(given) < 2 for given in grades) > len(grades)
        loss = self.loss or ("binary" if are_alone else "listwise")
        return self.changed(loss=loss, grade_range=self.grade_range or (low, high))

    def check(self, split: str, columns: Columns) -> list[Problem]:
        """Report rows whose grades are no numbers, or not as many as candidates."""
        pairs = zip(columns[CANDIDATES], columns[GRADES], strict=True)
        wrong = [row for row, (candidates, grades) in enumerate(pairs) if not _fit(candidates, grades)]
        if not wrong:
            return []
        shown = ", ".join(repr(columns[GRADES][row]) for row in wrong[:3])
        message = f"{len(wrong)} {split} rows have grades that are no numbers, or not as many as candidates: {shown}."
        fix = "Give each candidate of these rows a number, or remove the rows."
        return [Problem("error", message, fix, len(wrong), places(split, columns, wrong))]

    @property
    def shortening(self) -> str:
        return "lose the end of their longer part"

    def texts(self, columns: Columns) -> dict[str, Sequence[str | None]]:
        """Return the queries, and all candidates of each."""
        found: dict[str, Sequence[str | None]] = {QUERY: columns[QUERY]}
        if CANDIDATES in columns:
            found[CANDIDATES] = ["\n".join(candidates or ()) for candidates in columns[CANDIDATES]]
        return found

    def encode(self, columns: Columns, tokenizer: PreTrainedTokenizerBase, max_length: int) -> Encoded:
        """Tokenise each candidate after its query."""
        counts = [len(candidates) for candidates in columns[CANDIDATES]]
        queries = [query or "" for query, count in zip(columns[QUERY], counts, strict=True) for _ in range(count)]
        candidates = [text for texts in columns[CANDIDATES] for text in texts]
        inputs, num_truncated = encode_texts(tokenizer, queries, candidates, max_length)
        rows = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        targets: dict[str, Array | Ragged] = {}
        remarks = {}
        if GRADES in columns:
            single = np.arange(rows[-1] + 1)
            targets = {
                name: Ragged(value.values, single) if isinstance(value, Ragged) else value
                for name, value in self.targets(columns).items()
            }
            num_level = sum(len(set(given)) < 2 for given in columns[GRADES])
            if self.loss != "binary" and num_level:
                remarks["have candidates of one grade alone: nothing is learned of their order."] = num_level
        return Encoded(inputs, targets, num_truncated, rows=rows, keeps_rows=True, remarks=remarks)

    def targets(self, columns: Columns) -> dict[str, Array | Ragged]:
        """Return ``grade`` and ``text`` (a number that stands for it) of each candidate, and ``query`` [N], as one."""
        if not all(map(_fit, columns[CANDIDATES], columns[GRADES])):
            raise InputError(self.check("given", columns))
        return {
            "grade": Ragged.from_rows(columns[GRADES], np.float32),
            "text": Ragged.from_rows([[_number_of(text) for text in texts] for texts in columns[CANDIDATES]], np.int64),
            "query": np.array([_number_of(query or "") for query in columns[QUERY]], dtype=np.int64),
        }

    def head(self) -> HeadSettings:
        config = {"id2label": {0: "relevance"}, "label2id": {"relevance": 0}}
        return HeadSettings("AutoModelForSequenceClassification", 1, config)

    # ---- loss ----------------------------------------------------------------------------------

    @property
    def sums_over_units(self) -> bool:
        """Whether a candidate is learned by itself, rather than beside the others of its query."""
        return self.loss == "binary"

    def loss_sum(self, scores_UK: torch.Tensor, targets: Mapping[str, torch.Tensor], units: Units) -> torch.Tensor:
        scores_U = widen(scores_UK).squeeze(-1)
        low, high = self.grade_range or (0.0, 1.0)
        wanted_U = (targets["grade"].to(scores_U.dtype) - low) / (high - low)
        if self.loss == "binary":
            return functional.binary_cross_entropy_with_logits(scores_U, wanted_U, reduction="sum")
        if self.loss == "pairwise":
            return _pairwise_sum(scores_U, wanted_U, units)
        return _listwise_sum(scores_U, wanted_U, units)

    def count_units(self, targets: Mapping[str, torch.Tensor], units: Units) -> float:
        """Return the number of candidates; of losses of their order, of rows with different grades."""
        if self.loss == "binary":
            return float(len(targets["grade"]))
        rows = torch.split(targets["grade"], units.per_row)
        return float(sum(bool((grades != grades[:1]).any()) for grades in rows))

    def collect(
        self, scores_UK: torch.Tensor, targets: Mapping[str, torch.Tensor], units: Units
    ) -> dict[str, torch.Tensor]:
        """Keep ``scores``: of each candidate, float32 [U]."""
        return {"scores": scores_UK.detach().squeeze(-1).float()}

    # ---- scores to answers and numbers ---------------------------------------------------------

    def decode(self, outputs: Outputs, columns: Columns | None = None) -> list[dict[str, Any]]:
        """Return ``order``, the numbers of the candidates (from 0), best first, with ``scores`` and ``candidates`` so.

        A score is the sigmoid of the model's own; ``label`` and ``score`` are those of the best one.
        """
        found = []
        scores = as_ragged(outputs["scores"])
        for row in range(len(scores)):
            own = np.asarray(scores[row], dtype=np.float64)
            order = np.argsort(-own, kind="stable")
            sure = 1 / (1 + np.exp(-own[order]))
            answer: dict[str, Any] = {"label": int(order[0]), "score": float(sure[0]), "order": order.tolist()}
            answer["scores"] = sure.tolist()
            if columns is not None:
                answer["candidates"] = [columns[CANDIDATES][row][place] for place in order.tolist()]
            found.append(answer)
        return found

    def shown(self, answer: Any, columns: Columns, row: int) -> Any:
        """Return the words of a candidate."""
        return columns[CANDIDATES][row][answer]

    def truth(self, targets: Targets) -> list[Any]:
        """Return the number of each row's best candidate, the first of several."""
        grades = as_ragged(targets["grade"])
        return [int(np.argmax(grades[row])) for row in range(len(grades))]

    def errors(self, outputs: Outputs, targets: Targets) -> FloatArray:
        """Return [N]: how many worse candidates come before all of the best ones."""
        scores, grades = as_ragged(outputs["scores"]), as_ragged(targets["grade"])
        found = []
        for row in range(len(scores)):
            is_best = grades[row] == grades[row].max()
            found.append(float((scores[row][~is_best] > scores[row][is_best].max()).sum()))
        return np.array(found, dtype=np.float64)

    def measure(self, outputs: Outputs, targets: Targets, weights_RN: FloatArray) -> dict[str, FloatArray]:
        return metrics.reranking_metrics(_queries(outputs, targets), self.relevant, weights_RN)

    def details(self, outputs: Outputs, targets: Targets) -> dict[str, Any]:
        """Return how much was judged: ``num_queries``, and ``num_compared`` candidates."""
        queries = _queries(outputs, targets)
        return {"num_queries": len(queries), "num_compared": sum(len(query.scores) for query in queries)}

    def answer_by_rule(self, train: Columns, rows: Columns) -> tuple[str, dict[str, Any]]:
        """Score by the words that query and candidate share (BM25), counted in the training rows' candidates."""
        overlap = WordOverlap(dict.fromkeys(text for texts in train[CANDIDATES] for text in texts))
        pairs = zip(rows[QUERY], rows[CANDIDATES], strict=True)
        scores = [np.array(overlap.scores(query or "", texts), dtype=np.float32) for query, texts in pairs]
        return "word overlap (BM25)", {"scores": Ragged.from_rows(scores, np.float32)}

    # ---- said of the model -----------------------------------------------------------------------

    def card(self, inputs: Sequence[str], tokenizer: PreTrainedTokenizerBase | None = None) -> TaskCard:
        del inputs, tokenizer
        return TaskCard(
            purpose="scores how well a text answers a query, to put the candidates of a search in order",
            pipeline_tag="text-ranking",
            limits=("Scores put the candidates of one query in order; they are no probabilities of being right.",),
            code=(
                'query, candidates = "What is warm?", ["Ice.", "The sun.", "Snow."]',
                "given = [query] * len(candidates), candidates",
                'inputs = tokenizer(*given, return_tensors="pt", padding=True, truncation=True)',
                "with torch.no_grad():",
                "    scores = model(**inputs).logits.squeeze(-1).sigmoid()",
                "print(scores.tolist())",
            ),
            note="`CrossEncoder(folder)` of `sentence-transformers` gives the same scores.",
        )


def _fit(candidates: Any, grades: Any) -> bool:
    """Say whether there is a number for each of a row's candidates."""
    are_numbers = isinstance(grades, (list, tuple)) and all(isinstance(one, (int, float)) for one in grades)
    return are_numbers and len(grades) == len(candidates or ())


def _number_of(text: str) -> int:
    """Return a number of 63 bits that stands for a text."""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little") >> 1


def _listwise_sum(scores_U: torch.Tensor, wanted_U: torch.Tensor, units: Units) -> torch.Tensor:
    """Return the cross-entropy over each row's candidates, summed; the wanted shares are those of the grades."""
    counts = units.per_row
    scores_BC = pad_sequence(list(torch.split(scores_U, counts)), batch_first=True, padding_value=_OUT)
    wanted_BC = pad_sequence(list(torch.split(wanted_U, counts)), batch_first=True, padding_value=0.0)
    differs_B = torch.stack([(own != own[:1]).any() for own in torch.split(wanted_U, counts)])
    shares_BC = wanted_BC / wanted_BC.sum(dim=1, keepdim=True).clamp(min=1e-12)
    losses_B = -(shares_BC * scores_BC.log_softmax(dim=1)).sum(dim=1)
    return (losses_B * differs_B).sum()


def _pairwise_sum(scores_U: torch.Tensor, wanted_U: torch.Tensor, units: Units) -> torch.Tensor:
    """Return ``-log s(better - worse)``, the mean over each row's pairs of different grades, summed over rows."""
    one, other, row_P = (torch.from_numpy(part).to(scores_U.device) for part in pairs_of_rows(units))
    sign_P = torch.sign(wanted_U[one] - wanted_U[other])
    losses_P = -functional.logsigmoid(sign_P * (scores_U[one] - scores_U[other]))
    return per_row(losses_P, sign_P != 0, row_P, len(units.per_row)).sum()


def _queries(outputs: Outputs, targets: Targets) -> list[metrics.RankedQuery]:
    """Return the candidates of each query, of all rows that have it; a text that comes twice has its best grade."""
    scores, grades, texts = as_ragged(outputs["scores"]), as_ragged(targets["grade"]), as_ragged(targets["text"])
    rows_of: dict[int, list[int]] = {}
    for row, query in enumerate(np.asarray(targets["query"]).tolist()):
        rows_of.setdefault(query, []).append(row)
    found = []
    for rows in rows_of.values():
        own = texts.take(rows)
        _, first, which = np.unique(own, return_index=True, return_inverse=True)
        best = np.full(len(first), -np.inf)
        np.maximum.at(best, which, grades.take(rows).astype(np.float64))
        found.append(metrics.RankedQuery(rows[0], scores.take(rows)[first].astype(np.float64), best))
    return found
