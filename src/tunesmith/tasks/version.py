"""What stands for a task's code in the keys of the cache."""

from __future__ import annotations

from tunesmith.data.version import reading_version
from tunesmith.files.hashing import hash_json
from tunesmith.files.source_hash import source_hash
from tunesmith.tasks.base import Task


def task_version(task: Task) -> str:
    """Return what changes whenever ``task`` may check or encode rows otherwise, wherever its class is written."""
    homes = [home.__module__ for home in type(task).__mro__ if issubclass(home, Task)]
    others = [name for name in homes if not name.startswith("tunesmith.")]
    return hash_json([reading_version(), source_hash("tunesmith.tasks", *others)])
