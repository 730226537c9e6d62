"""The routes of the server as an ASGI application."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from tunesmith.serve.description import describe
from tunesmith.serve.errors import RefusedError
from tunesmith.serve.figures import Figures
from tunesmith.serve.guards import App, Guards
from tunesmith.serve.house import House
from tunesmith.serve.openai_routes import WritingRoutes
from tunesmith.serve.task_routes import TaskRoutes
from tunesmith.version import __version__

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

Handler = Callable[[bytes], Awaitable[Any]]


def application(house: House) -> App:
    """Return the application that answers for the runs in ``house``; its end lets them finish."""
    from starlette.applications import Starlette
    from starlette.responses import JSONResponse, PlainTextResponse
    from starlette.routing import Route

    figures, began = Figures(), int(time.time())
    tasks, writing = TaskRoutes(house), WritingRoutes(house, figures)
    posts: Mapping[str, Handler] = {
        "/v1/chat/completions": writing.chat,
        "/v1/completions": writing.complete,
        "/v1/embeddings": tasks.embeddings,
        "/v1/classify": tasks.classify,
        "/v1/tag": tasks.tag,
        "/v1/answer": tasks.answer,
        "/v1/translate": tasks.translate,
        "/v1/predict": tasks.predict,
    }

    async def health(_: Request) -> Response:
        return JSONResponse({"status": "ok", "version": __version__})

    async def models(_: Request) -> Response:
        data = [
            {"id": name, "object": "model", "created": began, "owned_by": "tunesmith", "task": one.run.task.name}
            for name, one in house.hosted.items()
        ]
        return JSONResponse({"object": "list", "data": data})

    async def counts(_: Request) -> Response:
        return PlainTextResponse(figures.text(house.waiting(), house.reused()), media_type="text/plain; version=0.0.4")

    async def description(_: Request) -> Response:
        return JSONResponse(describe(house))

    @asynccontextmanager
    async def lifespan(_: Any) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(house.close)

    gets = {"/health": health, "/v1/models": models, "/metrics": counts, "/openapi.json": description}
    routes = [
        *(Route(path, handler, methods=["GET"]) for path, handler in gets.items()),
        *(Route(path, _answering(handler, house), methods=["POST"]) for path, handler in posts.items()),
    ]

    app = Starlette(routes=routes, lifespan=lifespan, exception_handlers=_refusals())
    return Guards(app, house.settings, figures, frozenset((*gets, *posts)), lambda: house.max_body_bytes)


def _refusals() -> dict[Any, Any]:
    """Return how errors are answered, by their kind or status."""
    from starlette.responses import JSONResponse

    async def unknown(_: Request, error: Exception) -> Response:
        status = int(getattr(error, "status_code", 500))
        words = {404: "There is no such route; /openapi.json lists them.", 405: "This route takes another method."}
        refusal = RefusedError(status, words.get(status, "The request failed."), "not_found" if status == 404 else "")
        return JSONResponse(refusal.body(), status)

    async def refused(_: Request, error: Exception) -> Response:
        assert isinstance(error, RefusedError)
        return JSONResponse(error.body(), error.status, error.headers())

    async def crashed(_: Request, error: Exception) -> Response:
        del error
        return JSONResponse(RefusedError(500, "The request failed.", "failed").body(), 500)

    return {404: unknown, 405: unknown, 500: crashed, RefusedError: refused}


def _answering(handler: Handler, house: House) -> Callable[[Request], Awaitable[Response]]:
    """Return an endpoint that answers in time, or not at all, and ends the work of a client that is gone."""
    from starlette.responses import JSONResponse, StreamingResponse

    async def endpoint(request: Request) -> Response:
        body = await request.body()
        work = asyncio.ensure_future(handler(body))
        gone = asyncio.ensure_future(_gone(request))
        try:
            done, _ = await asyncio.wait(
                {work, gone}, timeout=house.settings.timeout_seconds, return_when=asyncio.FIRST_COMPLETED
            )
            if work not in done:
                seconds = house.settings.timeout_seconds
                message = f"No answer within {seconds:g} seconds." if not done else "The client is gone."
                raise RefusedError(503 if not done else 499, message, "timeout", retry_after=5)
            found = work.result()
        finally:
            gone.cancel()
            work.cancel()
        if isinstance(found, dict):
            return JSONResponse(found)
        return StreamingResponse(found, media_type="text/event-stream", headers={"Cache-Control": "no-store"})

    return endpoint


async def _gone(request: Request) -> None:
    """Return when the client has gone away."""
    while not await request.is_disconnected():
        await asyncio.sleep(0.1)
