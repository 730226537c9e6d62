"""Where a study is worked on: its folder held, its journal open, a workshop for its runs, a way to be stopped."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunesmith.run import Workshop
from tunesmith.run.guest import as_guest
from tunesmith.run.kept_states import MOST_LOST
from tunesmith.run.signals import StopRequests, stop_requests
from tunesmith.study.folder import JOURNAL, Journal, StudyFolder
from tunesmith.types import InputError

HOW_TO_RESUME = "the same command"


@dataclass(frozen=True, slots=True)
class Workplace:
    """What a study has while it goes on."""

    folder: StudyFolder
    journal: Journal
    workshop: Workshop
    stop: StopRequests
    goes_on: bool
    """Whether it was begun before."""

    @contextmanager
    def preparing(self) -> Iterator[None]:
        """Look, inside of the block, whether there can be a study: one that is refused leaves nothing behind."""
        try:
            yield
        except InputError:
            if not self.goes_on:
                self.folder.discard()
            raise


@contextmanager
def workplace(
    place: Path, asked: Mapping[str, Any], *, overwrite: bool, first: str = "training"
) -> Iterator[Workplace]:
    """Work, inside of the block, on the study of what is ``asked`` in the folder ``place``.

    ``first`` is what it begins with, in a word. Raises ``InputError`` where the folder holds a study of something else,
    or other files.
    """
    folder = StudyFolder(place)
    with (
        as_guest(),
        stop_requests() as stop,
        folder.held(asked, overwrite=overwrite) as goes_on,
        closing(Journal(place / JOURNAL)) as journal,
        Workshop(keeps_networks=True, most_lost=MOST_LOST) as workshop,
    ):
        stop.advice = f"Stopped before the first {first}. Begin again with: {HOW_TO_RESUME}"
        yield Workplace(folder, journal, workshop, stop, goes_on)
