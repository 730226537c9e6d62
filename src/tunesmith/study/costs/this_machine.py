"""The machine at hand by the same figures as others, measured in about a second."""

from __future__ import annotations

import time
from collections.abc import Callable

import psutil
import torch

from tunesmith.engine.free_memory import memory_of
from tunesmith.engine.precision import choose_device, choose_precision
from tunesmith.engine.rank_group import num_cores
from tunesmith.run.environment import machine, machine_in_words
from tunesmith.study.costs.device import HERE, Device

SIZE = {"cpu": 1024}
SIZE_ELSEWHERE = 8192
"""Rows and columns of the matrices that are multiplied."""
BYTES = {"cpu": 2**26}
BYTES_ELSEWHERE = 2**30
"""Of the tensors that are added."""
ROUNDS = 5
"""The best of so many counts: something else may want the cores now and then."""
SHARED_MEMORY_LINK = 1.0
"""GB/s that two processes of a machine exchange by gloo (``docs/scale.md``)."""
PCIE = 32.0
"""GB/s one way, of accelerators of which nothing better is known."""


def measure(count: int = 1) -> Device:
    """Return what each of ``count`` processes of this machine has: its share of the cores, or an accelerator."""
    device = choose_device("auto")
    precision = choose_precision("auto", device, from_scratch=False)
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    on_cpu = device.type == "cpu"
    shares = count if on_cpu else 1
    scale = num_cores() / torch.get_num_threads() / shares if on_cpu else 1.0
    products = _products(device, dtype) * scale / 1e12
    total = psutil.virtual_memory().total if on_cpu else sum(memory_of(device))
    return Device(
        name=HERE,
        peak=products,
        products=products,
        products_source="measured now",
        memory=total / shares / 1e9,
        bandwidth=_bandwidth(device) / shares / 1e9,
        link=SHARED_MEMORY_LINK if on_cpu else PCIE,
        per_machine=count,
        network=10,
        element_bytes=2 if precision == "bf16" else 4,
        source=machine_in_words(machine()),
    )


def _products(device: torch.device, dtype: torch.dtype) -> float:
    """Return the operations a second of large products."""
    size = SIZE.get(device.type, SIZE_ELSEWHERE)
    left, right = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    return 2 * size**3 / _best(lambda: left @ right, device)


def _bandwidth(device: torch.device) -> float:
    """Return the bytes a second that are read and written where two tensors are added into a third."""
    num = BYTES.get(device.type, BYTES_ELSEWHERE) // 4
    one, other, total = (torch.zeros(num, device=device) for _ in range(3))
    return 3 * 4 * num / _best(lambda: torch.add(one, other, out=total), device)


def _best(work: Callable[[], object], device: torch.device) -> float:
    """Return the shortest of some rounds, in seconds."""
    took = []
    for _ in range(ROUNDS + 1):
        began = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        took.append(time.perf_counter() - began)
    return min(took[1:])
