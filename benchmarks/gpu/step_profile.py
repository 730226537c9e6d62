"""Where the time of one of tunesmith's steps goes: on the host, and on the device kernel by kernel."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

from benchmarks.gpu.cases import WARMUP_STEPS, Case
from benchmarks.gpu.clock import choose, synchronize
from benchmarks.gpu.ours import prepare

TIMED_STEPS = 3
NUM_KERNELS = 15
"""Largest kernels that are named."""


def profile_tunesmith(case: Case, _num_steps: int) -> dict[str, Any]:
    """Return the milliseconds of a step, of its parts on the host, and of the kernels of another step.

    The step's own times are means of a few steps without the profiler, which slows the host down. Where there is
    no GPU, operations of the CPU stand for kernels.
    """
    from torch.profiler import ProfilerActivity, profile

    from tunesmith.engine.loop import train

    device, _ = choose()
    training = prepare(case, TIMED_STEPS + 1).training
    with _host_times(training) as seconds:
        steps = train(training)
        for _ in range(WARMUP_STEPS):
            next(steps)
        synchronize(device)
        seconds.update(dict.fromkeys(seconds, 0.0))
        started = time.perf_counter()
        for _ in range(TIMED_STEPS):
            next(steps)
        synchronize(device)
        step_ms = 1000 * (time.perf_counter() - started) / TIMED_STEPS
        host_ms = {name: 1000 * total / TIMED_STEPS for name, total in seconds.items()}
    on_device = device.type == "cuda"
    with profile(activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_device else [])]) as profiler:
        next(steps)
        synchronize(device)
    time_of = "self_device_time_total" if on_device else "self_cpu_time_total"
    kernels = [
        {"name": one.key, "ms": getattr(one, time_of) / 1000, "count": one.count}
        for one in profiler.key_averages()
        if one.device_type.name == device.type.upper() and not one.is_user_annotation
    ]
    kernels.sort(key=lambda one: -one["ms"])
    return {
        "step_ms": step_ms,
        "host_ms": host_ms,
        "device_busy_ms": sum(one["ms"] for one in kernels),
        "launches": sum(one["count"] for one in kernels),
        "kernels": kernels[:NUM_KERNELS],
    }


@contextmanager
def _host_times(training: Any) -> Iterator[dict[str, float]]:
    """Yield the host's seconds by part of the loop, which add up for as long as the block lasts."""
    from tunesmith.engine import loop

    seconds: dict[str, float] = {}

    def timed(part: str, call: Callable[..., Any]) -> Callable[..., Any]:
        seconds[part] = 0.0

        def measured(*arguments: Any, **settings: Any) -> Any:
            started = time.perf_counter()
            try:
                return call(*arguments, **settings)
            finally:
                seconds[part] += time.perf_counter() - started

        return measured

    places = (
        ("laying out", loop, "lay_out"),
        ("queueing passes", loop, "_compute"),
        ("waiting", loop, "numbers"),
        ("queueing the update", training.optimizer, "step"),
    )
    with ExitStack() as stack:
        for part, owner, name in places:
            stack.enter_context(mock.patch.object(owner, name, timed(part, getattr(owner, name))))
        yield seconds


def profile_text(name: str, found: dict[str, Any]) -> str:
    """Return what ``profile_tunesmith`` found as a few lines."""
    host = ", ".join(f"{part} {number:.1f} ms" for part, number in found["host_ms"].items())
    share = found["device_busy_ms"] / found["step_ms"]
    head = (
        f"{name}: a step takes {found['step_ms']:.1f} ms. The device works for {found['device_busy_ms']:.1f} ms "
        f"({share:.0%}) in {found['launches']:,} launches. The host: {host}."
    )
    kernels = (f"{one['ms']:10.2f} ms {one['count']:6,} x  {one['name'][:90]}" for one in found["kernels"])
    return "\n".join([head, *kernels])
