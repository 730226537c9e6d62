"""Optimizers: those of ``torch.optim`` by name, stepping on fp32 masters.

The weights of the model may be bf16; the optimizer then holds an fp32 copy of every trained
one, steps on that, and writes the rounded result back. Updates smaller than a bf16 step
are therefore not lost. With fp32 weights the model's own parameters are the masters.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from pydantic import Field
from torch import nn

from tunesmith.config.base import Config
from tunesmith.methods.base import ParameterGroup
from tunesmith.types import InputError

ALIASES = {"adamw": "AdamW", "adam": "Adam", "sgd": "SGD", "adafactor": "Adafactor"}

NEED_A_CLOSURE_OR_SPARSE = {"LBFGS", "SparseAdam", "Optimizer"}


class OptimizerConfig(Config):
    """Which optimizer makes the steps."""

    name: str = "adamw"
    """adamw, adam, sgd, adafactor, or any other optimizer of torch.optim by its name (NAdam, RAdam, Muon, ...)."""
    weight_decay: float = Field(default=0.01, ge=0)
    """Decay of weight matrices and embeddings; biases and norms are exempt. Decoupled where the optimizer does so
    (AdamW; SGD and Adam add it to the gradient)."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Further arguments of the optimizer: {betas: [0.9, 0.98], eps: 1.0e-6} or {momentum: 0.9}."""

    def optimizer_class(self) -> type[torch.optim.Optimizer]:
        """Return the class of ``torch.optim``; ``InputError`` when there is none that fits."""
        available = {
            name: value
            for name, value in vars(torch.optim).items()
            if inspect.isclass(value)
            and issubclass(value, torch.optim.Optimizer)
            and name not in NEED_A_CLOSURE_OR_SPARSE
        }
        wanted = ALIASES.get(self.name.lower(), self.name)
        for name, value in available.items():
            if name.lower() == wanted.lower():
                return value
        raise InputError(
            f"train.optimizer.name: '{self.name}' is no optimizer that tunesmith can use.",
            f"Choose one of {', '.join(sorted(available))}.",
        )

    def build(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        """Return the optimizer over ``groups``; options that it does not take raise ``InputError``."""
        optimizer_class = self.optimizer_class()
        accepted = inspect.signature(optimizer_class.__init__).parameters
        options: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in self.options.items()
        }
        if unknown := sorted(set(options) - set(accepted)):
            raise InputError(
                f"train.optimizer.options: {optimizer_class.__name__} has no option {', '.join(unknown)}.",
                f"It takes {', '.join(name for name in accepted if name not in ('self', 'params', 'lr'))}.",
            )
        if optimizer_class in (torch.optim.AdamW, torch.optim.Adam, torch.optim.SGD):
            options.setdefault("fused", True)
        try:
            return optimizer_class(groups, **options)
        except (ValueError, TypeError) as error:
            raise InputError(
                f"train.optimizer: {optimizer_class.__name__} refuses these parameters or options: {error}",
                "Change train.optimizer.options, or choose adamw.",
            ) from error


@dataclass(frozen=True, slots=True)
class Penalties:
    """L1 and L2 penalties on the weights that decay applies to."""

    l1: float = 0.0
    l2: float = 0.0


class MasterOptimizer:
    """An optimizer of ``torch.optim`` over fp32 masters of a model's trained parameters.

    Use: ``collect()`` after each micro-batch's backward pass, then ``clip()`` and ``step(rate)``.
    """

    def __init__(
        self,
        model: nn.Module,
        groups: Iterable[ParameterGroup],
        config: OptimizerConfig,
        learning_rate: float,
        penalties: Penalties = Penalties(),
    ) -> None:
        parameters = dict(model.named_parameters())
        self.penalties = penalties
        self.names: list[str] = []
        self.parameters: list[nn.Parameter] = []
        self.masters: list[torch.Tensor] = []
        self._decayed: list[torch.Tensor] = []
        torch_groups: list[dict[str, Any]] = []
        for group in groups:
            masters = [_master(parameters[name]) for name in group.names]
            self.names += group.names
            self.parameters += [parameters[name] for name in group.names]
            self.masters += masters
            self._decayed += masters if group.decay else []
            torch_groups.append(
                {
                    "params": masters,
                    "lr": learning_rate * group.learning_rate_scale,
                    "scale": group.learning_rate_scale,
                    "weight_decay": config.weight_decay if group.decay else 0.0,
                }
            )
        self.optimizer = config.build(torch_groups)
        self._split = [
            (parameter, master)
            for parameter, master in zip(self.parameters, self.masters, strict=True)
            if parameter is not master
        ]

    def collect(self) -> None:
        """Add the gradients of bf16 weights to their masters' in fp32, and clear them."""
        for parameter, master in self._split:
            if parameter.grad is None:
                continue
            if master.grad is None:
                master.grad = parameter.grad.to(master.dtype)
            else:
                master.grad.add_(parameter.grad)
            parameter.grad = None

    def discard(self) -> None:
        """Forget all gradients."""
        for tensor in (*self.parameters, *self.masters):
            tensor.grad = None

    @property
    def has_gradients(self) -> bool:
        """Whether any master has a gradient."""
        return any(master.grad is not None for master in self.masters)

    def add_penalties(self) -> None:
        """Add the gradients of the L1 and L2 penalties."""
        if not (self.penalties.l1 or self.penalties.l2):
            return
        with torch.no_grad():
            for master in self._decayed:
                if master.grad is None:
                    continue
                if self.penalties.l1:
                    master.grad.add_(master.sign(), alpha=self.penalties.l1)
                if self.penalties.l2:
                    master.grad.add_(master, alpha=2 * self.penalties.l2)

    def gradient_norm(self) -> float:
        """Return the L2 norm of the whole gradient, accumulated in fp32 or wider."""
        gradients = [master.grad for master in self.masters if master.grad is not None]
        return float(torch.nn.utils.get_total_norm(gradients)) if gradients else 0.0

    def scale_gradients(self, factor: float) -> None:
        """Multiply every gradient by ``factor``."""
        torch._foreach_mul_([master.grad for master in self.masters if master.grad is not None], factor)

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        """Update the masters at ``learning_rate`` (times each group's scale) and the weights from them."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate * group["scale"]
        self.optimizer.step()
        for parameter, master in self._split:
            if master.grad is not None:
                parameter.copy_(master)
        self.discard()

    @torch.no_grad()
    def write_weights(self) -> None:
        """Set the model's weights from the masters."""
        for parameter, master in self._split:
            parameter.copy_(master)

    def master_weights(self) -> dict[str, torch.Tensor]:
        """Return the fp32 masters by parameter name."""
        return {name: master.detach() for name, master in zip(self.names, self.masters, strict=True)}

    @torch.no_grad()
    def load_master_weights(self, weights: Mapping[str, torch.Tensor]) -> None:
        """Set masters and weights from ``master_weights()`` of an equal optimizer."""
        for name, master in zip(self.names, self.masters, strict=True):
            master.copy_(weights[name])
        self.write_weights()

    def state(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """Return the optimizer's state as tensors by ``parameter/entry`` and the rest as JSON-ready values."""
        tensors: dict[str, torch.Tensor] = {}
        values: dict[str, Any] = {}
        for name, master in zip(self.names, self.masters, strict=True):
            for key, value in self.optimizer.state.get(master, {}).items():
                if isinstance(value, torch.Tensor):
                    tensors[f"{name}/{key}"] = value
                else:
                    values[f"{name}/{key}"] = value
        return tensors, values

    def load_state(self, tensors: Mapping[str, torch.Tensor], values: Mapping[str, Any]) -> None:
        """Set the optimizer's state from ``state()``."""
        masters = dict(zip(self.names, self.masters, strict=True))
        for entry, value in (*tensors.items(), *values.items()):
            name, _, key = entry.rpartition("/")
            self.optimizer.state[masters[name]][key] = value


def _master(parameter: nn.Parameter) -> torch.Tensor:
    """Return the parameter itself when it is fp32 or wider, else an fp32 copy."""
    if parameter.dtype in (torch.float32, torch.float64):
        return parameter
    return parameter.detach().float().requires_grad_()
