"""Looking again and again for runs that are new or were replaced, in a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

from tunesmith.serve.house import House


class Watch:
    """Looks through the folders of a house until the ``with`` block ends."""

    def __init__(self, house: House, seconds: float, tell: Callable[[str], None]) -> None:
        """``tell`` is told what was taken up, and what could not be; from the thread."""
        self._house, self._seconds, self._tell = house, seconds, tell
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._work, name="watching runs", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._end.set()
        self._thread.join()

    def _work(self) -> None:
        while not self._end.wait(self._seconds):
            try:
                self._house.look_again(self._tell)
            except Exception as error:  # of two runs with one name, say: what is served goes on being served
                self._tell(f"The folders could not be looked through: {error}")
