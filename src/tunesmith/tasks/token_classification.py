"""Token classification: named entities, parts of speech, any tag per token.

Shapes: N rows (sentences), T tokens of all rows, U tokens read in a micro-batch, K tags, C types, R replicates.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field, field_validator, model_validator

from tunesmith.data import tagged
from tunesmith.data.encoded import Array, Encoded, Ragged, RaggedBuilder, Units, as_ragged
from tunesmith.data.forms import Form
from tunesmith.data.rows import item_counts
from tunesmith.data.tagged_rows import TaggedTokens
from tunesmith.tasks import crf, losses
from tunesmith.tasks.base import Columns, FloatArray, Outputs, Targets, Task
from tunesmith.tasks.card import IN_WINDOWS, TaskCard
from tunesmith.tasks.class_figures import log_probabilities, softmax
from tunesmith.tasks.class_weights import bound_weights, check_weights, weights_tensor
from tunesmith.tasks.columns import places
from tunesmith.tasks.encoding import lengths_of
from tunesmith.tasks.entity_figures import ComparedTags, types_of
from tunesmith.tasks.label_checks import unknown_names
from tunesmith.tasks.objective import Following
from tunesmith.tasks.tag_code import tagging_code
from tunesmith.tasks.tag_decoding import best_tags, tag_probabilities, transitions
from tunesmith.tasks.tag_roles import TAGS, TOKENS, tag_roles
from tunesmith.tasks.tag_schemes import Split, complete_scheme, entities_of, how_split, is_bio
from tunesmith.tasks.token_encoding import encode_tokens, keeps_spaces
from tunesmith.types import ColumnProfile, HeadSettings, InputError, Problem, Role

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

IntArray = npt.NDArray[np.int64]

_SPLITS: dict[str, Callable[[str], tuple[list[str], list[int]]]] = {
    "space": tagged.split_spaces,
    "word": tagged.split_words,
    "character": tagged.split_characters,
}


class TokenClassification(Task):
    """Give every token a tag: named entities (BIO and its relatives), parts of speech."""

    name: Literal["token_classification"] = "token_classification"

    title: ClassVar[str] = "Token classification"

    labels: tuple[str, ...] | None = None
    """Tags in the order of the model's outputs: BIO, or the tags themselves where they have no scheme; found in the
    training rows when not given."""
    split: Split | None = None
    """How plain texts are cut into tokens for prediction: at white space (`space`), also at punctuation (`word`), or
    into characters; seen from the training rows when not given."""
    label_smoothing: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Share of the target spread evenly over all tags."""
    class_weights: Literal["balanced"] | dict[str, float] | None = None
    """Weight of each tag in the loss: a mapping (tags left out weigh 1), or `balanced`: inversely to the tag's
    frequency in training."""
    crf: bool = False
    """Whether a row's tags are learned and predicted as one sequence: a linear-chain conditional random field, in which
    a tag's score depends on the tag before it. Slower; worth most for models trained from scratch."""

    reads: ClassVar[Literal["row", "token"]] = "token"
    roles: ClassVar[tuple[Role, ...]] = (TOKENS, TAGS)
    truths: ClassVar[tuple[str, ...]] = ("tags",)
    not_encoded: ClassVar[frozenset[str]] = frozenset({"label_smoothing", "class_weights"})
    higher_is_better: ClassVar[Mapping[str, bool]] = {
        "micro_f1": True,
        "micro_precision": True,
        "micro_recall": True,
        "macro_f1": True,
        "macro_precision": True,
        "macro_recall": True,
        "accuracy": True,
    }

    # ---- configuration -------------------------------------------------------------------------

    @field_validator("labels")
    @classmethod
    def _usable_labels(cls, labels: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if labels is None:
            return None
        if not labels or "" in labels or len(set(labels)) < len(labels):
            raise ValueError(f"expected distinct tags that are not empty; received {list(labels)}")
        headless = [tag for tag in labels if tag.startswith("I-") and f"B-{tag[2:]}" not in labels]
        if headless and is_bio(labels):
            raise ValueError(f"expected B- tags for all I- tags; there is none for {headless}")
        return labels

    @field_validator("class_weights")
    @classmethod
    def _usable_weights(cls, weights: Any) -> Any:
        if isinstance(weights, dict):
            check_weights(weights.values())
        return weights

    @model_validator(mode="after")
    def _usable_chain(self) -> Self:
        if self.crf and (self.label_smoothing or self.class_weights is not None):
            raise ValueError(
                "crf learns whole sequences of tags: class_weights and label_smoothing, which are of single tags, "
                "cannot be used with it; leave them out, or set crf to false"
            )
        if self.crf and len(self.labels or ()) > crf.MAX_TAGS:
            raise ValueError(_too_many_tags(len(self.labels or ())))
        return self

    @classmethod
    def form_for(cls, roles: Collection[str]) -> type[Form]:
        return TaggedTokens

    @classmethod
    def roles_for(cls, profiles: Mapping[str, ColumnProfile], overrides: Mapping[str, str]) -> tuple[Role, ...]:
        """Ask for texts with spans where a column of objects is named for that, else for tokens with tags."""
        return tag_roles(profiles, overrides)

    @classmethod
    def fit_score(cls, profiles: Mapping[str, ColumnProfile]) -> tuple[float, str]:
        if "entities" in profiles:
            return 0.97, f"column '{profiles['entities'].name}' holds spans of characters"
        return 0.97, f"column '{profiles['tags'].name}' holds a tag for every token"

    # ---- tags ----------------------------------------------------------------------------------

    def bind(self, columns: Columns) -> Self:
        """Fill in the tags, how texts are cut, and the weight of each tag.

        Raises ``InputError`` when there are no tags, too many for a CRF, or the weights do not fit them.
        """
        counts = item_counts(columns["tags"])
        labels = self.labels
        if labels is None:
            labels = complete_scheme(counts)
        if not labels:
            raise InputError("The training rows hold no tags.", "Check data.columns.tags.")
        if self.crf and len(labels) > crf.MAX_TAGS:
            raise InputError(f"task.crf: {_too_many_tags(len(labels))}.", "Leave task.crf out.")
        split = self.split or how_split(columns["tokens"])
        weights = bound_weights(self.class_weights, labels, counts, what="tags")
        return self.changed(labels=labels, split=split, class_weights=weights)

    def check(self, split: str, columns: Columns) -> list[Problem]:
        """Report rows whose tags are missing or of another number than the tokens, unknown tags, and a single tag."""
        known = set(self._labels)
        unfit, unknown = [], dict[str, list[int]]()
        for row, (tokens, tags) in enumerate(zip(columns["tokens"], columns["tags"], strict=True)):
            if tags is None or len(tags) != len(tokens):
                unfit.append(row)
                continue
            for tag in set(tags) - known:
                unknown.setdefault(tag, []).append(row)
        problems = []
        if unfit:
            message = f"{len(unfit)} {split} rows have no usable tags: none, of another number than tokens, or misfits."
            fix = "Mend them, or remove the rows."
            problems.append(Problem("error", message, fix, len(unfit), places(split, columns, unfit)))
        problems += unknown_names(split, columns, dict(sorted(unknown.items())), self._labels, "tag")
        if split == "train" and not problems and len(item_counts(columns["tags"])) == 1:
            message = "Every training token has the same tag: there is nothing to learn."
            problems.append(Problem("error", message, "Check data.columns.tags."))
        return problems

    @property
    def _labels(self) -> tuple[str, ...]:
        assert self.labels is not None, "bind the task first"
        return self.labels

    @property
    def has_scheme(self) -> bool:
        """Whether tags mark entities (BIO) rather than stand for themselves (parts of speech)."""
        return is_bio(self._labels)

    @property
    def types(self) -> tuple[str, ...]:
        """The C types that are counted: of entities, or the tags themselves."""
        return types_of(self._labels)

    # ---- rows to numbers -----------------------------------------------------------------------

    def complete(self, columns: Columns) -> Columns:
        """Cut plain texts into tokens as ``split`` says, where there are none yet."""
        if "tokens" in columns:
            return columns
        cut = [_SPLITS[self.split or "space"](text or "") for text in columns["text"]]
        return {**columns, "tokens": [tokens for tokens, _ in cut], "starts": [starts for _, starts in cut]}

    def encode(self, columns: Columns, tokenizer: PreTrainedTokenizerBase, max_length: int) -> Encoded:
        columns = self.complete(columns)
        windows = encode_tokens(columns, tokenizer, max_length)
        ids, reads, firsts = windows.finish()
        targets: dict[str, Array | Ragged] = {}
        if "tags" in columns:
            # Windows follow each other as the tokens do: the same values, cut at other places.
            tags = Ragged(as_ragged(self.targets(columns)["tags"]).values, reads.offsets)
            targets = {"tags": tags}
        return Encoded({"input_ids": ids}, targets, windows.num_truncated, reads, firsts)

    def targets(self, columns: Columns) -> dict[str, Array | Ragged]:
        """Return ``tags``: int64, an index for each token of each row."""
        index = {label: k for k, label in enumerate(self._labels)}
        try:
            indices = (index[tag] for tags in columns["tags"] for tag in tags)
            found = RaggedBuilder(np.int64)
            found.add(np.fromiter(indices, dtype=np.int64), lengths_of(columns["tags"]))
            tags = found.finish()
            fits = np.array_equal(tags.lengths, lengths_of(columns["tokens"]))
        except (KeyError, TypeError):
            fits = False
        if not fits:
            raise InputError(problem for problem in self.check("given", columns) if problem.severity == "error")
        return {"tags": tags}

    def head(self) -> HeadSettings:
        """Ask for a score for each tag, and, for a CRF, for each tag after each tag (``tasks.crf``)."""
        names = crf.output_names(self._labels) if self.crf else self._labels
        settings = {"id2label": dict(enumerate(names)), "label2id": {name: k for k, name in enumerate(names)}}
        return HeadSettings("AutoModelForTokenClassification", len(names), settings)

    # ---- loss ----------------------------------------------------------------------------------

    @property
    def sums_over_units(self) -> bool:
        """A chain's loss is that of a whole sequence."""
        return not self.crf

    def loss_sum(self, scores_UK: torch.Tensor, targets: Mapping[str, torch.Tensor], units: Units) -> torch.Tensor:
        """Return the cross-entropy summed over the tokens read; over ``count_units`` it is torch's mean.

        For a CRF: minus the log-probability of the rows' tags, summed.
        """
        scores_UK = losses.widen(scores_UK)
        if self.crf:
            return crf.negative_log_likelihood_sum(crf.potentials(scores_UK), targets["tags"], units.per_sequence)
        return losses.cross_entropy_sum(scores_UK, targets["tags"], self._weights(scores_UK), self.label_smoothing)

    def count_units(self, targets: Mapping[str, torch.Tensor], units: Units) -> float:
        """Return the number of tokens read, or their total class weight when weighted."""
        weights = self._weights(torch.empty(0, dtype=torch.float64))
        return float(targets["tags"].numel() if weights is None else weights[targets["tags"].cpu().long()].sum())

    def _weights(self, like: torch.Tensor) -> torch.Tensor | None:
        return weights_tensor(self.class_weights, self._labels, like)

    # ---- scores to answers and numbers ---------------------------------------------------------

    def collect(
        self, scores_UK: torch.Tensor, targets: Mapping[str, torch.Tensor], units: Units
    ) -> dict[str, torch.Tensor]:
        """Keep ``scores``: the logits, float32 [U, K]; for a CRF the log-potentials of pairs, [U, (K + 1) * K]."""
        scores_UK = scores_UK.detach().float()
        return {"scores": crf.potentials(scores_UK) if self.crf else scores_UK}

    @property
    def answer_names(self) -> tuple[str, ...]:
        return self._labels

    def answers(self, outputs: Outputs) -> Ragged:
        """Return the probabilities of the tags of every word, [T, K]; of a CRF, over all sequences of its row."""
        scores = self._scores(outputs)
        if self.crf:
            return Ragged(tag_probabilities(scores, *transitions(self._labels)), scores.offsets)
        return Ragged(softmax(scores.values), scores.offsets)

    def outputs_from(self, predictions: Ragged) -> dict[str, Ragged]:
        scores_TK = log_probabilities(predictions.values)
        if self.crf:  # whatever tag comes before
            scores_TK = np.tile(scores_TK, (1, len(self._labels) + 1))
        return {"scores": Ragged(scores_TK, predictions.offsets)}

    @property
    def followed(self) -> Following | None:
        """Nothing for a chain: its scores are no distribution of a token's tags."""
        return None if self.crf else "classes"

    def scores_for(self, answers: Array | Ragged) -> Ragged:
        answers = as_ragged(answers)
        return Ragged(log_probabilities(answers.values), answers.offsets)

    def _scores(self, outputs: Outputs) -> Ragged:
        scores, num_tags = as_ragged(outputs["scores"]), len(self._labels)
        return Ragged(
            np.asarray(scores.values).reshape(-1, num_tags * (num_tags + 1 if self.crf else 1)), scores.offsets
        )

    def _chosen(self, outputs: Outputs) -> IntArray:
        """Return the tag of every token, [T]."""
        return best_tags(self._scores(outputs), *transitions(self._labels))

    def _probabilities(self, outputs: Outputs, chosen_T: IntArray) -> FloatArray:
        """Return the probability of every token's tag, [T]: its own, or, for a CRF, over all sequences of the row."""
        probability_TK: FloatArray = np.asarray(self.answers(outputs).values, dtype=np.float64)
        return probability_TK[np.arange(len(chosen_T)), chosen_T]

    def decode(self, outputs: Outputs, columns: Columns | None = None) -> list[dict[str, Any]]:
        """Return ``tags`` and ``score`` (of the least certain one) of each row; given ``columns``, tokens and entities.

        Every entity has ``text``, ``label``, ``start`` and ``end`` (characters of the row's text)
        and ``score``, the probability of its least certain tag. Tags without a scheme make no entities.
        """
        chosen_T = self._chosen(outputs)
        probability_T = self._probabilities(outputs, chosen_T)
        offsets = as_ragged(outputs["scores"]).offsets
        found = []
        for row, (first, last) in enumerate(zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True)):
            tags = [self._labels[k] for k in chosen_T[first:last]]
            scores = probability_T[first:last].tolist()
            answer: dict[str, Any] = {"tags": tags, "score": min(scores, default=1.0)}
            if columns is not None:
                answer["tokens"] = list(columns["tokens"][row])
                if self.has_scheme:
                    answer["entities"] = entities_of(tags, columns, row, scores)
            found.append(answer)
        return found

    def shown(self, answer: Any, columns: Columns, row: int) -> Any:
        """Return the entities, or tokens where tags stand for themselves: ``text``, ``label``, ``start``, ``end``."""
        if self.has_scheme:
            return entities_of(answer, columns, row)
        places = zip(columns["tokens"][row], columns["starts"][row], answer, strict=True)
        return [
            {"text": token, "label": tag, "start": start, "end": start + len(token)} for token, start, tag in places
        ]

    def truth(self, targets: Targets) -> list[Any]:
        tags = as_ragged(targets["tags"])
        return [[self._labels[int(k)] for k in tags[row]] for row in range(len(tags))]

    def errors(self, outputs: Outputs, targets: Targets) -> FloatArray:
        """Return [N]: the probability of the surest wrong tag; 0 for rows whose tags are all right."""
        chosen_T = self._chosen(outputs)
        probability_T = self._probabilities(outputs, chosen_T)
        tags = as_ragged(targets["tags"])
        row_T = np.repeat(np.arange(len(tags)), tags.lengths)
        errors_N = np.zeros(len(tags))
        # A wrong tag counts, however improbable it was.
        wrong_T = np.where(chosen_T == tags.values, 0.0, np.maximum(probability_T, 1e-12))
        np.maximum.at(errors_N, row_T, wrong_T)
        return errors_N

    def _compared(self, outputs: Outputs, targets: Targets) -> ComparedTags:
        return ComparedTags.of(self._labels, as_ragged(targets["tags"]), self._chosen(outputs))

    def measure(self, outputs: Outputs, targets: Targets, weights_RN: FloatArray) -> dict[str, FloatArray]:
        """Return the metrics of entities, and the share of right tags as ``accuracy``."""
        return self._compared(outputs, targets).measure(weights_RN)

    def measure_per_label(self, outputs: Outputs, targets: Targets, weights_RN: FloatArray) -> dict[str, FloatArray]:
        """Return ``precision``, ``recall`` and ``f1`` of each type, [R, C] each."""
        return self._compared(outputs, targets).measure_per_type(weights_RN)

    def details(self, outputs: Outputs, targets: Targets) -> dict[str, Any]:
        return self._compared(outputs, targets).details()

    # ---- said of the model -----------------------------------------------------------------------

    @property
    def label_names(self) -> tuple[str, ...]:
        """The types of entities, or the tags, that a token can have."""
        return tuple(tagged.types_of(self.labels) or ())

    def card(self, inputs: Sequence[str], tokenizer: PreTrainedTokenizerBase | None = None) -> TaskCard:
        """Return code that reads words as the run does: a pipeline would cut texts into others."""
        del inputs
        words = ["一", "段", "文", "字"] if self.split == "character" else ["Your", "text", "."]
        if self.split != "character" and tokenizer is not None and keeps_spaces(tokenizer):
            words[1:] = [f" {word}" for word in words[1:]]
        return TaskCard(
            purpose="gives every token of a text a tag",
            labels=self.labels or (),
            pipeline_tag="token-classification",
            too_long=IN_WINDOWS,
            code=tagging_code(self.labels or (), words, crf=self.crf),
        )


def _too_many_tags(number: int) -> str:
    return f"crf is for at most {crf.MAX_TAGS} tags; there are {number}"
