"""What a run is called: its task, model, method and data in words."""

from __future__ import annotations

from pathlib import PurePath

from tunesmith.readable import MISSING
from tunesmith.report.load import RunRecord


def short_name(name: str) -> str:
    """Return the last part of a path, and other names as they are."""
    looks_like_path = name.startswith(("/", ".", "~")) or "\\" in name or name.count("/") > 1
    return PurePath(name.replace("\\", "/")).name or name if looks_like_path else name


def method_title(record: RunRecord) -> str:
    """Return the method in words: ``LoRA (rank 16)``, ``full fine-tuning``, ``soup of 3 runs``."""
    if record.training is not None and (made := record.training.made_of) is not None:
        return (
            f"{made.how.upper() if made.how in ('ties', 'dare') else made.how.capitalize()} of {len(made.members)} runs"
        )
    name = record.setting("method", "name")
    if not name:
        return MISSING
    if name == "lora":
        rank = record.setting("method", "rank")
        return f"LoRA (rank\N{NO-BREAK SPACE}{rank})" if rank else "LoRA"
    return {"full": "Full fine-tuning", "freeze": "Frozen body"}.get(str(name), str(name))


def model_title(record: RunRecord) -> str:
    """Return the model's name without the folders before it, or how many there are."""
    made = record.training.made_of if record.training is not None else None
    if made is not None and made.how in ("average", "stack"):
        return f"{len(made.members)} runs"
    name = str(record.setting("model", "name", "") or "")
    return {"lstm": "LSTM from scratch", "cnn": "CNN from scratch"}.get(name, short_name(name) if name else "model")


def data_title(record: RunRecord) -> str:
    """Return the data's file name or hub name; empty when it is not known."""
    path = record.setting("data", "path")
    if not path and record.environment:
        path = record.environment.data.get("source")
    if isinstance(path, list):
        path = path[0] if path else None
    if not path:
        return ""
    is_named = str(path).startswith(("hub:", "sample:"))
    return str(path) if is_named else PurePath(str(path).replace("\\", "/")).name


def task_title(record: RunRecord) -> str:
    """Return the task in words: ``Text classification``."""
    title = record.evaluation.title if record.evaluation else ""
    return title or task_name(record).replace("_", " ").capitalize() or "Run"


def task_name(record: RunRecord) -> str:
    """Return what the task is called in the run's files, which tells runs of one task from others."""
    return str(record.setting("task", "name") or (record.evaluation.task if record.evaluation else "") or "")


def is_multi_label(record: RunRecord) -> bool:
    """Say whether rows may have several labels."""
    return record.setting("task", "multi_label") is True
