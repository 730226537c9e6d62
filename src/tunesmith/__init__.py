"""Fine-tune language models and prove which way of fine-tuning wins on your data.

    from tunesmith import compare, finetune

    run = finetune("reviews.csv", model="sample:minilm", method="lora")
    run.evaluate("test.csv")
    run.predict(["a joy from start to finish"])

    study = compare("reviews.csv", methods=["full", "lora", "ia3"], seeds=3)
    study.verdict

Everything else is reached the same way: ``RunConfig`` and ``train`` for full control, ``Run``
to open a finished run, ``write_report`` for its report.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from tunesmith.version import __version__

if TYPE_CHECKING:
    from tunesmith.api import compare, cross_validate, distill, ensemble, finetune, plan, search
    from tunesmith.report import write_report
    from tunesmith.run import Run, RunConfig, train, train_several
    from tunesmith.study import Study
    from tunesmith.types import InputError, RunError

__all__ = [
    "InputError",
    "Run",
    "RunConfig",
    "RunError",
    "Study",
    "__version__",
    "compare",
    "cross_validate",
    "distill",
    "ensemble",
    "finetune",
    "plan",
    "search",
    "train",
    "train_several",
    "write_report",
]

_HOMES = {
    "InputError": "tunesmith.types",
    "RunError": "tunesmith.types",
    "Run": "tunesmith.run",
    "RunConfig": "tunesmith.run",
    "train": "tunesmith.run",
    "train_several": "tunesmith.run",
    "Study": "tunesmith.study",
    "compare": "tunesmith.api",
    "cross_validate": "tunesmith.api",
    "distill": "tunesmith.api",
    "ensemble": "tunesmith.api",
    "finetune": "tunesmith.api",
    "plan": "tunesmith.api",
    "search": "tunesmith.api",
    "write_report": "tunesmith.report",
}


def __getattr__(name: str) -> Any:
    """Import public names when they are first used: ``import tunesmith`` itself stays quick."""
    if name not in _HOMES:
        raise AttributeError(f"module 'tunesmith' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)
