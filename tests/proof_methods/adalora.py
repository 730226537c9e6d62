"""Low-rank adapters whose ranks move to where they matter while training goes on (Zhang et al. 2023)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import nn

from tunesmith.methods.peft_method import PeftMethod
from tunesmith.methods.targets import find_targets
from tunesmith.models.quiet import quiet
from tunesmith.models.wrapping import inner

if TYPE_CHECKING:
    from peft import PeftConfig, PeftModel
    from transformers import PreTrainedModel

STATISTICS = ("exp_avg_ipt", "exp_avg_unc")


class AdaLora(PeftMethod):
    """Train adapters of three factors, of whose ranks the least important ones are masked: algorithm 1 of the paper."""

    name: Literal["adalora"] = "adalora"

    title: ClassVar[str] = "AdaLoRA"
    default_learning_rate: ClassVar[float] = 1e-3
    peft_type: ClassVar[str] = "ADALORA"

    initial_rank: Annotated[int, Field(ge=2)] = 4
    """Rank of every adapter in the beginning."""
    target_rank: Annotated[int, Field(ge=1)] = 2
    """Mean rank in the end; below the initial one."""
    orthogonality: Annotated[float, Field(ge=0)] = 0.5
    """Weight of the penalty on factors that are not orthogonal (eq. 4)."""

    def peft_config(self, model: PreTrainedModel) -> PeftConfig:
        targets = find_targets(model, method=self.name)
        with quiet():
            from peft import AdaLoraConfig
        sizes = {"init_r": self.initial_rank, "target_r": self.target_rank, "lora_alpha": 2 * self.target_rank}
        is_turned = all(not isinstance(module, nn.Linear) for module in targets.values())
        # How many steps there are is known when the first one is made.
        return AdaLoraConfig(**sizes, total_step=1, target_modules=list(targets), fan_in_fan_out=is_turned)

    def wrap(self, model: PreTrainedModel, config: Any) -> PeftModel:
        wrapped = super().wrap(model, config)
        _parts(wrapped)[1].pattern = {}  # on PEFT's own config, it would have files without the masked ranks
        for name, parameter in wrapped.named_parameters():
            if ".ranknum." in name:  # PEFT has it trained and not saved
                parameter.requires_grad_(False)
        return wrapped

    def penalty(self, model: nn.Module) -> torch.Tensor | None:
        named = dict(model.named_parameters())
        factors = [weight for name, weight in named.items() if ".lora_A." in name]
        factors += [weight.T for name, weight in named.items() if ".lora_B." in name]
        distances = [torch.linalg.matrix_norm(one @ one.T - torch.eye(len(one)).to(one)) for one in factors]
        return self.orthogonality * torch.stack(distances).mean()

    def after_gradients(self, model: nn.Module, step: int, total_steps: int) -> None:
        """Take note of how much every weight matters."""
        config, allocator = _parts(model)
        config.total_step, config.tfinal = total_steps, total_steps // 4
        if step < total_steps - config.tfinal:
            allocator.update_ipt(inner(model))

    def after_step(self, model: nn.Module, step: int, total_steps: int) -> None:
        """Mask the ranks that matter least, by the budget of the step; in the last quarter they stay as they are."""
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
