"""Which words of a text answer it: a span chosen by a softmax over all words of a row, whatever windows they are in.

Its begin and end have one score a word, as in Devlin et al. 2019 (section 4.2). Shapes: N rows, U words, R replicates.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch

from tunesmith.data.encoded import Array, Encoded, Ragged, Units, as_ragged
from tunesmith.data.forms import Form
from tunesmith.data.labelled import LabelledTexts
from tunesmith.data.tagged import split_spaces
from tunesmith.tasks.base import Columns, FloatArray, Outputs, Targets, Task
from tunesmith.tasks.columns import places
from tunesmith.tasks.losses import widen
from tunesmith.tasks.token_encoding import encode_tokens
from tunesmith.types import HeadSettings, Problem, Role

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

NOWHERE = -100


class TextsWithAnswers(LabelledTexts):
    """Texts of which one is to be found in another."""

    truths: ClassVar[tuple[str, ...]] = ("answer",)


class SpanChoice(Task):
    """Find the words of a passage that answer its question."""

    name: Literal["span_choice"] = "span_choice"
    title: ClassVar[str] = "Choice of a span"
    reads: ClassVar[Literal["row", "token"]] = "token"
    roles: ClassVar[tuple[Role, ...]] = (
        Role("passage", ("passage", "context"), ("text",), purpose="what is asked, and where the answer stands"),
        Role("answer", ("answer",), ("text", "category", "integer"), purpose="words of the passage"),
    )
    truths: ClassVar[tuple[str, ...]] = ("answer",)
    rival: ClassVar[Literal["classical", "untuned"]] = "untuned"
    higher_is_better: ClassVar[Mapping[str, bool]] = {"exact_match": True}

    @classmethod
    def form_for(cls, roles: Collection[str]) -> type[Form]:
        return TextsWithAnswers

    def encode(self, columns: Columns, tokenizer: PreTrainedTokenizerBase, max_length: int) -> Encoded:
        words, starts = zip(*(split_spaces(text or "") for text in columns["passage"]), strict=True)
        windows = encode_tokens({"tokens": words, "starts": starts}, tokenizer, max_length)
        ids, reads, firsts = windows.finish()
        targets = self.targets(columns) if "answer" in columns else {}
        firsts = np.arange(len(words) + 1) if firsts is None else firsts
        return Encoded({"input_ids": ids}, targets, windows.num_truncated, reads, firsts, keeps_rows=True)

    def check(self, split: str, columns: Columns) -> list[Problem]:
        wrong = [row for row, span in enumerate(self.targets(columns)["span"].tolist()) if span[0] == NOWHERE]
        shown = ", ".join(str(columns["answer"][row]) for row in wrong[:3])
        message = f"{len(wrong)} answers do not stand in their passages: {shown}."
        return [Problem("error", message, "Mend them.", len(wrong), places(split, columns, wrong))] if wrong else []

    def targets(self, columns: Columns) -> dict[str, Array | Ragged]:
        """Return ``span``: int64 [N, 2], the first and the last word of each answer where it stands first."""
        spans = []
        for passage, answer in zip(columns["passage"], columns["answer"], strict=True):
            words, wanted = (passage or "").split(), (answer or "").split()
            places = range(len(words) - len(wanted) + 1) if wanted else ()
            first = next((place for place in places if words[place : place + len(wanted)] == wanted), NOWHERE)
            spans.append((first, first if first == NOWHERE else first + len(wanted) - 1))
        return {"span": np.array(spans, dtype=np.int64).reshape(-1, 2)}

    def head(self) -> HeadSettings:
        return HeadSettings(
            "AutoModelForTokenClassification",
            2,
            {"id2label": {0: "begin", 1: "end"}, "label2id": {"begin": 0, "end": 1}},
        )

    @property
    def sums_over_units(self) -> bool:
        return False

    def loss_sum(self, scores_UK: torch.Tensor, targets: Mapping[str, torch.Tensor], units: Units) -> torch.Tensor:
        rows = zip(widen(scores_UK).split(units.per_row), targets["span"], strict=True)
        losses = [torch.nn.functional.cross_entropy(scores_L2.T, span_2, reduction="sum") for scores_L2, span_2 in rows]
        return torch.stack(losses).sum()

    def count_units(self, targets: Mapping[str, torch.Tensor], units: Units) -> float:
        return float(len(units.per_row))

    def collect(
        self, scores_UK: torch.Tensor, targets: Mapping[str, torch.Tensor], units: Units
    ) -> dict[str, torch.Tensor]:
        return {"scores": scores_UK.detach().float()}

    def decode(self, outputs: Outputs, columns: Columns | None = None) -> list[dict[str, Any]]:
        scores, found = as_ragged(outputs["scores"]), []
        for row in range(len(scores)):
            chance_2L = torch.tensor(scores[row].astype(np.float64)).softmax(dim=0).T
            chance_LL = torch.outer(*chance_2L).triu()
            first, last = divmod(int(chance_LL.argmax()), len(chance_LL))
            words = [] if columns is None else columns["passage"][row].split()[first : last + 1]
            found.append({"label": [first, last], "score": float(chance_LL.max()), "answer": " ".join(words)})
        return found

    def truth(self, targets: Targets) -> list[Any]:
        return targets["span"].tolist()

    def errors(self, outputs: Outputs, targets: Targets) -> FloatArray:
        pairs = zip(self.decode(outputs), self.truth(targets), strict=True)
        return np.array([0.0 if found["label"] == span else found["score"] for found, span in pairs])

    def measure(self, outputs: Outputs, targets: Targets, weights_RN: FloatArray) -> dict[str, FloatArray]:
        return {"exact_match": weights_RN @ (self.errors(outputs, targets) == 0) / weights_RN.sum(axis=1)}
