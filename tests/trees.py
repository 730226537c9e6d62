"""A small configuration tree with one of everything: sections, choices, shorthands, limits."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, PositiveInt, SerializeAsAny, field_validator, model_validator

from tunesmith.config.base import Choice, Config


class Method(Config):
    name: str
    layer_decay: float = Field(default=1.0, gt=0, le=1)
    """Factor on the learning rate per layer."""


class Full(Method):
    name: Literal["full"] = "full"


class Freeze(Method):
    name: Literal["freeze"] = "freeze"
    layers: PositiveInt = 1
    """How many layers are trained."""


class Lora(Method):
    name: Literal["lora"] = "lora"
    rank: PositiveInt = 8
    """Rank of the update."""
    targets: tuple[str, ...] = ()
    """Names of layers."""


METHODS: dict[str, type[Config]] = {"full": Full, "freeze": Freeze, "lora": Lora}


class Source(Config):
    name: str
    """Hub id or folder."""
    max_length: int | None = Field(default=None, ge=8)
    """Longest row in tokens."""


class Lstm(Source):
    name: Literal["lstm"] = "lstm"
    width: int = 64
    """Units per direction."""


class Pretrained(Source):
    revision: str | None = None
    """Version on the hub."""


class Clean(Config):
    unicode: Literal["NFC", "NFKC", "none"] = "NFC"
    """Unicode form."""
    duplicates: bool = True
    """Leave out repeated rows."""


class Data(Config):
    path: str = Field(min_length=1)
    """Where the rows are."""
    columns: dict[str, str] = Field(default_factory=dict)
    """Role to column."""
    header: bool | None = None
    """Whether there is a header."""
    fractions: list[float] = [0.1, 0.1]
    """Shares of validation and test."""
    folder: Path | None = None
    """Where to put things."""
    clean: Clean = Clean()

    @field_validator("path")
    @classmethod
    def _no_star(cls, path: str) -> str:
        if "*" in path:
            raise ValueError("globs are not supported")
        return path


class Optimizer(Config):
    name: str = "adamw"
    """Name in torch.optim."""
    options: dict[str, Any] = {}
    """Further arguments."""


class Train(Config):
    epochs: float = Field(default=3.0, gt=0)
    """Passes over the rows."""
    batch_size: PositiveInt = 32
    """Rows per step."""
    low: int = 0
    high: int = 10
    optimizer: Annotated[Optimizer, Choice("optimizer", {}, default=Optimizer)] = Optimizer()

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low > self.high:
            raise ValueError(f"low ({self.low}) must not exceed high ({self.high})")
        return self


class Root(Config):
    model: Annotated[SerializeAsAny[Source], Choice("model", {"lstm": Lstm}, default=Pretrained)]
    data: Annotated[Data, Choice("data", {}, default=Data, key="path")]
    task: Annotated[SerializeAsAny[Method] | None, Choice("task", METHODS)] = None
    method: Annotated[SerializeAsAny[Method], Choice("method", METHODS)] = Full()
    train: Train = Train()
    output: str | None = None
    """Folder to create."""
