"""The routes of OpenAI's API for models that write, as its clients call them."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from tunesmith.engine.guide import Guide
from tunesmith.run.written_answers import Writing
from tunesmith.serve.errors import RefusedError
from tunesmith.serve.figures import Figures
from tunesmith.serve.house import House
from tunesmith.serve.images import looks_at_images, require_images
from tunesmith.serve.openai_forms import ChatForm, CompletionForm, Form, event
from tunesmith.serve.requests import ChatRequest, CompletionRequest, Written, parse
from tunesmith.serve.tool_calls import CLOSE, OPEN, schema_of_call
from tunesmith.serve.writing import Answer, Prompt, Spelling, Token, WritingRun, pieces


class WritingRoutes:
    """Asks runs that write; every method returns a whole answer, or the events of a stream."""

    def __init__(self, house: House, figures: Figures) -> None:
        self._house, self._figures = house, figures

    async def chat(self, body: bytes) -> dict[str, Any] | AsyncIterator[str]:
        """Answer a conversation."""
        asked = parse(ChatRequest, body)
        room = asked.max_completion_tokens or asked.max_tokens
        num_alternatives = max(asked.top_logprobs or 0, 1) if asked.logprobs else 0
        with self._writing(asked.model) as run:
            prompt = await self._prompt(run, asked)
            guides = await asyncio.to_thread(_guides, run, asked)
            answers = _submit(run, [prompt], asked, room=room, num_alternatives=num_alternatives, guides=guides)
        names = [tool["function"]["name"] for tool in asked.offered]
        form = ChatForm(run, asked.top_logprobs or 0 if asked.logprobs else None, names)
        return await self._reply(form, answers, asked)

    async def complete(self, body: bytes) -> dict[str, Any] | AsyncIterator[str]:
        """Go on with a text."""
        asked = parse(CompletionRequest, body)
        if asked.echo:
            raise RefusedError(400, "echo: prompts are not given back.", "unsupported")
        texts = [asked.prompt] if isinstance(asked.prompt, str) else asked.prompt
        if not texts:
            raise RefusedError(400, "prompt: there is none.", "bad_request")
        num_alternatives = 0 if asked.logprobs is None else max(asked.logprobs, 1)
        with self._writing(asked.model) as run:
            if looks_at_images(run.run):
                message = f"'{run.name}' looks at images: ask it by /v1/chat/completions."
                raise RefusedError(400, message, "other_task")
            prompts = [await asyncio.to_thread(run.plain_prompt, text) for text in texts]
            answers = _submit(run, prompts, asked, room=asked.max_tokens or 16, num_alternatives=num_alternatives)
        return await self._reply(CompletionForm(run, asked.logprobs), answers, asked)

    async def _prompt(self, run: WritingRun, asked: ChatRequest) -> Prompt:
        """Return a conversation as the model reads it, with the images that it shows."""
        messages = [message.plain() for message in asked.messages]
        if not asked.images:
            return await asyncio.to_thread(run.prompt, messages, asked.offered)
        if not looks_at_images(run.run):
            message = f"'{run.name}' reads texts alone: it can be shown no images."
            raise RefusedError(400, message, "other_task", param="messages")
        async with self._house.unpacking:
            await asyncio.to_thread(require_images, asked.images, self._house.settings)
            return await asyncio.to_thread(run.prompt, messages, asked.offered)

    @contextmanager
    def _writing(self, name: str | None) -> Iterator[WritingRun]:
        with self._house.using(name) as found:
            if not isinstance(found, WritingRun):
                raise RefusedError(
                    400,
                    f"'{found.name}' was trained for {found.run.task.title.lower()}: it does not chat.",
                    "other_task",
                )
            yield found

    async def _reply(
        self, form: Form, answers: Sequence[Answer], asked: Written
    ) -> dict[str, Any] | AsyncIterator[str]:
        if asked.stream:
            return self._events(form, answers, asked)
        try:
            choices = await asyncio.gather(*(_whole(form, answer, asked, at) for at, answer in enumerate(answers)))
        finally:
            for answer in answers:
                answer.cancel()
        return {**form.head(), "object": form.kind, "choices": choices, "usage": self._usage(form, answers)}

    async def _events(self, form: Form, answers: Sequence[Answer], asked: Written) -> AsyncIterator[str]:
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
                    yield event({**head, "choices": [first]})
            running = len(answers)
            while running:
                found = await told.get()
                if found is None:
                    running -= 1
                elif isinstance(found, BaseException):
                    error = found if isinstance(found, RefusedError) else RefusedError(500, "It failed.", "failed")
                    yield event(error.body())
                    return
                elif (piece := form.piece(*found)) is not None:
                    yield event({**head, "choices": [piece]})
            usage = self._usage(form, answers)
            if asked.tells_usage:
                yield event({**head, "choices": [], "usage": usage})
            yield "data: [DONE]\n\n"
        finally:
            for task in tasks:
                task.cancel()
            for answer in answers:
                answer.cancel()

    def _usage(self, form: Form, answers: Sequence[Answer]) -> dict[str, int]:
        prompts = {id(answer.text.prompt): answer.num_prompt_tokens for answer in answers}
        read, written = sum(prompts.values()), sum(len(answer.text.answer) for answer in answers)
        self._figures.add_tokens(form.run.name, read, written)
        return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}


def _guides(run: WritingRun, asked: ChatRequest) -> Callable[[], Guide] | None:
    """Return what leads an answer to what was asked for; None where it may be any text.

    Raises ``RefusedError`` where that cannot be done, before anything is written.
    """
    if tools := asked.must_call:
        written = run.written_call or ""
        if OPEN not in written:
            return run.grammars.of_json(
                schema_of_call(tools, "parameters" if '"parameters"' in written else "arguments")
            )
        return run.grammars.of_call(schema_of_call(tools, "arguments"), f"{OPEN}\n", f"\n{CLOSE}")
    if asked.schema_wanted is not None:
        return run.grammars.of_json(asked.schema_wanted)
    return None


def _submit(
    run: WritingRun,
    prompts: Sequence[Prompt],
    asked: Written,
    *,
    room: int | None,
    num_alternatives: int,
    guides: Callable[[], Guide] | None = None,
) -> list[Answer]:
    """Ask for ``n`` answers to each prompt; none is begun where one is refused."""
    answers: list[Answer] = []
    drawn = asked.temperature or 0.0
    try:
        for prompt in prompts:
            for number in range(asked.n):
                seed = (asked.seed if asked.seed is not None else uuid.uuid4().int % 2**32) + number
                wanted = Writing(temperature=drawn, top_p=asked.top_p or 1.0, seed=seed)
                guide = None if guides is None else guides()
                answers.append(
                    run.submit(
                        prompt, wanted, room=room, num_alternatives=num_alternatives, guide=guide, sharing=asked.n
                    )
                )
    except RefusedError:
        for answer in answers:
            answer.cancel()
        raise
    return answers


async def _whole(form: Form, answer: Answer, asked: Written, index: int) -> dict[str, Any]:
    tokens = [token async for token in pieces(answer, Spelling(form.run.run.network.tokenizer, asked.stops))]
    return form.whole(index, tokens)
