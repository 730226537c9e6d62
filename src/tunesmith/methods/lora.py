"""Low-rank adaptation: small trained matrices beside the frozen ones, in PEFT's layers and file format."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator
from torch import nn

from tunesmith.methods.peft_method import config_class
from tunesmith.methods.targeted import TargetedMethod

if TYPE_CHECKING:
    from peft import PeftConfig
    from transformers import PreTrainedModel


class Lora(TargetedMethod):
    """LoRA (Hu et al. 2022): ``W x`` becomes ``W x + (alpha / rank) B A x``; ``A`` and ``B`` are trained, ``W`` is not.

    The task's head is trained whole and saved with the adapter, and so is whatever else of the
    model has new weights (BERT's pooler, when the checkpoint had none). A language model's output
    layer is no head: it is neither adapted nor trained, unless its own weights are new; what is tied
    to the embeddings never is. Saved in PEFT's format:
    plain ``transformers`` and ``peft`` load it. ``A`` is initialised from torch's global random
    state; ``B`` is zero, so that training starts from the pretrained model exactly.
    """

    name: Literal["lora"] = "lora"

    title: ClassVar[str] = "LoRA"
    default_learning_rate: ClassVar[float] = 5e-4
    REFERENCE_ALPHA: ClassVar[float] = 32.0
    """The ``alpha`` that the rate is named for."""
    peft_type: ClassVar[str] = "LORA"
    quantizes: ClassVar[bool] = True
    turns: ClassVar[bool] = True
    adapts_tables: ClassVar[bool] = True
    shaping_options: ClassVar[tuple[str, ...] | None] = (
        "target_modules",
        "layers_to_transform",
        "quantize",
        "dora",
        "bias",
    )

    rank: Annotated[int, Field(ge=1)] = 8
    """Inner size of the added matrices."""
    alpha: Annotated[float, Field(gt=0)] | None = None
    """Scale of what is added (times 1 / rank); twice the rank when not given."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Dropout before ``A``."""
    rslora: bool = False
    """Scale by alpha / sqrt(rank) instead (Kalajdzievski 2023), for high ranks."""
    dora: bool = False
    """Train direction and magnitude of the weights apart (DoRA, Liu et al. 2024)."""
    lora_plus_ratio: Annotated[float, Field(gt=0)] = 1.0
    """Factor on the learning rate of ``B`` (LoRA+, Hayou et al. 2024; the authors suggest 16)."""
    bias: Literal["none", "all", "lora_only"] = "none"
    """Which biases of the base model are trained as well."""
    init: Literal["default", "gaussian"] = "default"
    """How ``A`` is initialised: uniform (He et al. 2015, as in Microsoft's LoRA code), or Gaussian."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.quantize != "none" and self.bias != "none":
            raise ValueError("biases of quantised layers cannot be trained; set bias to none, or quantize to none")
        return self

    def rate_factor(self) -> float:
        """Undo what ``alpha`` does: a step moves ``W`` by rate x alpha (x root of rank, if so scaled), at any rank."""
        alpha = self._alpha * (math.sqrt(self.rank) if self.rslora else 1.0)
        factor = self.REFERENCE_ALPHA / alpha / math.sqrt(self.lora_plus_ratio)
        return min(max(factor, 0.1), 4.0)

    @property
    def _alpha(self) -> float:
        return self.alpha if self.alpha is not None else 2 * self.rank

    @property
    def detail(self) -> str:
        return f"rank {self.rank}"

    @property
    def leaves_weights_unread(self) -> bool:
        return type(self) is Lora and self.quantize == "none" and not self.dora  # others begin with what weights are

    def peft_config(self, model: PreTrainedModel) -> PeftConfig:
        """Return a ``LoraConfig``; ``InputError`` when the model has no linear layer, or a target's name fits none."""
        targets = self.targets(model)
        settings: PeftConfig = config_class(self.peft_type)(
            r=self.rank,
            lora_alpha=self._alpha,
            lora_dropout=self.dropout,
            target_modules=list(targets),
            use_rslora=self.rslora,
            use_dora=self.dora,
            bias=self.bias,
            init_lora_weights=True if self.init == "default" else self.init,
            fan_in_fan_out=all(not isinstance(module, nn.Linear) for module in targets.values()),
        )
        return settings

    def also_trains(self, name: str) -> bool:
        return self.bias != "none" and name.endswith("bias")

    def rate_of(self, name: str) -> float:
        return self.lora_plus_ratio if ".lora_B." in name or ".lora_embedding_B." in name else 1.0
