"""What every objective that stands around a task's own has of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tunesmith.tasks.objective import Objective
from tunesmith.types import HeadSettings


@dataclass(frozen=True)
class Around(Objective):
    """An objective that stands around a task's own: it reads, and asks of the model, what that does."""

    task: Objective

    @property
    def reads(self) -> Literal["row", "token"]:  # type: ignore[override]
        return self.task.reads

    def wanted_steps(self, longer: int = 1) -> int:
        return self.task.wanted_steps(longer)

    def head(self) -> HeadSettings:
        return self.task.head()
