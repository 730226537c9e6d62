"""What is settled before the first step for the device at hand: kernels, memory, compiling, graphs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from tunesmith.engine.cuda import liger
from tunesmith.engine.cuda.compile import compile_layers, worth_compiling
from tunesmith.engine.cuda.graphs import MAX_WEIGHTS, BaseGraphs, hindrance
from tunesmith.engine.free_memory import memory_of
from tunesmith.engine.memory_plan import MemoryPlan, plan_memory
from tunesmith.engine.recompute import can_recompute, recompute_layers
from tunesmith.engine.stand_ins import Tier, take_away
from tunesmith.models.anatomy import Anatomy
from tunesmith.models.wrapping import inner
from tunesmith.readable import size
from tunesmith.run.assembly import parameter_counts
from tunesmith.types import InputError, Problem

if TYPE_CHECKING:
    from tunesmith.run.session import Session


@dataclass(frozen=True, slots=True)
class Settled:
    """What was settled, for the run's record."""

    memory: MemoryPlan
    num_compiled: int = 0
    """Layers that are compiled."""
    has_graphs: bool = False

    def record(self) -> dict[str, Any]:
        """Return the entries of ``training.json``."""
        return {
            "predicted_memory_bytes": self.memory.predicted_bytes,
            "micro_batch_tokens": self.memory.micro_batch_tokens,
            "checkpointing": self.memory.checkpointing,
            "compiled_layers": self.num_compiled,
            "cuda_graphs": self.has_graphs,
        }


def settle(session: Session) -> Settled:
    """Choose and set up how the steps are made on this device; nothing of it changes what they compute.

    Raises ``InputError`` where the configuration demands what the model or the device does not allow.
    """
    config, training = session.config.compute, session.training
    model, device = training.scorer.model, training.collate.device
    _require(session)
    _choose_loss(session)
    num_weights, _ = parameter_counts(model, training.optimizer.names)
    num_tokens = float(training.data.lengths.mean()) * training.plan.batch_size * training.plan.total_steps
    pays = worth_compiling(num_weights, num_tokens, device.type)
    compiles = config.compile == "always" or (config.compile == "auto" and pays and not config.cuda_graphs)
    if compiles:
        take_away(model, Tier.BLOCK)  # compiled layers keep more than blocks do: memory is planned with what will run
    plan = _plan([session])
    num_compiled = compile_layers(model) if compiles else 0
    _adopt(session, plan)
    has_graphs = config.cuda_graphs and not plan.checkpointing
    if has_graphs:
        scorer = session.training.scorer
        graphs = BaseGraphs(Anatomy.of(model).base, scorer.switches, plan.micro_batch_tokens)
        session.training = replace(session.training, scorer=replace(scorer, graphs=graphs))
    elif config.cuda_graphs:
        message = "compute.cuda_graphs: true: switched off, since activations are computed again to fit into memory."
        fix = "The results stay the same. Lower compute.micro_batch_tokens, or set compute.checkpointing to never."
        session.note(Problem("note", message, fix))
    return Settled(plan, num_compiled, has_graphs)


def settle_together(sessions: Sequence[Session]) -> Settled:
    """Do the same for sessions whose steps are made in the same passes: one plan for what all of them take at once.

    Layers that run for several runs change from pass to pass, and are neither compiled nor captured.
    """
    for session in sessions:
        _require(session)
        _choose_loss(session)
    plan = _plan(sessions)
    for session in sessions:
        _adopt(session, plan)
        _tell_what_needs_it_alone(session)
    return Settled(plan)


def _plan(sessions: Sequence[Session]) -> MemoryPlan:
    first, *others = [session.training for session in sessions]
    in_use, available = memory_of(first.collate.device)
    wish = sessions[0].config.compute.checkpointing
    return plan_memory(first, wish, in_use=in_use, available=available, beside=others)


def _adopt(session: Session, plan: MemoryPlan) -> None:
    """Let the session's steps be made as planned; one that goes on from a checkpoint keeps its own micro-batches."""
    training = session.training
    _tell(session, plan, again=training.token_budget > 0)
    most = training.token_budget or training.compute.micro_batch_tokens
    training.token_budget = min(most, plan.micro_batch_tokens)
    training.recomputes = plan.checkpointing
    if plan.checkpointing:
        recompute_layers(training.scorer.model)


def _require(session: Session) -> None:
    """Refuse what cannot be had here."""
    config, training, network = session.config.compute, session.training, session.network
    problems = []
    if config.checkpointing == "always" and not can_recompute(training.scorer.model):
        message = (
            f"compute.checkpointing: {type(inner(network.model)).__name__} has no layers that can be computed again."
        )
        problems.append(Problem("error", message, "Leave compute.checkpointing at auto."))
    if config.cuda_graphs:
        num_weights, _ = parameter_counts(network.model, ())
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


def _choose_loss(session: Session) -> None:
    """Take Liger's loss where it was asked for and does the same."""
    if session.config.compute.kernels != "liger" or not session.data.task.plain_cross_entropy:
        return
    scorer = session.training.scorer
    weight, reason = liger.choose_loss(scorer.model, scorer.head, liger.linear_cross_entropy_sum)
    if weight is None:
        session.note(Problem("note", f"The loss is computed by tunesmith, not by Liger: {reason}."))
        return
    fused = partial(_fused_loss, weight)
    session.training = replace(session.training, scorer=replace(scorer, fused_loss=fused))


def _fused_loss(weight: Any, hidden_UD: Any, labels_U: Any) -> Any:
    return liger.linear_cross_entropy_sum(hidden_UD, weight, labels_U)


def _tell_what_needs_it_alone(session: Session) -> None:
    """Say what was asked for by name and is not done in runs trained together."""
    config = session.config.compute
    asked = {"compute.compile: always": config.compile == "always", "compute.cuda_graphs: true": config.cuda_graphs}
    if names := [name for name, wanted in asked.items() if wanted]:
        message = f"{' and '.join(names)}: switched off, since the layers run for several runs at once."
        session.note(Problem("note", message, "The results stay the same. Train the run alone to have it."))


def _tell(session: Session, plan: MemoryPlan, *, again: bool) -> None:
    asked = session.config.compute.checkpointing == "always"
    if plan.changes and not (asked and plan.micro_batch_tokens == plan.wanted_tokens):
        reason = (
            "As before the interruption" if again else f"To fit into memory ({size(plan.available_bytes)} are free)"
        )
        session.note(Problem("note", f"{reason}, {plan.changes}.", "The gradients stay the same."))
    if not plan.fits:
        message = (
            f"A step may take {size(plan.predicted_bytes)} of memory, more than there is "
            f"({size(plan.available_bytes)} are free)."
        )
        fix = "Lower model.max_length, choose a method that trains less (lora), or a smaller model."
        session.note(Problem("warning", message, fix))
