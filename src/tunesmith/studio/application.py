"""The routes of the studio as an ASGI application."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError

from tunesmith.serve.errors import RefusedError
from tunesmith.serve.guards import App
from tunesmith.serve.settings import ServeSettings
from tunesmith.studio.desk import Ask, Desk, ExportAsk, ModelAsk
from tunesmith.studio.guards import StudioGuards
from tunesmith.studio.pages import report_of, report_policy, static_files
from tunesmith.studio.parts import parts
from tunesmith.studio.trying import TryingRoom
from tunesmith.studio.workplace import Workplace
from tunesmith.types import InputError, RunError

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

MOST_UPLOAD_BYTES = 2_000_000_000

M = TypeVar("M", bound=BaseModel)
Endpoint = Callable[["Request"], Awaitable["Response"]]


def application(place: Workplace, settings: ServeSettings, *, most_upload_bytes: int = MOST_UPLOAD_BYTES) -> App:
    """Return the application that works on the folders of ``place``."""
    from starlette.applications import Starlette
    from starlette.responses import JSONResponse

    desk = Desk(place, most_upload_bytes)
    room = TryingRoom(settings)

    async def refused(_: Request, error: Exception) -> Response:
        assert isinstance(error, RefusedError)
        return JSONResponse(error.body(), error.status, error.headers())

    async def told(_: Request, error: Exception) -> Response:
        return JSONResponse(RefusedError(400, str(error), "bad_request").body(), 400)

    async def unknown(_: Request, error: Exception) -> Response:
        status = int(getattr(error, "status_code", 500))
        words = {404: "There is no such page.", 405: "This address takes another method."}
        code = "not_found" if status == 404 else ""
        return JSONResponse(RefusedError(status, words.get(status, "The request failed."), code).body(), status)

    @asynccontextmanager
    async def lifespan(_: Any) -> AsyncIterator[None]:
        yield
        await room.close()

    handlers: dict[Any, Any] = {
        404: unknown, 405: unknown, 500: unknown, RefusedError: refused, InputError: told, RunError: told,
    }  # fmt: skip
    app = Starlette(routes=[], lifespan=lifespan, exception_handlers=handlers)
    guards = StudioGuards(app, settings, place.key(), most_upload_bytes)
    app.router.routes.extend([*_pages(desk, guards), *_files(desk), *_orders(desk), *_runs(desk, room)])
    return guards


def _pages(desk: Desk, guards: StudioGuards) -> list[Any]:
    """Return the routes of what is shown: the first page, its parts, and reports."""
    from starlette.responses import JSONResponse, RedirectResponse, Response
    from starlette.routing import Route

    async def first(request: Request) -> Response:
        if guards.has_key(request.scope):
            # The key leaves the address at once: addresses are remembered and passed on.
            answer = RedirectResponse("/", status_code=303)
            key = request.query_params["key"]
            answer.set_cookie(guards.cookie, key, max_age=30 * 86400, httponly=True, samesite="strict", path="/")
            return answer
        content, kind = static_files()["index.html"]
        return Response(content, media_type=kind)

    async def static(request: Request) -> Response:
        found = static_files().get(request.path_params["name"])
        if found is None:
            raise RefusedError(404, "There is no such page.", "not_found")
        return Response(found[0], media_type=found[1], headers={"Cache-Control": "no-cache"})

    async def report(request: Request) -> Response:
        found = await asyncio.to_thread(desk.found, request.path_params["id"])
        content = await asyncio.to_thread(report_of, found, request.path_params["path"])
        if content is None:
            raise RefusedError(404, "There is no report of that name.", "not_found")
        headers = {"Content-Security-Policy": report_policy()}
        return Response(content, media_type="text/html; charset=utf-8", headers=headers)

    async def health(_: Request) -> Response:
        return JSONResponse({"status": "ok"})

    return [
        Route("/", first),
        Route("/health", health),
        Route("/static/{name:path}", static),
        Route("/reports/{id}/{path:path}", report),
    ]


def _files(desk: Desk) -> list[Any]:
    """Return the routes of uploads."""
    from starlette.requests import ClientDisconnect
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    async def listed(_: Request) -> Response:
        found = await asyncio.to_thread(desk.uploads.all)
        return JSONResponse({"uploads": [one.to_json() for one in found], "most_bytes": desk.uploads.most_bytes})

    async def received(request: Request) -> Response:
        length = request.headers.get("content-length")
        name = request.query_params.get("name", "data")
        try:
            found = await desk.uploads.receive(name, int(length) if length else None, request.stream())
        except ClientDisconnect as error:
            raise RefusedError(400, "The upload ended before the file did. Send it again.", "incomplete") from error
        return JSONResponse(found.to_json(), 201)

    async def removed(request: Request) -> Response:
        if not await asyncio.to_thread(desk.uploads.remove, request.path_params["id"]):
            raise RefusedError(404, "There is no such upload (any more).", "not_found")
        return JSONResponse({"removed": True})

    return [
        Route("/api/uploads", listed, methods=["GET"]),
        Route("/api/uploads", received, methods=["POST"]),
        Route("/api/uploads/{id}", removed, methods=["DELETE"]),
    ]


def _orders(desk: Desk) -> list[Any]:
    """Return the routes of what is chosen and started."""
    from starlette.routing import Route

    orders: dict[str, Callable[[Ask], dict[str, Any]]] = {
        "look": desk.look, "plan": desk.plan, "train": desk.train, "compare": desk.compare, "commands": desk.previewed,
    }  # fmt: skip
    return [
        Route("/api/home", _answer(lambda _: desk.home())),
        Route("/api/parts", _answer(lambda _: parts())),
        *(Route(f"/api/{name}", _order(Ask, work), methods=["POST"]) for name, work in orders.items()),
        Route("/api/size", _order(ModelAsk, desk.size), methods=["POST"]),
        Route("/api/jobs/{id}", _answer(desk.job)),
        Route("/api/jobs/{id}/stop", _answer(desk.stop_job), methods=["POST"]),
    ]


def _runs(desk: Desk, room: TryingRoom) -> list[Any]:
    """Return the routes of runs and studies."""
    from starlette.responses import JSONResponse, StreamingResponse
    from starlette.routing import Route

    async def progress(request: Request) -> Response:
        given = request.query_params.get("after", "0")
        after = int(given) if given.isdigit() and len(given) < 16 else 0
        return JSONResponse(await asyncio.to_thread(desk.progress, request.path_params["id"], after))

    async def export(request: Request) -> Response:
        ask = parse(ExportAsk, await request.body())
        return JSONResponse(await asyncio.to_thread(desk.export, request.path_params["id"], ask))

    async def opened(request: Request) -> Response:
        found = await asyncio.to_thread(desk.found, request.path_params["id"])
        return JSONResponse((await room.open(found)).to_json())

    async def tried(request: Request) -> Response:
        found = await asyncio.to_thread(desk.found, request.path_params["id"])
        answer = await room.ask(found, request.path_params["route"], await request.body())
        if isinstance(answer, dict):
            return JSONResponse(answer)
        return StreamingResponse(answer, media_type="text/event-stream")

    return [
        Route("/api/found/{id}", _answer(desk.facts)),
        Route("/api/found/{id}/progress", progress),
        Route("/api/found/{id}/stop", _answer(desk.stop), methods=["POST"]),
        Route("/api/found/{id}/resume", _answer(desk.resume), methods=["POST"]),
        Route("/api/found/{id}/serve", _answer(desk.serve), methods=["POST"]),
        Route("/api/found/{id}/export", export, methods=["POST"]),
        Route("/api/found/{id}/open", opened, methods=["POST"]),
        Route("/api/found/{id}/try/{route}", tried, methods=["POST"]),
    ]


def parse(kind: type[M], body: bytes) -> M:
    """Return a request; ``RefusedError`` says what is wrong with it."""
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)[:5]
        problems = "; ".join(f"{'.'.join(map(str, one['loc'])) or 'the body'}: {one['msg']}" for one in found)
        raise RefusedError(400, f"{problems}.", "bad_request") from error


def _answer(work: Callable[[str], dict[str, Any]]) -> Endpoint:
    """Return an endpoint that answers about what its address names; disk and processes are asked in a thread."""
    from starlette.responses import JSONResponse

    async def endpoint(request: Request) -> Response:
        return JSONResponse(await asyncio.to_thread(work, request.path_params.get("id", "")))

    return endpoint


def _order(kind: type[M], work: Callable[[M], dict[str, Any]]) -> Endpoint:
    from starlette.responses import JSONResponse

    async def endpoint(request: Request) -> Response:
        return JSONResponse(await asyncio.to_thread(work, parse(kind, await request.body())))

    return endpoint
