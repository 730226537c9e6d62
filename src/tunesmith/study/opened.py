"""A study that is over, opened: what every kind of them has."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tunesmith.publish.in_notebooks import block
from tunesmith.study.folder import StudyFolder


@dataclass(frozen=True)
class OpenedStudy:
    """The folder of a study, and what it found."""

    folder: Path

    @cached_property
    def record(self) -> dict[str, Any]:
        """The content of ``study.json``."""
        return StudyFolder(self.folder).read_result()

    @property
    def verdict(self) -> str:
        """What was found, in a sentence or two."""
        return str(self.record["verdict"])

    @property
    def table(self) -> list[dict[str, str]]:
        """What was found as rows of finished words, where it is a table."""
        return []

    def _repr_html_(self) -> str:
        page = self.folder / "report.html"
        return block(type(self).__name__, said=self.verdict, rows=self.table, page=page, folder=self.folder)
