"""A method that is chosen by what is known beforehand, and adapts while it trains."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

import torch
from pydantic import Field

from tunesmith.config.base import BY_DATA
from tunesmith.methods.adapting import (
    RANKS_END,
    SAMPLED,
    WINDOWS,
    Layers,
    RankBudget,
    as_state,
    from_state,
    reason_to_end,
)
from tunesmith.methods.base import LoadingCode, Method, ParameterGroup
from tunesmith.methods.choosing import QUALITIES, Trained, likely_quality, wanted_rank
from tunesmith.methods.full import Full
from tunesmith.methods.lora import Lora
from tunesmith.models.anatomy import Anatomy
from tunesmith.models.weights import num_weights

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel

    from tunesmith.methods.situation import Situation

BYTES_OF_FULL = 16
"""Of a weight that is trained in float32 by AdamW: itself, its gradient, two moments."""
SPARE = 2
"""LoRA begins with so many times the rank that is wanted on average, and gives back what matters least."""
_ACCOUNT = "tunesmith_auto"
"""Attribute of the trained module that holds what the training has learned of itself."""


class _Account:
    """What is remembered of a training under way."""

    def __init__(self, ranks: RankBudget | None, watched: list[tuple[int, nn.Parameter]], layers: Layers) -> None:
        self.ranks = ranks
        self.watched = watched
        """What is trained of each layer, with its depth."""
        self.layers = layers
        self.values: list[float] = []
        self.decisions: list[dict[str, Any]] = []

    def decide(self, step: int, what: str, reason: str) -> None:
        self.decisions.append({"step": step, "what": what, "reason": reason})


class Auto(Method):
    """Start from what is likely to do best (full fine-tuning or LoRA, and its rank), and adapt.

    LoRA begins with twice the rank, and the ranks that matter least are given back by the middle of the training.
    Layers that have come to rest are frozen, from the bottom up. The training ends when the learning curve promises
    nothing that is worth the steps. Every decision stands in the run's record with its reason. The result is a plain
    model or a plain adapter.
    """

    name: Literal["auto"] = "auto"

    title: ClassVar[str] = "a method chosen by the data"
    default_learning_rate: ClassVar[float] = Full.default_learning_rate
    result: ClassVar[Literal["model", "adapter", "own"]] = "model"

    start: Literal["full", "lora"] | None = Field(default=None, json_schema_extra=BY_DATA)
    """What it starts from; chosen by model, rows and memory when not given."""
    rank: Annotated[int, Field(ge=1)] | None = Field(default=None, json_schema_extra=BY_DATA)
    """Mean rank of LoRA in the end; chosen by the rows when not given."""
    moves_ranks: bool = True
    """Whether ranks of LoRA move to where they matter."""
    rests_layers: bool = True
    """Whether layers that have come to rest are frozen."""
    ends_early: bool = True
    """Whether the training ends when its learning curve promises nothing more."""

    @property
    def chosen(self) -> Full | Lora:
        """The method that it starts from; full fine-tuning before that is chosen."""
        rates: dict[str, Any] = {"layer_decay": self.layer_decay, "head_factor": self.head_factor}
        if self.start != "lora":
            return Full(**rates)
        rank = self.rank or Lora().rank
        return Lora(rank=SPARE * rank if self.moves_ranks else rank, **rates)

    def settled(self, model: PreTrainedModel, situation: Situation) -> Self:
        """Return the method with start and rank chosen by what is known beforehand (``choosing``)."""
        linear: list[Any] = list(Anatomy.of(model).linear_modules.values())
        per_rank = sum(sum(one.weight.shape) for one in linear)
        every = sum(map(num_weights, model.parameters()))
        rank = self.rank or wanted_rank(max(per_rank, 1), situation)[0]
        start = self.start
        if start is None:
            lora = likely_quality(Lora(rank=rank), Trained(rank * per_rank, rank * per_rank, every), situation)
            full = likely_quality(Full(), Trained(every, every, every), situation)
            has_room = situation.free_memory is None or BYTES_OF_FULL * every < situation.free_memory
            better = QUALITIES.index(full.quality) < QUALITIES.index(lora.quality)
            start = "full" if has_room and (better or not per_rank) else "lora"
        return self.model_copy(update={"start": start, "rank": rank})

    @property
    def needs_base(self) -> bool:
        return self.chosen.needs_base

    @property
    def detail(self) -> str:
        return f"starts as LoRA, rank {self.rank}" if self.start == "lora" else "starts as full fine-tuning"

    def rate_factor(self) -> float:
        chosen = self.chosen
        return chosen.default_learning_rate * chosen.rate_factor() / self.default_learning_rate

    def apply(self, model: PreTrainedModel) -> nn.Module:
        trained = self.chosen.apply(model)
        ranks = {name: module.lora_A["default"].weight.shape[0] for name, module in _adapters(trained)}
        wanted = (self.rank or Lora().rank) * len(ranks)
        budget = RankBudget(ranks, wanted) if ranks and self.moves_ranks else None
        layers = _layers_of(trained)
        vars(trained)[_ACCOUNT] = _Account(budget, layers, Layers(_watched(layers)))
        return trained

    def parameter_groups(self, model: nn.Module) -> list[ParameterGroup]:
        return self.chosen.parameter_groups(model)

    def save(self, model: nn.Module, folder: Path) -> None:
        self.chosen.save(model, folder)

    def load(self, model: PreTrainedModel, folder: Path) -> nn.Module:
        return self.chosen.load(model, folder)

    def loading_code(self, auto_class: str, num_outputs: int | None) -> LoadingCode | None:
        return self.chosen.loading_code(auto_class, num_outputs)

    # ---- while it trains -----------------------------------------------------------------------------

    def after_gradients(self, model: nn.Module, step: int, total_steps: int) -> None:
        """Take note of how much every rank matters."""
        ranks = _account(model).ranks
        if ranks is None or step > RANKS_END * total_steps:
            return
        for name, module in _adapters(model):
            a_RI, b_OR = module.lora_A["default"].weight, module.lora_B["default"].weight
            if a_RI.grad is not None and b_OR.grad is not None:
                of_a, of_b = (a_RI * a_RI.grad).abs().mean(dim=1), (b_OR * b_OR.grad).abs().mean(dim=0)
                ranks.note(name, (of_a + of_b).detach())

    def after_step(self, model: nn.Module, step: int, total_steps: int) -> None:
        """Take away ranks that matter least, and let layers rest."""
        account = _account(model)
        if account.ranks is not None:
            self._move_ranks(model, account.ranks, step, total_steps)
        if self.rests_layers:
            account.layers.note(_watched(account.watched))
            if step % max(total_steps // WINDOWS, 1) == 0:
                self._let_rest(model, step, total_steps)

    def should_stop(self, model: nn.Module, step: int, total_steps: int, value: float) -> bool:
        account = _account(model)
        account.values.append(value)
        reason = reason_to_end(account.values, step, total_steps) if self.ends_early else ""
        if reason:
            account.decide(step, f"the training ends, at step {step} of {total_steps}", reason)
        return bool(reason)

    def decisions(self, model: nn.Module) -> Sequence[Mapping[str, Any]]:
        return tuple(_account(model).decisions)

    def _move_ranks(self, model: nn.Module, ranks: RankBudget, step: int, total_steps: int) -> None:
        num_gone = ranks.cut(ranks.budget(step / total_steps))
        with torch.no_grad():
            for name, module in _adapters(model):
                kept = ranks.kept[name]
                if not bool(kept.all()):
                    weight = module.lora_B["default"].weight
                    weight.mul_(kept.to(weight))
        if num_gone and ranks.num_kept == ranks.wanted:
            most = max(ranks.kept, key=lambda name: int(ranks.kept[name].sum()))
            least = min(ranks.kept, key=lambda name: int(ranks.kept[name].sum()))
            _account(model).decide(
                step,
                f"{ranks.wanted} ranks of {sum(map(len, ranks.kept.values()))} are kept: {int(ranks.kept[most].sum())} "
                f"of {_short(most)}, {int(ranks.kept[least].sum())} of {_short(least)}",
                "their weights times their gradients were the largest on average (AdaLoRA, Zhang et al. 2023)",
            )

    def _let_rest(self, model: nn.Module, step: int, total_steps: int) -> None:
        account = _account(model)
        found, most = account.layers.close_window(step / total_steps)
        if found:
            _freeze(account, found)
            names = ", ".join("the embeddings" if depth == 0 else f"layer {depth - 1}" for depth in found)
            reason = (
                f"in the last {max(total_steps // WINDOWS, 1)} steps it got ahead by at most {most:.0%} of what its "
                "steps were worth before (after Chen et al. 2021)"
            )
            account.decide(step, f"{names}: frozen", reason)

    # ---- checkpoints ---------------------------------------------------------------------------------

    def state(self, model: nn.Module) -> dict[str, Any]:
        account = _account(model)
        layers, ranks = account.layers, account.ranks
        kinds = {"first": layers.first, "mark": layers.mark, "last": layers.last}
        if ranks is not None:
            kinds |= {"kept": ranks.kept, "importance": ranks.importance}  # type: ignore[dict-item]
        tensors = {key: value for name, values in kinds.items() for key, value in as_state(values, name).items()}
        record = {
            "values": account.values,
            "decisions": account.decisions,
            "resting": layers.resting,
            "path": list(layers.path.items()),
            "path_before": list(layers.path_before.items()),
        }
        return {**tensors, "record": record}

    def load_state(self, model: nn.Module, state: Mapping[str, Any]) -> None:
        account, record = _account(model), state["record"]
        layers, ranks = account.layers, account.ranks
        for name in ("first", "mark", "last"):
            setattr(layers, name, {int(key): value for key, value in from_state(state, name).items()})
        layers.resting = list(record["resting"])
        layers.path, layers.path_before = dict(record["path"]), dict(record["path_before"])
        account.values, account.decisions = list(record["values"]), list(record["decisions"])
        if ranks is not None:
            kept, importance = from_state(state, "kept"), from_state(state, "importance")
            # In the model's order, which decides between ranks that matter alike.
            ranks.kept = {name: kept[name] for name in ranks.kept}
            ranks.importance = {name: importance[name] for name in ranks.importance}
        _freeze(account, layers.resting)


def _account(model: nn.Module) -> _Account:
    found = vars(model).get(_ACCOUNT)
    assert isinstance(found, _Account), "the method was applied to the model"
    return found


def _layers_of(model: nn.Module) -> list[tuple[int, nn.Parameter]]:
    """Return what is trained of each layer, with its depth; of embeddings only where nothing above shares them."""
    anatomy = Anatomy.of(model)
    shared, depths = bool(anatomy.tied_modules), anatomy.depths
    named = [(depths[name], parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    return [(depth, one) for depth, one in named if depth <= anatomy.num_layers and not (shared and depth == 0)]


def _watched(layers: Sequence[tuple[int, nn.Parameter]]) -> dict[int, torch.Tensor]:
    """Return a few trained weights of every layer by its depth, in float32 on the host."""
    found: dict[int, list[torch.Tensor]] = {}
    for depth, parameter in layers:
        flat = parameter.detach().reshape(-1)
        found.setdefault(depth, []).append(flat[:: -(-len(flat) // SAMPLED)])
    return {depth: torch.cat(parts).float().cpu() for depth, parts in found.items()}


def _freeze(account: _Account, depths: Sequence[int]) -> None:
    for depth, parameter in account.watched:
        if depth in depths and parameter.requires_grad:
            parameter.requires_grad_(False)
            parameter.grad = None


def _adapters(model: nn.Module) -> Iterator[tuple[str, Any]]:
    """Yield the modules that LoRA stands beside, by name."""
    for name, module in model.named_modules():
        adapters = getattr(module, "lora_A", None)
        if adapters is not None and "default" in adapters:
            yield name, module


def _short(name: str) -> str:
    """Return the last parts of a module's name, from its layer on."""
    parts = name.split(".")
    first = next((place for place, part in enumerate(parts) if part.isdigit()), len(parts) - 2)
    return ".".join(parts[first:])
