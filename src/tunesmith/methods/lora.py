"""Low-rank adaptation: small trained matrices beside the frozen ones, in PEFT's layers and file format."""

from __future__ import annotations

import copy
import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

import torch
from pydantic import Field, field_validator, model_validator
from torch import nn

from tunesmith.config.base import nearest
from tunesmith.methods.base import Method, ParameterGroup
from tunesmith.methods.groups import group_parameters
from tunesmith.models.adapter_layers import read_adapter_config
from tunesmith.models.anatomy import Anatomy, is_linear
from tunesmith.models.failures import said
from tunesmith.models.origin import origin
from tunesmith.models.pinning import ADAPTER_WEIGHTS, check_base, describe_base, write_tensors
from tunesmith.models.quantized import quantize
from tunesmith.models.quiet import quiet
from tunesmith.models.safety import check_adapter_folder
from tunesmith.models.wrapping import plain_name
from tunesmith.types import InputError, Problem

if TYPE_CHECKING:
    from peft import LoraConfig, PeftModel
    from transformers import PreTrainedModel

ALL_LINEAR: Literal["all-linear"] = "all-linear"

LAYERS = r"^(all|top [1-9][0-9]*)$"

# The task type makes plain `peft` pick the class whose forward suits the head.
_TASK_TYPES = {
    "ForSequenceClassification": "SEQ_CLS",
    "ForTokenClassification": "TOKEN_CLS",
    "ForQuestionAnswering": "QUESTION_ANS",
    "ForCausalLM": "CAUSAL_LM",
    "LMHeadModel": "CAUSAL_LM",
    "ForConditionalGeneration": "SEQ_2_SEQ_LM",
}


class Lora(Method):
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
    saves_adapter: ClassVar[bool] = True
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
    target_modules: Literal["all-linear"] | tuple[str, ...] = ALL_LINEAR
    """Which modules are adapted: every linear layer below the head, or module names (or their last parts)."""
    layers_to_transform: tuple[Annotated[int, Field(ge=0)], ...] | Annotated[str, Field(pattern=LAYERS)] = "all"
    """Which layers are adapted: all, `top 2` (or as many), or indices counted from 0 at the bottom, such as `4,5`; of
    an encoder-decoder, the encoder's come first. What is below the lowest one is computed once for the whole run."""
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
    quantize: Literal["none", "nf4", "int8"] = "none"
    """Keep the frozen linear layers in 4 bits (`nf4`: QLoRA, Dettmers et al. 2023) or 8 bits (`int8`)."""

    @field_validator("target_modules", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        if isinstance(value, str) and value != ALL_LINEAR:
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("layers_to_transform", mode="before")
    @classmethod
    def _list_layers(cls, value: Any) -> Any:
        if isinstance(value, int) and not isinstance(value, bool):
            return (value,)
        if isinstance(value, str) and re.fullmatch(r"[\d\s,]*\d[\d\s,]*", value):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return re.sub(r"^top[\s_-]*(?=\d)", "top ", value.strip()) if isinstance(value, str) else value

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

    def apply(self, model: PreTrainedModel) -> nn.Module:
        """Return the ``PeftModel`` around ``model``, whose own weights are frozen (and quantised, if asked for).

        Raises ``InputError`` when the model has no linear layer, or a target's name fits none.
        """
        targets = self._find_targets(model)
        modules_to_save = Anatomy.of(model).new_modules
        known = origin(model)
        with quiet():  # importing PEFT imports bitsandbytes, which has something to say
            from peft import LoraConfig

        config = LoraConfig(
            r=self.rank,
            lora_alpha=self._alpha,  # type: ignore[arg-type]
            lora_dropout=self.dropout,
            target_modules=list(targets),
            use_rslora=self.rslora,
            use_dora=self.dora,
            bias=self.bias,
            init_lora_weights=True if self.init == "default" else self.init,
            fan_in_fan_out=all(not isinstance(module, nn.Linear) for module in targets.values()),
            modules_to_save=list(modules_to_save) or None,
            task_type=_task_type(model),
            revision=known.revision if known else None,
        )
        self._quantize(model)
        return _wrap(model, config)

    def _quantize(self, model: PreTrainedModel) -> None:
        if self.quantize != "none":
            quantize(model, self.quantize)

    def parameter_groups(self, model: nn.Module) -> list[ParameterGroup]:
        names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]

        def factor(name: str) -> float:
            return self.lora_plus_ratio if ".lora_B." in name or ".lora_embedding_B." in name else 1.0

        return group_parameters(model, names, self.layer_decay, factor)

    def save(self, model: nn.Module, folder: Path) -> None:
        """Write ``adapter_config.json`` and ``adapter_model.safetensors``: equal weights give equal files."""
        folder.mkdir(parents=True, exist_ok=True)
        config = copy.copy(_config(model))
        config.target_modules = sorted(config.target_modules or ())  # a set, in no stable order
        config.modules_to_save = sorted(set(config.modules_to_save or ())) or None
        config.inference_mode = True
        with quiet():
            config.save_pretrained(str(folder))
        tensors = {name: tensor.contiguous() for name, tensor in _state(model).items()}
        base = describe_base(origin(model))
        write_tensors(tensors, folder / ADAPTER_WEIGHTS, {"format": "pt", **base})

    @property
    def detail(self) -> str:
        return f"rank {self.rank}"

    def load(self, model: PreTrainedModel, folder: Path) -> nn.Module:
        """Return a ``PeftModel`` around ``model`` with the saved adapter and head, ready to be trained on.

        What the folder's ``adapter_config.json`` says of the adapter counts. Raises ``InputError``
        when files are damaged, or the adapter was trained beside another model or other weights.
        """
        check_adapter_folder(folder)
        with quiet():
            from peft import set_peft_model_state_dict
        from safetensors.torch import load_file

        config = read_adapter_config(folder, model)
        check_base(folder, origin(model))
        config.inference_mode = False
        config.base_model_name_or_path = None
        self._quantize(model)
        with torch.random.fork_rng(devices=[]):  # A's first values are replaced below
            try:
                trained = _wrap(model, config)
            except ValueError as error:  # PEFT found no module of the names in the file
                raise InputError(
                    f"The adapter in {folder} does not fit this {type(model).__name__}: {said(error)}"
                ) from error
        saved = load_file(folder / ADAPTER_WEIGHTS)
        expected = {name: tensor.shape for name, tensor in _state(trained).items()}
        wrong = sorted(
            name for name in {*saved, *expected} if name not in saved or saved[name].shape != expected.get(name)
        )
        if wrong:
            raise InputError(
                f"The adapter in {folder} does not fit this {type(model).__name__}: {len(wrong)} of its weights are "
                f"missing, unknown or of another shape ({', '.join(wrong[:3])}{', …' if len(wrong) > 3 else ''}).",
                "Load it onto the base model that it was trained on.",
            )
        with quiet():
            set_peft_model_state_dict(trained, saved)
        return trained

    def _find_targets(self, model: PreTrainedModel) -> dict[str, nn.Module]:
        """Return the modules to adapt, by full name: those of ``target_modules`` within ``layers_to_transform``."""
        found = self._named_targets(model)
        if self.layers_to_transform == "all":
            return found
        anatomy = Anatomy.of(model)
        wanted = _layer_indices(self.layers_to_transform, anatomy.num_layers)
        within = tuple(f"{prefix}." for index, prefix in anatomy.layers if index in wanted)
        chosen = {name: module for name, module in found.items() if name.startswith(within)}
        if not chosen:
            raise InputError(
                f"method.layers_to_transform: none of method.target_modules is in {_shown(wanted)}.",
                "Choose other layers or other modules.",
            )
        return chosen

    def _named_targets(self, model: PreTrainedModel) -> dict[str, nn.Module]:
        anatomy = Anatomy.of(model)
        linear = anatomy.linear_modules
        if self.target_modules == ALL_LINEAR:
            if not linear:
                raise InputError(
                    f"The method 'lora' adapts linear layers, and {type(model).__name__} has none below its head.",
                    "Use the method 'full' or 'freeze'.",
                )
            return linear
        head = tuple(f"{name}." for name in anatomy.new_modules)
        tied = anatomy.tied_modules
        adaptable = {
            name: module
            for name, module in model.named_modules()
            if (is_linear(module) or isinstance(module, (nn.Embedding, nn.Conv1d)))
            and not f"{name}.".startswith(head or ("\0",))
            and name not in tied
        }
        if not self.target_modules:
            raise InputError("method.target_modules is empty.", f"Name modules, or set it to {ALL_LINEAR}.")
        found: dict[str, nn.Module] = {}
        problems = []
        for wanted in self.target_modules:
            fitting = {
                name: module for name, module in adaptable.items() if name == wanted or name.endswith(f".{wanted}")
            }
            found |= fitting
            if not fitting:
                problems.append(_unknown_target(wanted, adaptable, head, tied))
        if problems:
            raise InputError(problems)
        return found


def _layer_indices(given: tuple[int, ...] | str, num_layers: int) -> set[int]:
    """Return the layers, counted from 0, that ``layers_to_transform`` names."""
    if isinstance(given, str):
        number = int(given.removeprefix("top "))
        wanted = set(range(num_layers - number, num_layers))
        too_many = number > num_layers
    else:
        wanted = set(given)
        too_many = not wanted or max(wanted) >= num_layers
    if too_many:
        shown = given if isinstance(given, str) else ",".join(map(str, given)) or "empty"
        raise InputError(
            f"method.layers_to_transform is {shown}, but the model has {num_layers} layers.",
            f"Choose among 0 to {num_layers - 1}, or write 'top N' with N up to {num_layers}."
            if num_layers
            else "Leave it out.",
        )
    return wanted


def _shown(layers: set[int]) -> str:
    return f"layer{'s' if len(layers) > 1 else ''} {', '.join(map(str, sorted(layers)))}"


def _unknown_target(
    wanted: str, adaptable: dict[str, nn.Module], head: tuple[str, ...], tied: tuple[str, ...]
) -> Problem:
    known = sorted({name.rpartition(".")[2] for name in adaptable})
    if any(name == wanted or name.endswith(f".{wanted}") for name in tied):
        return Problem(
            "error",
            f"method.target_modules names {wanted!r}, whose weight other modules share ({', '.join(tied)}): an adapter "
            "would change it in one place only.",
            "Leave it out.",
        )
    if f"{wanted}.".startswith(head or ("\0",)):
        return Problem(
            "error",
            f"method.target_modules names {wanted!r}, which is part of the head; the head is trained whole.",
            "Leave it out.",
        )
    hint = nearest(wanted, known)
    return Problem(
        "error",
        f"method.target_modules names {wanted!r}, but the model has no such module that can be adapted.",
        f"{hint + ' ' if hint else ''}Known: {', '.join(known) or 'none'}; or {ALL_LINEAR}.",
    )


def _wrap(model: PreTrainedModel, config: LoraConfig) -> PeftModel:
    """Put PEFT's layers into ``model`` and check that exactly what should be trained is trainable."""
    from peft import get_peft_model

    anatomy = Anatomy.of(model)
    head, loose = set(anatomy.head_parameter_names), set(anatomy.loose_parameter_names)
    with quiet():
        wrapped: PeftModel = get_peft_model(model, config)
    for name, parameter in wrapped.named_parameters():
        if plain_name(name) in loose:  # PEFT trains modules only
            parameter.requires_grad_(True)
    if config.modules_to_save is not None:
        config.modules_to_save = sorted(set(config.modules_to_save))  # PEFT repeats usual names
    trained = {plain_name(name) for name, parameter in wrapped.named_parameters() if parameter.requires_grad}
    adapter = {name for name in trained if "lora_" in name}
    others = {name for name in trained - adapter if config.bias == "none" or not name.endswith("bias")}
    assert adapter
    assert others <= head, sorted(others - head)
    return wrapped


def _config(model: nn.Module) -> LoraConfig:
    config: LoraConfig = model.peft_config["default"]  # type: ignore[index, assignment]
    return config


def _state(model: nn.Module) -> dict[str, torch.Tensor]:
    """Return adapter and head by PEFT's file names, each weight once."""
    from peft import get_peft_model_state_dict

    with quiet():
        state: dict[str, torch.Tensor] = get_peft_model_state_dict(model, save_embedding_layers=False)
    # PEFT loads every weight that it finds by its name in a file, so that loose ones need no module of their own.
    loose = set(Anatomy.of(model).loose_parameter_names)
    state |= {name: tensor.detach() for name, tensor in model.named_parameters() if plain_name(name) in loose}
    # With bias "all", PEFT lists the head's biases a second and third time under its wrapper's own names,
    # and that of a tied output layer under both of its names.
    named = {plain_name(name) for name, _ in model.named_parameters()}
    return {
        name: tensor
        for name, tensor in state.items()
        if not re.search(r"\.(modules_to_save|original_module)\.", name)
        and ("lora_" in name or plain_name(name) in named)
    }


def _task_type(model: PreTrainedModel) -> str | None:
    name = type(model).__name__
    return next((task for suffix, task in _TASK_TYPES.items() if name.endswith(suffix)), None)
