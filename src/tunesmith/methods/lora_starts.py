"""LoRA that begins elsewhere than at zero: PiSSA, OLoRA, CorDA and LoRA-GA.

Their first ``B A`` is not zero, and the authors take it away from the frozen weight: ``W - s B0 A0 + s B A``. Here
``W`` stays untouched, and the adapter has twice the rank: ``W + s [B, -B0] [A; A0]``, whose second half never changes.
That is the same function, and a plain LoRA: it is saved, loaded, merged and resumed as one, beside the base as it was
published, without rounding a weight anew. The first half is what PEFT's own initialisations give, in float32.

Shapes: O outputs and I inputs of a layer, R the rank.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import nn

from tunesmith.methods.calibration import Calibration
from tunesmith.methods.layer_statistics import input_statistics, weight_gradients
from tunesmith.methods.lora import Lora
from tunesmith.models.quiet import quiet
from tunesmith.types import InputError

if TYPE_CHECKING:
    from peft import PeftConfig
    from transformers import PreTrainedModel

Factors = tuple[torch.Tensor, torch.Tensor]
"""A0 [R, I] and B0 [O, R]."""


DAMPING = 0.01
"""Added to the diagonal of what CorDA inverts, whose mean is 1."""


class StartedLora(Lora):
    """LoRA that begins at factors of the method's choice, which a frozen half of the adapter takes away again."""

    shaping_options: ClassVar[tuple[str, ...] | None] = None

    init: Literal["default"] = "default"
    """Decided by the method."""

    def peft_config(self, model: PreTrainedModel) -> PeftConfig:
        if self.quantize != "none":
            message = f"method.quantize: the method '{self.name}' begins with factors of whole weights."
            raise InputError(message, "Set method.quantize to none, or use the method 'lora'.")
        _require_rank(self, self.targets(model))
        config = super().peft_config(model)
        config.r = 2 * self.rank  # type: ignore[attr-defined]
        config.lora_alpha = self._alpha * (2**0.5 if self.rslora else 2)  # type: ignore[attr-defined]
        return config

    def begin(self, layer: Any, factors: Factors) -> None:
        """Set an adapter so that it begins at ``factors`` and adds nothing yet."""
        down, up = factors
        layer.lora_A["default"].weight.data = torch.cat([down, down]).to(layer.lora_A["default"].weight)
        layer.lora_B["default"].weight.data = torch.cat([up, -up], dim=1).to(layer.lora_B["default"].weight)

    @torch.no_grad()
    def after_gradients(self, model: nn.Module, step: int, total_steps: int) -> None:
        """Leave no gradient for the halves that stay, and note what they are: weight decay would change them too."""
        for layer, down, up in _adapters(model):
            if down.grad is not None and up.grad is not None:
                down.grad[len(down) // 2 :], up.grad[:, up.shape[1] // 2 :] = 0, 0
                vars(layer)[_STAYS] = down[len(down) // 2 :].clone(), up[:, up.shape[1] // 2 :].clone()

    @torch.no_grad()
    def after_step(self, model: nn.Module, step: int, total_steps: int) -> None:
        """Put the halves that stay back."""
        for layer, down, up in _adapters(model):
            kept = vars(layer).pop(_STAYS, None)
            if kept is not None:
                down[len(down) // 2 :], up[:, up.shape[1] // 2 :] = kept


_STAYS = "tunesmith_half_that_stays"
"""Attribute of an adapted layer, between the gradients of a step and its end."""


class Pissa(StartedLora):
    """LoRA that begins at the principal singular vectors of the weights (PiSSA, Meng et al. 2024)."""

    name: Literal["pissa"] = "pissa"  # type: ignore[assignment]

    title: ClassVar[str] = "PiSSA"
    default_learning_rate: ClassVar[float] = 1.5e-4

    iterations: int = Field(default=4, ge=0, le=100)
    """Subspace iterations of the fast singular value decomposition."""

    def apply(self, model: PreTrainedModel) -> nn.Module:
        wrapped = super().apply(model)
        for layer, _, _ in _adapters(wrapped):
            self.begin(layer, _first_factors(self, layer, f"pissa_niter_{self.iterations}"))
        return wrapped


class Olora(StartedLora):
    """LoRA that begins at an orthonormal basis of the weights, from their QR decomposition (OLoRA, Büyükakyüz 2024)."""

    name: Literal["olora"] = "olora"  # type: ignore[assignment]

    title: ClassVar[str] = "OLoRA"
    default_learning_rate: ClassVar[float] = 1.5e-4

    def apply(self, model: PreTrainedModel) -> nn.Module:
        wrapped = super().apply(model)
        for layer, _, _ in _adapters(wrapped):
            self.begin(layer, _first_factors(self, layer, "olora"))
        return wrapped


class CalibratedStart(StartedLora):
    """One whose first factors follow from training rows."""

    calibration_rows: int = Field(default=256, ge=1)
    """Training rows that are looked at before the first step."""

    @property
    def num_calibration_rows(self) -> int:
        return self.calibration_rows

    def take_calibration(self, model: nn.Module, found: Mapping[str, torch.Tensor]) -> None:
        for name, layer in named_adapters(model):
            self.begin(layer, (found[f"{name}.A"], found[f"{name}.B"]))


class Corda(CalibratedStart):
    """LoRA that begins at directions of the weights chosen by what the layers read (CorDA, Yang et al. 2024)."""

    name: Literal["corda"] = "corda"  # type: ignore[assignment]

    title: ClassVar[str] = "CorDA"
    default_learning_rate: ClassVar[float] = 1.5e-4

    keeps: Literal["instruction", "knowledge"] = "instruction"
    """Begin at the largest directions, for the task (`instruction`), or at the smallest, to forget little."""

    def calibrate(self, model: nn.Module, rows: Calibration) -> Mapping[str, torch.Tensor]:
        found: dict[str, torch.Tensor] = {}
        for name, layer, read in input_statistics(named_adapters(model), rows):
            moment_II = read.second_moment  # at mean 1, so that A and B are of one size whatever is read
            moment_II = moment_II / moment_II.diagonal().mean().clamp(min=1e-20)
            down, up = self._factors(_plain(layer).weight, moment_II)
            root = layer.scaling["default"] ** 0.5
            found[f"{name}.A"], found[f"{name}.B"] = down / root, up / root
        return found

    def _factors(self, weight_OI: torch.Tensor, moment_II: torch.Tensor) -> Factors:
        """Return factors of a part of the weight: from ``W C = U S V'``, that is ``U S V' C^-1`` of some directions.

        Section 3 of the paper, equations 2 to 4; PEFT's own code of it needs a package that it does not name.
        """
        damped_II = moment_II + DAMPING * torch.eye(len(moment_II)).to(moment_II)
        left, sizes, right = torch.linalg.svd(weight_OI @ damped_II, full_matrices=False)
        chosen = slice(0, self.rank) if self.keeps == "instruction" else slice(len(sizes) - self.rank, len(sizes))
        roots = sizes[chosen].sqrt()
        inverse_RI = torch.linalg.solve(damped_II, right[chosen].T).T  # C is symmetric
        return roots[:, None] * inverse_RI, left[:, chosen] * roots


class LoraGa(CalibratedStart):
    """LoRA that begins along the gradient of the whole weights (LoRA-GA, Wang et al. 2024)."""

    name: Literal["lora_ga"] = "lora_ga"  # type: ignore[assignment]

    title: ClassVar[str] = "LoRA-GA"
    default_learning_rate: ClassVar[float] = 3e-4

    direction: Literal["ArBr", "A2rBr", "ArB2r", "random"] = "ArB2r"
    """Which singular vectors of the gradient become ``A``, and which ``B``."""
    scale: Literal["stable", "weight_svd", "gd_scale", "unit"] = "stable"
    """How large the first factors are."""
    stable_gamma: int = Field(default=16, ge=1)
    """The larger, the smaller the first factors of the scale `stable`."""

    def calibrate(self, model: nn.Module, rows: Calibration) -> Mapping[str, torch.Tensor]:
        from peft.tuners.lora.config import LoraGAConfig

        settings = LoraGAConfig(direction=self.direction, scale=self.scale, stable_gamma=self.stable_gamma)
        found: dict[str, torch.Tensor] = {}
        for name, layer, gradient in weight_gradients(named_adapters(model), rows):
            plain: Any = _plain(layer)
            plain._peft_loraga_grad = gradient
            found[f"{name}.A"], found[f"{name}.B"] = _factors_of(self, plain, "lora_ga", lora_ga_config=settings)
        return found


def named_adapters(model: nn.Module) -> list[tuple[str, Any]]:
    """Return the adapted linear layers of a model with LoRA, by name."""
    return [(name, module) for name, module in model.named_modules() if "default" in getattr(module, "lora_A", ())]


def _adapters(model: nn.Module) -> Iterator[tuple[Any, nn.Parameter, nn.Parameter]]:
    """Yield the adapted layers with their A [2R, I] and B [O, 2R]."""
    for _, layer in named_adapters(model):
        yield layer, layer.lora_A["default"].weight, layer.lora_B["default"].weight


def _require_rank(method: StartedLora, targets: Mapping[str, nn.Module]) -> None:
    """Refuse ranks of which a layer has not as many directions, and embeddings."""
    for name, module in targets.items():
        if isinstance(module, nn.Embedding):
            message = f"The method '{method.name}' begins at factors of linear layers; {name} is a table of embeddings."
            raise InputError(message, "Name linear layers in method.target_modules.")
        least = min(module.weight.shape)  # type: ignore[arg-type]
        needed = 2 * method.rank if isinstance(method, LoraGa) else method.rank
        if needed > least:
            message = f"method.rank: {name} has {least} directions, and the method '{method.name}' needs {needed}."
            raise InputError(message, f"Choose a rank of at most {least * method.rank // needed}.")


def _plain(layer: Any) -> nn.Linear:
    """Return a float32 copy of an adapted layer's weight as a linear layer, whichever way it lies in the model."""
    base = layer.get_base_layer()
    weight_OI = base.weight if isinstance(base, nn.Linear) else base.weight.T
    plain = nn.Linear(weight_OI.shape[1], weight_OI.shape[0], bias=False, device="meta")
    plain.weight = nn.Parameter(weight_OI.detach().float().clone(), requires_grad=False)
    return plain


def _first_factors(method: StartedLora, layer: Any, kind: str) -> Factors:
    return _factors_of(method, _plain(layer), kind)


def _factors_of(method: StartedLora, plain: nn.Linear, kind: str, **settings: Any) -> Factors:
    """Return what PEFT's initialisation ``kind`` makes of a linear layer, which it changes."""
    from peft import LoraConfig
    from peft.tuners.lora.layer import Linear

    with quiet():
        scale: Any = {"r": method.rank, "lora_alpha": method._alpha}
        started: Any = kind
        config = LoraConfig(**scale, use_rslora=method.rslora, init_lora_weights=started, **settings)
        made: Any = Linear(plain, "default", config=config, **scale)
    down, up = made.lora_A["default"].weight.detach(), made.lora_B["default"].weight.detach()
    return down, up
