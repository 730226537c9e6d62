"""How the next token of an answer is chosen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import GenerationConfig


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is chosen: the likeliest one, or drawn."""

    max_new_tokens: int
    stop_tokens: frozenset[int]
    """Ids that end an answer; no part of it, unless ``keeps_end``."""
    pad_token_id: int
    temperature: float = 0.0
    """0 takes the likeliest token; above, scores are divided by it before drawing."""
    top_p: float = 1.0
    """Draw only from the likeliest tokens that together have this probability (Holtzman et al. 2020)."""
    seed: int = 0
    search: Mapping[str, Any] = field(default_factory=dict)
    """How an answer is searched for besides, as settings of ``GenerationConfig`` of ``transformers`` (beams)."""
    keeps_end: bool = False
    """Whether the token that ends an answer is given as its last one."""

    def config(self, model: Any) -> GenerationConfig:
        """Return the same for ``transformers``."""
        from transformers import GenerationConfig

        drawn = {"do_sample": True, "temperature": self.temperature, "top_p": self.top_p, "top_k": 0}
        return GenerationConfig(  # type: ignore[no-untyped-call]
            max_new_tokens=self.max_new_tokens,
            eos_token_id=sorted(self.stops(model)) or None,
            pad_token_id=self.pad_token_id,
            use_cache=True,
            **self.search,
            **(drawn if self.temperature > 0 else {"do_sample": False}),
        )

    def stops(self, model: Any) -> frozenset[int]:
        """Return the ids that end an answer; those that the model itself names as ends count too."""
        own = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
        return self.stop_tokens | set(own if isinstance(own, list) else [] if own is None else [own])
