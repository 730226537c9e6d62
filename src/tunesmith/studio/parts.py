"""What can be chosen: models, data sets, tasks, methods and forms of export, each with the line that it has in help."""

from __future__ import annotations

from functools import cache
from typing import Any

USUAL_METHODS = ("full", "lora", "freeze", "ia3", "bitfit", "auto")
"""Those that are shown before all others."""


@cache
def parts() -> dict[str, Any]:
    """Return the lists. The first call loads what they are about, which takes seconds."""
    from tunesmith.data import SAMPLES as DATA_SAMPLES
    from tunesmith.export import TARGETS
    from tunesmith.methods import METHODS
    from tunesmith.models import MODELS
    from tunesmith.models.samples import SAMPLES as MODEL_SAMPLES
    from tunesmith.tasks import TASKS

    methods = [{"name": name, "line": _first_line(method)} for name, method in METHODS.items() if ":" not in name]
    return {
        "models": [
            *(
                {
                    "name": f"sample:{name}",
                    "line": sample.purpose,
                    "license": sample.license,
                    "kind": "sample",
                }
                for name, sample in MODEL_SAMPLES.items()
            ),
            *({"name": name, "line": _first_line(kind), "kind": "scratch"} for name, kind in MODELS.items()),
        ],
        "data": [{"name": f"sample:{name}", "line": sample.description} for name, sample in DATA_SAMPLES.items()],
        "tasks": [
            {
                "name": name,
                "title": task.title,
                "line": _first_line(task),
                "roles": [
                    {"name": role.name, "required": role.required, "purpose": role.purpose} for role in task.roles
                ],
            }
            for name, task in TASKS.items()
        ],
        "methods": sorted(
            methods,
            key=lambda one: USUAL_METHODS.index(one["name"]) if one["name"] in USUAL_METHODS else len(USUAL_METHODS),
        ),
        "usual_methods": [name for name in USUAL_METHODS if name in METHODS],
        "targets": [
            {"name": name, "program": target.program, "forms": list(target.forms)} for name, target in TARGETS.items()
        ],
    }


def _first_line(part: type) -> str:
    return (part.__doc__ or "").strip().split("\n", 1)[0].rstrip(".")
