"""How many operations per second this machine's matrix multiplication makes, measured now.

One big square product, in fp32 and in bf16, on as many threads as training uses: the best of
what can be repeated in about a second. Utilisation is relative to this and to no data sheet.
"""

from __future__ import annotations

import time
from typing import Any

from benchmarks.child import answer

SIZE = 2048
SECONDS = 1.0


def measure(spec: dict[str, Any]) -> dict[str, Any]:
    """Return the rates ``fp32`` and ``bf16`` in operations per second."""
    import torch

    size, seconds = int(spec.get("size", SIZE)), float(spec.get("seconds", SECONDS))
    rates: dict[str, Any] = {}
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        left, right = (torch.randn(size, size).to(dtype) for _ in range(2))
        out = torch.empty(size, size, dtype=dtype)
        torch.mm(left, right, out=out)  # chooses kernels and starts threads
        best, started = float("inf"), time.perf_counter()
        while time.perf_counter() - started < seconds:
            before = time.perf_counter()
            torch.mm(left, right, out=out)
            best = min(best, time.perf_counter() - before)
        rates[name] = 2 * size**3 / best
    return {**rates, "threads": torch.get_num_threads()}


if __name__ == "__main__":
    answer({"measure": measure})
