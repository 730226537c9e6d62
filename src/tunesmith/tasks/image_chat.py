"""Conversations with images: vision-language models learn to answer what is asked about images.

Shapes: T tokens of all rows.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np

from tunesmith.data.conversations import IMAGES, MESSAGES, holds_conversations, seeing_roles
from tunesmith.data.encoded import Encoded, Ragged, as_ragged
from tunesmith.data.forms import Form
from tunesmith.data.image_chat_rows import ImageConversations, read_conversation
from tunesmith.data.image_rows import CONTENT
from tunesmith.data.messages import IMAGE_PLACE
from tunesmith.models.vision_reader import IMAGE_TEXT, KIND_OF_PLACE, VisionReader, probe_images
from tunesmith.tasks.base import Columns, Outputs
from tunesmith.tasks.card import TaskCard
from tunesmith.tasks.causal_lm import CausalLM, parted
from tunesmith.tasks.chat import code, encoding
from tunesmith.tasks.chat.encoding import read_messages
from tunesmith.tasks.chat.image_places import (
    MOST_IMAGES,
    PICTURES,
    STAND_INS,
    ImagePlaces,
    parts_of,
    stand_in,
)
from tunesmith.tasks.chat.masks import TextRow
from tunesmith.tasks.chat.sandbox import RefusedError
from tunesmith.tasks.chat.template import CHATML_NAME, ChatFormat, Message, resolve_template
from tunesmith.tasks.chat.tokens import TextTokenizer
from tunesmith.tasks.columns import place
from tunesmith.tasks.image_store import SeenImages, distinct_images, see_images, vision_reader_of
from tunesmith.types import ColumnProfile, HeadSettings, InputError, Problem, Role

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' }}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}{{ IMAGE }}{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}"
    "{{ END + '\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
"""ChatML for contents of parts; ``IMAGE`` and ``END`` become texts in quotes."""
MOST_TOKENS = 2048
"""Of a conversation, where nobody says: an image may take a thousand."""
_SHOWN = "[image]"
_PROBE = "Z9"


class ImageChat(CausalLM):
    """Answer questions about images, in conversations that show them (the answers are learned)."""

    name: Literal["image_chat"] = "image_chat"  # type: ignore[assignment]

    title: ClassVar[str] = "Conversations about images"
    roles: ClassVar[tuple[Role, ...]] = (MESSAGES, IMAGES)
    found_by_name: ClassVar[bool] = True
    joins_lines: ClassVar[bool] = False
    kept_together: ClassVar[str | None] = IMAGES.name

    @classmethod
    def form_for(cls, roles: Collection[str]) -> type[Form]:
        return ImageConversations

    @classmethod
    def roles_for(cls, profiles: Mapping[str, ColumnProfile], overrides: Mapping[str, str]) -> tuple[Role, ...]:
        return seeing_roles(profiles, overrides)

    @classmethod
    def fit_score(cls, profiles: Mapping[str, ColumnProfile]) -> tuple[float, str]:
        if "images" not in profiles and not any(column.shows_images for column in profiles.values()):
            return 0.0, "no column shows images"
        talk = profiles.get("messages")
        if talk is not None and not talk.shows_images and not holds_conversations(talk):
            return 0.0, f"column '{talk.name}' holds no conversations"
        answer = profiles.get("completion")
        if answer is not None and answer.kind in ("category", "boolean", "integer", "float"):
            return 0.5, f"column '{answer.name}' holds answers that repeat, to questions about images"
        named = [column.name for role, column in profiles.items() if role in ("messages", "prompt", "completion")]
        return 0.98, f"column '{' and '.join(named)}' holds conversations that show images".replace(" and ", "' and '")

    def bind(self, columns: Columns) -> Self:
        return self.changed(form="chat", template=resolve_template(self.template))

    def head(self) -> HeadSettings:
        return HeadSettings(IMAGE_TEXT, None, default_max_length=MOST_TOKENS, reads_images=True)

    # ---- template ------------------------------------------------------------------------------

    def adapt(self, tokenizer: PreTrainedTokenizerBase) -> list[Problem]:
        """Give the tokenizer the chat template that is used, and prove that images become the processor's own tokens.

        Raises ``InputError`` for a template that cannot be read, and for a processor whose tokens these are not.
        """
        reader = vision_reader_of(tokenizer)
        source, problems = resolve_template(self.template), []
        if source == CHATML_NAME or (source is None and not reader.tokenizer.chat_template):
            reader.tokenizer.chat_template = _chatml_for(reader)
            if source is None:
                message = "The model has no chat template: conversations are written in ChatML."
                fix = "Give task.template if the model was trained with another format."
                problems.append(Problem("warning", message, fix))
        elif source is not None:
            reader.tokenizer.chat_template = source
        self._prove(reader)
        return problems

    def _format(self, tokenizer: PreTrainedTokenizerBase | VisionReader) -> ChatFormat:
        reader = vision_reader_of(tokenizer)
        plain = super()._format(reader.tokenizer)
        in_parts = replace(plain, parts=parts_of)
        return in_parts if _writes_parts(in_parts, reader.image_token) else plain

    def _places(self, chat_format: ChatFormat, texts: Sequence[str], reader: VisionReader) -> ImagePlaces:
        token = None if chat_format.parts is None else reader.image_token
        return ImagePlaces(texts, token, frozenset(reader.image_token_ids))

    def _prove(self, reader: VisionReader) -> None:
        """Compare the tokens of a conversation with two images with those of the model's own processor."""
        first, second = probe_images()
        seen = [reader.see(image).text for image in (first, second)]
        chat_format = self._format(reader)
        content = f"{stand_in(0)}What is it?\n{stand_in(1)}"
        asked: Message = {"role": "user", "content": content, PICTURES: [0, 1]}
        messages: list[Message] = [asked, {"role": "assistant", "content": "A b."}]
        try:
            text = chat_format.render(messages).text
            row = self._places(chat_format, seen, reader).written(TextRow(text, (), 2, (), False), messages)
        except RefusedError as error:
            raise InputError(
                f"The chat template cannot write a conversation with images: {error}",
                "Give task.template: one that writes the image token for parts of the type image, or chatml.",
            ) from error
        (ours,) = TextTokenizer(reader.tokenizer).prompts([row.text])
        plain = STAND_INS.sub(lambda _: reader.image_token, text)
        own = reader.own([plain], [first, second], add_special_tokens=False)["input_ids"][0]
        if ours.ids.tolist() != own.tolist():
            raise reader.unlike("the tokens of a text with two images")

    # ---- rows to numbers -----------------------------------------------------------------------

    def complete(self, columns: Columns) -> Columns:
        if self._is_chat(columns):
            return columns
        return {**columns, "messages": [[{"role": "user", "content": text or ""}] for text in columns["text"]]}

    def encode(self, columns: Columns, tokenizer: PreTrainedTokenizerBase, max_length: int) -> Encoded:
        """Tokenise conversations, and make of each image once what the model is given of it.

        Of a row too long its images stay; one whose images alone are too long is left out (``Encoded.left_out``).
        Raises ``InputError`` where none of the rows that have something to learn keeps any of it.
        """
        reader, columns = vision_reader_of(tokenizer), self.complete(columns)
        seen, numbers = self._see(columns, reader)
        chat_format = self._format(tokenizer)
        encoder = encoding.ConversationEncoder(
            chat_format,
            TextTokenizer(reader.tokenizer),
            max_length,
            train_on=self.train_on,
            too_long=self.too_long,
            images=self._places(chat_format, seen.texts, reader),
        )
        encoded = encoder.encode(self._shown(columns, numbers), lambda row: place("row", columns, row))
        if not len(encoded) and encoded.num_truncated:
            message = f"All {encoded.num_truncated} conversations are too long for the model's {max_length} tokens."
            raise InputError(message, "Raise model.max_length, shorten their prompts, or show fewer images a row.")
        return _with_pictures(encoded, seen, reader)

    def encode_prompts(self, columns: Columns, tokenizer: PreTrainedTokenizerBase, max_length: int) -> Encoded:
        reader, columns = vision_reader_of(tokenizer), self.complete(columns)
        seen, numbers = self._see(columns, reader)
        chat_format = self._format(tokenizer)
        encoder = encoding.PromptEncoder(
            chat_format,
            TextTokenizer(reader.tokenizer),
            max_length,
            images=self._places(chat_format, seen.texts, reader),
        )
        prompts = ((parted(messages)[0], tools) for messages, tools in self._shown(columns, numbers))
        encoded = encoder.encode(prompts, lambda row: place("row", columns, row))
        return _with_pictures(encoded, seen, reader)

    def _see(self, columns: Columns, reader: VisionReader) -> tuple[SeenImages, dict[str, int]]:
        """Return what the processor makes of all images of some rows, and their numbers by their content."""
        images, numbers = distinct_images([read_messages(cell) for cell in columns["messages"]])
        return see_images(images, reader), numbers

    def _shown(self, columns: Columns, numbers: Mapping[str, int]) -> Iterator[encoding.Conversation]:
        """Yield conversations with a stand-in in the place of every image."""
        for messages, tools in self._conversations(columns):
            yield [_with_stand_ins(message, numbers) for message in messages], tools

    def exchanges(self, columns: Columns) -> list[list[Mapping[str, Any]]] | None:
        del columns
        return None  # prompts are not filled with the images of other rows

    # ---- answers -------------------------------------------------------------------------------

    def decode(self, outputs: Outputs, columns: Columns | None = None) -> list[dict[str, Any]]:
        found = super().decode(outputs, columns)
        for row in found:
            if isinstance(row.get("prompt"), str):
                row["prompt"] = row["prompt"].replace(IMAGE_PLACE, _SHOWN)
        return found

    def conversation(self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] = ()) -> Columns:
        return super().conversation(read_conversation(messages), tools)

    def on_texts(self) -> None:  # type: ignore[override]
        """Return nothing: texts without conversations are no rows of it."""
        return

    def card(self, inputs: Sequence[str], tokenizer: PreTrainedTokenizerBase | None = None) -> TaskCard:
        del inputs
        ends = [] if tokenizer is None else tokenizer.convert_ids_to_tokens(sorted(self.stop_tokens(tokenizer)))
        return TaskCard(
            purpose="answers questions about images, in a conversation",
            pipeline_tag="image-text-to-text",
            too_long="more than it was trained on",
            limits=("It writes what is likely after its training; that need not be true of an image.",),
            code=(*code.image_question_code(self.system, self.template_arguments), *code.answering_code(ends)),
            imports=(),
        )


def _with_stand_ins(message: Message, numbers: Mapping[str, int]) -> Message:
    """Return a message in whose content each image is a stand-in that tells which of its ``PICTURES`` it is."""
    content = STAND_INS.sub("\ufffd", message["content"])
    images = message.get("images", ())
    if not images:
        return {**message, "content": content}
    if len(images) > MOST_IMAGES:
        raise InputError(f"A message shows {len(images)} images; at most {MOST_IMAGES} are read.")
    first, *others = content.split(IMAGE_PLACE)
    texts = [first, *(f"{stand_in(number)}{text}" for number, text in enumerate(others))]
    return {**message, "content": "".join(texts), PICTURES: [numbers[image[CONTENT]] for image in images]}


def _with_pictures(encoded: Encoded, seen: SeenImages, reader: VisionReader) -> Encoded:
    """Return rows with what the model is given of the images that they show."""
    ids = as_ragged(encoded.inputs["input_ids"])
    shown = encoded.inputs.get(PICTURES, Ragged(np.zeros(0, np.int64), np.zeros(len(ids) + 1, np.int64)))
    kinds = {KIND_OF_PLACE: Ragged(reader.kinds_of(ids.values), ids.offsets)} if reader.tells_kinds else {}
    return replace(encoded, inputs={"input_ids": ids, **kinds, **seen.pictures(as_ragged(shown), reader)})


def _chatml_for(reader: VisionReader) -> str:
    """Return ChatML for contents of parts; messages end with the tokenizer's own end token where it knows no other."""
    tokenizer = reader.tokenizer
    has_end = "<|im_end|>" in tokenizer.get_vocab()
    end = "'<|im_end|>'" if has_end or tokenizer.eos_token is None else "eos_token"
    return CHATML.replace("IMAGE", json.dumps(reader.image_token)).replace("END", end)


def _writes_parts(chat_format: ChatFormat, token: str) -> bool:
    """Say whether a template writes the token of an image for a part that is one, and the text of others."""
    messages = [{"role": "user", "content": f"{stand_in(0)}{_PROBE}", PICTURES: [0]}]
    try:
        text = chat_format.render(messages).text
    except RefusedError:
        return False
    return text.count(token) == 1 and text.count(_PROBE) == 1 and "'type'" not in text
