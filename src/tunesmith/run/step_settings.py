"""What is settled before the first step for the device at hand: kernels, memory, compiling, graphs."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from tunesmith.engine import ranks
from tunesmith.engine.cuda import liger
from tunesmith.engine.cuda.compile import compile_layers, worth_compiling
from tunesmith.engine.cuda.graphs import MAX_WEIGHTS, BaseGraphs, hindrance
from tunesmith.engine.free_memory import memory_in_all, memory_of
from tunesmith.engine.memory_needs import Remember
from tunesmith.engine.memory_plan import MemoryPlan, plan_memory
from tunesmith.engine.recompute import can_recompute, recompute_layers
from tunesmith.engine.stand_ins import Tier, take_away
from tunesmith.engine.step import Training
from tunesmith.models.anatomy import Anatomy
from tunesmith.models.streaming import stream_of
from tunesmith.models.wrapping import inner
from tunesmith.readable import size
from tunesmith.run.assembly import count_parameters
from tunesmith.run.offload import can_be_streamed
from tunesmith.run.session import Opened, StepSettings
from tunesmith.types import InputError, Problem

if TYPE_CHECKING:
    import torch

CERTAIN = 1.25
"""A step that is predicted to take so many times all the memory there is cannot be made, however rough that is."""
UNLIKE = 0.8
"""Share of the most memory that any rank has below which the least is told of."""


def settle_steps(opened: Opened) -> tuple[Training, StepSettings]:
    """Choose and set up how the steps are made on this device; nothing of it changes what they compute.

    Returns the training to be gone through, and what was settled. Raises ``InputError`` where the configuration demands
    what the model or the device does not allow.
    """
    _require(opened)
    config, training = opened.config.compute, _with_chosen_loss(opened)
    model, device = training.scorer.model, training.collate.device
    num_weights = count_parameters(model)
    num_tokens = float(training.data.lengths.mean()) * training.plan.batch_size * training.plan.total_steps
    pays = worth_compiling(num_weights, num_tokens, device.type)
    pays = pays and stream_of(model) is None and training.scorer.sharding is None
    compiles = config.compile == "always" or (config.compile == "auto" and pays and not config.cuda_graphs)
    if compiles:
        take_away(model, Tier.BLOCK)  # compiled layers keep more than blocks do: memory is planned with what will run
    in_use, available = _memory(opened, device)
    plan = plan_memory(
        training, config.checkpointing, in_use=in_use, available=available, remember=_remembering(opened, compiles)
    )
    num_compiled = compile_layers(model) if compiles else 0
    _adopt(opened, training, plan)
    has_graphs = config.cuda_graphs and not plan.checkpointing
    if has_graphs:
        graphs = BaseGraphs(Anatomy.of(model).base, training.scorer.switches, plan.micro_batch_tokens)
        training = replace(training, scorer=replace(training.scorer, graphs=graphs))
    elif config.cuda_graphs:
        message = "compute.cuda_graphs: true: switched off, since activations are computed again to fit into memory."
        fix = "The results stay the same. Lower compute.micro_batch_tokens, or set compute.checkpointing to never."
        opened.note(Problem("note", message, fix))
    return training, StepSettings(plan, num_compiled, has_graphs)


def _remembering(opened: Opened, compiles: bool) -> Remember:
    """Return what finds again what runs of the same kind have measured: of models and optimizers that are alike."""
    config, task = opened.resolved, opened.data.task
    alike = [
        *opened.model_key,
        config.method.without_rates(),
        *(one.model_dump(mode="json") for one in (config.compute, config.train.optimizer, task)),
        opened.network.scorer.layout,
        str(opened.network.device),
        compiles,
    ]
    return lambda key, make: opened.workshop.once(["memory of a step", *alike, *key], make)


def _memory(opened: Opened, device: torch.device) -> tuple[int, int]:
    """Return the bytes in use and those free for each of the ranks, which share the memory of their machine.

    All of them split their steps alike, by the least that any of them has.
    """
    in_use, available = memory_of(device)
    if ranks.size() == 1:
        workshop = opened.workshop  # what it keeps for other runs is no part of this one
        kept = workshop.states.num_bytes + workshop.networks.num_bytes if device.type == "cpu" else 0
        return in_use - kept, available + kept
    available //= ranks.size_here() if device.type == "cpu" else 1
    least, most = -ranks.max(-available), ranks.max(available)
    if least < UNLIKE * most:
        message = (
            f"The ranks have unlike memory, from {size(int(least))} to {size(int(most))}: all go by the least of them."
        )
        opened.note(Problem("warning", message, "Put ranks onto machines, or devices, of one kind."))
    return int(ranks.max(in_use)), int(least)


def _adopt(opened: Opened, training: Training, plan: MemoryPlan) -> None:
    """Let steps be made as planned; a training that goes on from a checkpoint keeps its own micro-batches."""
    _tell(opened, plan, again=training.token_budget > 0)
    most = training.token_budget or training.compute.micro_batch_tokens
    training.token_budget = min(most, plan.micro_batch_tokens)
    training.recomputes = plan.checkpointing
    if plan.checkpointing:
        recompute_layers(training.scorer.model)


def _require(opened: Opened) -> None:
    """Refuse what cannot be had here."""
    config, training, network = opened.config.compute, opened.training, opened.network
    problems = []
    if config.checkpointing == "always" and not can_recompute(training.scorer.model):
        message = (
            f"compute.checkpointing: {type(inner(network.model)).__name__} has no layers that can be computed again."
        )
        problems.append(Problem("error", message, "Leave compute.checkpointing at auto."))
    if config.cuda_graphs:
        num_weights = count_parameters(network.model)
        hindrances = {
            f"the device is {network.device.type}": network.device.type != "cuda",
            f"the layout is {network.scorer.layout}": network.scorer.layout != "flat",
            f"the precision is {network.precision}": network.precision != "bf16",
            f"the model has {num_weights:,} weights": num_weights > MAX_WEIGHTS,
            "layers are compiled": config.compile == "always",
            "activations are computed again": config.checkpointing == "always",
        }
        reasons = [reason for reason, hinders in hindrances.items() if hinders]
        if network.device.type == "cuda" and (reason := hindrance(network.model)):
            reasons.append(reason)
        if reasons:
            message = f"compute.cuda_graphs: graphs cannot be used here, since {' and '.join(reasons)}."
            fix = (
                "Set compute.cuda_graphs to false, or take a flat layout, bf16, no dropout (model.dropout: 0) and "
                "fewer than a billion weights on CUDA."
            )
            problems.append(Problem("error", message, fix))
    if problems:
        raise InputError(problems)


def _with_chosen_loss(opened: Opened) -> Training:
    """Return the training with Liger's loss where it was asked for and does the same."""
    training = opened.training
    if opened.config.compute.kernels != "liger" or not opened.training.task.plain_cross_entropy:
        return training
    scorer = training.scorer
    if scorer.sharding is not None:
        opened.note(
            Problem("note", "The loss is computed by tunesmith, not by Liger: the head's weights are in parts.")
        )
        return training
    weight, reason = liger.choose_loss(scorer.model, scorer.head, liger.linear_cross_entropy_sum)
    if weight is None:
        opened.note(Problem("note", f"The loss is computed by tunesmith, not by Liger: {reason}."))
        return training
    return replace(training, scorer=replace(scorer, fused_loss=partial(_fused_loss, weight)))


def _fused_loss(weight: Any, hidden_UD: Any, labels_U: Any) -> Any:
    return liger.linear_cross_entropy_sum(hidden_UD, weight, labels_U)


def _tell(opened: Opened, plan: MemoryPlan, *, again: bool) -> None:
    asked = opened.config.compute.checkpointing == "always"
    if plan.changes and not (asked and plan.micro_batch_tokens == plan.wanted_tokens):
        reason = (
            "As before the interruption" if again else f"To fit into memory ({size(plan.available_bytes)} are free)"
        )
        opened.note(Problem("note", f"{reason}, {plan.changes}.", "The gradients stay the same."))
    if plan.fits:
        return
    longest, most = plan.needs.longest, plan.longest_that_fits
    rows = f" The longest row has {longest:,} tokens; rows of up to {most:,} would fit." if most else ""
    device = opened.training.collate.device
    in_all = memory_in_all(device) // (ranks.size_here() if device.type == "cpu" else 1)
    in_all = int(-ranks.max(-in_all))  # all ranks decide alike
    if plan.predicted_bytes > CERTAIN * in_all:
        shared = " for each of its ranks" if ranks.size() > 1 else ""
        message = (
            f"A step would take {size(plan.predicted_bytes)} of memory, more than the {size(in_all)} that there are in "
            f"all{shared}, whatever else is closed.{rows}"
        )
        raise InputError(f"{message} A row is not divided over processes.", _ways_out(opened, plan))
    message = (
        f"A step may take {size(plan.predicted_bytes)} of memory, more than there is "
        f"({size(plan.available_bytes)} are free).{rows}"
    )
    opened.note(Problem("warning", message, _ways_out(opened, plan)))


def _ways_out(opened: Opened, plan: MemoryPlan) -> str:
    """Return what would help where a step takes more memory than there is."""
    ways = "Lower model.max_length, choose a method that trains less (lora), or a smaller model."
    if plan.needs.streamable and can_be_streamed(opened.config):
        ways = (
            f"Set compute.offload to cpu, which leaves {size(plan.needs.streamable)} of weights in files, lower "
            "model.max_length, or choose a smaller model."
        )
    is_whole = opened.training.scorer.sharding is None and stream_of(opened.network.model) is None
    if ranks.size() > 1 and is_whole:
        ways += " With --compute.parallel fsdp each process holds a part of the weights only."
    compute = opened.config.compute
    if compute.checkpointing == "never" and can_recompute(opened.training.scorer.model):
        ways += " compute.checkpointing: auto lets layers compute their activations again instead of keeping them."
    if compute.layout == "padded":
        ways += " compute.layout: auto leaves out padding where the model allows it."
    return ways
