"""Which optimizer makes the steps: by name, of torch.optim, bitsandbytes or pytorch-optimizer."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

import torch
from pydantic import Field

from tunesmith.config.base import Config, nearest
from tunesmith.engine.optimizer_trial import require_resumable
from tunesmith.models.quiet import quiet
from tunesmith.types import InputError, MissingExtraError

ALIASES = {"adamw": "AdamW", "adam": "Adam", "sgd": "SGD", "adafactor": "Adafactor"}

NEED_A_CLOSURE_OR_SPARSE = {"LBFGS", "SparseAdam", "Optimizer"}

EIGHT_BITS = "8bit"
"""How names of bitsandbytes' optimizers end."""

PROJECTED: Mapping[str, Mapping[str, Any]] = {
    "GaLore": {"rank": 64, "update_proj_gap": 200, "scale": 1.0, "projection_type": "std"},
    "APOLLO": {"rank": 64, "update_proj_gap": 200, "scale": 1.0, "projection_type": "std", "scale_type": "channel"},
    "Fira": {"rank": 64, "update_proj_gap": 200, "scale": 1.0, "projection_type": "std"},
}
"""Optimizers that keep the moments of matrices at a low rank -> options of theirs that pytorch-optimizer gives no
default, or another one: the interval is that of the GaLore paper, and with a scale of 1 rates are those of AdamW."""


class OptimizerConfig(Config):
    """Which optimizer makes the steps."""

    name: str = "adamw"
    """adamw, adam, sgd, adafactor, or any other optimizer of torch.optim by its name (NAdam, RAdam, ...); with less
    memory AdamW8bit or Lion8bit of bitsandbytes; or GaLore, APOLLO, Lion, CAME or any other of pytorch-optimizer."""
    weight_decay: float = Field(default=0.01, ge=0)
    """Decay of weight matrices and embeddings; biases and norms are exempt. Decoupled where the optimizer does so
    (AdamW; SGD and Adam add it to the gradient)."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Further arguments of the optimizer: {betas: [0.9, 0.98], eps: 1.0e-6} or {momentum: 0.9}."""

    def optimizer_class(self) -> type[torch.optim.Optimizer]:
        """Return the class; ``InputError`` when there is none that fits, or its package is not installed."""
        wanted = ALIASES.get(self.name.lower(), self.name)
        known = _of_torch()
        found = known.get(wanted.lower())
        if found is None and wanted.lower().endswith(EIGHT_BITS):
            known |= _of_bitsandbytes(self.name)
            found = known.get(wanted.lower())
        elif found is None and find_spec("pytorch_optimizer") is not None:
            known |= _of_pytorch_optimizer()
            found = known.get(wanted.lower())
        if found is not None:
            return found
        names = sorted({one.__name__ for one in _of_torch().values()})
        hint = nearest(wanted.lower(), sorted(known))
        raise InputError(
            f"train.optimizer.name: '{self.name}' is no optimizer that tunesmith can use.",
            f"{hint + ' ' if hint else ''}Choose one of {', '.join(names)}; AdamW8bit or Lion8bit of bitsandbytes; or "
            "GaLore, APOLLO, Lion, CAME and others of pytorch-optimizer (pip install 'tunesmith[optimizers]').",
        )

    def build(self, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        """Return the optimizer over ``groups``; options that it does not take raise ``InputError``.

        So do optimizers of other packages that cannot be resumed exactly, which is tried on small weights.
        """
        optimizer_class = self.optimizer_class()
        own = PROJECTED.get(optimizer_class.__name__, {})
        accepted = [
            name
            for name, one in inspect.signature(optimizer_class.__init__).parameters.items()
            if one.kind is not inspect.Parameter.VAR_KEYWORD and name not in ("self", "params", "lr")
        ]
        accepted += [name for name in own if name not in accepted]
        options: dict[str, Any] = {**own} | {
            key: tuple(value) if isinstance(value, list) else value for key, value in self.options.items()
        }
        if unknown := sorted(set(options) - set(accepted)):
            raise InputError(
                f"train.optimizer.options: {optimizer_class.__name__} has no option {', '.join(unknown)}.",
                f"It takes {', '.join(accepted)}.",
            )
        if optimizer_class in (torch.optim.AdamW, torch.optim.Adam, torch.optim.SGD):
            options.setdefault("fused", True)
        if not optimizer_class.__module__.startswith("torch."):
            require_resumable(optimizer_class, options)
        try:
            return optimizer_class(groups, **options)
        except (ValueError, TypeError) as error:
            raise InputError(
                f"train.optimizer: {optimizer_class.__name__} refuses these parameters or options: {error}",
                "Change train.optimizer.options, or choose adamw.",
            ) from error


def _of_torch() -> dict[str, type[torch.optim.Optimizer]]:
    """Return the optimizers of torch, by name in small letters."""
    return {
        name.lower(): value
        for name, value in vars(torch.optim).items()
        if inspect.isclass(value) and issubclass(value, torch.optim.Optimizer) and name not in NEED_A_CLOSURE_OR_SPARSE
    }


def _of_bitsandbytes(asked: str) -> dict[str, type[torch.optim.Optimizer]]:
    """Return those of bitsandbytes whose moments have 8 bits; pages of them are moved on CUDA alone."""
    if find_spec("bitsandbytes") is None:
        raise MissingExtraError(f"train.optimizer.name: {asked}", "bitsandbytes", "quantize")
    with quiet():
        from bitsandbytes import optim
    return {
        name.lower(): value
        for name, value in vars(optim).items()
        if name.endswith(EIGHT_BITS) and not name.startswith("Paged")
    }


def _of_pytorch_optimizer() -> dict[str, type[torch.optim.Optimizer]]:
    with quiet():
        import pytorch_optimizer
    names = pytorch_optimizer.get_supported_optimizers()
    elsewhere = ("bnb", "q_galore", "torchao")  # these ask for CUDA, and for packages of their own
    return {
        name.lower(): pytorch_optimizer.load_optimizer(name)
        for name in names
        if not name.startswith(elsewhere) and name not in {one.lower() for one in NEED_A_CLOSURE_OR_SPARSE}
    }
