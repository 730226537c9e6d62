"""Masked language modelling: an encoder learns the language of unlabelled texts by restoring masked words.

Shapes: N rows of the data, U tokens read in a micro-batch, T tokens read in all, V size of the vocabulary,
k fillers kept, R bootstrap replicates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field, model_validator
from torch.nn import functional

from tunesmith.data.encoded import Array, Encoded, Ragged, Units, as_ragged
from tunesmith.metrics.ranges import within_range
from tunesmith.metrics.weighting import ratio
from tunesmith.tasks import masking
from tunesmith.tasks.base import Columns, FloatArray, Outputs, Targets, Task
from tunesmith.tasks.card import IN_WINDOWS, TaskCard
from tunesmith.tasks.columns import TEXT
from tunesmith.tasks.losses import cross_entropy_sum, widen
from tunesmith.tasks.masked_encoding import Vocabulary, Windows, encode_windows, vocabulary_of
from tunesmith.tasks.masking import NOT_JUDGED, TURNS, Fates, Masked
from tunesmith.types import ColumnProfile, HeadSettings, Problem, Role

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

IntArray = npt.NDArray[np.int64]

IN_FULL = "in_full"
"""The column that marks rows to predict on: every word is masked once, or the masks that the text holds are filled."""
MAX_LOSS = 700.0
"""A mean loss above this has the perplexity of this: more than float64 can hold."""


class MaskedLM(Task):
    """Restore masked words: adapts an encoder to the language of texts that need no labels.

    **Training** (Devlin et al. 2019, section 3.1): in every row a share of the words, at least one, is chosen; of
    their tokens most become the mask token, some a random one, some stay. Masks are drawn anew in every step (Liu et
    al. 2019, section 4.1), from the step's seed and the row's number alone, so that a resumed run repeats them.

    **Evaluation** masks every seventh word of a row (about 15%) in an order that is a hash of the row's tokens, and
    always by the mask token. ``pseudo_perplexity`` is the exponential of the mean loss of these tokens. Salazar et al.
    2020 (section 2) mask each token once, alone; here a row is scored in one pass, with more of it hidden, which gives
    larger numbers. They compare runs, because masks depend on nothing but the text, the tokenizer and
    ``model.max_length``: no seed, no setting of this task, and they are never drawn anew.

    Rows longer than ``model.max_length`` become windows that do not overlap and do not see each other; metrics count
    rows.
    """

    name: Literal["masked_lm"] = "masked_lm"

    title: ClassVar[str] = "Masked language modelling"

    probability: float = Field(default=0.15, gt=0.0, lt=1.0)
    """Share of the words (or tokens) of a row that are chosen in a training step."""
    whole_words: bool = True
    """Whether words are chosen, with all of their tokens, rather than single tokens. In scripts written without
    spaces a character is a word."""
    mask_share: float = Field(default=0.8, ge=0.0, le=1.0)
    """Share of the chosen tokens that become the mask token."""
    random_share: float = Field(default=0.1, ge=0.0, le=1.0)
    """Share of the chosen tokens that become a random token; the rest stays as it is."""
    num_fillers: int = Field(default=5, ge=1, le=100)
    """How many words are suggested for each mask token of a text, in predictions."""

    reads: ClassVar[Literal["row", "token"]] = "token"
    roles: ClassVar[tuple[Role, ...]] = (TEXT,)
    truths: ClassVar[tuple[str, ...]] = ()
    rival: ClassVar[Literal["classical", "untuned"]] = "untuned"
    joins_lines: ClassVar[bool] = True
    corrupts: ClassVar[bool] = True
    not_encoded: ClassVar[frozenset[str]] = frozenset(
        {"probability", "whole_words", "mask_share", "random_share", "num_fillers"}
    )
    higher_is_better: ClassVar[Mapping[str, bool]] = {"pseudo_perplexity": False, "token_accuracy": True}

    # ---- configuration -------------------------------------------------------------------------

    @model_validator(mode="after")
    def _shares_of_one(self) -> Self:
        if self.mask_share + self.random_share > 1.0 + 1e-9:
            raise ValueError("mask_share and random_share together are more than 1; lower one of them")
        return self

    @classmethod
    def fit_score(cls, profiles: Mapping[str, ColumnProfile]) -> tuple[float, str]:
        """Never the first choice: what else reads plain text fits better."""
        return 0.05, f"column '{profiles['text'].name}' holds texts, which an encoder can be adapted to"

    def bind(self, columns: Columns) -> Self:
        return self

    def check(self, split: str, columns: Columns) -> list[Problem]:
        return []

    def head(self) -> HeadSettings:
        return HeadSettings("AutoModelForMaskedLM", None)

    def on_texts(self) -> Self:
        return self

    # ---- rows to numbers -----------------------------------------------------------------------

    def complete(self, columns: Columns) -> Columns:
        """Mark rows to predict on, which are scored in full."""
        return {**columns, IN_FULL: [True] * len(columns["text"])}

    def encode(self, columns: Columns, tokenizer: PreTrainedTokenizerBase, max_length: int) -> Encoded:
        """Tokenise rows and mask them for evaluation; the extras hold them unmasked, for ``corrupt``.

        Rows to predict on come in up to ``TURNS`` copies, which mask each word once; where a text holds mask tokens
        itself, these are read and nothing is masked.

        Raises ``InputError`` for a tokenizer without a mask token.
        """
        vocabulary = vocabulary_of(tokenizer)
        windows = encode_windows(columns["text"], tokenizer, max_length, vocabulary.special_ids)
        if IN_FULL in columns:
            return _in_full(windows, vocabulary)
        masked = _masked_in_turn(windows, np.zeros(len(windows.ids), dtype=np.int64), vocabulary)
        extras: dict[str, Array | Ragged] = {
            "ids": windows.ids,
            "words": windows.words,
            "mask_id": np.array([vocabulary.mask_id]),
            "random_ids": vocabulary.random_ids,
        }
        return _encoded(masked, windows.firsts, extras)

    def targets(self, columns: Columns) -> dict[str, Array | Ragged]:
        """Return nothing: what is to be restored is known to the tokenizer alone; ``encode`` gives ``token``."""
        return {}

    def corrupt(self, data: Encoded, rows: IntArray, seed: int | None) -> Encoded:
        """Return rows with masks drawn from ``seed``; without a seed as ``encode`` masked them.

        Targets: ``token``, the id that stood at each token read.
        """
        if seed is None:
            return data.select(rows)
        ids, words = as_ragged(data.extras["ids"]).select(rows), as_ragged(data.extras["words"]).select(rows)
        keys_R = masking.random_keys(seed, rows)
        units = masking.find_units(words, whole_words=self.whole_words)
        chosen_U = masking.choose_share(units, keys_R, self.probability)
        mask_id, random_ids = np.asarray(data.extras["mask_id"]), np.asarray(data.extras["random_ids"])
        fates = Fates(int(mask_id[0]), random_ids.astype(np.int64, copy=False), self.mask_share, self.random_share)
        return _encoded(masking.mask(ids, units, chosen_U, keys_R, fates))

    # ---- loss ----------------------------------------------------------------------------------

    def loss_sum(self, scores_UK: torch.Tensor, targets: Mapping[str, torch.Tensor], units: Units) -> torch.Tensor:
        """Return the cross-entropy summed over the tokens read; over ``count_units`` it is torch's mean."""
        return cross_entropy_sum(scores_UK, targets["token"], None, 0.0)

    def count_units(self, targets: Mapping[str, torch.Tensor], units: Units) -> float:
        """Return the number of tokens read whose id is known."""
        return float((targets["token"] != NOT_JUDGED).sum())

    # ---- scores to answers and numbers ---------------------------------------------------------

    def collect(
        self, scores_UK: torch.Tensor, targets: Mapping[str, torch.Tensor], units: Units
    ) -> dict[str, torch.Tensor]:
        """Keep of every token read: ``loss`` (nan where its id is not known), ``right``, and the likeliest ids.

        ``fillers`` and ``probabilities`` are [U, k], the likeliest first.
        """
        scores_UK = widen(scores_UK.detach())
        token_U = targets["token"]
        loss_U = _losses(scores_UK, token_U).masked_fill(token_U == NOT_JUDGED, torch.nan)
        best_Uk, fillers_Uk = scores_UK.topk(min(self.num_fillers, scores_UK.shape[1]), dim=1)
        probabilities_Uk = (best_Uk - scores_UK.logsumexp(dim=1, keepdim=True)).exp()
        return {
            "loss": loss_U.float(),
            "right": fillers_Uk[:, 0] == token_U,
            "fillers": fillers_Uk.to(torch.int32),
            "probabilities": probabilities_Uk.float(),
        }

    def decode(self, outputs: Outputs, columns: Columns | None = None) -> list[dict[str, Any]]:
        """Return ``value``, the pseudo-perplexity, of each row, or the fillers of its own mask tokens.

        ``score`` is the geometric mean of the probabilities of the tokens masked (None where there was none). For
        rows with mask tokens ``label`` lists the best filler of each, ``score`` is the probability of the least
        certain one, and ``fillers`` lists ``{"token", "probability"}`` for each, as ids until ``spell``.
        """
        loss, fillers, probabilities = (as_ragged(outputs[name]) for name in ("loss", "fillers", "probabilities"))
        found: list[dict[str, Any]] = []
        for row in range(len(loss)):
            losses = loss[row].astype(np.float64)
            asked = np.isnan(losses)
            if asked.any():
                found.append(_filled(fillers[row][asked], probabilities[row][asked]))
                continue
            mean = float(losses.mean()) if len(losses) else None
            found.append(
                {
                    "value": None if mean is None else float(np.exp(min(mean, MAX_LOSS))),
                    "score": None if mean is None else float(np.exp(-mean)),
                    "num_tokens": len(losses),
                }
            )
        return found

    def spell(self, predictions: list[dict[str, Any]], tokenizer: PreTrainedTokenizerBase) -> list[dict[str, Any]]:
        """Return the predictions with the text of every filler in the place of its id."""
        ids = sorted({filler["token"] for one in predictions for place in one.get("fillers", ()) for filler in place})
        texts = dict(zip(ids, (str(tokenizer.decode([token_id])).strip() for token_id in ids), strict=True))
        return [
            {
                **one,
                "label": [texts[token_id] for token_id in one["label"]],
                "fillers": [
                    [{**filler, "token": texts[filler["token"]]} for filler in place] for place in one["fillers"]
                ],
            }
            if "fillers" in one
            else one
            for one in predictions
        ]

    def truth(self, targets: Targets) -> list[Any]:
        """Return None for every row: there is no label."""
        return [None] * len(as_ragged(targets["token"]))

    def errors(self, outputs: Outputs, targets: Targets) -> FloatArray:
        """Return [N]: the mean loss of each row's masked tokens, in nats."""
        loss_N, _, tokens_N = _sums(outputs)
        return ratio(loss_N, tokens_N)

    def measure(self, outputs: Outputs, targets: Targets, weights_RN: FloatArray) -> dict[str, FloatArray]:
        """Return ``pseudo_perplexity`` and ``token_accuracy``, the share of masked tokens restored; nan of none."""
        loss_N, right_N, tokens_N = _sums(outputs)
        tokens_R = weights_RN @ tokens_N
        mean_R = ratio(weights_RN @ loss_N, tokens_R, otherwise=np.nan)
        found = {
            "pseudo_perplexity": np.exp(np.minimum(mean_R, MAX_LOSS)),
            "token_accuracy": ratio(weights_RN @ right_N, tokens_R, otherwise=np.nan),
        }
        return within_range(found)

    def details(self, outputs: Outputs, targets: Targets) -> dict[str, Any]:
        """Return ``num_tokens``, how many tokens were masked."""
        return {"num_tokens": len(as_ragged(outputs["loss"]).values)}

    def card(self, inputs: Sequence[str], tokenizer: PreTrainedTokenizerBase | None = None) -> TaskCard:
        del inputs, tokenizer
        return TaskCard(
            purpose="restores masked words of a text",
            pipeline_tag="fill-mask",
            too_long=IN_WINDOWS,
            code=(
                'inputs = tokenizer(f"Your {tokenizer.mask_token} text.", return_tensors="pt")',
                "place = inputs.input_ids[0].tolist().index(tokenizer.mask_token_id)",
                "with torch.no_grad():",
                "    scores = model(**inputs).logits[0, place]",
                f"print([tokenizer.decode([k]).strip() for k in scores.topk({self.num_fillers}).indices.tolist()])",
            ),
            pipeline=(
                f'predict = pipeline("fill-mask", model=folder, top_k={self.num_fillers})',
                'print(predict(f"Your {predict.tokenizer.mask_token} text."))',
            ),
        )


def _in_full(windows: Windows, vocabulary: Vocabulary) -> Encoded:
    """Return each window in as many copies as it takes to mask each word once, or as it is where it holds masks."""
    is_given_T = windows.ids.values == vocabulary.mask_id
    row_T = np.repeat(np.arange(len(windows.ids)), windows.ids.lengths)
    given_W = np.bincount(row_T, weights=is_given_T, minlength=len(windows.ids)).astype(np.int64)
    words_W = masking.find_units(windows.words, whole_words=True).counts
    copies_W = np.where(given_W > 0, 1, np.clip(words_W, 1, TURNS))
    window_C = np.repeat(np.arange(len(copies_W)), copies_W)
    firsts_W = np.concatenate([[0], np.cumsum(copies_W)])
    turn_C = np.where(given_W[window_C] > 0, -1, np.arange(len(window_C)) - firsts_W[window_C])
    copies = Windows(windows.ids.select(window_C), windows.words.select(window_C), firsts_W[windows.firsts])
    masked = _masked_in_turn(copies, turn_C, vocabulary)
    if not given_W.any():
        return _encoded(masked, copies.firsts)
    reads, labels = [], []
    for copy, turn in enumerate(turn_C.tolist()):
        is_asked = turn < 0
        places = np.flatnonzero(copies.ids[copy] == vocabulary.mask_id) if is_asked else masked.reads[copy]
        reads.append(places)
        labels.append(np.full(len(places), NOT_JUDGED) if is_asked else masked.labels[copy])
    return _encoded(Masked(masked.ids, Ragged.from_rows(reads), Ragged.from_rows(labels)), copies.firsts)


def _masked_in_turn(windows: Windows, turn_R: IntArray, vocabulary: Vocabulary) -> Masked:
    """Return windows masked as evaluation does it: whole words, by content, always by the mask token."""
    keys_R = masking.content_keys(windows.ids)
    units = masking.find_units(windows.words, whole_words=True)
    chosen_U = masking.choose_turn(units, keys_R, turn_R)
    return masking.mask(windows.ids, units, chosen_U, keys_R, Fates(vocabulary.mask_id, vocabulary.random_ids))


def _encoded(
    masked: Masked, firsts: IntArray | None = None, extras: Mapping[str, Array | Ragged] | None = None
) -> Encoded:
    is_cut = firsts is not None and len(firsts) - 1 != len(masked.ids)
    return Encoded(
        inputs={"input_ids": masked.ids},
        targets={"token": masked.labels},
        reads=masked.reads,
        rows=firsts if is_cut else None,
        extras=extras or {},
    )


def _losses(scores_UK: torch.Tensor, token_U: torch.Tensor) -> torch.Tensor:
    """Return [U]: the cross-entropy of each token; 0 where it is not known."""
    return functional.cross_entropy(widen(scores_UK), token_U.long(), ignore_index=NOT_JUDGED, reduction="none")


def _filled(fillers_Mk: Array, probabilities_Mk: Array) -> dict[str, Any]:
    """Return the answer for a text with M masks."""
    places = [
        [{"token": token, "probability": probability} for token, probability in zip(ids, likely, strict=True)]
        for ids, likely in zip(fillers_Mk.tolist(), probabilities_Mk.tolist(), strict=True)
    ]
    return {
        "label": [place[0]["token"] for place in places],
        "score": min(place[0]["probability"] for place in places),
        "fillers": places,
    }


def _sums(outputs: Outputs) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return of each row, [N]: the sum of its losses, how many of its tokens are right, and how many were judged."""
    loss = as_ragged(outputs["loss"])
    is_judged_T = ~np.isnan(loss.values)
    row_T = np.repeat(np.arange(len(loss)), loss.lengths)

    def per_row(values_T: Sequence[float] | Array) -> FloatArray:
        return np.bincount(row_T, weights=values_T, minlength=len(loss)).astype(np.float64)

    right_T = as_ragged(outputs["right"]).values
    return per_row(np.where(is_judged_T, loss.values, 0.0)), per_row(right_T & is_judged_T), per_row(is_judged_T)
