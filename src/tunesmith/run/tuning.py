"""What a task leaves open until the model is trained (a threshold), decided by the validation rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tunesmith.engine.predict import predict
from tunesmith.run.session import Ready
from tunesmith.types import Problem


def tuned(session: Ready) -> Ready:
    """Return the run with its task complete, and note what was chosen; the same run where nothing is open."""
    task = session.data.task
    open_fields = [name for name in sorted(task.tuned) if getattr(task, name) is None]
    if not open_fields or session.validation is None:
        return session
    session.working("choosing what the validation rows decide")
    budget = session.config.compute.micro_batch_tokens
    scored = predict(session.training.scorer, session.training.collate, task, session.validation, budget)
    chosen = task.tune(scored.outputs, scored.targets)
    if chosen == task:
        return session
    listed = ", ".join(f"task.{name} {_shown(getattr(chosen, name))}" for name in open_fields)
    session.note(Problem("note", f"Chosen on the validation rows: {listed}.", "Set it to decide it yourself."))
    resolved = session.resolved.model_copy(update={"task": chosen})
    return replace(session, data=replace(session.data, task=chosen), resolved=resolved)


def _shown(value: Any) -> str:
    """Return a number, or numbers by name, in few digits."""
    if isinstance(value, Mapping):
        return "(" + ", ".join(f"{name} {_shown(one)}" for name, one in value.items()) + ")"
    return f"{value:.4g}"
