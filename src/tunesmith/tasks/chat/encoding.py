"""Conversations and prompts as rows of numbers."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from tunesmith.data.encoded import Encoded, Ragged, RaggedBuilder
from tunesmith.tasks.chat.controls import MARK
from tunesmith.tasks.chat.fitting import fitted
from tunesmith.tasks.chat.image_places import PICTURES, ImagePlaces
from tunesmith.tasks.chat.masks import TextRow, TrainOn, texts_needed, training_rows
from tunesmith.tasks.chat.sandbox import RefusedError
from tunesmith.tasks.chat.template import ChatFormat, Message
from tunesmith.tasks.chat.tokens import TextTokenizer, TokenRows, Tokens
from tunesmith.tasks.encoding import lengths_of
from tunesmith.types import MAX_ROWS_SHOWN, InputError, Problem

TooLong = Literal["truncate", "drop"]

Conversation = tuple[list[Message], list[Any] | None]
"""Messages and tools."""

BATCH_ROWS = 500
MAX_TOKENS = 5
"""Control tokens that a remark names."""
MAX_REASONS = 10
"""Different words of refusal that are told."""


class Refusals:
    """Conversations that the template refuses, by its words."""

    def __init__(self, place: Callable[[int], str]) -> None:
        self._place = place
        self._rows: dict[str, list[int]] = {}

    def add(self, row: int, error: RefusedError) -> None:
        self._rows.setdefault(str(error)[:300], []).append(row)

    @property
    def by_reason(self) -> dict[str, tuple[int, ...]]:
        """The rows of each reason, in words."""
        found = {f"are refused by the chat template ({words})": tuple(rows) for words, rows in self._rows.items()}
        rest = list(found)[MAX_REASONS:]
        if rest:
            found["are refused by the chat template for other reasons"] = tuple(
                sorted(row for words in rest for row in found.pop(words))
            )
        return found

    def raise_if_any(self) -> None:
        """Raise ``InputError`` with every reason and the places of its rows."""
        problems = []
        for words, rows in list(self._rows.items())[:MAX_REASONS]:
            message = f"The chat template refuses {len(rows)} conversation{'s' if len(rows) > 1 else ''}: {words}"
            fix = "Mend or remove these rows, or use another template (task.template)."
            places = tuple(self._place(row) for row in rows[:MAX_ROWS_SHOWN])
            problems.append(Problem("error", message, fix, len(rows), places))
        if problems:
            raise InputError(problems)


class Quotes:
    """Rows in which people quote control tokens, counted."""

    def __init__(self, tokenizer: TextTokenizer) -> None:
        self._controls = tokenizer.controls
        self._tokens: set[str] = set()
        self._num_rows = 0

    def add(self, texts_N: Iterable[Sequence[str]]) -> None:
        """Look at the marked texts of some rows."""
        for texts in texts_N:
            marked = [text for text in texts if MARK in text]
            if marked and self._controls is not None:
                self._num_rows += 1
                self._tokens |= self._controls.quoted_in(marked[0])

    @property
    def remarks(self) -> dict[str, int]:
        if not self._num_rows:
            return {}
        words = (
            "have the text of a control token in a message ({}): it stays text. task.special_tokens control reads it"
        )
        return {f"{words.format(listed(self._tokens))} as the token.": self._num_rows}


def listed(tokens: Iterable[str]) -> str:
    """Return some of the tokens, in words."""
    found = sorted(tokens)
    return ", ".join(found[:MAX_TOKENS]) + (", …" if len(found) > MAX_TOKENS else "")


class Rows:
    """Rows of numbers as they are made, and how many each row of the data has."""

    def __init__(self) -> None:
        self._ids, self._reads = RaggedBuilder(), RaggedBuilder()
        self._labels, self._num_bytes = RaggedBuilder(np.int64), RaggedBuilder()
        self._pictures = RaggedBuilder(np.int64)
        self._counts: list[npt.NDArray[np.int64]] = []
        self.num_truncated = 0
        self.left_out: dict[str, tuple[int, ...]] = {}
        self.remarks: dict[str, int] = {}

    def add(
        self, rows: TokenRows, counts: npt.NDArray[np.int64], pictures: Sequence[tuple[int, ...]] | None = None
    ) -> None:
        """Add the rows of some rows of the data, each of which has as many as ``counts`` says.

        ``pictures`` are the numbers of the images that each of ``rows`` shows, where they may show some.
        """
        rows_U, places_U = rows.reads
        num_reads = np.bincount(rows_U, minlength=len(rows))
        self._ids.add(rows.tokens.ids, rows.lengths)
        self._reads.add(places_U - 1 - rows.offsets[rows_U], num_reads)
        self._labels.add(rows.tokens.ids[places_U], num_reads)
        self._num_bytes.add(rows.tokens.num_bytes[places_U], num_reads)
        self._counts.append(counts)
        if pictures is not None:
            shown = np.array([one for numbers in pictures for one in numbers], dtype=np.int64)
            self._pictures.add(shown, lengths_of(pictures))

    def encoded(self) -> Encoded:
        """Return the sequences; ``Encoded.rows`` where not each row of the data is one."""
        counts = np.concatenate([np.zeros(1, dtype=np.int64), *self._counts])
        is_one_each = bool((counts[1:] == 1).all())
        shown = {PICTURES: self._pictures.finish()} if self._pictures.num_rows else {}
        return Encoded(
            {"input_ids": self._ids.finish(), **shown},
            {"labels": self._labels.finish(), "num_bytes": self._num_bytes.finish()},
            self.num_truncated,
            self._reads.finish(),
            None if is_one_each else np.cumsum(counts),
            left_out=self.left_out,
            remarks=self.remarks,
        )


@dataclass(frozen=True, slots=True)
class ConversationEncoder:
    """Conversations to rows of numbers."""

    chat_format: ChatFormat
    tokenizer: TextTokenizer
    max_length: int
    train_on: TrainOn = "assistant"
    too_long: TooLong = "truncate"
    images: ImagePlaces | None = None
    """Where conversations show images. Their numbers are then an input of their own, ``PICTURES``."""

    def encode(self, conversations: Iterator[Conversation], place: Callable[[int], str]) -> Encoded:
        """Encode conversations; ``place`` says where one stands in the user's files.

        A row of the data has as many rows as ``training_rows`` gives it; none where nothing of it is trained, or
        it is too long and dropped, or the template refuses it, or its images leave room for nothing else
        (``left_out``).
        """
        refusals, rows, quotes = Refusals(place), Rows(), Quotes(self.tokenizer)
        too_large: list[int] = []
        for first, batch in _batches(conversations):
            texts: list[list[TextRow]] = []
            self.chat_format.prepare(
                needed for one in batch for needed in texts_needed(self.chat_format, *one, self.train_on)
            )
            for row, conversation in enumerate(batch, start=first):
                try:
                    texts.append(self._texts(*conversation))
                except RefusedError as error:
                    refusals.add(row, error)
                    texts.append([])
            quotes.add([text.text for text in several] for several in texts)
            tokens = self.tokenizer.rows([text for several in texts for text in several])
            of_row = np.repeat(np.arange(len(batch)), lengths_of(texts))
            pictures = [text.pictures for several in texts for text in several]
            too_long = np.flatnonzero(tokens.lengths > self.max_length)
            if len(too_long):
                rows.num_truncated += len(too_long)
                flat_texts = [text for several in texts for text in several]
                kept: list[Tokens | None] = list(tokens)
                for index in too_long.tolist():
                    row = int(of_row[index])
                    try:
                        kept[index], pictures[index] = self._shortened(flat_texts[index], batch[row])
                    except RefusedError as error:
                        refusals.add(first + row, error)
                        kept[index] = None
                    except _TooLargeError:
                        too_large.append(first + row)
                        kept[index] = None
                is_kept = [one is not None for one in kept]
                of_row, pictures = of_row[is_kept], list(itertools.compress(pictures, is_kept))
                tokens = TokenRows.join([one for one in kept if one is not None])
            learned = np.unique(tokens.reads[0])  # those of which nothing is learned are left out
            shown = None if self.images is None else [pictures[index] for index in learned.tolist()]
            rows.add(tokens.select(learned), np.bincount(of_row[learned], minlength=len(batch)), shown)
        self.chat_format.prepare(())
        rows.left_out, rows.remarks = refusals.by_reason, quotes.remarks
        if too_large:
            words = f"show images that leave no room for an answer within {self.max_length} tokens"
            rows.left_out[words] = tuple(dict.fromkeys(too_large))
        return rows.encoded()

    def _texts(self, messages: list[Message], tools: list[Any] | None) -> list[TextRow]:
        """Return a conversation as rows to train on, their images in their places."""
        found = training_rows(self.chat_format, messages, tools, self.train_on)
        return found if self.images is None else [self.images.written(text, messages) for text in found]

    def _shortened(self, text: TextRow, conversation: Conversation) -> tuple[Tokens | None, tuple[int, ...]]:
        """Return a too long row made to fit, or None for one that is dropped, and the images that it shows."""
        if self.too_long == "drop":
            return None, ()
        messages, tools = conversation
        # The marks say which of the messages this row trains, wherever they come to stand.
        needed = messages[: text.trained[-1] + 1]
        marked = [{**message, "train": index in text.trained} for index, message in enumerate(needed)]

        made: list[tuple[Tokens, TextRow]] = []

        def measure(kept: list[Message]) -> Tokens | None:
            found = self._texts(kept, tools)
            if not found:
                return None
            made.append((self.tokenizer.rows(found[-1:])[0], found[-1]))
            return made[-1][0]

        tokens = fitted(measure, marked, self.max_length)
        if tokens is None:
            return None, ()
        part = _without_cut_images(tokens, tokens.part(0, self.max_length), self.images)
        pictures = _row_of(tokens, made).pictures
        if pictures and not len(part.reads):
            raise _TooLargeError
        return part, pictures


class _TooLargeError(Exception):
    """The images of a row take so many tokens that nothing else of it is left."""


def _row_of(tokens: Tokens, made: Sequence[tuple[Tokens, TextRow]]) -> TextRow:
    return next(row for one, row in made if one is tokens)


def _without_cut_images(whole: Tokens, part: Tokens, images: ImagePlaces | None) -> Tokens:
    """Return a part of a row's tokens; raise ``_TooLargeError`` where it has not all of the images' tokens."""
    if images is not None:
        counts = [int(np.isin(one.ids, list(images.token_ids)).sum()) for one in (whole, part)]
        if counts[0] != counts[1]:
            raise _TooLargeError
    return part


@dataclass(frozen=True, slots=True)
class PromptEncoder:
    """Conversations up to where the model is to answer, or as they are: one row each, inputs only."""

    chat_format: ChatFormat
    tokenizer: TextTokenizer
    max_length: int
    add_generation_prompt: bool = True
    images: ImagePlaces | None = None
    """Where conversations show images. Their numbers are then an input of their own, ``PICTURES``."""

    def encode(self, conversations: Iterator[Conversation], place: Callable[[int], str]) -> Encoded:
        """Encode conversations; ``place`` says where one stands in the user's files.

        Too long ones lose their oldest exchanges, then the middle of their longest messages, then their beginning.
        ``InputError`` names the rows that the template refuses, and those whose images alone are too long.
        """
        refusals, too_large = Refusals(place), list[int]()
        ids: list[np.ndarray[Any, Any]] = []
        shown: list[tuple[int, ...]] = []
        num_truncated = 0
        for first, batch in _batches(conversations):
            texts = self._written(first, batch, refusals)
            prompts = self.tokenizer.prompts([text.text for text in texts])
            for row, conversation in enumerate(batch, start=first):
                tokens, text = prompts[row - first], texts[row - first]
                if len(tokens) > self.max_length:
                    num_truncated += 1
                    try:
                        tokens, text = self._shortened(conversation, tokens, text)
                    except RefusedError as error:
                        refusals.add(row, error)
                try:
                    part = tokens.part(max(len(tokens) - self.max_length, 0), len(tokens))
                    ids.append(filled(_without_cut_images(tokens, part, self.images), self.tokenizer))
                except _TooLargeError:
                    too_large.append(row)
                shown.append(text.pictures)
        refusals.raise_if_any()
        if too_large:
            raise InputError(_too_large(too_large, self.max_length, place))
        inputs = {"input_ids": Ragged.from_rows(ids, np.int32)}
        if self.images is not None:
            inputs[PICTURES] = Ragged.from_rows(shown, np.int64)
        return Encoded(inputs, {}, num_truncated)

    def _written(self, first: int, batch: Sequence[Conversation], refusals: Refusals) -> list[TextRow]:
        """Return conversations as texts; empty ones for those that the template refuses."""
        self.chat_format.prepare((messages, tools, self.add_generation_prompt) for messages, tools in batch)
        texts = []
        for row, (messages, tools) in enumerate(batch, start=first):
            try:
                texts.append(self._text(messages, tools))
            except RefusedError as error:
                refusals.add(row, error)
                texts.append(TextRow("", (), 0, (), ends_with_answer=False))
        return texts

    def _text(self, messages: list[Message], tools: list[Any] | None) -> TextRow:
        text = self.chat_format.render(messages, tools, add_generation_prompt=self.add_generation_prompt).text
        row = TextRow(text, (), len(messages), (), ends_with_answer=False)
        return row if self.images is None else self.images.written(row, messages)

    def _shortened(self, conversation: Conversation, tokens: Tokens, text: TextRow) -> tuple[Tokens, TextRow]:
        """Return a too long prompt with as much of its messages as fits; as it is where nothing does."""
        messages, tools = conversation
        made = [(tokens, text)]

        def measure(kept: list[Message]) -> Tokens:
            row = self._text(kept, tools)
            made.append((self.tokenizer.prompts([row.text])[0], row))
            return made[-1][0]

        found = fitted(measure, messages, self.max_length) or tokens
        return found, _row_of(found, made)


def _too_large(rows: Sequence[int], max_length: int, place: Callable[[int], str]) -> list[Problem]:
    message = f"{len(rows)} rows show images that alone take more than the {max_length} tokens of a prompt."
    fix = "Give fewer or smaller images a row, ask for shorter answers, or train with a larger model.max_length."
    places = tuple(place(row) for row in rows[:MAX_ROWS_SHOWN])
    return [Problem("error", message, fix, len(rows), places)]


def filled(tokens: Tokens, tokenizer: TextTokenizer) -> np.ndarray[Any, Any]:
    """Return a prompt's ids; one filler where there are none, as a row is never empty."""
    return tokens.ids if len(tokens) else np.array([tokenizer.filler], dtype=np.int32)


def _batches(conversations: Iterator[Conversation]) -> Iterator[tuple[int, list[Conversation]]]:
    """Yield batches with the number of their first conversation."""
    first = 0
    while batch := list(itertools.islice(conversations, BATCH_ROWS)):
        yield first, batch
        first += len(batch)


def read_messages(cell: Any, system: str | None = None) -> list[Message]:
    """Return a canonical ``messages`` cell (JSON text or a list), ``system`` before those without such a message."""
    messages: list[Message] = json.loads(cell) if isinstance(cell, str) else [dict(message) for message in cell or ()]
    if system is not None and not any(message["role"] == "system" for message in messages):
        messages.insert(0, {"role": "system", "content": system})
    return messages


def read_tools(cell: Any) -> list[Any] | None:
    """Return a canonical ``tools`` cell; None where there are none."""
    tools = json.loads(cell) if isinstance(cell, str) else cell
    return list(tools) if tools else None
