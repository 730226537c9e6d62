"""A task: what is learned. Four narrow contracts in one class, each used by one room.

``Rows`` (columns to numbers) by the rooms of data and runs, ``Objective`` (head, units, loss) by the engine, ``Judge``
(answers and figures) by evaluation and report, and, for models that write, ``Writer`` by generation.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from tunesmith.config.base import Config
from tunesmith.tasks.judge import FloatArray, Judge, Outputs, Targets
from tunesmith.tasks.objective import Objective
from tunesmith.tasks.rows import Columns, Rows
from tunesmith.tasks.writer import Writer
from tunesmith.types import HeadSettings

if TYPE_CHECKING:
    from torch import nn


class Task(Rows, Objective, Judge, Config):
    """What is learned. One file and one entry of ``TASKS`` each; those that write inherit ``Writer``, too."""

    name: str

    chats: ClassVar[bool] = False
    """Whether the model can go on with a conversation: ``Writer.conversation`` is there."""

    @property
    def writer(self) -> Writer | None:
        """The task as one whose predictions are texts that the model writes; None where it writes none."""
        return self if isinstance(self, Writer) else None

    def files_beside(self, model: nn.Module, max_length: int) -> Mapping[str, Any]:
        """Return files for other libraries, to be saved beside the trained ``model``: by name, what each holds as JSON.

        ``max_length`` is that of the longest row in tokens.
        """
        return {}

    def on_texts(self) -> Task | None:
        """Return the task as one on plain texts, whose main metric is a perplexity; None where it models none."""
        return None


__all__ = [
    "Columns",
    "FloatArray",
    "HeadSettings",
    "Judge",
    "Objective",
    "Outputs",
    "Rows",
    "Targets",
    "Task",
    "Writer",
]
