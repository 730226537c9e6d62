"""A run whose model lies in parts over the processes that train it (``compute.parallel: fsdp``).

Until its weights are divided every rank has all of the model, in files where that can be (``parts_from_files``): it is
adapted and asked about the rows as ever. They are divided before the first step, or the checkpoint that a run goes on
from, and put together on the first rank after the last one.
"""

from __future__ import annotations

from torch import nn

from tunesmith.engine import ranks
from tunesmith.engine.blocks.install import SparseTable
from tunesmith.engine.sharding.divisible import hindrance_of_method, hindrance_of_model, hindrance_of_optimizer
from tunesmith.engine.sharding.training import divide_weights, make_whole
from tunesmith.engine.stand_ins import Tier, has_stand_ins, take_away
from tunesmith.files.memory import give_back_freed
from tunesmith.run.going_back import go_back
from tunesmith.run.parts_from_files import wants_parts
from tunesmith.run.rank_agreement import require_same_weights
from tunesmith.run.session import Composed, Opened, Ready
from tunesmith.types import InputError, Problem


def check_parts(composed: Composed) -> None:
    """Refuse what cannot be trained with its weights in parts; the first rank is the one that says why."""
    if wants_parts(composed.config):
        problems = _hindrances(composed)
        if problems and ranks.is_first():
            raise InputError(problems)
    elif composed.config.compute.parallel == "fsdp":
        message = "compute.parallel: fsdp divides a model over several processes, and this is one: it has all of it."
        composed.note(Problem("note", message, "Add --ranks N, or start it by torchrun."))


def _hindrances(composed: Composed) -> list[Problem]:
    """Return the reasons, each with what would do."""
    config, network = composed.config, composed.network
    groups = config.method.parameter_groups(network.model)
    found = []

    def refuse(what: str, reason: str, fix: str) -> None:
        found.append(Problem("error", f"compute.parallel: fsdp does not fit {what}: {reason}.", fix))

    data = "or --compute.parallel data, which leaves every process all of the model"
    if reason := hindrance_of_model(list(network.model.named_parameters())):
        refuse("this model", reason, f"Leave its weights as they are (method.quantize none), {data}.")
    if reason := hindrance_of_method(config.method, network.model, groups):
        refuse(f"the method '{config.method.name}'", reason, f"Choose full, lora, dora or freeze, {data}.")
    if reason := hindrance_of_optimizer(config.train.optimizer):
        refuse(
            f"the optimizer {config.train.optimizer.name}",
            reason,
            f"Choose adamw, or another one that works number by number (adam, sgd, RMSprop, NAdam, Lion), {data}.",
        )
    if config.compute.cuda_graphs or config.compute.compile == "always":
        key = "cuda_graphs" if config.compute.cuda_graphs else "compile: always"
        refuse(f"compute.{key}", "layers are put together anew for every pass", f"Leave that out, {data}.")
    return found


def divide(opened: Opened, *, resume: bool) -> None:
    """Divide the weights over the ranks, if that is wanted, and go back to the checkpoint of a run that is resumed."""
    if not wants_parts(opened.config):
        return
    training, network = opened.training, opened.network
    require_same_weights(training)
    for module in network.model.modules():
        if isinstance(module, nn.Embedding) and has_stand_ins(module, SparseTable):
            take_away(module, Tier.BLOCK)  # parts are summed whole, not by the rows that were used
    network.scorer.forget_parameters()
    divide_weights(training, opened.config.method.parameter_groups)
    give_back_freed()
    if resume:
        go_back(opened)


def put_together(session: Ready) -> None:
    """Give the first rank all weights, if they lie in parts: it alone finishes the run."""
    if session.training.scorer.sharding is not None:
        method = session.config.method
        make_whole(session.training, method.parameter_groups, session.network.precision, may_stream=method.needs_base)
