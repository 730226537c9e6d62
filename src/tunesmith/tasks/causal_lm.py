"""Language modelling: chats, instructions and plain texts, learned token by token.

Shapes: N rows, T tokens of all rows that are judged, U tokens read in a micro-batch, K tokens of the
vocabulary, R replicates.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, cast

import numpy as np
from pydantic import Field, field_validator

from tunesmith import metrics
from tunesmith.data.chat_layout import MESSAGES, PROMPT
from tunesmith.data.chat_rows import Conversations
from tunesmith.data.encoded import Array, Encoded, Units, as_ragged
from tunesmith.data.forms import Form
from tunesmith.models.image_reader import text_part
from tunesmith.tasks import losses
from tunesmith.tasks.base import Columns, FloatArray, Outputs, Targets, Writer
from tunesmith.tasks.card import TaskCard
from tunesmith.tasks.chat import code, documents, encoding
from tunesmith.tasks.chat.calls import written_call
from tunesmith.tasks.chat.encoding import TooLong, read_messages, read_tools
from tunesmith.tasks.chat.masks import TrainOn, trained_messages
from tunesmith.tasks.chat.sandbox import RefusedError
from tunesmith.tasks.chat.template import (
    CHATML_NAME,
    NAMES_TAKEN,
    ChatFormat,
    Message,
    chatml_for,
    resolve_template,
)
from tunesmith.tasks.chat.tokens import TextTokenizer
from tunesmith.tasks.columns import TEXT, place, places
from tunesmith.tasks.objective import Following
from tunesmith.tasks.token_scores import (
    ANSWER_METRICS,
    TokenByToken,
    answer_figures,
    answer_outputs,
    decoded,
    row_sums,
)
from tunesmith.tasks.writer import EXAMPLES
from tunesmith.types import ColumnProfile, HeadSettings, InputError, Problem, Role

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

_THOUGHTS = re.compile(r"^\s*<think>.*?</think>\s*", re.DOTALL)


class CausalLM(TokenByToken, Writer):
    """Write on: chats and instructions (the answers are learned) or plain texts."""

    name: Literal["causal_lm"] = "causal_lm"

    title: ClassVar[str] = "Language modelling"

    train_on: TrainOn = "assistant"
    """What of a conversation is learned: every answer of the assistant (`assistant`), the last one (`last`), or all of
    the text (`all`). A message's own mark in the data (`train`) goes before it."""
    template: str | None = None
    """How conversations are written: the model's own chat template when not given; `chatml`; a Jinja file; or Jinja
    text."""
    template_arguments: dict[str, Any] = Field(default_factory=dict)
    """Further variables of the template, such as `enable_thinking: false`."""
    system: str | None = None
    """System message of conversations that have none."""
    too_long: TooLong = "truncate"
    """What becomes of conversations longer than the model reads: shortened (`truncate`: the oldest exchanges first, the
    end of an answer last) or left out (`drop`)."""
    special_tokens: Literal["text", "control"] | None = None
    """What the text of a control token (such as `<|im_end|>`) is where somebody writes it: text (`text`), or the token
    (`control`). When not given: text in the messages of conversations, the token in plain texts."""
    form: Literal["chat", "text"] | None = None
    """Whether rows are conversations or plain texts; seen from the training rows when not given."""

    roles: ClassVar[tuple[Role, ...]] = (TEXT,)
    truths: ClassVar[tuple[str, ...]] = ("completion",)
    rival: ClassVar[Literal["classical", "untuned"]] = "untuned"
    joins_lines: ClassVar[bool] = True
    chats: ClassVar[bool] = True
    plain_cross_entropy: ClassVar[bool] = True
    answer_metrics: ClassVar[frozenset[str]] = frozenset(ANSWER_METRICS)
    most_epochs: ClassVar[int] = 5
    higher_is_better: ClassVar[Mapping[str, bool]] = {
        "perplexity": False,
        "token_accuracy": True,
        "bits_per_byte": False,
        **dict.fromkeys(ANSWER_METRICS, True),
    }

    def wanted_steps(self, longer: int = 1) -> int:
        return longer * 500  # each holds thousands of tokens to learn from

    # ---- configuration -------------------------------------------------------------------------

    @field_validator("template_arguments")
    @classmethod
    def _usable_arguments(cls, arguments: dict[str, Any]) -> dict[str, Any]:
        taken = sorted(NAMES_TAKEN & arguments.keys())
        unfit = [name for name in arguments if not name.isidentifier() or name.startswith("_")]
        if taken or unfit:
            raise ValueError(f"expected names that a template can read and the data does not fill: {taken + unfit}")
        return arguments

    @classmethod
    def form_for(cls, roles: Collection[str]) -> type[Form]:
        return Conversations if {MESSAGES, PROMPT} & set(roles) else super().form_for(roles)

    @classmethod
    def roles_for(cls, profiles: Mapping[str, ColumnProfile], overrides: Mapping[str, str]) -> tuple[Role, ...]:
        """Ask for conversations, for instructions with answers, or for plain texts, as the columns are."""
        from tunesmith.data.conversations import conversation_roles

        return conversation_roles(profiles, overrides) or cls.roles

    @classmethod
    def fit_score(cls, profiles: Mapping[str, ColumnProfile]) -> tuple[float, str]:
        if "messages" in profiles:
            return 0.95, f"column '{profiles['messages'].name}' holds conversations"
        if "completion" in profiles:
            names = [profiles[role].name for role in ("prompt", "completion") if role in profiles]
            return 0.97, f"columns '{' and '.join(names)}' are instructions with answers".replace(" and ", "' and '", 1)
        name = profiles["text"].name if "text" in profiles else "?"
        return 0.1, f"column '{name}' holds texts, and nothing else is to be learned"

    def bind(self, columns: Columns) -> Self:
        """Note whether rows are conversations, and put a template file's text in the place of its name.

        Raises ``InputError`` for a template that cannot be read.
        """
        form = self.form or ("chat" if "messages" in columns else "text")
        return self.changed(form=form, template=resolve_template(self.template))

    def check(self, split: str, columns: Columns) -> list[Problem]:
        """Report rows that hold nothing to learn. What only the template can tell, ``encode`` tells."""
        if self._is_chat(columns):
            idle = [
                row
                for row, cell in enumerate(columns["messages"])
                if not trained_messages(read_messages(cell, self.system), self.train_on)
            ]
            what, fix = "no message to learn", "Check task.train_on, and the marks of the messages (train, weight)."
        else:
            idle = [row for row, text in enumerate(columns["text"]) if not (text or "").strip()]
            what, fix = "no text", "Remove them, or check data.columns.text."
        if not idle:
            return []
        num_rows, shown = len(columns["text"]), places(split, columns, idle)
        if len(idle) == num_rows:
            return [Problem("error", f"None of the {split} rows has anything to learn: {what}.", fix, num_rows, shown)]
        message = f"{len(idle)} of {num_rows} {split} rows have {what}; they count for nothing."
        return [Problem("warning", message, fix, len(idle), shown)]

    # ---- template ------------------------------------------------------------------------------

    def adapt(self, tokenizer: PreTrainedTokenizerBase) -> list[Problem]:
        """Give the tokenizer the chat template that is used, where rows are conversations or one is asked for.

        Raises ``InputError`` for a template that cannot be read.
        """
        source = resolve_template(self.template)
        if source is None and (self.form == "text" or tokenizer.chat_template):
            return []
        tokenizer.chat_template = chatml_for(tokenizer) if source in (None, CHATML_NAME) else source
        if source is not None:
            return []
        message = "The model's tokenizer has no chat template: conversations are written in ChatML."
        return [Problem("warning", message, "Give task.template if the model was trained with another format.")]

    def _format(self, tokenizer: PreTrainedTokenizerBase) -> ChatFormat:
        return ChatFormat.of(tokenizer, self.template_arguments, keeps_text=self.special_tokens != "control")

    def _is_chat(self, columns: Columns) -> bool:
        return "messages" in columns

    def _conversations(self, columns: Columns) -> Iterator[tuple[list[Message], list[Any] | None]]:
        num_rows = len(columns["messages"])
        tools, shown = columns.get("tools") or [None] * num_rows, columns.get(EXAMPLES) or [()] * num_rows
        for cell, tool, before in zip(columns["messages"], tools, shown, strict=True):
            yield _preceded(read_messages(cell, self.system), before), read_tools(tool)

    @property
    def shortening(self) -> str:
        if self.too_long == "drop":
            return "are left out"
        return "are shortened: of their oldest exchanges first, then of the middle of long messages"

    # ---- rows to numbers -----------------------------------------------------------------------

    def complete(self, columns: Columns) -> Columns:
        """Make a user's message of every plain text, where the model was trained on conversations."""
        if self.form != "chat" or self._is_chat(columns):
            return columns
        return {**columns, "messages": [[{"role": "user", "content": text or ""}] for text in columns["text"]]}

    def encode(self, columns: Columns, tokenizer: PreTrainedTokenizerBase, max_length: int) -> Encoded:
        """Tokenise rows; what is trained is read. A row of the data may become several rows here, or none.

        None becomes of conversations without anything to train (prompts), of those too long that are dropped, and of
        those that the template refuses (``Encoded.left_out``).

        Raises ``InputError`` where none of the rows that have something to learn keeps any of it.
        """
        columns = self.complete(columns)
        texts = TextTokenizer(tokenizer)
        if not self._is_chat(columns):
            keeps_text = self.special_tokens == "text"
            return documents.encode_documents(columns["text"], texts, max_length, keeps_text=keeps_text)
        encoder = encoding.ConversationEncoder(
            self._format(tokenizer), texts, max_length, train_on=self.train_on, too_long=self.too_long
        )
        encoded = encoder.encode(self._conversations(columns), lambda row: place("row", columns, row))
        if not len(encoded) and encoded.num_truncated:
            message = f"All {encoded.num_truncated} conversations are too long for the model's {max_length} tokens."
            raise InputError(message, "Raise model.max_length, or shorten their prompts.")
        return encoded

    def head(self) -> HeadSettings:
        return HeadSettings("AutoModelForCausalLM", None, default_max_length=1024)

    # ---- loss ----------------------------------------------------------------------------------

    def loss_sum(self, scores_UK: torch.Tensor, targets: Mapping[str, torch.Tensor], units: Units) -> torch.Tensor:
        """Return the cross-entropy summed over the tokens read; over ``count_units`` it is torch's mean."""
        return losses.cross_entropy_sum(scores_UK, targets["labels"], None, 0.0)

    @property
    def followed(self) -> Following | None:
        return "vocabulary"

    # ---- scores to answers and numbers ---------------------------------------------------------

    def measure(self, outputs: Outputs, targets: Targets, weights_RN: FloatArray) -> dict[str, FloatArray]:
        """Return perplexity, token accuracy and bits per byte, and of generated answers their own metrics."""
        found: dict[str, FloatArray] = {}
        if "loss" in outputs:
            loss, right, num_bytes = outputs["loss"], outputs["right"], as_ragged(targets["num_bytes"])
            tokens_N = as_ragged(loss).lengths.astype(np.float64)
            found = metrics.language_metrics(row_sums(loss), tokens_N, row_sums(right), row_sums(num_bytes), weights_RN)
        return found | answer_figures(outputs, weights_RN)

    def decode(self, outputs: Outputs, columns: Columns | None = None) -> list[dict[str, Any]]:
        """Return for each row the ``answer`` generated, where any was, and the ``perplexity`` (None without tokens).

        Given ``columns`` of conversations, also the ``prompt`` as a transcript and the ``reference`` (None without).
        """
        found = decoded(outputs)
        if columns is not None and self._is_chat(columns):
            for row, cell in zip(found, columns["messages"], strict=True):
                prompt, reference = parted(read_messages(cell, self.system))
                row["prompt"] = transcript(prompt)
                row["reference"] = None if reference is None else reference["content"]
        return found

    def details(self, outputs: Outputs, targets: Targets) -> dict[str, Any]:
        """Return how much was judged: ``num_tokens``, ``num_bytes``, and ``num_answers`` where some were generated."""
        num_bytes = int(np.sum(as_ragged(targets["num_bytes"]).values, dtype=np.int64))
        found = {"num_tokens": len(as_ragged(targets["labels"]).values), "num_bytes": num_bytes}
        if "answers" in outputs:
            found["num_answers"] = sum(answer is not None for answer in outputs["answers"])
        return found

    # ---- generation ----------------------------------------------------------------------------

    def exchanges(self, columns: Columns) -> list[list[Mapping[str, Any]]] | None:
        if not self._is_chat(columns):
            return None
        rows = (read_messages(cell) for cell in columns["messages"])
        talks = [[message for message in messages if message["role"] != "system"] for messages in rows]
        return [list(talk) if talk and talk[-1]["role"] == "assistant" else [] for talk in talks]

    def encode_prompts(self, columns: Columns, tokenizer: PreTrainedTokenizerBase, max_length: int) -> Encoded:
        """Tokenise conversations up to the answer to be written (one at their end is the reference and left out).

        Plain texts are tokenised to be gone on from. ``max_length`` must leave room for the answer.
        """
        columns = self.complete(columns)
        texts = TextTokenizer(tokenizer)
        if not self._is_chat(columns):
            keeps_text = self.special_tokens == "text"
            return documents.encode_beginnings(columns["text"], texts, max_length, keeps_text=keeps_text)
        prompts = ((parted(messages)[0], tools) for messages, tools in self._conversations(columns))
        encoder = encoding.PromptEncoder(self._format(tokenizer), texts, max_length)
        return encoder.encode(prompts, lambda row: place("row", columns, row))

    def stop_tokens(self, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
        """Return the tokenizer's end token and the token that the template writes after an answer."""
        found = set() if tokenizer.eos_token_id is None else {int(tokenizer.eos_token_id)}
        if self.form != "text" and tokenizer.chat_template:
            answer = "A1B2C3"
            messages = [{"role": "user", "content": "Z9"}, {"role": "assistant", "content": answer}]
            try:
                text = self._format(tokenizer).render(messages).text
            except RefusedError:
                return frozenset(found)
            if (start := text.rfind(answer)) >= 0:
                after = TextTokenizer(cast("Any", text_part(tokenizer))).special_after(text, start + len(answer))
                found |= set() if after is None else {after}
        return frozenset(found)

    def judge_answers(self, answers: Sequence[str | None], columns: Columns) -> dict[str, Array]:
        """Return ``answers`` (the texts) and, where there are references, what ``measure`` needs of them.

        Thoughts (``<think>``) before an answer are not judged, unless the reference has some.

        Raises ``MissingExtraError`` where the packages that judge answers are not installed.
        """
        if not self._is_chat(columns):
            return answer_outputs(answers, answers, [None] * len(answers))
        replies = [parted(read_messages(cell))[1] for cell in columns["messages"]]
        references = [None if reply is None else str(reply["content"]) for reply in replies]
        judged = [
            answer if answer is None or _THOUGHTS.match(reference or "") else _THOUGHTS.sub("", answer)
            for answer, reference in zip(answers, references, strict=True)
        ]
        return answer_outputs(answers, judged, references)

    def on_texts(self) -> Self:
        return self.model_copy(update={"form": "text"})

    # ---- said of the model -----------------------------------------------------------------------

    def conversation(self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] = ()) -> Columns:
        told = {"tools": [json.dumps(list(tools), ensure_ascii=False)]} if tools else {}
        return {"messages": [json.dumps(list(messages), ensure_ascii=False)], **told}

    def written_call(self, tokenizer: PreTrainedTokenizerBase) -> str | None:
        has_template = self.form != "text" and tokenizer.chat_template
        return written_call(self._format(tokenizer)) if has_template else None

    def card(self, inputs: Sequence[str], tokenizer: PreTrainedTokenizerBase | None = None) -> TaskCard:
        del inputs
        ends = [] if tokenizer is None else tokenizer.convert_ids_to_tokens(sorted(self.stop_tokens(tokenizer)))
        is_text = self.form == "text"
        prompt = code.beginning_code() if is_text else code.question_code(self.system, self.template_arguments)
        return TaskCard(
            purpose="goes on with a text" if is_text else "answers in a conversation",
            pipeline_tag="text-generation",
            too_long="more than it was trained on",
            limits=("It writes what is likely after its training; that need not be true.",),
            code=(*prompt, *code.answering_code(ends)),
            imports=(),
        )


def transcript(messages: Sequence[Message]) -> str:
    """Return messages as people read them; a single one without its role."""
    if len(messages) == 1:
        return str(messages[0]["content"])
    return "\n".join(f"{message['role']}: {message['content']}" for message in messages)


def _preceded(messages: list[Message], shown: Sequence[Mapping[str, Any]]) -> list[Message]:
    """Return messages after those that are shown before them and not learned; a system message stays first."""
    head = next((place for place, one in enumerate(messages) if one["role"] != "system"), len(messages))
    return [*messages[:head], *({**one, "train": False} for one in shown), *messages[head:]]


def parted(messages: list[Message]) -> tuple[list[Message], Message | None]:
    """Return what is to be answered, and the answer where the conversation ends with one."""
    if messages and messages[-1]["role"] == "assistant":
        return messages[:-1], messages[-1]
    return messages, None
