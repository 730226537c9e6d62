"""Every other method that the installed PEFT has, by PEFT's own name and with PEFT's own options: ``peft:HIRA``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import torch
from pydantic import Field, field_validator

from tunesmith.config.base import nearest
from tunesmith.methods.peft_method import config_class
from tunesmith.methods.targeted import TargetedMethod
from tunesmith.models.failures import said
from tunesmith.models.modes import evaluating
from tunesmith.models.quiet import quiet
from tunesmith.models.wrapping import inner, inputs_for, names_inside
from tunesmith.types import InputError

if TYPE_CHECKING:
    from peft import PeftConfig, PeftModel
    from transformers import PreTrainedModel

FAMILY = "peft:"

_DECIDED = (
    *("peft_type", "auto_mapping", "peft_version", "base_model_name_or_path", "revision", "task_type"),
    *("inference_mode", "modules_to_save", "target_modules", "layers_to_transform"),
)
"""What tunesmith tells PEFT itself."""


class AnyPeft(TargetedMethod):
    """Train by any method of the installed PEFT: ``--method peft:HIRA --method.options.r 16``.

    It is as PEFT has it: its rate has to be found, and whether it fits a model shows when it is put into it, before
    anything is trained.
    """

    name: Annotated[str, Field(pattern=rf"^{FAMILY}\w+$")] = f"{FAMILY}NAME"

    default_learning_rate: ClassVar[float] = 1e-3
    quantizes: ClassVar[bool] = True
    turns: ClassVar[bool] = True
    adapts_tables: ClassVar[bool] = True

    options: dict[str, Any] = Field(default_factory=dict)
    """PEFT's own options of the method, by its names, such as {r: 16}; targets are given by `target_modules`."""

    @field_validator("name")
    @classmethod
    def _as_peft_writes_it(cls, value: str) -> str:
        return FAMILY + value.removeprefix(FAMILY).upper()

    @property
    def kind(self) -> str:
        return self.name.removeprefix(FAMILY)

    def check(self) -> None:
        known = _kinds()
        if self.kind not in known:
            near = nearest(self.kind, known).replace("'", f"'{FAMILY}", 1)
            shown = ", ".join(sorted(known))
            raise InputError(f"The installed PEFT has no method {self.kind!r}.", f"{near} It has {shown}.".strip())
        fields = config_class(self.kind).__dataclass_fields__
        if decided := [name for name in self.options if name in _DECIDED]:
            message = f"method.options.{decided[0]}: tunesmith tells PEFT that itself."
            raise InputError(message, "Use method.target_modules and method.layers_to_transform, or leave it out.")
        if unknown := [name for name in self.options if name not in fields]:
            own = sorted(set(fields) - set(_DECIDED))
            message = f"method.options.{unknown[0]}: PEFT's {self.kind} has no such option."
            raise InputError(message, f"{nearest(unknown[0], own)} It has {', '.join(own)}.".strip())

    def peft_config(self, model: PreTrainedModel) -> PeftConfig:
        self.check()
        kind = config_class(self.kind)
        fields, told = kind.__dataclass_fields__, dict(self.options)
        if "target_modules" in fields:
            told["target_modules"] = list(self.targets(model))
        elif "num_virtual_tokens" in fields:
            told.setdefault("num_virtual_tokens", 20)
        try:
            with quiet():
                return kind(**told)  # type: ignore[no-any-return]
        except Exception as error:  # each kind has checks of its own
            message = f"PEFT's {self.kind} refuses its options: {said(error)}."
            raise InputError(message, "Give others by method.options.") from error

    def wrap(self, model: PreTrainedModel, config: Any) -> PeftModel:
        before = {name: _checksum(parameter) for name, parameter in model.named_parameters()}
        try:
            wrapped = super().wrap(model, config)
        except AssertionError as error:  # it adds nothing, or trains the model's own weights
            raise self._refusal(model, "it does not train weights beside the model's own") from error
        inside = names_inside(wrapped)
        own = {inside[name]: _checksum(parameter) for name, parameter in wrapped.named_parameters() if name in inside}
        if changed := [name for name, value in before.items() if own.get(name, value) != value]:
            raise self._refusal(model, f"it changes the model's own weights ({changed[0]})")
        _require_scores(self, wrapped)
        return wrapped

    def _refusal(self, model: PreTrainedModel, reason: str) -> InputError:
        message = f"PEFT's {self.kind} cannot be used with {type(model).__name__}: {reason}."
        return InputError(message, "Use another method, such as lora.")


def _kinds() -> list[str]:
    with quiet():
        from peft import PEFT_TYPE_TO_CONFIG_MAPPING
    return [str(kind.value) for kind in PEFT_TYPE_TO_CONFIG_MAPPING]


def _checksum(parameter: torch.Tensor) -> tuple[float, float]:
    if not parameter.is_floating_point():
        return float(parameter.numel()), 0.0
    values = parameter.detach().double()
    return float(values.sum()), float(values.square().sum())


def _require_scores(method: AnyPeft, wrapped: PeftModel) -> None:
    """Raise ``InputError`` where the model cannot run with what PEFT put into it."""
    ids = torch.ones((2, 4), dtype=torch.long, device=next(wrapped.parameters()).device)
    end = getattr(inner(wrapped).config.get_text_config(), "eos_token_id", None)
    ids[:, -1] = end if isinstance(end, int) else 1  # some heads read there
    try:
        with torch.no_grad(), quiet(), evaluating(wrapped):
            wrapped(**inputs_for(wrapped, ids))
    except Exception as error:  # a model may refuse in any way it likes
        raise method._refusal(inner(wrapped), f"it cannot run ({said(error)})") from error
