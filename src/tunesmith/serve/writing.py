"""A run that writes: answers of many clients a token at a time, in a thread of its own."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from tunesmith.data.encoded import as_ragged
from tunesmith.data.pictures import Pictures
from tunesmith.engine.guide import Guide
from tunesmith.engine.live import LiveText, LiveWriter, Reason
from tunesmith.kernels.waiting import cores_shared
from tunesmith.models.wrapping import inner
from tunesmith.run import Run
from tunesmith.run.written_answers import Writing, sampling_for
from tunesmith.serve.errors import RefusedError, overloaded, stopping
from tunesmith.serve.grammars import Grammars
from tunesmith.serve.settings import ServeSettings
from tunesmith.types import InputError

DEFAULT_CONTEXT = 4096
"""Tokens that are set aside for a text, where a model allows for more and nobody says."""
DEFAULT_NEW_TOKENS = 512


@dataclass(frozen=True, slots=True)
class Token:
    """One token of an answer, as its client gets it."""

    text: str
    """What it adds to the answer: nothing while a character is not complete, or may belong to what ends the answer."""
    id: int | None = None
    log_probability: float | None = None
    alternatives: tuple[tuple[int, float], ...] = ()
    ended: Reason | None = None


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a model reads before it writes."""

    ids: Any
    """[T]: token ids."""
    beside: Mapping[str, Any] = field(default_factory=dict)
    """Further inputs, by name: the images that it shows."""

    @property
    def num_image_bytes(self) -> int:
        """Of what was made of its images."""
        return sum(int(one.values.nbytes) for one in self.beside.values() if isinstance(one, Pictures))


@dataclass(slots=True)
class Answer:
    """An answer being written, as the client's side sees it."""

    text: LiveText
    loop: asyncio.AbstractEventLoop
    num_image_bytes: int = 0
    """Held for it until it ends."""
    tokens: asyncio.Queue[Token | BaseException] = field(default_factory=asyncio.Queue)
    num_told: int = 0

    @property
    def num_prompt_tokens(self) -> int:
        return len(self.text.prompt)

    def cancel(self) -> None:
        """Let nothing more be written: the client is gone, or has enough."""
        self.text.is_cancelled = True

    def tell(self, token: Token | BaseException) -> None:
        """Hand something to the client's side, from the thread that writes."""
        self.loop.call_soon_threadsafe(self.tokens.put_nowait, token)


class WritingRun:
    """One finished run and the thread that writes with its model."""

    def __init__(self, name: str, run: Run, settings: ServeSettings, computing: threading.Lock) -> None:
        """Start the thread. ``computing`` is held while a model of this process works: they share its cores."""
        self.name, self.run = name, run
        self._settings, self._computing = settings, computing
        self._new: queue.Queue[Answer | None] = queue.Queue()
        self._lock = threading.Lock()
        self._num_waiting = self._num_image_bytes = 0
        self._is_closed = False
        self._writer: LiveWriter | None = None
        length = run.network.max_length
        self.context = min(settings.context or DEFAULT_CONTEXT, length)
        self._entered = threading.Event()
        self._thread = threading.Thread(target=self._work, name=f"writing {name}", daemon=True)
        self._thread.start()
        self._entered.wait()

    @property
    def num_waiting(self) -> int:
        """Answers that wait or are being written."""
        return self._num_waiting

    @cached_property
    def written_call(self) -> str | None:
        """An answer that calls a tool, as the model was told to write it; None where it cannot be told of tools."""
        task = self.run.task
        assert task.writer is not None
        return task.writer.written_call(self.run.network.tokenizer)

    @cached_property
    def grammars(self) -> Grammars:
        """What answers can be kept to. Raises ``RefusedError`` where the model writes in a way that cannot be led."""
        if self._writer is None or not self._writer.can_guide:
            message = f"response_format: answers of '{self.name}' cannot be kept to JSON (transformers writes them)."
            raise RefusedError(400, message, "unsupported", param="response_format")
        network, task = self.run.network, self.run.task
        return Grammars(network.tokenizer, sampling_for(network, task, Writing()).stops(inner(network.model)))

    @property
    def reused(self) -> tuple[int, int]:
        """Of how many prompts the beginning was known, and how many tokens that spared."""
        found = None if self._writer is None else self._writer.beginnings
        return (0, 0) if found is None else (found.num_hits, found.num_tokens)

    def prompt(self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] = ()) -> Prompt:
        """Return a conversation as the run's template writes it.

        Images of a run that sees are opened: they have to have passed ``require_images``. Raises ``RefusedError`` where
        the template refuses the conversation, or it is longer than the model reads.
        """
        task = self.run.task
        assert task.writer is not None
        if (tools or any("tool_calls" in message for message in messages)) and self.written_call is None:
            message = f"tools: the chat template of '{self.name}' does not tell the model of tools and their calls."
            raise RefusedError(400, message, "unsupported", param="tools")
        try:
            columns = task.complete(task.writer.conversation(messages, tools))
            encoded = task.writer.encode_prompts(columns, self.run.network.tokenizer, self.context)
        except InputError as error:
            raise RefusedError(400, str(error), "bad_messages") from error
        if encoded.num_truncated:
            raise RefusedError(
                400,
                f"The conversation is longer than the {self.context} tokens that this model reads.",
                "context_length_exceeded",
            )
        beside = dict(encoded.inputs)
        ids = as_ragged(beside.pop("input_ids"))
        if not len(ids) or not len(ids[0]):
            raise RefusedError(400, "The conversation cannot be written as a prompt.", "bad_messages")
        return Prompt(np.asarray(ids[0], dtype=np.int64), beside)

    def plain_prompt(self, text: str) -> Prompt:
        """Return a text to go on with. Raises ``RefusedError`` where it is too long."""
        ids = self.run.network.tokenizer(text)["input_ids"]
        if not ids:
            raise RefusedError(400, "The prompt has no tokens.", "bad_prompt")
        if len(ids) >= self.context:
            raise RefusedError(
                400,
                f"The prompt has {len(ids)} tokens; prompt and answer are to have {self.context} at most.",
                "context_length_exceeded",
            )
        return Prompt(np.asarray(ids, dtype=np.int64))

    def submit(
        self,
        prompt: Prompt,
        wanted: Writing,
        *,
        room: int | None,
        num_alternatives: int = 0,
        guide: Guide | None = None,
        sharing: int = 1,
    ) -> Answer:
        """Return an answer that is going to be written; ``room`` is how many tokens the client wants, if it says.

        ``sharing`` is how many answers there are going to be to one prompt. Raises ``RefusedError`` where too many
        wait, or prompt and answer are longer than the model reads.
        """
        length = len(prompt.ids)
        left = self.context - length
        if left < 1 or (room is not None and room > left):
            raise RefusedError(
                400,
                f"The prompt has {length} tokens and {room or 1} are asked for; together they may have {self.context}.",
                "context_length_exceeded",
            )
        wanted = Writing(room or min(DEFAULT_NEW_TOKENS, left), wanted.temperature, wanted.top_p, wanted.seed)
        sampling = sampling_for(self.run.network, self.run.task, wanted)
        text = LiveText(prompt.ids, sampling, num_alternatives, guide=guide, beside=prompt.beside)
        answer = Answer(text, asyncio.get_running_loop(), prompt.num_image_bytes // sharing)
        with self._lock:
            if self._is_closed:
                raise stopping()
            if self._num_waiting >= self._settings.max_waiting:
                raise overloaded()
            held = self._num_image_bytes
            if held and held + answer.num_image_bytes > self._settings.max_held_bytes:
                raise overloaded()
            self._num_waiting += 1
            self._num_image_bytes += answer.num_image_bytes
            self._new.put(answer)
        return answer

    def close(self, seconds: float) -> None:
        """Take no more prompts, and wait for the answers that were begun."""
        with self._lock:
            self._is_closed = True
            self._new.put(None)
        self._thread.join(seconds)
        if "grammars" in vars(self):
            self.grammars.close()

    def _work(self) -> None:
        try:
            while True:
                settings = self._settings
                self._writer = LiveWriter(
                    self.run.network.model, settings.num_slots, self.context, settings.beginning_bytes
                )
                with self._writer as writer:
                    self._entered.set()
                    if self._write(writer):
                        return
        finally:
            self._entered.set()

    def _write(self, writer: LiveWriter) -> bool:
        """Write until no more is to come; say whether that is so, or the writer is to be replaced by another."""
        answers: dict[int, Answer] = {}
        while True:
            is_last = self._take(writer, answers)
            if is_last and not answers:
                return True
            try:
                with self._computing, cores_shared():
                    moved = writer.step()
            except Exception as error:  # of memory that is not there: others come after these
                for answer in answers.values():
                    answer.tell(error)
                    self._leave(answer)
                return is_last
            for text in moved:
                answer = answers[id(text)]
                if text.ended is not None:  # its place is free before its client hears of its end
                    self._leave(answers.pop(id(text)))
                self._tell(answer)

    def _take(self, writer: LiveWriter, answers: dict[int, Answer]) -> bool:
        """Take what has come in; wait for it where there is nothing else to do. Say whether no more is to come."""
        while True:
            try:
                answer = self._new.get(block=not answers and not self._is_closed)
            except queue.Empty:
                return self._is_closed
            if answer is None:
                return True
            answers[id(answer.text)] = answer
            writer.add(answer.text)

    def _leave(self, answer: Answer) -> None:
        with self._lock:
            self._num_waiting -= 1
            self._num_image_bytes -= answer.num_image_bytes

    def _tell(self, answer: Answer) -> None:
        text = answer.text
        for place in range(answer.num_told, len(text.answer)):
            log_probability = text.log_probabilities[place] if text.log_probabilities else None
            alternatives = tuple(text.alternatives[place]) if text.alternatives else ()
            answer.tell(Token("", text.answer[place], log_probability, alternatives))
        answer.num_told = len(text.answer)
        if text.ended == "failed":
            message = "The answer left its grammar's limits: the JSON schema is too complex."
            answer.tell(RefusedError(500, message, "failed", param="response_format"))
        elif text.ended is not None:
            answer.tell(Token("", ended=text.ended))


class Spelling:
    """Turns tokens into text piece by piece: whole characters only, and nothing of what ends the answer."""

    def __init__(self, tokenizer: Any, stops: Sequence[str]) -> None:
        self._tokenizer, self._stops = tokenizer, tuple(stop for stop in stops if stop)
        self._ids: list[int] = []
        self._start = 0
        """Tokens before it are spelt for good."""
        self._shown = ""
        """What the tokens from ``_start`` on have given so far."""
        self._held = ""
        self.is_stopped = False

    def add(self, token: int) -> str:
        """Return what a token adds."""
        self._ids.append(token)
        text = str(self._tokenizer.decode(self._ids[self._start :], skip_special_tokens=True))
        if text.endswith("\ufffd"):  # a character of which only some bytes are there
            return ""
        piece, self._shown = text[len(self._shown) :], text
        if len(self._ids) - self._start > 32 and piece:
            # Some tokens before the next ones tell how those begin: with or without a space.
            self._start = len(self._ids) - 4
            self._shown = str(self._tokenizer.decode(self._ids[self._start :], skip_special_tokens=True))
        return self._without_stops(piece)

    def rest(self) -> str:
        """Return what was held back, at the end of an answer."""
        held, self._held = self._held, ""
        return "" if self.is_stopped else held

    def _without_stops(self, piece: str) -> str:
        text = self._held + piece
        if found := [place for stop in self._stops if (place := text.find(stop)) >= 0]:
            self.is_stopped, self._held = True, ""
            return text[: min(found)]
        keep = max((n for stop in self._stops for n in range(1, len(stop)) if text.endswith(stop[:n])), default=0)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]


async def pieces(answer: Answer, spelling: Spelling) -> AsyncIterator[Token]:
    """Yield an answer's tokens with their text as they are written; leaving the loop early ends the work."""
    try:
        while True:
            token = await answer.tokens.get()
            if isinstance(token, RefusedError):
                raise token
            if isinstance(token, BaseException):
                raise RefusedError(500, "The answer could not be written to its end.", "failed") from token
            if token.ended is not None:
                yield Token(spelling.rest(), ended=token.ended)
                return
            assert token.id is not None
            text = spelling.add(token.id)
            yield Token(text, token.id, token.log_probability, token.alternatives)
            if spelling.is_stopped:
                yield Token("", ended="stop")
                return
    finally:
        answer.cancel()
