"""What is trained in a case: data, model and recipe, the same for tunesmith and its peer."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Workload:
    """A training that several tools make of the same files."""

    model: str = "sample:minilm"
    data: Literal["rotten-tomatoes", "chat", "translation", "preferences", "search"] = "rotten-tomatoes"
    """``chat``: the school problems of GSM8K where ``TUNESMITH_TEST_DATA`` has them, else ``sample:small-talk``.

    The other three are made of the same questions and answers: an answer is written, preferred to that of another
    question, or found among those of others.
    """
    rows: int = 2400
    epochs: int = 1
    max_steps: int | None = None
    max_length: int = 256
    batch_size: int = 32
    learning_rate: float = 5e-5
    weight_decay: float = 0.01
    warmup: float = 0.1
    """Share of the steps over which the rate rises linearly; it then falls linearly to zero."""
    clip_norm: float = 1.0
    method: dict[str, Any] = field(default_factory=lambda: {"name": "full"})
    """``full``; ``lora`` with ``rank`` and, if not all, ``layers``; ``freeze`` with ``layers``, or all but the head."""


LORA_RATE = 3e-4

TASKS: dict[str, dict[str, Any]] = {
    "rotten-tomatoes": {"name": "classification"},
    "chat": {"name": "causal_lm"},
    "translation": {"name": "seq2seq"},
    "preferences": {"name": "preference"},
    "search": {"name": "embedding"},
}

MINILM = Workload()
MINILM_LORA = Workload(learning_rate=LORA_RATE, method={"name": "lora", "rank": 8})
FROZEN: dict[str, Any] = {"rows": 640, "epochs": 5, "learning_rate": 1e-4}
CHAT: dict[str, Any] = {
    "model": "sample:smollm2-135m-instruct",
    "data": "chat",
    "rows": 120,
    "max_length": 512,
    "batch_size": 8,
}
SMOLLM2_LORA = Workload(**CHAT, learning_rate=LORA_RATE, method={"name": "lora", "rank": 16})
SMOLLM2_FULL = Workload(**CHAT, learning_rate=2e-5)
TRANSLATION = Workload(
    model="bart-small", data="translation", rows=640, batch_size=16, learning_rate=3e-4, max_length=512
)
PREFERENCES = replace(SMOLLM2_LORA, data="preferences", rows=32, batch_size=4, learning_rate=LORA_RATE)
SEARCH = Workload(data="search", rows=640, max_length=512)
