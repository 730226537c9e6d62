"""Vectors before every row are trained in the place of tokens (Lester et al. 2021)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from tunesmith.methods.peft_method import PeftMethod
from tunesmith.models.quiet import quiet

if TYPE_CHECKING:
    from peft import PeftConfig
    from transformers import PreTrainedModel


class PromptTuning(PeftMethod):
    """Train a prompt of vectors, and the head."""

    name: Literal["prompt_tuning"] = "prompt_tuning"

    title: ClassVar[str] = "prompt tuning"
    default_learning_rate: ClassVar[float] = 1e-2
    peft_type: ClassVar[str] = "PROMPT_TUNING"

    length: Annotated[int, Field(ge=1)] = 4
    """How many vectors there are."""

    def peft_config(self, model: PreTrainedModel) -> PeftConfig:
        with quiet():
            from peft import PromptTuningConfig

        return PromptTuningConfig(num_virtual_tokens=self.length)
