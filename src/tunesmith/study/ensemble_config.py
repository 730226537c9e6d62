"""How runs are made one."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from tunesmith.config.base import Config

How = Literal["average", "stack", "soup", "linear", "ties", "dare"]


class EnsembleConfig(Config):
    """How finished runs are combined."""

    how: How = "average"
    """What they answer is averaged (`average`) or weighed by a small model (`stack`), or their weights become one
    model's: the mean of runs (`soup`), or of what they changed (`linear`), where they agree (`ties`) or a random part
    of it (`dare`)."""
    weights: Literal["equal", "tuned"] | tuple[float, ...] = "equal"
    """How much each counts: all alike, as is best on the validation rows, or these numbers."""
    selection: Literal["greedy", "uniform"] = "greedy"
    """Of a soup: only runs that make it better on the validation rows, tried from the best on, or all."""
    density: float | None = Field(default=None, gt=0, le=1)
    """The share of each run's change that is kept: 0.2 for `ties` and 0.5 for `dare` when not given."""
    seed: int = Field(default=0, ge=0, lt=2**32)
    """Of what `dare` keeps."""
    copies: bool = False
    """Keep copies of the members in the ensemble's folder."""
    out_of_fold: tuple[str, ...] = ()
    """Folders of cross-validations, one for each run in their order, that `stack` learns from."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if isinstance(self.weights, tuple) and (min(self.weights) < 0 or sum(self.weights) <= 0):
            raise ValueError("weights are 0 or more, and not all 0")
        if self.how == "stack" and self.weights != "equal":
            raise ValueError("stacking learns its own weights; leave weights out")
        if self.out_of_fold and self.how != "stack":
            raise ValueError("out_of_fold is what stacking learns from; set how to stack, or leave it out")
        if self.copies and self.how not in ("average", "stack"):
            raise ValueError("a merged model needs no copies of its members; leave copies out")
        if self.density is not None and self.how not in ("ties", "dare"):
            raise ValueError("density is for ties and dare; leave it out")
        return self

    @property
    def is_one_model(self) -> bool:
        """Whether the result is a model of its own."""
        return self.how not in ("average", "stack")

    @property
    def kept_share(self) -> float:
        """The density that counts."""
        return self.density or (0.2 if self.how == "ties" else 0.5)
