"""The device, what it can do, and the clock by which all tools are measured."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Sequence
from typing import Any

from benchmarks.gpu.cases import WARMUP_STEPS, Case, flops_per_token


def choose() -> tuple[Any, Any]:
    """Return the device, and bf16 where it is multiplied natively."""
    from tunesmith.engine.precision import DTYPES, choose_device, choose_precision

    device = choose_device("auto")
    return device, DTYPES[choose_precision("auto", device, from_scratch=False)]


def synchronize(device: Any) -> None:
    """Wait for all that the device was given to do."""
    if device.type == "cuda":
        import torch

        torch.cuda.synchronize(device)


class Clock:
    """Seconds and tokens of the steps after the warm-up, and the peak of memory."""

    def __init__(self, device: Any) -> None:
        from tunesmith.run.memory import reset_peak

        self.device, self.seconds, self.tokens = device, list[float](), list[int]()
        reset_peak(device)
        self.last = self._now()

    def _now(self) -> float:
        synchronize(self.device)
        return time.perf_counter()

    def stepped(self, num_tokens: int) -> None:
        """Take note of a step of ``num_tokens`` real tokens that has just been made."""
        now = self._now()
        self.seconds.append(now - self.last)
        self.tokens.append(num_tokens)
        self.last = now

    def result(self, case: Case, rows: Sequence[Any], num_trained: int) -> dict[str, Any]:
        """Return what all tools report; times in seconds."""
        from tunesmith.run.memory import peak_bytes

        measured = self.seconds[WARMUP_STEPS:]
        return {
            "tokens_per_second": sum(self.tokens[WARMUP_STEPS:]) / sum(measured),
            "step_seconds": statistics.median(measured),
            "warmup_seconds": sum(self.seconds[:WARMUP_STEPS]),
            "peak_memory_bytes": peak_bytes(self.device),
            "flops_per_token": flops_per_token(case, rows, num_trained),
            "num_trained": num_trained,
        }


def check_device() -> dict[str, Any]:
    """Multiply by torch on the device and the host, and by numpy: in a forked process any of them could fail."""
    import torch

    device, _ = choose()
    numbers = torch.ones(512, 512)
    products = {
        "device": (numbers.to(device) @ numbers.to(device)).sum().item(),
        "host": (numbers @ numbers).sum().item(),
        "numpy": float((numbers.numpy() @ numbers.numpy()).sum()),
    }
    wrong = [name for name, total in products.items() if total != 512**3]
    return {"error": f"wrong products: {', '.join(wrong)}"} if wrong else {}


def measure_gemm() -> dict[str, Any]:
    """Return the rate of a large square matrix product in bf16, the best of a few."""
    import torch

    device, dtype = choose()
    size = 8192 if device.type == "cuda" else 512
    left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    best = math.inf
    for _ in range(3):
        clock = Clock(device)
        for _ in range(10):
            torch.mm(left, right)
        clock.stepped(0)
        best = min(best, clock.seconds[0] / 10)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return {"flops_per_second": 2.0 * size**3 / best, "device": name}
