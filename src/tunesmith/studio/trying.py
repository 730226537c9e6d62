"""Finished runs that are tried out on the pages: opened when asked, by the routes of the server, a few at a time."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from tunesmith.serve.errors import RefusedError
from tunesmith.serve.figures import Figures
from tunesmith.serve.house import House
from tunesmith.serve.images import looks_at_images
from tunesmith.serve.openai_routes import WritingRoutes
from tunesmith.serve.settings import ServeSettings
from tunesmith.serve.task_routes import ANSWER, CLASSIFY, EMBED, TAG, TRANSLATE, TaskRoutes
from tunesmith.studio.found import Found, changed
from tunesmith.types import InputError, RunError

MOST_OPEN = 2
"""Models that are kept in memory; the one that was asked longest ago goes first."""

Answer = dict[str, Any] | AsyncIterator[str]


def route_of(task: str, *, chats: bool) -> str:
    """Return which kind of question a task answers."""
    if chats:
        return "chat"
    kinds = {"classify": CLASSIFY, "tag": TAG, "answer": ANSWER, "translate": TRANSLATE, "embed": EMBED}
    return next((name for name, tasks in kinds.items() if task in tasks), "predict")


@dataclass(frozen=True, slots=True)
class Opened:
    """A run whose model is loaded."""

    house: House
    route: str
    handlers: dict[str, Callable[[bytes], Awaitable[Answer]]]

    @classmethod
    def open(cls, found: Found, settings: ServeSettings) -> Opened:
        """Load a run. Raises ``InputError`` for what is no finished run, or cannot be tried out here."""
        house = House([found.folder], settings)
        tasks, writing = TaskRoutes(house), WritingRoutes(house, Figures())
        (hosted,) = house.hosted.values()
        handlers: dict[str, Callable[[bytes], Awaitable[Answer]]] = {
            "classify": tasks.classify,
            "tag": tasks.tag,
            "answer": tasks.answer,
            "translate": tasks.translate,
            "embed": tasks.embeddings,
            "predict": tasks.predict,
            "chat": writing.chat,
        }
        task = hosted.run.task
        return cls(house, route_of(task.name, chats=task.chats), handlers)

    def to_json(self) -> dict[str, Any]:
        """Return what a page has to know to ask it."""
        (hosted,) = self.house.hosted.values()
        run = hosted.run
        return {
            "route": self.route,
            "task": run.task.name,
            "title": run.task.title,
            "sees": looks_at_images(run),
            "inputs": list(run.inputs),
            "columns": [column for role, column in run.config.data.columns.items() if role in run.inputs],
            "labels": [str(label) for label in run.task.label_names],
        }


class TryingRoom:
    """The runs that are open."""

    def __init__(self, settings: ServeSettings) -> None:
        self._settings = settings
        self._opened: OrderedDict[str, Opened] = OrderedDict()
        self._lock = asyncio.Lock()

    async def open(self, found: Found) -> Opened:
        """Return a run, loaded; others may have to go. Raises ``RefusedError`` in the words of the command line."""
        async with self._lock:
            name = f"{found.id} {changed(found.folder)}"  # another one, where it was trained anew
            if name in self._opened:
                self._opened.move_to_end(name)
                return self._opened[name]
            while len(self._opened) >= MOST_OPEN:
                _, oldest = self._opened.popitem(last=False)
                await asyncio.to_thread(oldest.house.close)
            try:
                opened = await asyncio.to_thread(Opened.open, found, self._settings)
            except InputError as error:
                raise RefusedError(409, str(error), "cannot_open") from error
            except (RunError, OSError, MemoryError) as error:
                raise RefusedError(500, str(error) or "The model could not be loaded.", "failed") from error
            self._opened[name] = opened
            return opened

    async def ask(self, found: Found, route: str, body: bytes) -> Answer:
        """Return the answer of a run. Raises ``RefusedError`` for another kind of question than it answers."""
        opened = await self.open(found)
        handler = opened.handlers.get(route)
        if handler is None:
            raise RefusedError(404, f"There is no such question: {', '.join(opened.handlers)}.", "not_found")
        return await handler(body)

    async def close(self) -> None:
        """Let go of all of them."""
        for opened in self._opened.values():
            await asyncio.to_thread(opened.house.close)
        self._opened.clear()
