"""The head that a run's model has, from what the run's configuration says of its task."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tunesmith.config.build import build
from tunesmith.tasks import TASKS
from tunesmith.types import HeadSettings


def head_of_run(run: Mapping[str, Any], path: Path) -> HeadSettings | None:
    """Return the head of the task in ``run``, which ``path`` (a config.yaml) holds; nothing where it names none."""
    task = run.get("task")
    if not isinstance(task, Mapping) or task.get("name") not in TASKS:
        return None
    return build(TASKS[str(task["name"])], task, str(path)).head()
