"""Adapters that turn or reflect what layers read or make, instead of adding to it, all by PEFT."""

from __future__ import annotations

from collections.abc import Mapping
from math import gcd
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from tunesmith.methods.targeted import TargetedMethod
from tunesmith.types import InputError

if TYPE_CHECKING:
    from peft import PeftConfig
    from torch import nn
    from transformers import PreTrainedModel

Targets = Mapping[str, "nn.Module"]

Share = Annotated[float, Field(ge=0, lt=1)]


class Oft(TargetedMethod):
    """Turn the inputs of layers by orthogonal blocks (OFT, Qiu et al. 2023), by Cayley's transform of a series."""

    name: Literal["oft"] = "oft"

    title: ClassVar[str] = "OFT"
    default_learning_rate: ClassVar[float] = 1e-3
    peft_type: ClassVar[str] = "OFT"
    peft_names: ClassVar[Mapping[str, str]] = {"block_size": "oft_block_size", "dropout": "module_dropout"}

    block_size: Annotated[int, Field(ge=2)] = 32
    """Inputs that are turned among themselves; where it does not divide their number, the nearest that does."""
    dropout: Share = 0.0
    """Share of the blocks that stand still at random."""
    block_share: bool = False
    """Turn all blocks of a layer alike."""
    coft: bool = False
    """Keep the turns small (constrained OFT): within ``eps``."""
    eps: Annotated[float, Field(gt=0)] = 6e-5
    """How far constrained turns may go."""


class Boft(TargetedMethod):
    """Turn the outputs of layers by products of sparse orthogonal matrices (BOFT, Liu et al. 2024)."""

    name: Literal["boft"] = "boft"

    title: ClassVar[str] = "BOFT"
    default_learning_rate: ClassVar[float] = 1e-3
    peft_type: ClassVar[str] = "BOFT"
    peft_names: ClassVar[Mapping[str, str]] = {
        "block_size": "boft_block_size",
        "factors": "boft_n_butterfly_factor",
        "dropout": "boft_dropout",
    }

    block_size: Annotated[int, Field(ge=2)] = 4
    """Inputs that are turned among themselves in each factor."""
    factors: Annotated[int, Field(ge=1)] = 1
    """Number of sparse matrices."""
    dropout: Share = 0.0
    """Share of the blocks that stand still at random."""

    def peft_config(self, model: PreTrainedModel) -> PeftConfig:
        require_divisor(self, "block_size", self.block_size, self.targets(model), "in_features")
        return super().peft_config(model)


class Hra(TargetedMethod):
    """Reflect the inputs of layers a few times (Householder reflections; HRA, Yuan et al. 2024)."""

    name: Literal["hra"] = "hra"

    title: ClassVar[str] = "HRA"
    default_learning_rate: ClassVar[float] = 1e-3
    peft_type: ClassVar[str] = "HRA"
    peft_names: ClassVar[Mapping[str, str]] = {"rank": "r", "orthogonal": "apply_GS"}

    rank: Annotated[int, Field(ge=2, multiple_of=2)] = 8
    """Number of reflections: even, since they begin as pairs that undo each other."""
    orthogonal: bool = False
    """Make the mirrors orthogonal to each other (Gram and Schmidt)."""


class Road(TargetedMethod):
    """Turn the outputs of layers in pairs, and scale them (RoAd, Liao & Monz 2024)."""

    name: Literal["road"] = "road"

    title: ClassVar[str] = "RoAd"
    default_learning_rate: ClassVar[float] = 3e-3
    peft_type: ClassVar[str] = "ROAD"
    quantizes: ClassVar[bool] = True

    variant: Literal["road_1", "road_2", "road_4"] = "road_1"
    """How much of a pair is trained: one angle and scale, two or four."""
    group_size: Annotated[int, Field(ge=2, multiple_of=2)] | None = None
    """Outputs that are paired among themselves; when not given, 64 or the largest number that divides those of all."""

    def peft_options(self) -> dict[str, Any]:
        return {"variant": self.variant}

    def peft_config(self, model: PreTrainedModel) -> PeftConfig:
        targets = self.targets(model)
        found: Any = super().peft_config(model)
        if self.group_size is not None:
            require_divisor(self, "group_size", self.group_size, targets, "out_features")
        found.group_size = self.group_size or gcd(64, *(size_of(module, "out_features") for module in targets.values()))
        if found.group_size % 2:
            message = (
                f"The method '{self.name}' pairs outputs, and a layer of {type(model).__name__} has an odd number."
            )
            raise InputError(message, "Name other layers in method.target_modules, or use the method 'lora'.")
        return found  # type: ignore[no-any-return]


def require_divisor(method: TargetedMethod, option: str, value: int, targets: Targets, *sides: str) -> None:
    """Raise ``InputError`` where ``value`` does not divide the inputs or outputs of a layer that is adapted."""
    for name, module in targets.items():
        for side in sides:
            number = size_of(module, side)
            if number % value:
                largest = gcd(*(size_of(one, other) for one in targets.values() for other in sides))
                raise InputError(
                    f"method.{option} is {value}, which does not divide the {number} {side.partition('_')[0]}puts of "
                    f"{name}, as the method '{method.name}' needs.",
                    f"Choose a number that divides {largest}, or name other layers in method.target_modules.",
                )


def size_of(module: nn.Module, side: str) -> int:
    """Return the number of a linear layer's inputs (``in_features``) or outputs (``out_features``)."""
    return int(getattr(module, side))
