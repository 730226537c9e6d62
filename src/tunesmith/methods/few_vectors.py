"""Methods that train few of a model's vectors, or some beside them: scales, norms, rows of the vocabulary, by PEFT."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import field_validator

from tunesmith.methods.peft_method import PeftMethod, config_class
from tunesmith.methods.targeted import TargetedMethod
from tunesmith.models.anatomy import Anatomy
from tunesmith.types import InputError

if TYPE_CHECKING:
    from peft import PeftConfig
    from transformers import PreTrainedModel


class Ia3(TargetedMethod):
    """Train a vector per layer that scales its outputs (IA3, Liu et al. 2022), of every linear layer unless named."""

    name: Literal["ia3"] = "ia3"

    title: ClassVar[str] = "IA3"
    default_learning_rate: ClassVar[float] = 1e-2
    peft_type: ClassVar[str] = "IA3"
    quantizes: ClassVar[bool] = True
    turns: ClassVar[bool] = True
    told: ClassVar[Mapping[str, Any]] = {"feedforward_modules": []}


class LnTuning(PeftMethod):
    """Train the norms, and the head (LN tuning, Qi et al. 2022)."""

    name: Literal["ln_tuning"] = "ln_tuning"

    title: ClassVar[str] = "LN tuning"
    default_learning_rate: ClassVar[float] = 3e-3
    peft_type: ClassVar[str] = "LN_TUNING"
    quantizes: ClassVar[bool] = True

    def peft_config(self, model: PreTrainedModel) -> PeftConfig:
        new = tuple(f"{name}." for name in Anatomy.of(model).new_modules)
        norms = [
            name
            for name, module in model.named_modules()
            if "norm" in type(module).__name__.lower() and any(True for _ in module.parameters(recurse=False))
        ]
        kept = [name for name in norms if not f"{name}.".startswith(new or ("\0",))]
        if not kept:
            message = f"The method 'ln_tuning' trains norms, and {type(model).__name__} has none below its head."
            raise InputError(message, "Use the method 'full' or 'freeze'.")
        return config_class(self.peft_type)(target_modules=kept)  # type: ignore[no-any-return]


class TrainableTokens(PeftMethod):
    """Train the rows of some tokens in the vocabulary, and the head: for tokens that are new, or mean something new."""

    name: Literal["trainable_tokens"] = "trainable_tokens"

    title: ClassVar[str] = "training of chosen tokens"
    default_learning_rate: ClassVar[float] = 1e-2
    peft_type: ClassVar[str] = "TRAINABLE_TOKENS"
    quantizes: ClassVar[bool] = True

    token_indices: tuple[int, ...] = ()
    """The ids of the tokens, as the tokenizer has them, such as `101,102`."""

    @field_validator("token_indices", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        if isinstance(value, int) and not isinstance(value, bool):
            return (value,)
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    def check(self) -> None:
        if not self.token_indices:
            raise InputError(
                "method.token_indices is empty: the method 'trainable_tokens' trains the tokens that are named there.",
                "Give their ids, such as --method.token_indices 101,102.",
            )

    def peft_config(self, model: PreTrainedModel) -> PeftConfig:
        self.check()
        table: Any = model.get_input_embeddings()
        name = next((name for name, module in model.named_modules() if module is table), None)
        if name is None:
            message = f"The method 'trainable_tokens' trains rows of a vocabulary, and {type(model).__name__} has none."
            raise InputError(message, "Use the method 'full' or 'freeze'.")
        size = len(table.weight)
        if wrong := [index for index in self.token_indices if not 0 <= index < size]:
            message = f"method.token_indices holds {wrong[0]}, and the model's vocabulary has {size:,} tokens."
            raise InputError(message, f"Choose ids from 0 to {size - 1:,}.")
        indices = sorted(set(self.token_indices))
        return config_class(self.peft_type)(token_indices=indices, target_modules=[name])  # type: ignore[no-any-return]
