"""One JSON route for each kind of task: rows in, one result per row out, in their order."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from tunesmith.data.image_rows import IMAGE
from tunesmith.serve.errors import RefusedError
from tunesmith.serve.house import House
from tunesmith.serve.images import looks_at_images, require_images
from tunesmith.serve.predicting import PredictingRun
from tunesmith.serve.requests import (
    AnswerRequest,
    ClassifyRequest,
    EmbeddingRequest,
    PredictRequest,
    TextsRequest,
    parse,
)

LABEL_IMAGES = ("image_classification", "image_text")
CLASSIFY = ("classification", "regression", *LABEL_IMAGES)
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
        asked = parse(ClassifyRequest, body)
        with self._predicting(asked.model, CLASSIFY) as run:
            columns = await self._classified(run, asked)
            future = run.submit(columns)
        return {"model": run.name, "results": [_without_image(one) for one in await asyncio.wrap_future(future)]}

    async def _classified(self, run: PredictingRun, asked: ClassifyRequest) -> dict[str, list[str]]:
        """Return the rows of a request by the columns that its run reads; images have been looked at then."""
        names, sees = run.run.inputs, IMAGE in run.run.inputs
        fields = {"images": asked.images, "texts": asked.texts, "text_pairs": asked.text_pairs}
        wanted = ("images", "texts")[: len(names)] if sees else ("texts", "text_pairs")[: len(names)]
        given = {name: rows for name, rows in fields.items() if rows is not None}
        if set(given) != set(wanted) or len({len(rows) for rows in given.values()}) > 1:
            words = f"{wanted[0]} alone" if len(wanted) == 1 else f"{wanted[0]} and as many {wanted[1]}"
            raise RefusedError(400, f"The model '{run.name}' was trained on {words}.", "bad_request")
        if sees:
            images = {f"images.{place}": image for place, image in enumerate(given["images"])}
            async with self._house.unpacking:
                await asyncio.to_thread(require_images, images, self._house.settings)
        return dict(zip(names, (given[name] for name in wanted), strict=True))

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
            if looks_at_images(run.run):  # rows with columns may name files
                raise RefusedError(400, f"'{run.name}' looks at images: ask it by /v1/classify.", "other_task")
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
        with self._predicting(asked.model, tasks) as run:
            (name,) = run.run.inputs
            future = run.submit({name: asked.texts})
        return {"model": run.name, "results": await asyncio.wrap_future(future)}

    @contextmanager
    def _predicting(self, name: str | None, tasks: Sequence[str]) -> Iterator[PredictingRun]:
        with self._house.using(name, *tasks) as found:
            if not isinstance(found, PredictingRun):
                raise RefusedError(400, f"'{found.name}' writes: ask it by /v1/chat/completions.", "other_task")
            yield found


def _without_image(result: dict[str, Any]) -> dict[str, Any]:
    """Return a result without the image that it is of: whoever asked has it."""
    return {name: value for name, value in result.items() if name != IMAGE}


def _cut(vector: Any, length: int) -> Any:
    """Return the first numbers of a vector, brought to length 1 again where some were cut off."""
    if length == len(vector):
        return vector
    cut = np.asarray(vector[:length], dtype=np.float32)
    return cut / max(float(np.linalg.norm(cut)), 1e-12)


def _spelt(vector: Any, how: str) -> Any:
    numbers = np.asarray(vector, dtype=np.float32)
    return numbers.tolist() if how == "float" else base64.b64encode(numbers.tobytes()).decode("ascii")
