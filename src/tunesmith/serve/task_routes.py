"""One JSON route for each kind of task: rows in, one result per row out, in their order."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from tunesmith.serve.errors import RefusedError
from tunesmith.serve.house import House
from tunesmith.serve.predicting import PredictingRun
from tunesmith.serve.requests import AnswerRequest, EmbeddingRequest, PredictRequest, TextsRequest, parse

CLASSIFY = ("classification", "regression")
TAG = ("token_classification",)
TRANSLATE = ("seq2seq",)
ANSWER = ("question_answering",)
EMBED = ("embedding",)


class TaskRoutes:
    """Asks runs that predict."""

    def __init__(self, house: House) -> None:
        self._house = house

    async def classify(self, body: bytes) -> dict[str, Any]:
        """Give labels (or values) with scores."""
        return await self._texts(body, CLASSIFY)

    async def tag(self, body: bytes) -> dict[str, Any]:
        """Give the entities of each text, by character."""
        return await self._texts(body, TAG)

    async def translate(self, body: bytes) -> dict[str, Any]:
        """Give the text that is made of each."""
        return await self._texts(body, TRANSLATE)

    async def answer(self, body: bytes) -> dict[str, Any]:
        """Give answers out of contexts, by character."""
        asked = parse(AnswerRequest, body)
        if len(asked.questions) != len(asked.contexts):
            raise RefusedError(
                400,
                f"There are {len(asked.questions)} questions and {len(asked.contexts)} contexts: give one of each.",
                "bad_request",
            )
        with self._predicting(asked.model, ANSWER) as run:
            names = dict(zip(run.run.inputs, (asked.questions, asked.contexts), strict=False))
            future = run.submit(names)
        return {"model": run.name, "results": await asyncio.wrap_future(future)}

    async def predict(self, body: bytes) -> dict[str, Any]:
        """Give what ``tunesmith predict`` gives for rows with columns, whatever the task."""
        asked = parse(PredictRequest, body)
        with self._predicting(asked.model, ()) as run:
            columns = sorted({name for row in asked.rows for name in row})
            future = run.submit({"rows": asked.rows}, f"rows {columns}")
        return {"model": run.name, "results": await asyncio.wrap_future(future)}

    async def embeddings(self, body: bytes) -> dict[str, Any]:
        """Give vectors, as OpenAI's API does."""
        asked = parse(EmbeddingRequest, body)
        texts = [asked.input] if isinstance(asked.input, str) else asked.input
        if not texts:
            raise RefusedError(400, "input: there are no texts.", "bad_request")
        with self._predicting(asked.model, EMBED) as run:
            future = run.submit({"texts": texts}, "embed" if asked.input_type == "query" else "embed passages")
        vectors = await asyncio.wrap_future(future)
        length = asked.dimensions or len(vectors[0])
        if length > len(vectors[0]):
            raise RefusedError(400, f"dimensions: vectors of this model have {len(vectors[0])} numbers.", "bad_request")
        data = [
            {"object": "embedding", "index": index, "embedding": _spelt(_cut(vector, length), asked.encoding_format)}
            for index, vector in enumerate(vectors)
        ]
        ids = run.run.network.tokenizer(texts)["input_ids"]
        num_tokens = sum(len(one) for one in ids)
        usage = {"prompt_tokens": num_tokens, "total_tokens": num_tokens}
        return {"object": "list", "model": run.name, "data": data, "usage": usage}

    async def _texts(self, body: bytes, tasks: Sequence[str]) -> dict[str, Any]:
        asked = parse(TextsRequest, body)
        given = [asked.texts, *([] if asked.text_pairs is None else [asked.text_pairs])]
        with self._predicting(asked.model, tasks) as run:
            names = run.run.inputs
            if len(given) != len(names) or len({len(column) for column in given}) > 1:
                wanted = "texts and as many text_pairs" if len(names) == 2 else "texts alone"
                raise RefusedError(400, f"The model '{run.name}' was trained on {wanted}.", "bad_request")
            future = run.submit(dict(zip(names, given, strict=True)))
        return {"model": run.name, "results": await asyncio.wrap_future(future)}

    @contextmanager
    def _predicting(self, name: str | None, tasks: Sequence[str]) -> Iterator[PredictingRun]:
        with self._house.using(name, *tasks) as found:
            if not isinstance(found, PredictingRun):
                raise RefusedError(400, f"'{found.name}' writes: ask it by /v1/chat/completions.", "other_task")
            yield found


def _cut(vector: Any, length: int) -> Any:
    """Return the first numbers of a vector, brought to length 1 again where some were cut off."""
    if length == len(vector):
        return vector
    cut = np.asarray(vector[:length], dtype=np.float32)
    return cut / max(float(np.linalg.norm(cut)), 1e-12)


def _spelt(vector: Any, how: str) -> Any:
    numbers = np.asarray(vector, dtype=np.float32)
    return numbers.tolist() if how == "float" else base64.b64encode(numbers.tobytes()).decode("ascii")
