"""Training with tunesmith's parts, as a run would put them together."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.gpu.cases import LEARNING_RATE, SEED, Case, build_model, make_rows
from benchmarks.gpu.clock import Clock, choose

if TYPE_CHECKING:
    from tunesmith.engine.memory_plan import MemoryPlan
    from tunesmith.engine.step import Training


def measure_tunesmith(
    case: Case, num_steps: int, *, liger: bool = False, compiled: bool = False, graphs: bool = False
) -> dict[str, Any]:
    """Train and time ``num_steps`` steps after the warm-up."""
    from tunesmith.engine.loop import train

    device, _ = choose()
    if (liger or graphs) and device.type != "cuda":
        return {"unavailable": "needs CUDA"}
    if liger and find_spec("liger_kernel") is None:
        return {"unavailable": "pip install liger-kernel"}
    prepared = prepare(case, num_steps, liger=liger, compiled=compiled, graphs=graphs)
    clock, losses = Clock(device), []
    for info in train(prepared.training):
        clock.stepped(info.num_tokens)
        losses.append(info.loss)
    num_trained = sum(parameter.numel() for parameter in prepared.training.optimizer.parameters)
    return {
        **clock.result(case, prepared.rows, num_trained),
        "mean_loss": statistics.fmean(losses),
        "predicted_memory_bytes": prepared.plan.predicted_bytes,
        "micro_batch_tokens": prepared.plan.micro_batch_tokens,
        "checkpointing": prepared.plan.checkpointing,
        "kernels_replaced": prepared.num_replaced,
        "kernels_put_back": prepared.num_put_back,
    }


@dataclass(frozen=True)
class Prepared:
    """A training that is ready for its first step."""

    training: Training
    rows: list[Any]
    plan: MemoryPlan
    num_replaced: int
    """Modules with kernels of Liger."""
    num_put_back: int
    """Modules whose results were not the same with them."""


def prepare(
    case: Case, num_steps: int, *, liger: bool = False, compiled: bool = False, graphs: bool = False
) -> Prepared:
    """Settle what a run settles before its first step: kernels, memory, compiling, graphs."""
    from tunesmith.engine.cuda import liger as kernels
    from tunesmith.engine.cuda.compile import compile_layers
    from tunesmith.engine.cuda.graphs import BaseGraphs
    from tunesmith.engine.free_memory import memory_of
    from tunesmith.engine.memory_plan import plan_memory
    from tunesmith.engine.recompute import recompute_layers
    from tunesmith.models.anatomy import Anatomy

    device, _ = choose()
    rows = make_rows(case, case.num_rows(num_steps))
    training = _training(case, rows, device)
    model = training.scorer.model
    num_replaced, num_put_back = kernels.use_kernels(model) if liger else (0, 0)
    in_use, available = memory_of(device)
    plan = plan_memory(training, "auto", in_use=in_use, available=available)
    training.token_budget = plan.micro_batch_tokens
    if compiled:
        compile_layers(model)
    if plan.checkpointing:
        recompute_layers(model)
    if graphs:
        captured = BaseGraphs(Anatomy.of(model).base, training.scorer.switches, plan.micro_batch_tokens)
        training.scorer = replace(training.scorer, graphs=captured)
    return Prepared(training, rows, plan, num_replaced, num_put_back)


def _training(case: Case, rows: list[Any], device: Any) -> Training:
    """Return the parts of a training over ``rows``."""
    from tunesmith.data.encoded import Encoded, Ragged
    from tunesmith.engine.attention import FLAT_ATTENTION, register
    from tunesmith.engine.blocks.install import install_adapters
    from tunesmith.engine.config import ComputeConfig, TrainConfig
    from tunesmith.engine.layout import collator_for
    from tunesmith.engine.optimizers import MasterOptimizer
    from tunesmith.engine.order import StepPlan
    from tunesmith.engine.precision import DTYPES, choose_precision, place
    from tunesmith.engine.scorer import Scorer
    from tunesmith.engine.stand_ins import set_attention
    from tunesmith.engine.step import Training
    from tunesmith.methods import Full, Lora
    from tunesmith.tasks import TASKS

    tokens = Ragged.from_rows(rows)
    tasks: dict[str, Any] = dict(TASKS)
    if case.shape.is_encoder:
        task = tasks["classification"](labels=("a", "b"), multi_label=False)
        data = Encoded({"input_ids": tokens}, {"label": np.arange(len(rows), dtype=np.int64) % 2})
    else:
        task = tasks["causal_lm"]()
        reads = [np.arange(len(row) // 2, len(row) - 1) for row in rows]
        labels = [row[where + 1] for row, where in zip(rows, reads, strict=True)]
        data = Encoded({"input_ids": tokens}, {"labels": Ragged.from_rows(labels)}, reads=Ragged.from_rows(reads))
    method = Lora(rank=16, alpha=32) if case.method == "lora" else Full()
    precision = choose_precision("auto", device, from_scratch=False)
    model = method.apply(build_model(case, device, DTYPES[precision]))
    groups = method.parameter_groups(model)
    place(model, precision, device, {name for group in groups for name in group.names})
    register()  # that the flat layout fits these architectures is proven by tests, in float64
    set_attention(model, FLAT_ATTENTION)
    if device.type != "cpu":
        install_adapters(model)
    config = TrainConfig(
        batch_size=case.rows_per_step,
        epochs=1,
        learning_rate=LEARNING_RATE,
        schedule={"name": "constant", "warmup": 0},
    )
    return Training(
        scorer=Scorer(model, "flat", task.reads),
        collate=collator_for(model, "flat", 0, device),
        task=task,
        data=data,
        plan=StepPlan(len(rows), case.rows_per_step, 1.0, SEED),
        optimizer=MasterOptimizer(model, groups, config.optimizer, LEARNING_RATE),
        learning_rate=LEARNING_RATE,
        config=config,
        compute=ComputeConfig(micro_batch_tokens=case.micro_batch_tokens),
    )
