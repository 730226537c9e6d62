"""What a task leaves open until the model is trained (a threshold), decided by the validation rows."""

from __future__ import annotations

from dataclasses import replace

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
    listed = ", ".join(f"task.{name} {getattr(chosen, name):.4g}" for name in open_fields)
    session.note(Problem("note", f"Chosen on the validation rows: {listed}.", "Set it to decide it yourself."))
    resolved = session.resolved.model_copy(update={"task": chosen})
    return replace(session, data=replace(session.data, task=chosen), resolved=resolved)
