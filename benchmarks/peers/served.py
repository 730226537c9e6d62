"""A pipeline of transformers behind the same Starlette and uvicorn, as one writes it in an afternoon.

Requests come as they do to tunesmith; the pipeline answers one at a time, since it is not made for several threads.
"""

from __future__ import annotations

import argparse
import asyncio
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from starlette.requests import Request


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=("classify", "chat"))
    parser.add_argument("model")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--dtype", default="float32")
    arguments = parser.parse_args()
    import uvicorn
    from starlette.applications import Starlette
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    answer = {"classify": classifier, "chat": chatter}[arguments.kind](arguments.model, arguments.dtype)
    one_at_a_time = threading.Lock()

    def work(given: dict[str, Any]) -> Any:
        with one_at_a_time:
            return answer(given)

    async def asked(request: Request) -> JSONResponse:
        return JSONResponse(await asyncio.to_thread(work, await request.json()))

    routes = [Route(path, asked, methods=["POST"]) for path in ("/v1/classify", "/v1/chat/completions")]
    uvicorn.run(Starlette(routes=routes), port=arguments.port, log_level="warning", access_log=False)


def classifier(model: str, dtype: str) -> Any:
    import torch
    from transformers import pipeline

    pipe = pipeline("text-classification", model=model, dtype=getattr(torch, dtype), device="cpu")

    def answer(given: dict[str, Any]) -> dict[str, Any]:
        return {"results": pipe(given["texts"], batch_size=len(given["texts"]), truncation=True, max_length=256)}

    return answer


def chatter(model: str, dtype: str) -> Any:
    import torch
    from transformers import pipeline

    pipe = pipeline("text-generation", model=model, dtype=getattr(torch, dtype), device="cpu")

    def answer(given: dict[str, Any]) -> dict[str, Any]:
        options = {"do_sample": False, "return_full_text": False, "max_length": None}
        (found,) = pipe(given["messages"], max_new_tokens=given["max_tokens"], **options)
        return {"choices": [{"message": {"role": "assistant", "content": found["generated_text"]}}]}

    return answer


if __name__ == "__main__":
    main()
