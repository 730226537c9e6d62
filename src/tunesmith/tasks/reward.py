"""Reward models: a score for an answer, such that the better one of two scores more.

Shapes: N rows of a split, S answers of a micro-batch, P pairs, R replicates.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

import numpy as np
import torch
from pydantic import Field
from torch.nn import functional

from tunesmith import metrics
from tunesmith.data.encoded import Array, Encoded, Ragged, Units, as_ragged
from tunesmith.data.forms import Form
from tunesmith.data.preference_rows import Preferences
from tunesmith.data.preferences import PAIRS, preference_roles
from tunesmith.tasks.base import Columns, FloatArray, Outputs, Targets, Task
from tunesmith.tasks.card import TaskCard, pipeline_of, scores_of
from tunesmith.tasks.chat.encoding import PromptEncoder, read_messages, read_tools
from tunesmith.tasks.chat.template import CHATML_NAME, ChatFormat, Message, chatml_for, resolve_template
from tunesmith.tasks.chat.tokens import TextTokenizer
from tunesmith.tasks.columns import place
from tunesmith.tasks.encoding import encode_texts
from tunesmith.tasks.losses import widen
from tunesmith.tasks.objectives.preference import pairs_of_rows, per_row
from tunesmith.tasks.preference_encoding import AnsweredRow, read_rows
from tunesmith.tasks.preference_judgement import CHOSEN, shown_answer, verdicts
from tunesmith.types import ColumnProfile, HeadSettings, InputError, Problem, Role

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_Conversation = tuple[list[Message], list[Any] | None]


class Reward(Task):
    """Score answers, so that those which people like better score more (Bradley and Terry 1952)."""

    name: Literal["reward"] = "reward"

    title: ClassVar[str] = "Reward model"

    center: Annotated[float, Field(ge=0)] = 0.0
    """How strongly the scores of a pair are drawn to a mean of 0 (Eisenstein et al. 2023, eq. 2)."""
    template: str | None = None
    """How conversations are written: the model's own chat template when not given, and without one as a pair of texts,
    what is asked and the answer; `chatml`; a Jinja file; or Jinja text."""
    system: str | None = None
    """System message of conversations that have none."""

    roles: ClassVar[tuple[Role, ...]] = PAIRS
    truths: ClassVar[tuple[str, ...]] = ("answers", "ranks")
    not_encoded: ClassVar[frozenset[str]] = frozenset(("center",))
    rival: ClassVar[Literal["classical", "untuned", "rule"]] = "rule"
    most_epochs: ClassVar[int] = 5
    higher_is_better: ClassVar[Mapping[str, bool]] = {"reward_accuracy": True, "margin": True}

    # ---- rows ----------------------------------------------------------------------------------------

    @classmethod
    def form_for(cls, roles: Collection[str]) -> type[Form]:
        return Preferences

    @classmethod
    def roles_for(cls, profiles: Mapping[str, ColumnProfile], overrides: Mapping[str, str]) -> tuple[Role, ...]:
        return preference_roles(profiles, overrides) or cls.roles

    def bind(self, columns: Columns) -> Self:
        """Put a template file's text in the place of its name. Raises ``InputError`` for answers with thumbs."""
        if all(len(row.answers) < 2 for row in read_rows(columns, None)):
            raise InputError(
                "The task reward compares two answers to a question, and these rows have one each, with a thumb.",
                "Give pairs (prompt, chosen, rejected), or use --task classification on the label.",
            )
        return self.changed(template=resolve_template(self.template))

    def adapt(self, tokenizer: PreTrainedTokenizerBase) -> list[Problem]:
        source = resolve_template(self.template)
        if source is not None:
            tokenizer.chat_template = chatml_for(tokenizer) if source == CHATML_NAME else source
        return []

    def texts(self, columns: Columns) -> dict[str, Sequence[str | None]]:
        """Return what is asked, and all answers of each row."""
        found = {"text": columns["text"]}
        if "answers" in columns:
            found["answers"] = [
                "\n\n".join(str(turn["content"]) for answer in row.answers for turn in answer)
                for row in read_rows(columns, None)
            ]
        return found

    @property
    def shortening(self) -> str:
        return "lose their oldest exchanges, then the middle of long messages"

    def encode(self, columns: Columns, tokenizer: PreTrainedTokenizerBase, max_length: int) -> Encoded:
        """Tokenise answers, each with what is asked: one sequence each, those of a row together.

        Without ``answers`` (prediction) each row is one conversation, or a plain text. Raises ``InputError`` for
        conversations that the chat template refuses.
        """
        if "answers" in columns:
            rows = read_rows(columns, self.system)
            conversations = [([*row.prompt, *answer], row.tools) for row in rows for answer in row.answers]
            row_of = [index for index, row in enumerate(rows) for _ in row.answers]
            inputs, num_truncated = self._written(
                conversations, tokenizer, max_length, lambda index: place("row", columns, row_of[index])
            )
            borders = np.concatenate([[0], np.cumsum([len(row.answers) for row in rows])]).astype(np.int64)
            targets = {"rank": _ranks(rows)}
            return Encoded(
                inputs, targets, num_truncated, rows=borders, keeps_rows=True, left_out=_without_answers(rows)
            )
        answered = self._conversations(columns)
        if any(messages[-1]["role"] == "assistant" for messages, _ in answered if messages):
            inputs, num_truncated = self._written(
                answered, tokenizer, max_length, lambda index: place("row", columns, index)
            )
        else:
            inputs, num_truncated = encode_texts(tokenizer, columns["text"], None, max_length)
        return Encoded(inputs, {}, num_truncated)

    def _conversations(self, columns: Columns) -> list[_Conversation]:
        if "messages" not in columns:
            return []
        tools = columns.get("tools") or [None] * len(columns["messages"])
        cells = zip(columns["messages"], tools, strict=True)
        return [(read_messages(cell, self.system), read_tools(tool)) for cell, tool in cells]

    def _written(
        self, conversations: Sequence[_Conversation], tokenizer: Any, max_length: int, where: Any
    ) -> tuple[Mapping[str, Any], int]:
        """Return the inputs of conversations: by the chat template, or without one as pairs of texts."""
        if not tokenizer.chat_template:
            asked = ["\n\n".join(str(turn["content"]) for turn in messages[:-1]) for messages, _ in conversations]
            last = [str(messages[-1]["content"]) for messages, _ in conversations]
            return encode_texts(tokenizer, asked, last, max_length)
        encoder = PromptEncoder(
            ChatFormat.of(tokenizer, {}), TextTokenizer(tokenizer), max_length, add_generation_prompt=False
        )
        found = encoder.encode(iter(conversations), where)
        return found.inputs, found.num_truncated

    def targets(self, columns: Columns) -> dict[str, Array | Ragged]:
        """Return ``rank``: int8, of each answer of each row, 0 for the best."""
        rows = read_rows(columns, None)
        ranks = _ranks(rows)
        return {"rank": Ragged(ranks.values, np.concatenate([[0], np.cumsum([len(row.ranks) for row in rows])]))}

    def head(self) -> HeadSettings:
        config = {"problem_type": "regression", "id2label": {0: "reward"}, "label2id": {"reward": 0}}
        return HeadSettings("AutoModelForSequenceClassification", 1, config, default_max_length=1024)

    # ---- loss ----------------------------------------------------------------------------------------

    @property
    def sums_over_units(self) -> bool:
        return False

    def loss_sum(self, scores_UK: torch.Tensor, targets: Mapping[str, torch.Tensor], units: Units) -> torch.Tensor:
        """Return the loss summed over rows, each the mean over its pairs: ``-log s(better - worse)``.

        With ``center`` also that times ``(better + worse)^2``.
        """
        scores_S = widen(scores_UK).squeeze(-1)
        better, worse, row_P = (torch.from_numpy(part).to(scores_S.device) for part in pairs_of_rows(units))
        losses_P = -functional.logsigmoid(scores_S[better] - scores_S[worse])
        if self.center:
            losses_P = losses_P + self.center * (scores_S[better] + scores_S[worse]).square()
        differ_P = targets["rank"][better] < targets["rank"][worse]
        return per_row(losses_P, differ_P, row_P, len(units.per_row)).sum()

    def count_units(self, targets: Mapping[str, torch.Tensor], units: Units) -> float:
        return float(len(units.per_row))

    def collect(
        self, scores_UK: torch.Tensor, targets: Mapping[str, torch.Tensor], units: Units
    ) -> dict[str, torch.Tensor]:
        """Keep each answer's ``reward``, float32 [S], and, where it is known, its ``rank``."""
        known = {"rank": targets["rank"]} if "rank" in targets else {}
        return {"reward": scores_UK.detach().squeeze(-1).float(), **known}

    # ---- judgement -----------------------------------------------------------------------------------

    def _judged(self, outputs: Outputs) -> metrics.JudgedAnswers:
        rewards, ranks = as_ragged(outputs["reward"]), as_ragged(outputs["rank"])
        rows = np.repeat(np.arange(len(rewards)), rewards.lengths)
        values = rewards.values.astype(np.float64)
        return metrics.JudgedAnswers(rows, ranks.values.astype(np.int64), values, np.zeros_like(values), len(rewards))

    def measure(self, outputs: Outputs, targets: Targets, weights_RN: FloatArray) -> dict[str, FloatArray]:
        return metrics.preference_metrics(self._judged(outputs), weights_RN)

    def decode(self, outputs: Outputs, columns: Columns | None = None) -> list[dict[str, Any]]:
        """Return the score of each text as its ``value`` or, of rows with answers, which one is preferred.

        That is ``label``, with ``score`` (the probability that it is the better one), ``margin`` and ``rewards``.
        """
        if "rank" not in outputs:
            return [{"value": float(value)} for value in _flat(outputs["reward"])]
        rewards = as_ragged(outputs["reward"])
        found = verdicts(self._judged(outputs))
        return [{**row, "rewards": rewards[index].astype(np.float64).tolist()} for index, row in enumerate(found)]

    def shown(self, answer: Any, columns: Columns, row: int) -> Any:
        return shown_answer(answer, columns, row)

    def truth(self, targets: Targets) -> list[Any]:
        """Return ``chosen`` for every row with answers."""
        return [CHOSEN if number else None for number in as_ragged(targets["rank"]).lengths]

    def errors(self, outputs: Outputs, targets: Targets) -> FloatArray:
        """Return [N]: how surely each row's preference is wrong; 0 where it is right."""
        rows = zip(verdicts(self._judged(outputs)), self.truth(targets), strict=True)
        return np.array([0.0 if row["label"] == truth else row["score"] or 0.0 for row, truth in rows])

    def details(self, outputs: Outputs, targets: Targets) -> dict[str, Any]:
        """Return how much was judged: ``num_compared`` answers, ``num_pairs``."""
        answers = self._judged(outputs)
        return {"num_compared": len(answers.rows), "num_pairs": len(answers.pairs()[0])}

    def answer_by_rule(self, train: Columns, rows: Columns) -> tuple[str, dict[str, Any]]:
        """Prefer the longer answer or, if that is more often right among the training rows, the shorter one."""
        found = [(row.ranks, _lengths(row)) for row in read_rows(train, None) if len(row.ranks) > 1]
        is_longer = np.mean([np.sign(lengths[0] - lengths[-1]) for _, lengths in found]) >= 0
        asked = read_rows(rows, None)
        values = [length if is_longer else -length for row in asked for length in _lengths(row)]
        offsets = np.concatenate([[0], np.cumsum([len(row.answers) for row in asked])]).astype(np.int64)
        rewards = Ragged(np.array(values, dtype=np.float32), offsets)
        name = f"the {'longer' if is_longer else 'shorter'} answer"
        return name, {"reward": rewards, "rank": Ragged(_ranks(asked).values, offsets)}

    def card(self, inputs: Sequence[str], tokenizer: PreTrainedTokenizerBase | None = None) -> TaskCard:
        tag, note = "text-classification", ""
        if tokenizer is not None and tokenizer.chat_template:
            note = (
                "It learned from conversations: score `tokenizer.apply_chat_template(messages, tokenize=False)`, "
                "read with `add_special_tokens=False`."
            )
        elif tokenizer is not None:
            note = "It learned from pairs of texts: give what is asked first, and the answer as the second text."
        return TaskCard(
            purpose="scores an answer: the better, the higher",
            pipeline_tag=tag,
            limits=("Only differences between answers to the same question mean something.",),
            code=(*scores_of(inputs), "print(scores[0].item())"),
            pipeline=pipeline_of(tag, inputs, ', function_to_apply="none"'),
            note=note,
            pipeline_note=note,
        )


def _ranks(rows: Sequence[AnsweredRow]) -> Ragged:
    """Return the rank of each answer, as sequences of one entry each."""
    ranks = np.array([rank for row in rows for rank in row.ranks], dtype=np.int8)
    return Ragged(ranks, np.arange(len(ranks) + 1))


def _without_answers(rows: Sequence[AnsweredRow]) -> dict[str, tuple[int, ...]]:
    missing = tuple(index for index, row in enumerate(rows) if len(row.answers) < 2)
    return {"have no two answers to compare": missing} if missing else {}


def _lengths(row: AnsweredRow) -> list[int]:
    return [sum(len(str(turn["content"])) for turn in answer) for answer in row.answers]


def _flat(values: Any) -> Any:
    return values.values if isinstance(values, Ragged) else values
