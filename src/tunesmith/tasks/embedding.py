"""Embeddings: one vector a text, so that what belongs together lies near (Reimers and Gurevych 2019).

Shapes: N rows of a split, B rows of a step, U sequences, D numbers a vector, C candidates, R bootstrap replicates.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch.nn import functional

from tunesmith import metrics
from tunesmith.data.encoded import Array, Encoded, Ragged, Units, as_ragged
from tunesmith.data.forms import Form
from tunesmith.data.related_texts import ANCHOR, NEGATIVE, POSITIVE, SCORE, RelatedTexts
from tunesmith.metrics.retrieval import find
from tunesmith.models.anatomy import Anatomy
from tunesmith.models.loading import BASE
from tunesmith.models.origin import origin
from tunesmith.models.sentence_folder import sentence_files
from tunesmith.tasks import mined_negatives
from tunesmith.tasks.base import Columns, FloatArray, Outputs, Targets, Task
from tunesmith.tasks.card import TaskCard
from tunesmith.tasks.columns import places
from tunesmith.tasks.embedding_card import card_of
from tunesmith.tasks.embedding_columns import ROLES, fit_score, roles_for
from tunesmith.tasks.embedding_encoding import (
    TEXT,
    also_right,
    as_floats,
    encode_related,
    excluded,
    related_targets,
    texts_by_number,
)
from tunesmith.tasks.losses import widen
from tunesmith.tasks.objective import Pooling
from tunesmith.tasks.objectives.contrastive import cosent, cosine_sum, in_batch_negatives_sum, triplet_sum
from tunesmith.types import ColumnProfile, HeadSettings, InputError, Problem, Role

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

VECTORS = "vectors"
"""What is kept of texts that nothing is known of but themselves: their vectors, [U, D], of length 1."""
MAX_SCATTER = 2000

_POOLING: Mapping[str, Pooling] = {"mean": "mean", "cls": "first", "last": "last"}
_OF_SCORES = frozenset(["cosent", "cosine"])


class Embedding(Task):
    """Give texts vectors, so that those that belong together lie near each other.

    Rows are pairs of texts (a question and a passage that answers it), triplets (with one or several passages that do
    not), or pairs with a score of how near they are. A vector is made of the last hidden states of a text's tokens and
    brought to length 1; the model gets no head.
    """

    name: Literal["embedding"] = "embedding"

    title: ClassVar[str] = "Text embedding"

    given: Literal["pairs", "triplets", "scored"] | None = None
    """What rows are; seen from their columns when not given."""
    loss: Literal["in_batch_negatives", "triplet", "cosent", "cosine"] | None = None
    """`in_batch_negatives` (InfoNCE): every anchor is to find its own text among those of the whole step, however few
    of its rows fit into memory at once. `triplet`: nearer than the row's negatives by `margin`. For scores: `cosent`,
    their order; `cosine`, the squared error of the cosine. By the rows when not given: in-batch negatives, or CoSENT
    where they have scores."""
    temperature: Annotated[float, Field(gt=0)] = 0.05
    """What cosines are divided by in `in_batch_negatives` and `cosent`."""
    symmetric: bool = False
    """Whether `in_batch_negatives` also asks each text to find its anchor."""
    margin: Annotated[float, Field(gt=0)] = 0.2
    """How much nearer than a negative the positive is to be, by cosine, for `triplet`."""
    matryoshka: tuple[Annotated[int, Field(ge=1)], ...] = ()
    """Lengths to which vectors may be cut and still serve (Kusupati et al. 2022), such as `256,128,64`: the loss is
    the mean of that of the whole vectors and of those cut so."""
    hard_negatives: Annotated[int, Field(ge=0)] = 0
    """Negatives that the model itself finds for each row before it is trained, among the texts of other rows."""
    hard_negatives_margin: Annotated[float, Field(ge=0, lt=2)] = 0.05
    """How far below the positive's the cosine of a found negative must be: what is nearer may well be right."""
    pooling: Literal["mean", "cls", "last"] | None = None
    """Vector of a text: the mean of its tokens' states, that of its first token, or that of its last; what the
    model's folder says when not given, else the mean."""
    query_prefix: str | None = None
    """What is put before anchors (`query: ` for E5); what the model's folder says when not given, else nothing.
    Before both texts where rows have scores."""
    passage_prefix: str | None = None
    """The same for positives and negatives (`passage: ` for E5)."""
    score_range: tuple[float, float] | None = None
    """The lowest and the highest score, which stand for cosines of 0 and 1; learned from the training rows."""

    roles: ClassVar[tuple[Role, ...]] = ROLES
    truths: ClassVar[tuple[str, ...]] = (POSITIVE,)
    found_by_name: ClassVar[bool] = True
    rate_factor: ClassVar[float] = 0.1
    inputs: ClassVar[tuple[str, ...]] = (ANCHOR,)
    vectors_of: ClassVar[tuple[str, ...]] = (ANCHOR, POSITIVE)
    not_encoded: ClassVar[frozenset[str]] = frozenset(
        (
            "loss",
            "temperature",
            "symmetric",
            "margin",
            "matryoshka",
            "hard_negatives",
            "hard_negatives_margin",
            "pooling",
            "score_range",
        )
    )
    rival: ClassVar[Literal["classical", "untuned", "rule"]] = "untuned"
    higher_is_better: ClassVar[Mapping[str, bool]] = dict.fromkeys(
        ("ndcg_at_10", "mrr", "recall_at_1", "recall_at_10", "spearman", "pearson"), True
    )

    # ---- rows

    @classmethod
    def form_for(cls, roles: Collection[str]) -> type[Form]:
        return RelatedTexts

    @classmethod
    def roles_for(cls, profiles: Mapping[str, ColumnProfile], overrides: Mapping[str, str]) -> tuple[Role, ...]:
        return roles_for(profiles, overrides)

    @classmethod
    def fit_score(cls, profiles: Mapping[str, ColumnProfile]) -> tuple[float, str]:
        return fit_score(profiles)

    def bind(self, columns: Columns) -> Self:
        """Fill in what rows are, the loss that suits them, and the range of the scores."""
        given = self.given or ("scored" if SCORE in columns else "triplets" if NEGATIVE in columns else "pairs")
        loss = self.loss or ("cosent" if given == "scored" else "in_batch_negatives")
        scale = self.score_range
        if given == "scored" and scale is None:
            scores = [score for score in columns.get(SCORE, ()) if isinstance(score, (int, float))]
            low, high = (min(scores), max(scores)) if scores else (0.0, 1.0)
            scale = (min(float(low), 0.0) if high > 0 else float(low), float(high) if high > low else float(low) + 1.0)
        return self.changed(given=given, loss=loss, score_range=scale)

    def check(self, split: str, columns: Columns) -> list[Problem]:
        """Report losses that do not fit the rows, scores that are no numbers, and texts paired with themselves."""
        problems = self._misfits(columns) if split == "train" else []
        if SCORE in columns:
            wrong = [row for row, score in enumerate(columns[SCORE]) if not _is_number(score)]
            if wrong:
                message = f"{len(wrong)} {split} rows have a score that is no finite number, such as "
                message += f"{columns[SCORE][wrong[0]]!r}."
                fix = "Correct or remove the rows."
                return [*problems, Problem("error", message, fix, len(wrong), places(split, columns, wrong))]
            if split == "train" and len(set(columns[SCORE])) == 1:
                message = f"Every training row has the same score, {columns[SCORE][0]}: there is nothing to learn."
                problems.append(Problem("error", message, "Check data.columns.score.", len(columns[SCORE])))
        elif POSITIVE in columns:
            pairs = zip(columns[ANCHOR], columns[POSITIVE], strict=True)
            same = [row for row, (anchor, positive) in enumerate(pairs) if anchor == positive]
            if same:
                message = f"{len(same)} {split} rows pair a text with itself: dropout alone tells the two apart."
                problems.append(Problem("note", message, "", len(same), places(split, columns, same)))
        return problems

    def _misfits(self, columns: Columns) -> list[Problem]:
        if (self.loss in _OF_SCORES) != (SCORE in columns):
            has = "have no score" if self.loss in _OF_SCORES else "have a score, which it would not use"
            fix = "Name the column of scores with data.columns.score, or choose another loss."
            if self.loss not in _OF_SCORES:
                fix = "Choose cosent or cosine, or leave the scores out: data.columns.score none."
            return [Problem("error", f"task.loss: {self.loss} does not fit: the rows {has}.", fix)]
        if self.loss == "triplet" and not self.hard_negatives and not any(columns.get(NEGATIVE, ())):
            message = "task.loss: triplet needs negatives, and no row has one."
            fix = "Name their columns with data.columns.negative, or let the model find some: task.hard_negatives 3."
            return [Problem("error", message, fix)]
        if self.hard_negatives and SCORE in columns:
            message = "task.hard_negatives: rows with scores have no place for negatives."
            return [Problem("error", message, "Leave it out, or leave the scores out: data.columns.score none.")]
        return []

    def suited_to(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> Self:
        """Fill in pooling and prefixes as the model's folder says; refuse what cannot be had with it."""
        known = origin(model)
        said = known.sentences if known is not None else None
        names = {pooling: name for name, pooling in _POOLING.items()}
        if self.pooling is None and said is not None and said.parts:
            raise InputError(
                f"The model makes its vectors by {' and '.join(said.parts)}, which tunesmith does not train.",
                "Train it with another pooling all the same: task.pooling mean.",
            )
        pooling = self.pooling or (names[said.pooling] if said is not None and said.pooling else "mean")
        prompts = said.prompts if said is not None else {}
        query = self.query_prefix if self.query_prefix is not None else prompts.get("query", "")
        passage = self.passage_prefix
        if passage is None:
            passage = prompts.get("document", prompts.get("passage", ""))
        width = Anatomy.of(model).hidden_size
        if too_long := [length for length in self.matryoshka if length > width]:
            raise InputError(
                f"task.matryoshka: the model's vectors have {width} numbers, fewer than {too_long[0]}.",
                f"Give lengths below {width}.",
            )
        return self.changed(pooling=pooling, query_prefix=query, passage_prefix=passage)

    def texts(self, columns: Columns) -> dict[str, Sequence[str | None]]:
        return {name: columns[name] for name in (ANCHOR, POSITIVE) if name in columns}

    def encode(self, columns: Columns, tokenizer: PreTrainedTokenizerBase, max_length: int) -> Encoded:
        first = self.query_prefix or ""
        return encode_related(
            columns, tokenizer, max_length, (first, first if self.given == "scored" else self.passage_prefix or "")
        )

    def targets(self, columns: Columns) -> dict[str, Array | Ragged]:
        """Return ``score``, float32 [N], or ``text``: of each row, which texts of the split it holds."""
        return related_targets(columns)

    # ---- objective

    def head(self) -> HeadSettings:
        return HeadSettings(BASE, None)

    @property
    def row_pooling(self) -> Pooling:
        return _POOLING[self.pooling or "mean"]

    @property
    def needs_whole_step(self) -> bool:
        return self.loss in ("in_batch_negatives", "cosent")

    @property
    def sums_over_units(self) -> bool:
        return False

    def loss_sum(self, scores_UK: torch.Tensor, targets: Mapping[str, torch.Tensor], units: Units) -> torch.Tensor:
        """Return the loss times the number of rows; the scores are pooled states of any length."""
        states_UD = widen(scores_UK)
        lengths = [states_UD.shape[1], *self.matryoshka]
        losses = [self._loss(functional.normalize(states_UD[:, :length], dim=-1), targets, units) for length in lengths]
        return torch.stack(losses).mean()

    def _loss(self, vectors_UD: torch.Tensor, targets: Mapping[str, torch.Tensor], units: Units) -> torch.Tensor:
        first_B = torch.from_numpy(units.rows[:-1]).to(vectors_UD.device)
        anchors_BD, positives_BD = vectors_UD[first_B], vectors_UD[first_B + 1]
        if self.loss in _OF_SCORES:
            wanted_B = targets[SCORE].to(vectors_UD.dtype)
            if self.loss == "cosent":
                return cosent(anchors_BD, positives_BD, wanted_B, self.temperature) * len(first_B)
            low, high = self._range
            return cosine_sum(anchors_BD, positives_BD, (wanted_B - low) / (high - low))
        row_of = np.repeat(np.arange(len(first_B)), units.per_row)
        far = np.flatnonzero(np.arange(len(row_of)) - units.rows[:-1][row_of] > 1)
        far_P, row_P = (torch.from_numpy(one).to(vectors_UD.device) for one in (far, row_of[far]))
        if self.loss == "triplet":
            weights_P = 1.0 / torch.bincount(row_P, minlength=len(first_B))[row_P].to(vectors_UD.dtype)
            return triplet_sum(anchors_BD[row_P], positives_BD[row_P], vectors_UD[far_P], weights_P, self.margin)
        text_U = targets[TEXT].cpu().numpy()
        first = units.rows[:-1]
        rows_C = np.concatenate([np.arange(len(first)), row_of[far]])
        texts_C = text_U[np.concatenate([first + 1, far])]
        mask_BC = torch.from_numpy(excluded(text_U[first], text_U[first + 1], texts_C, rows_C)).to(vectors_UD.device)
        candidates_CD = torch.cat([positives_BD, vectors_UD[far_P]])
        return in_batch_negatives_sum(anchors_BD, candidates_CD, mask_BC, self.temperature, symmetric=self.symmetric)

    def count_units(self, targets: Mapping[str, torch.Tensor], units: Units) -> float:
        """Return the number of rows; for triplets, of those with negatives."""
        per_row = np.diff(units.rows)
        return float((per_row > 2).sum() if self.loss == "triplet" else len(per_row))

    def collect(
        self, scores_UK: torch.Tensor, targets: Mapping[str, torch.Tensor], units: Units
    ) -> dict[str, torch.Tensor]:
        return {VECTORS: functional.normalize(widen(scores_UK.detach()), dim=-1).float()}

    def conclude(self, outputs: Mapping[str, Array | Ragged], data: Encoded) -> Mapping[str, Array | Ragged]:
        """Return each row's ``similarity``; where there are no scores, ``rank`` and ``nearest`` among all candidates.

        Candidates are the distinct positives and negatives of the split; others that answer the same anchor do not
        compete. Rows that are texts alone keep their ``vectors``.
        """
        if not data.targets:
            return outputs
        vectors_UD, first_N = as_floats(as_ragged(outputs[VECTORS]).values), as_ragged(outputs[VECTORS]).offsets[:-1]
        if SCORE in data.targets:
            return {"similarity": (vectors_UD[first_N] * vectors_UD[first_N + 1]).sum(axis=1)}
        text_U = as_ragged(data.targets[TEXT]).values
        others_U = np.setdiff1d(np.arange(len(text_U)), first_N)
        texts_C, once = np.unique(text_U[others_U], return_index=True)
        own_N = np.searchsorted(texts_C, text_U[first_N + 1])
        right = also_right(text_U[first_N], own_N, texts_C)
        found = find(vectors_UD[first_N], vectors_UD[others_U[once]], own_N, right)
        return {"rank": found.ranks, "nearest": texts_C[found.nearest], "similarity": found.similarity}

    @property
    def mines(self) -> bool:
        return self.hard_negatives > 0

    def mine(self, outputs: Mapping[str, Array | Ragged], data: Encoded) -> dict[str, Array]:
        vectors = outputs[VECTORS]
        vectors_SD = as_floats(vectors.values if isinstance(vectors, Ragged) else vectors)
        return mined_negatives.choose(vectors_SD, data, self.hard_negatives, self.hard_negatives_margin)

    def with_mined(self, data: Encoded, mined: Mapping[str, Array]) -> tuple[Encoded, list[Problem]]:
        chosen_NK, too_near_N = (np.asarray(mined[name], dtype=np.int64) for name in ("chosen", "too_near"))
        num_found, num_without = int((chosen_NK >= 0).sum()), int((chosen_NK < 0).all(axis=1).sum())
        message = (
            f"The model found {num_found} hard negatives for {len(chosen_NK) - num_without} of {len(chosen_NK)} rows; "
            f"{int((too_near_N > 0).sum())} rows had candidates as near as their positive, or nearly, which may be "
            "right and were passed over."
        )
        problem = Problem("note", message, "The guard is --task.hard_negatives_margin.", num_found)
        if not num_found:
            fix = "Lower task.hard_negatives_margin, or leave task.hard_negatives out."
            raise InputError("task.hard_negatives: no row has a candidate that is surely wrong.", fix)
        return mined_negatives.with_negatives(data, chosen_NK), [problem]

    # ---- judge

    def main_metric(self) -> str:
        return "spearman" if self.given == "scored" else "ndcg_at_10"

    def decode(self, outputs: Outputs, columns: Columns | None = None) -> list[dict[str, Any]]:
        if VECTORS in outputs:
            return [{"embedding": vector} for vector in self.vectors(outputs).astype(np.float64).tolist()]
        similarity = outputs["similarity"].astype(np.float64).tolist()
        if "nearest" not in outputs:
            return [{"value": value} for value in self._values(outputs).tolist()]
        nearest = outputs["nearest"].tolist()
        return [{"label": text, "score": score} for text, score in zip(nearest, similarity, strict=True)]

    def vectors(self, outputs: Outputs) -> npt.NDArray[np.float32]:
        return as_floats(outputs[VECTORS])

    def shown(self, answer: Any, columns: Columns, row: int) -> Any:
        """Return the text that an answer stands for, of rows without scores."""
        return answer if SCORE in columns else texts_by_number(columns)[answer]

    def truth(self, targets: Targets) -> list[Any]:
        if SCORE in targets:
            scores: list[Any] = targets[SCORE].astype(np.float64).tolist()
            return scores
        texts = as_ragged(targets[TEXT])
        own: list[Any] = texts.values[texts.offsets[:-1] + 1].tolist()
        return own

    def errors(self, outputs: Outputs, targets: Targets) -> FloatArray:
        """Return [N]: how far a score is missed, or how many candidates come before the right one."""
        if SCORE in targets:
            missed: FloatArray = np.abs(self._values(outputs) - targets[SCORE])
            return missed
        before: FloatArray = outputs["rank"] - 1.0
        return before

    def measure(self, outputs: Outputs, targets: Targets, weights_RN: FloatArray) -> dict[str, FloatArray]:
        if SCORE not in targets:
            return metrics.retrieval_metrics(outputs["rank"], weights_RN)
        truth_N, found_N = targets[SCORE].astype(np.float64), outputs["similarity"].astype(np.float64)
        measured = metrics.regression_metrics(truth_N, found_N, weights_RN)
        return {name: measured[name] for name in ("spearman", "pearson")}

    def details(self, outputs: Outputs, targets: Targets) -> dict[str, Any]:
        """Return ``scatter``, a sample of [score, cosine in the same units], where there are scores."""
        if SCORE not in targets:
            return {}
        rows = np.unique(np.linspace(0, len(targets[SCORE]) - 1, MAX_SCATTER).round().astype(np.int64))
        pairs = np.stack([targets[SCORE][rows], self._values(outputs)[rows]], axis=1)
        return {"scatter": pairs.astype(np.float64).tolist()}

    def card(self, inputs: Sequence[str], tokenizer: PreTrainedTokenizerBase | None = None) -> TaskCard:
        return card_of(self.row_pooling, self.query_prefix or "")

    def files_beside(self, model: torch.nn.Module, max_length: int) -> dict[str, Any]:
        given = {"query": self.query_prefix or "", "document": self.passage_prefix or ""}
        prompts = given if any(given.values()) else {}
        return sentence_files(Anatomy.of(model).hidden_size, self.row_pooling, max_length, prompts)

    @property
    def _range(self) -> tuple[float, float]:
        assert self.score_range is not None, "bind the task first"
        return self.score_range

    def _values(self, outputs: Outputs) -> FloatArray:
        """Return [N]: the cosines in the units of the scores."""
        low, high = self._range
        values: FloatArray = low + (high - low) * outputs["similarity"].astype(np.float64)
        return values


def _is_number(score: Any) -> bool:
    return isinstance(score, (int, float)) and not isinstance(score, bool) and math.isfinite(score)
