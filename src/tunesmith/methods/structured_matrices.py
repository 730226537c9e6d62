"""Adapters of few numbers whose products are whole matrices: relatives of LoRA, all by PEFT."""

from __future__ import annotations

from collections.abc import Mapping
from math import gcd
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field

from tunesmith.methods.orthogonal import require_divisor, size_of
from tunesmith.methods.targeted import TargetedMethod

if TYPE_CHECKING:
    from peft import PeftConfig, PeftModel
    from transformers import PreTrainedModel

Rank = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, lt=1)]
Scale = Annotated[float, Field(gt=0)]


class LoHa(TargetedMethod):
    """Add the elementwise product of two low-rank products (LoHa, Hyeon-Woo et al. 2021)."""

    name: Literal["loha"] = "loha"

    title: ClassVar[str] = "LoHa"
    default_learning_rate: ClassVar[float] = 2e-3
    peft_type: ClassVar[str] = "LOHA"
    peft_names: ClassVar[Mapping[str, str]] = {"rank": "r"}

    rank: Rank = 8
    """Inner size of each product."""
    alpha: Scale = 16
    """Scale of what is added (times 1 / rank)."""
    rank_dropout: Share = 0.0
    """Share of the ranks that is left out at random."""
    module_dropout: Share = 0.0
    """How often a layer does without its adapter, at random."""


class LoKr(LoHa):
    """Add a Kronecker product of a small matrix and a low-rank product (LoKr, Yeh et al. 2023)."""

    name: Literal["lokr"] = "lokr"  # type: ignore[assignment]

    title: ClassVar[str] = "LoKr"
    default_learning_rate: ClassVar[float] = 1e-3
    peft_type: ClassVar[str] = "LOKR"
    peft_names: ClassVar[Mapping[str, str]] = {"rank": "r", "factor": "decompose_factor"}

    factor: int = -1
    """Size of the small matrix; -1 for the nearest to a square that fits."""
    decompose_both: bool = False
    """Make the small matrix a low-rank product too."""


class Vera(TargetedMethod):
    """Train vectors between random matrices that all layers share (VeRA, Kopiczko et al. 2023)."""

    name: Literal["vera"] = "vera"

    title: ClassVar[str] = "VeRA"
    default_learning_rate: ClassVar[float] = 1e-2
    peft_type: ClassVar[str] = "VERA"
    turns: ClassVar[bool] = True
    peft_names: ClassVar[Mapping[str, str]] = {"rank": "r", "dropout": "vera_dropout", "seed": "projection_prng_key"}

    rank: Rank = 256
    """Inner size of the random matrices."""
    d_initial: Scale = 0.1
    """First value of the inner vectors."""
    dropout: Share = 0.0
    """Dropout before the random matrices."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Of the random matrices, which are saved with the adapter."""


class RandLora(TargetedMethod):
    """Train scales of full-rank sums of random low-rank matrices (RandLoRA, Albert et al. 2025)."""

    name: Literal["randlora"] = "randlora"

    title: ClassVar[str] = "RandLoRA"
    default_learning_rate: ClassVar[float] = 1e-3
    peft_type: ClassVar[str] = "RANDLORA"
    quantizes: ClassVar[bool] = True
    turns: ClassVar[bool] = True
    peft_names: ClassVar[Mapping[str, str]] = {
        "rank": "r",
        "alpha": "randlora_alpha",
        "dropout": "randlora_dropout",
        "seed": "projection_prng_key",
    }

    rank: Rank = 32
    """Inner size of each random matrix: the smaller, the more of them and the more that is trained."""
    alpha: Annotated[int, Field(ge=1)] = 640
    """Scale of what is added (times 1 / rank)."""
    dropout: Share = 0.0
    """Dropout before the random matrices."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Of the random matrices, which are saved with the adapter."""


class Miss(TargetedMethod):
    """Add a matrix of shards that are all the same (MiSS, Kang & Yin 2025)."""

    name: Literal["miss"] = "miss"

    title: ClassVar[str] = "MiSS"
    default_learning_rate: ClassVar[float] = 5e-4
    peft_type: ClassVar[str] = "MISS"
    peft_names: ClassVar[Mapping[str, str]] = {"rank": "r", "dropout": "miss_dropout"}

    rank: Rank = 16
    """Number of rows of a shard."""
    dropout: Share = 0.0
    """Dropout before the shards."""


class Shira(TargetedMethod):
    """Train few weights of each matrix, chosen at random, as many as LoRA would add (SHiRA, Bhardwaj et al. 2024)."""

    name: Literal["shira"] = "shira"

    title: ClassVar[str] = "SHiRA"
    default_learning_rate: ClassVar[float] = 1e-3
    peft_type: ClassVar[str] = "SHIRA"
    peft_names: ClassVar[Mapping[str, str]] = {"rank": "r", "seed": "random_seed"}

    rank: Rank = 8
    """The rank of the LoRA that has as many weights."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Of the choice."""

    def wrap(self, model: PreTrainedModel, config: Any) -> PeftModel:
        # As by default, but torch wants it to be said.
        torch.sparse.check_sparse_tensor_invariants.disable()  # type: ignore[no-untyped-call]
        return super().wrap(model, config)


class FourierFt(TargetedMethod):
    """Add the inverse Fourier transform of few coefficients (FourierFT, Gao et al. 2024)."""

    name: Literal["fourierft"] = "fourierft"

    title: ClassVar[str] = "FourierFT"
    default_learning_rate: ClassVar[float] = 3e-2
    peft_type: ClassVar[str] = "FOURIERFT"
    turns: ClassVar[bool] = True
    peft_names: ClassVar[Mapping[str, str]] = {"coefficients": "n_frequency", "seed": "random_loc_seed"}
    told: ClassVar[Mapping[str, Any]] = {"init_weights": True}

    coefficients: Annotated[int, Field(ge=1)] = 1000
    """How many of each matrix, at random places."""
    scaling: Scale = 150.0
    """Scale of what is added."""
    seed: Annotated[int, Field(ge=0)] = 777
    """Of the places."""


class C3a(TargetedMethod):
    """Add block-circulant matrices, computed by Fourier transforms (C3A, Chen et al. 2024)."""

    name: Literal["c3a"] = "c3a"

    title: ClassVar[str] = "C3A"
    default_learning_rate: ClassVar[float] = 3e-2
    peft_type: ClassVar[str] = "C3A"
    told: ClassVar[Mapping[str, Any]] = {"init_weights": True}

    block_size: Annotated[int, Field(ge=1)] | None = None
    """Size of a circulant block; when not given, half of the largest number that divides inputs and outputs of all."""

    def peft_options(self) -> dict[str, Any]:
        return {}

    def peft_config(self, model: PreTrainedModel) -> PeftConfig:
        targets = self.targets(model)
        found: Any = super().peft_config(model)
        if self.block_size is not None:
            require_divisor(self, "block_size", self.block_size, targets, "in_features", "out_features")
        sides = ("in_features", "out_features")
        largest = gcd(*(size_of(module, side) for module in targets.values() for side in sides))
        found.block_size = self.block_size or max(largest // 2, 1)
        return found  # type: ignore[no-any-return]
