"""The routes of OpenAI's API for models that write, as its clients call them."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from typing import Any

from tunesmith.run.written_answers import Writing
from tunesmith.serve.errors import RefusedError
from tunesmith.serve.figures import Figures
from tunesmith.serve.house import House
from tunesmith.serve.requests import ChatRequest, CompletionRequest, Written, parse
from tunesmith.serve.writing import Answer, Spelling, Token, WritingRun, pieces


class WritingRoutes:
    """Asks runs that write; every method returns a whole answer, or the events of a stream."""

    def __init__(self, house: House, figures: Figures) -> None:
        self._house, self._figures = house, figures

    async def chat(self, body: bytes) -> dict[str, Any] | AsyncIterator[str]:
        """Answer a conversation."""
        asked = parse(ChatRequest, body)
        if asked.tools:
            raise RefusedError(400, "tools: calls of tools are not supported.", "unsupported")
        if asked.response_format and asked.response_format.get("type") not in (None, "text"):
            raise RefusedError(400, "response_format: only text is supported.", "unsupported")
        run = self._writing(asked.model)
        prompt = await asyncio.to_thread(run.prompt, [message.plain() for message in asked.messages])
        room = asked.max_completion_tokens or asked.max_tokens
        num_alternatives = max(asked.top_logprobs or 0, 1) if asked.logprobs else 0
        answers = _submit(run, [prompt], asked, room, num_alternatives)
        form = _Chat(run, asked.top_logprobs or 0 if asked.logprobs else None)
        return await self._reply(form, answers, asked)

    async def complete(self, body: bytes) -> dict[str, Any] | AsyncIterator[str]:
        """Go on with a text."""
        asked = parse(CompletionRequest, body)
        if asked.echo:
            raise RefusedError(400, "echo: prompts are not given back.", "unsupported")
        run = self._writing(asked.model)
        texts = [asked.prompt] if isinstance(asked.prompt, str) else asked.prompt
        if not texts:
            raise RefusedError(400, "prompt: there is none.", "bad_request")
        prompts = [await asyncio.to_thread(run.plain_prompt, text) for text in texts]
        num_alternatives = 0 if asked.logprobs is None else max(asked.logprobs, 1)
        answers = _submit(run, prompts, asked, asked.max_tokens or 16, num_alternatives)
        return await self._reply(_Completion(run, asked.logprobs), answers, asked)

    def _writing(self, name: str | None) -> WritingRun:
        found = self._house.find(name)
        if not isinstance(found, WritingRun):
            raise RefusedError(
                400,
                f"'{found.name}' was trained for {found.run.task.title.lower()}: it does not chat.",
                "other_task",
            )
        return found

    async def _reply(
        self, form: _Form, answers: Sequence[Answer], asked: Written
    ) -> dict[str, Any] | AsyncIterator[str]:
        if asked.stream:
            return self._events(form, answers, asked)
        try:
            choices = await asyncio.gather(*(_whole(form, answer, asked, at) for at, answer in enumerate(answers)))
        finally:
            for answer in answers:
                answer.cancel()
        return {**form.head(), "object": form.kind, "choices": choices, "usage": self._usage(form, answers)}

    async def _events(self, form: _Form, answers: Sequence[Answer], asked: Written) -> AsyncIterator[str]:
        """Yield the events of a stream: pieces of all answers as they are written."""
        head = {**form.head(), "object": form.chunk}
        told: asyncio.Queue[tuple[int, Token] | BaseException | None] = asyncio.Queue()

        async def follow(index: int, answer: Answer) -> None:
            try:
                async for token in pieces(answer, Spelling(form.run.run.network.tokenizer, asked.stops)):
                    await told.put((index, token))
            except BaseException as error:
                await told.put(error)
                raise
            await told.put(None)

        tasks = [asyncio.create_task(follow(index, answer)) for index, answer in enumerate(answers)]
        try:
            for index in range(len(answers)):
                if (first := form.opening(index)) is not None:
                    yield _event({**head, "choices": [first]})
            running = len(answers)
            while running:
                found = await told.get()
                if found is None:
                    running -= 1
                elif isinstance(found, BaseException):
                    error = found if isinstance(found, RefusedError) else RefusedError(500, "It failed.", "failed")
                    yield _event(error.body())
                    return
                else:
                    index, token = found
                    if token.text or token.ended or form.tells_probabilities:
                        yield _event({**head, "choices": [form.piece(index, token)]})
            usage = self._usage(form, answers)
            if asked.tells_usage:
                yield _event({**head, "choices": [], "usage": usage})
            yield "data: [DONE]\n\n"
        finally:
            for task in tasks:
                task.cancel()
            for answer in answers:
                answer.cancel()

    def _usage(self, form: _Form, answers: Sequence[Answer]) -> dict[str, int]:
        prompts = {id(answer.text.prompt): answer.num_prompt_tokens for answer in answers}
        read, written = sum(prompts.values()), sum(len(answer.text.answer) for answer in answers)
        self._figures.add_tokens(form.run.name, read, written)
        return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}


def _submit(
    run: WritingRun, prompts: Sequence[Any], asked: Written, room: int | None, num_alternatives: int
) -> list[Answer]:
    """Ask for ``n`` answers to each prompt; none is begun where one is refused."""
    answers: list[Answer] = []
    drawn = asked.temperature or 0.0
    try:
        for prompt in prompts:
            for number in range(asked.n):
                seed = (asked.seed if asked.seed is not None else uuid.uuid4().int % 2**32) + number
                wanted = Writing(temperature=drawn, top_p=asked.top_p or 1.0, seed=seed)
                answers.append(run.submit(prompt, wanted, room=room, num_alternatives=num_alternatives))
    except RefusedError:
        for answer in answers:
            answer.cancel()
        raise
    return answers


async def _whole(form: _Form, answer: Answer, asked: Written, index: int) -> dict[str, Any]:
    tokens = [token async for token in pieces(answer, Spelling(form.run.run.network.tokenizer, asked.stops))]
    return form.whole(index, tokens)


class _Form:
    """How an answer is put into JSON."""

    kind: str
    chunk: str

    def __init__(self, run: WritingRun, num_alternatives: int | None) -> None:
        self.run = run
        self._num_alternatives = num_alternatives
        self._id, self._created = uuid.uuid4().hex, int(time.time())

    @property
    def tells_probabilities(self) -> bool:
        return self._num_alternatives is not None

    def head(self) -> dict[str, Any]:
        return {"id": f"{self.kind}-{self._id}", "created": self._created, "model": self.run.name}

    def opening(self, index: int) -> dict[str, Any] | None:
        del index
        return None

    def piece(self, index: int, token: Token) -> dict[str, Any]:
        raise NotImplementedError

    def whole(self, index: int, tokens: Sequence[Token]) -> dict[str, Any]:
        raise NotImplementedError

    def _spelt(self, token_id: int) -> str:
        return str(self.run.run.network.tokenizer.decode([token_id]))


class _Chat(_Form):
    kind, chunk = "chat.completion", "chat.completion.chunk"

    def opening(self, index: int) -> dict[str, Any]:
        return {"index": index, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}

    def piece(self, index: int, token: Token) -> dict[str, Any]:
        delta = {"content": token.text} if token.text else {}
        noted = {"logprobs": self._probabilities([token])} if self.tells_probabilities else {}
        return {"index": index, "delta": delta, "finish_reason": token.ended, **noted}

    def whole(self, index: int, tokens: Sequence[Token]) -> dict[str, Any]:
        text = "".join(token.text for token in tokens)
        noted = {"logprobs": self._probabilities(tokens)} if self.tells_probabilities else {"logprobs": None}
        message = {"role": "assistant", "content": text}
        return {"index": index, "message": message, "finish_reason": tokens[-1].ended, **noted}

    def _probabilities(self, tokens: Sequence[Token]) -> dict[str, Any]:
        return {
            "content": [
                {
                    **self._one(token.id, token.log_probability),
                    "top_logprobs": [self._one(*one) for one in token.alternatives[: self._num_alternatives or 0]],
                }
                for token in tokens
                if token.id is not None and token.log_probability is not None
            ]
        }

    def _one(self, token_id: int, log_probability: float) -> dict[str, Any]:
        text = self._spelt(token_id)
        return {"token": text, "logprob": log_probability, "bytes": list(text.encode())}


class _Completion(_Form):
    kind, chunk = "text_completion", "text_completion"

    def piece(self, index: int, token: Token) -> dict[str, Any]:
        return {
            "index": index,
            "text": token.text,
            "finish_reason": token.ended,
            "logprobs": self._probabilities([token]),
        }

    def whole(self, index: int, tokens: Sequence[Token]) -> dict[str, Any]:
        text = "".join(token.text for token in tokens)
        return {
            "index": index,
            "text": text,
            "finish_reason": tokens[-1].ended,
            "logprobs": self._probabilities(tokens),
        }

    def _probabilities(self, tokens: Sequence[Token]) -> dict[str, Any] | None:
        known = [token for token in tokens if token.id is not None and token.log_probability is not None]
        if not self.tells_probabilities:
            return None
        most = self._num_alternatives or 0
        return {
            "tokens": [self._spelt(token.id) for token in known if token.id is not None],
            "token_logprobs": [token.log_probability for token in known],
            "top_logprobs": [{self._spelt(one): value for one, value in token.alternatives[:most]} for token in known],
        }


def _event(content: Any) -> str:
    return f"data: {json.dumps(content, ensure_ascii=False)}\n\n"
