"""One of several processes that each hold a part of a model: trains it, and prints what came of it."""

from __future__ import annotations

import json
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import distributed

from engine.memory import training
from engine.rank import FEW, embedding
from tunesmith.engine import checkpoint, loop, ranks
from tunesmith.engine.memory_needs import bytes_of, measure
from tunesmith.engine.predict import predict
from tunesmith.engine.recompute import recompute_layers
from tunesmith.engine.sharding.optimizer import ShardedOptimizer
from tunesmith.engine.sharding.parts import local_part
from tunesmith.engine.sharding.training import divide_weights, make_whole
from tunesmith.engine.stand_ins import Tier, take_away
from tunesmith.engine.step import Training


def _dense(parts: Training) -> Training:
    """Return a training whose table of words has dense gradients, as those that are summed in parts are."""
    take_away(parts.scorer.model.get_input_embeddings(), Tier.BLOCK)  # type: ignore[operator]
    return parts


def _recomputed() -> Training:
    parts = training("smollm", head="causal", dtype=torch.float64, **FEW)
    recompute_layers(parts.scorer.model)
    return parts


TRAININGS: dict[str, Callable[[], Training]] = {
    "flat": lambda: _dense(training("smollm", dtype=torch.float64, micro_batch_tokens=60, **FEW)),
    "padded": lambda: _dense(training("smollm", dtype=torch.float64, layout="padded", micro_batch_tokens=100, **FEW)),
    "tied, in chunks": lambda: training("smollm", head="causal", dtype=torch.float64, clip_norm=0.1, **FEW),
    "recomputed": _recomputed,
    "lora": lambda: training("smollm", head="causal", dtype=torch.float64, method="lora", **FEW),
    "whole step": lambda: _dense(embedding()),
    "dropout": lambda: _dense(training("minilm", **FEW)),
    "bf16": lambda: _dense(training("minilm", dtype=torch.bfloat16, **FEW)),
}
EXACT = 1e-10
CLOSE = {"padded": 1e-6, "dropout": 1e-4, "whole step": 1e-4, "bf16": 0.05, "lora, bf16": 0.05}
"""As in ``engine.rank``."""


def groups_of(parts: Training) -> Any:
    return parts.method.parameter_groups  # type: ignore[attr-defined]


def made(name: str, *, in_parts: bool) -> Training:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        parts = TRAININGS[name]()
    if in_parts:
        divide_weights(parts, groups_of(parts))
    return parts


def curve(parts: Training) -> dict[str, Any]:
    """Train, and return the losses, norms and counts of all steps, and what the model makes of the rows afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        steps = list(loop.train(parts))
        scored = predict(parts.scorer, parts.collate, parts.task, parts.data, 100)
    return {
        "loss": [info.loss for info in steps],
        "norm": [info.gradient_norm for info in steps],
        "counts": [[info.num_rows, info.num_tokens] for info in steps],
        "scored": [scored.loss],
    }


def files_of(folder: Path) -> dict[str, int]:
    return {
        path.name: zlib.crc32(path.read_bytes()) for path in sorted(folder.iterdir()) if path.name != "manifest.json"
    }


def resumed(place: Path) -> dict[str, Any]:
    """Train, saving after two of the steps; go on from there anew; return both ends, as files."""
    first = made("tied, in chunks", in_parts=True)
    steps = loop.train(first)
    next(steps), next(steps)
    _save(first, place / "middle")
    list(steps)
    _save(first, place / "end")
    second = made("tied, in chunks", in_parts=True)
    (found,) = checkpoint.list_steps(place / "middle").values()
    opened, _ = checkpoint.open_checkpoint(found, 2)
    assert opened is not None
    checkpoint.restore(second, opened)
    losses = [info.loss for info in loop.train(second)]
    _save(second, place / "again")
    both = [files_of(next(iter(checkpoint.list_steps(place / name).values()))) for name in ("end", "again")]
    return {"same": both[0] == both[1], "losses": losses}


def _save(parts: Training, folder: Path) -> None:
    if ranks.is_first():
        checkpoint.save(parts, folder, {})
    else:
        checkpoint.give_parts_of(parts)
    ranks.sum(0.0)


def ended() -> dict[str, Any]:
    """Train in bf16, put the weights together, and return what a plain model then says, on the first rank."""
    parts = made("bf16", in_parts=True)
    list(loop.train(parts))
    masters = {name: local_part(weight).clone() for name, weight in parts.optimizer.master_weights().items()}
    assert isinstance(parts.optimizer, ShardedOptimizer)
    gathered = dict(zip(parts.optimizer.shapes_of(masters), parts.optimizer.wholes(masters), strict=True))
    make_whole(parts, groups_of(parts), "bf16")
    if not ranks.is_first():
        return {}
    whole = parts.optimizer.master_weights()
    scored = predict(parts.scorer, parts.collate, parts.task, parts.data, 100)
    model = parts.scorer.model
    return {
        "masters": all(torch.equal(whole[name], one) for name, one in gathered.items() if one is not None),
        "dtypes": sorted({str(one.dtype) for one in model.parameters()}),
        "classes": sorted({type(one).__name__ for one in model.modules() if "FSDP" in type(one).__name__}),
        "loss": scored.loss,
        "state": len(model.state_dict()),
    }


def memory() -> dict[str, Any]:
    """Return the bytes of one rank's weights and state, and what was planned for them."""
    parts = made("tied, in chunks", in_parts=True)
    needs = measure(parts)
    next(loop.train(parts))
    weights = bytes_of([local_part(one) for one in (*parts.scorer.model.parameters(), *parts.scorer.model.buffers())])
    state = sum(one.nbytes for kept in parts.optimizer.optimizer.state.values() for one in kept.values() if one.dim())
    return {"weights": weights, "state": state, "planned": [needs.weights, needs.optimizer], "passing": needs.passing}


def main(rank: int, size: int, place: str, wanted: list[str]) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{place}/meeting", rank=rank, world_size=size)
    found: dict[str, Any] = {}
    with ranks.joined():
        found["curves"] = {name: curve(made(name, in_parts=True)) for name in wanted}
        found["resumed"] = resumed(Path(place))
        found["ended"] = ended()
        found["memory"] = memory()
    sys.stdout.write(json.dumps(found) + "\n")
    distributed.destroy_process_group()
