"""One of two processes that make steps together: asks the seam of ranks, and prints what it was told as JSON."""

from __future__ import annotations

import json
import sys

import torch
from torch import distributed

from engine.memory import training
from tunesmith.engine import loop, ranks


def ask(rank: int) -> dict[str, object]:
    return {
        "sum": ranks.sum(float(rank + 1)),
        "max": ranks.max(10.0 * rank),
        "any of one": ranks.any(rank == 1),
        "any of none": ranks.any(False),
        "norm": ranks.norm(torch.tensor([3.0, 4.0][rank])).item(),
    }


def make_a_step(rank: int) -> dict[str, object]:
    """Make a step over this rank's half of its rows; rank 1 alone has too little memory at first."""
    parts = training("smollm", dtype=torch.float64, rows=8)
    parts.token_budget = 400
    tries: list[int] = []
    step = loop._begin(parts)
    step.samples = step.samples[4 * rank : 4 * rank + 4]

    def compute(step: loop.Step) -> None:
        tries.append(len(step.batches))
        if rank == 1 and len(tries) == 1:
            raise torch.OutOfMemoryError("no")
        loop._compute(step)

    loop._within_memory(step, compute)
    own = torch.linalg.vector_norm(torch.cat([one.flatten() for one in parts.optimizer.gradients().values()])).item()
    info = loop._finish(step)
    return {
        "tries": len(tries),
        "budget": parts.token_budget,
        "units": step.num_units,
        "loss": info.loss,
        "own norm": own,
        "norm": info.gradient_norm,
    }


def main(rank: int, place: str) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{place}", rank=rank, world_size=2)
    found = {"alone": ask(rank)}
    with ranks.joined():
        found["joined"] = ask(rank)
        found["step"] = make_a_step(rank)
    found["alone again"] = ask(rank)
    sys.stdout.write(json.dumps(found) + "\n")
    distributed.destroy_process_group()
