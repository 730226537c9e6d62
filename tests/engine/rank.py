"""One of several processes that make steps together: asks the seam of ranks, trains, and prints what came of it."""

from __future__ import annotations

import json
import sys
import zlib
from collections.abc import Callable

import numpy as np
import torch
from torch import distributed

from engine.memory import training
from engine.test_whole_step import PAIRS, model_of
from tiny import MAX_LENGTH, VOCABULARY, tiny_tokenizer, train_and_compute
from tunesmith.engine import gradient_sums, loop, ranks
from tunesmith.engine.batch import HOST
from tunesmith.engine.layout import choose_layout, collator_for
from tunesmith.engine.optimizers import MasterOptimizer
from tunesmith.engine.order import StepPlan
from tunesmith.engine.scorer import Scorer
from tunesmith.engine.step import Training
from tunesmith.methods import METHODS
from tunesmith.tasks import Embedding
from tunesmith.tasks.objectives.mixed_rows import MixedRows

FEW = {"rows": 10, "batch_size": 4, "epochs": 1, "lengths": (3, 60)}
"""Steps of 4, 4 and 2 rows: of four ranks two have nothing to do in the last."""


def embedding() -> Training:
    """Return a training whose loss holds all rows of a step against each other."""
    task = Embedding().bind(PAIRS)
    surgery, model = METHODS["full"](), model_of("bert", 0.2)
    layout, _ = choose_layout(model, "row", VOCABULARY, "flat", pooling=task.row_pooling)
    config, compute = train_and_compute(batch_size=6, epochs=1, learning_rate=0.01, micro_batch_tokens=60)
    data = task.encode(PAIRS, tiny_tokenizer(), MAX_LENGTH)
    return Training(
        scorer=Scorer(model, layout, "row", pooling=task.row_pooling),
        collate=collator_for(model, layout, 1, HOST),
        task=task,
        data=data,
        plan=StepPlan(data.num_samples, config.batch_size, config.epochs, 0),
        optimizer=MasterOptimizer(model, surgery.parameter_groups(model), config.optimizer, 0.01),
        learning_rate=0.01,
        config=config,
        compute=compute,
        method=surgery,
    )


def mixed() -> Training:
    """Return a training on rows that are mixed with others, which may be on any rank."""
    parts = training("smollm", dtype=torch.float64, micro_batch_tokens=60, **FEW)
    parts.task = MixedRows(parts.task, 1.0)
    return parts


TRAININGS: dict[str, Callable[[], Training]] = {
    "flat": lambda: training("smollm", dtype=torch.float64, micro_batch_tokens=60, **FEW),
    "padded": lambda: training("smollm", dtype=torch.float64, layout="padded", micro_batch_tokens=100, **FEW),
    "tokens": lambda: training("smollm", head="causal", dtype=torch.float64, method="lora", **FEW),
    "changing": lambda: training("smollm", dtype=torch.float64, method="lisa", **FEW),
    "whole step": embedding,
    "mixed": mixed,
    "rows of a table, dropout": lambda: training("minilm", **FEW),
    "bf16": lambda: training("minilm", dtype=torch.bfloat16, **FEW),
    "bf16, summed in 32 bits": lambda: training("minilm", dtype=torch.bfloat16, **FEW),
}
EXACT = 1e-10
CLOSE = {"padded": 1e-6, "rows of a table, dropout": 1e-4, "bf16": 0.05, "bf16, summed in 32 bits": 0.05}
"""How far, relatively, a curve may be from that of one process where numbers are short, as those of the norms of Llama
in transformers are in any precision."""
MADE_BY = {2: tuple(TRAININGS), 4: ("flat", "whole step")}
"""What is trained by so many processes."""


def ask(rank: int) -> dict[str, object]:
    return {
        "sum": ranks.sum(float(rank + 1)),
        "sums": list(ranks.sums(float(rank), 1.0)),
        "max": ranks.max(10.0 * rank),
        "any of one": ranks.any(rank == 1),
        "any of none": ranks.any(False),
        "of each": ranks.of_each(float(rank)),
    }


def curve(name: str) -> dict[str, object]:
    """Train, and return the losses, norms and counts of all steps, with a checksum of the weights."""
    kinds: set[float] = set()
    kind_of, few_ranks = gradient_sums.kind_of, gradient_sums.FEW_RANKS
    gradient_sums.FEW_RANKS = 0 if name.endswith("in 32 bits") else few_ranks
    gradient_sums.kind_of = lambda gradient: (kinds.add(kind_of(gradient)), kind_of(gradient))[1]
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            parts = TRAININGS[name]()
            steps = list(loop.train(parts))
    finally:
        gradient_sums.kind_of, gradient_sums.FEW_RANKS = kind_of, few_ranks
    weights = 0
    for master in parts.optimizer.masters:
        weights = zlib.crc32(master.detach().numpy().data, weights)
    return {
        "loss": [info.loss for info in steps],
        "norm": [info.gradient_norm for info in steps],
        "counts": [[info.num_rows, info.num_tokens] for info in steps],
        "weights": weights,
        "kinds": sorted(kinds - {gradient_sums.NONE}),
    }


def train_with_little_memory(rank: int) -> dict[str, object]:
    """Make three steps, in whose second rank 1 has too little memory halfway through its backward pass at first."""
    parts = training("smollm", dtype=torch.float64, rows=8)
    parts.token_budget = 400
    tries: list[int] = []
    compute = loop._compute

    def fail(_: torch.Tensor) -> None:
        raise torch.OutOfMemoryError("no")

    def compute_or_fail(step: loop.Step) -> None:
        tries.append(len(step.batches))
        if rank != 1 or len(tries) != 2:
            compute(step)
            return
        hook = parts.optimizer.parameters[len(parts.optimizer.parameters) // 2].register_hook(fail)
        try:
            compute(step)
        finally:
            hook.remove()

    loop._compute = compute_or_fail
    try:
        steps = list(loop.train(parts))
    finally:
        loop._compute = compute
    return {
        "tries": len(tries),
        "budget": parts.token_budget,
        "loss": [info.loss for info in steps],
        "norm": [info.gradient_norm for info in steps],
    }


def main(rank: int, size: int, place: str) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{place}", rank=rank, world_size=size)
    found: dict[str, object] = {"alone": ask(rank)}
    with ranks.joined():
        found["joined"] = ask(rank)
        found["little memory"] = train_with_little_memory(rank)
        found["curves"] = {name: curve(name) for name in MADE_BY[size]}
    found["alone again"] = ask(rank)
    sys.stdout.write(json.dumps(found) + "\n")
    distributed.destroy_process_group()


def differences(own: dict[str, list[float]], alone: dict[str, list[float]]) -> float:
    """Return the largest relative difference between two curves."""
    return max(
        float(np.max(np.abs(np.subtract(own[name], alone[name])) / np.abs(alone[name]))) for name in ("loss", "norm")
    )
