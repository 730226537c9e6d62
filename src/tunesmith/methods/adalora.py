"""Low-rank adapters whose ranks move to where they matter while training goes on (Zhang et al. 2023)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import nn

from tunesmith.methods.peft_method import config_class
from tunesmith.methods.targeted import TargetedMethod
from tunesmith.models.wrapping import inner

if TYPE_CHECKING:
    from peft import PeftConfig, PeftModel
    from transformers import PreTrainedModel

STATISTICS = ("exp_avg_ipt", "exp_avg_unc")


class AdaLora(TargetedMethod):
    """Train adapters of three factors, of whose ranks the least important ones are masked: algorithm 1 of the paper."""

    name: Literal["adalora"] = "adalora"

    title: ClassVar[str] = "AdaLoRA"
    default_learning_rate: ClassVar[float] = 6e-3
    peft_type: ClassVar[str] = "ADALORA"

    quantizes: ClassVar[bool] = True
    turns: ClassVar[bool] = True

    initial_rank: Annotated[int, Field(ge=2)] = 12
    """Rank of every adapter in the beginning."""
    target_rank: Annotated[int, Field(ge=1)] = 8
    """Mean rank in the end; below the initial one."""
    alpha: Annotated[float, Field(gt=0)] = 16
    """Scale of what is added."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Dropout before the adapters."""
    orthogonality: Annotated[float, Field(ge=0)] = 0.5
    """Weight of the penalty on factors that are not orthogonal (eq. 4)."""
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of the steps before the first rank is masked."""
    rest: Annotated[float, Field(ge=0, lt=1)] = 0.25
    """Share of the steps, at the end, in which ranks stay as they are."""
    smoothing: Annotated[float, Field(gt=0, lt=1)] = 0.85
    """How slowly the running means of what matters change (beta 1 and 2, eq. 9 and 10)."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.target_rank >= self.initial_rank:
            raise ValueError(f"target_rank ({self.target_rank}) must be below initial_rank ({self.initial_rank})")
        if self.warmup + self.rest >= 1:
            raise ValueError(f"warmup and rest ({self.warmup:g} and {self.rest:g}) leave no step to mask ranks in")
        return self

    def peft_config(self, model: PreTrainedModel) -> PeftConfig:
        targets = self.targets(model)
        settings: PeftConfig = config_class(self.peft_type)(
            init_r=self.initial_rank,
            target_r=self.target_rank,
            lora_alpha=self.alpha,
            lora_dropout=self.dropout,
            beta1=self.smoothing,
            beta2=self.smoothing,
            total_step=1,  # known when the first step is made
            target_modules=list(targets),
            fan_in_fan_out=all(not isinstance(module, nn.Linear) for module in targets.values()),
        )
        return settings

    def wrap(self, model: PreTrainedModel, config: Any) -> PeftModel:
        wrapped = super().wrap(model, config)
        _parts(wrapped)[1].pattern = {}  # on PEFT's own config, it would have files without the masked ranks
        for name, parameter in wrapped.named_parameters():
            if ".ranknum." in name:  # PEFT has it trained and not saved
                parameter.requires_grad_(False)
        return wrapped

    def penalty(self, model: nn.Module) -> torch.Tensor | None:
        named = dict(model.named_parameters())
        factors: list[torch.Tensor] = [weight for name, weight in named.items() if ".lora_A." in name]
        factors += [weight.T for name, weight in named.items() if ".lora_B." in name]
        distances = [torch.linalg.matrix_norm(one @ one.T - torch.eye(len(one)).to(one)) for one in factors]
        return self.orthogonality * torch.stack(distances).mean()

    def after_gradients(self, model: nn.Module, step: int, total_steps: int) -> None:
        """Take note of how much every weight matters."""
        config, allocator = _parts(model)
        config.total_step, config.tfinal = total_steps, int(self.rest * total_steps)
        config.tinit = int(self.warmup * total_steps)
        if step < total_steps - config.tfinal:
            allocator.update_ipt(inner(model))

    def after_step(self, model: nn.Module, step: int, total_steps: int) -> None:
        """Mask the ranks that matter least, by the budget of the step; at the end they stay as they are."""
        config, allocator = _parts(model)
        budget, is_due = allocator.budget_schedule(step)
        last = total_steps - config.tfinal
        if step <= last and (is_due or step == last):
            allocator.pattern = allocator.mask_to_budget(inner(model), budget)
        elif step > last:
            allocator.mask_using_rank_pattern(inner(model), allocator.pattern)

    def state(self, model: nn.Module) -> dict[str, Any]:
        _, allocator = _parts(model)
        means = {f"{kind}/{name}": value for kind in STATISTICS for name, value in getattr(allocator, kind).items()}
        return {**means, "pattern": allocator.pattern}

    def load_state(self, model: nn.Module, state: Mapping[str, Any]) -> None:
        _, allocator = _parts(model)
        allocator.pattern = state["pattern"]
        for kind in STATISTICS:
            means = {name.removeprefix(f"{kind}/"): value for name, value in state.items() if name.startswith(kind)}
            setattr(allocator, kind, means)
            allocator.ipt = dict.fromkeys(means)


def _parts(model: Any) -> tuple[Any, Any]:
    return model.peft_config["default"], model.base_model.rankallocator
