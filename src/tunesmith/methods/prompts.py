"""Vectors, or states of vectors, that are trained in the place of tokens before every row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from tunesmith.methods.peft_method import PeftMethod, config_class

if TYPE_CHECKING:
    from peft import PeftConfig
    from transformers import PreTrainedModel


class VirtualTokens(PeftMethod):
    """A method that puts something before every row, which takes places from it; the model stays as it is."""

    quantizes: ClassVar[bool] = True

    length: Annotated[int, Field(ge=1)] = 20
    """How many vectors there are."""

    def peft_config(self, model: PreTrainedModel) -> PeftConfig:
        settings: PeftConfig = config_class(self.peft_type)(num_virtual_tokens=self.length, **self.peft_options())
        return settings

    def peft_options(self) -> dict[str, Any]:
        """Return what else PEFT is told."""
        return {}


class PromptTuning(VirtualTokens):
    """Train a prompt of vectors, and the head (Lester et al. 2021)."""

    name: Literal["prompt_tuning"] = "prompt_tuning"

    title: ClassVar[str] = "prompt tuning"
    default_learning_rate: ClassVar[float] = 1e-2
    peft_type: ClassVar[str] = "PROMPT_TUNING"


class PTuning(VirtualTokens):
    """Train a small network that makes the prompt's vectors (P-tuning, Liu et al. 2021); what it makes is saved."""

    name: Literal["p_tuning"] = "p_tuning"

    title: ClassVar[str] = "P-tuning"
    default_learning_rate: ClassVar[float] = 1e-3
    peft_type: ClassVar[str] = "P_TUNING"
    trains_what_is_saved: ClassVar[bool] = False

    hidden_size: Annotated[int, Field(ge=1)] = 128
    """Width of the network."""
    network: Literal["MLP", "LSTM"] = "MLP"
    """Of linear layers, or recurrent before these."""

    def peft_options(self) -> dict[str, Any]:
        return {"encoder_hidden_size": self.hidden_size, "encoder_reparameterization_type": self.network}


class PrefixTuning(VirtualTokens):
    """Train keys and values that every layer's attention finds before the row (Li & Liang 2021)."""

    name: Literal["prefix_tuning"] = "prefix_tuning"

    title: ClassVar[str] = "prefix tuning"
    default_learning_rate: ClassVar[float] = 1e-2
    peft_type: ClassVar[str] = "PREFIX_TUNING"
