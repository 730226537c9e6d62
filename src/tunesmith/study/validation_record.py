"""What a run's record says of its validation rows, before it is finished."""

from __future__ import annotations

import json
import math
from pathlib import Path


def best_validation(folder: Path, metric: str, *, higher: bool) -> tuple[float | None, float | None]:
    """Return the best value of the metric on the validation rows so far, and the loss beside it; None without any."""
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    found = []
    for record in map(json.loads, lines):
        if record["kind"] != "evaluation":
            continue
        value, loss = {**record["metrics"], "loss": record["loss"]}.get(metric), record["loss"]
        if value is not None and math.isfinite(value):
            found.append((value, math.inf if loss is None else loss))
    if not found:
        return None, None
    value, loss = min(found, key=lambda pair: (-pair[0] if higher else pair[0], pair[1]))
    return value, loss if math.isfinite(loss) else None
