"""The common ground of methods whose weights PEFT puts into a model, or around it."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from torch import nn

from tunesmith.methods.base import LoadingCode, Method, ParameterGroup
from tunesmith.methods.groups import group_parameters
from tunesmith.methods.virtual_tokens import complete, require_place_before_rows
from tunesmith.models.adapter_layers import read_adapter_config
from tunesmith.models.anatomy import Anatomy
from tunesmith.models.failures import said
from tunesmith.models.origin import origin
from tunesmith.models.pinning import ADAPTER_WEIGHTS, check_base, describe_base, write_tensors
from tunesmith.models.quantized import quantize
from tunesmith.models.quiet import quiet
from tunesmith.models.safety import check_adapter_folder
from tunesmith.models.wrapping import inner, names_inside, plain_name, takes_images, writes_from_encoder
from tunesmith.types import InputError

if TYPE_CHECKING:
    from peft import PeftConfig, PeftModel
    from transformers import PreTrainedModel

# The task type makes plain `peft` pick the class whose forward suits the head. That for question answering keeps
# token_type_ids from the model; without a type they reach it.
_TASK_TYPES = {
    "ForSequenceClassification": "SEQ_CLS",
    "ForTokenClassification": "TOKEN_CLS",
    "ForCausalLM": "CAUSAL_LM",
    "LMHeadModel": "CAUSAL_LM",
    "ForConditionalGeneration": "SEQ_2_SEQ_LM",
    "MTModel": "SEQ_2_SEQ_LM",
    "Model": "FEATURE_EXTRACTION",
}


class PeftMethod(Method):
    """A method of PEFT's: its options, ``peft_type``, ``peft_config``, and what is special about it.

    What PEFT adds is trained; so is the task's head, whole, and whatever else of the model has new weights. They are
    saved together in PEFT's format, which plain ``transformers`` and ``peft`` load.
    """

    result: ClassVar[Literal["model", "adapter", "own"]] = "adapter"
    peft_type: ClassVar[str]
    """What PEFT calls the method in ``adapter_config.json``."""
    quantizes: ClassVar[bool] = False
    """Whether PEFT has a form of the method for quantised layers, or leaves them alone."""
    trains_what_is_saved: ClassVar[bool] = True
    """Whether what is saved is what is trained, and not what that makes."""

    quantize: Literal["none", "nf4", "int8"] = "none"
    """Keep the frozen linear layers in 4 bits (`nf4`: QLoRA, Dettmers et al. 2023) or 8 bits (`int8`)."""

    @property
    def kind(self) -> str:
        """What PEFT calls the method in ``adapter_config.json``."""
        return self.peft_type

    def peft_config(self, model: PreTrainedModel) -> PeftConfig:
        """Return PEFT's settings for ``model``, but for those that are the same for every method.

        Raises ``InputError`` when the method does not fit the model, naming what would.
        """
        raise NotImplementedError

    def also_trains(self, name: str) -> bool:
        """Say whether a weight of the base model, by its name there, is trained besides head and adapter."""
        return False

    def rate_of(self, name: str) -> float:
        """Return a factor on the learning rate of a trained parameter."""
        return 1.0

    def apply(self, model: PreTrainedModel) -> nn.Module:
        """Return the ``PeftModel`` around ``model``, whose own weights are frozen (and quantised, if asked for).

        Raises ``InputError`` when the method does not fit the model.
        """
        if self.quantize != "none" and not self.quantizes:
            message = f"method.quantize: PEFT has no form of the method '{self.name}' for layers in 4 or 8 bits."
            raise InputError(message, "Set method.quantize to none, or use the method 'lora'.")
        config: Any = self.peft_config(model)
        known = origin(model)
        config.task_type = _task_type(model)
        config.revision = known.revision if known else None
        new = list(Anatomy.of(model).new_modules)
        if new and not hasattr(config, "modules_to_save"):
            raise InputError(
                f"The method '{self.name}' does not fit {type(model).__name__}: its {', '.join(new)} is new, and PEFT "
                "saves nothing of that kind with it.",
                "Use it for a language model whose weights are all there, or another method, such as lora.",
            )
        if new:
            config.modules_to_save = new
        self._quantize(model)
        try:
            return self.wrap(model, config)
        except (InputError, AssertionError, MemoryError):
            raise
        except Exception as error:  # PEFT refuses in many ways what it has no layer of its own for
            raise InputError(
                f"The method '{self.name}' does not fit {type(model).__name__}: {said(error)}", "Use another method."
            ) from error

    def _quantize(self, model: PreTrainedModel) -> None:
        if self.quantize != "none":
            quantize(model, self.quantize)

    def wrap(self, model: PreTrainedModel, config: Any) -> PeftModel:
        """Let PEFT put its weights into ``model`` and check that exactly what should be trained is trainable."""
        from peft import get_peft_model

        anatomy = Anatomy.of(model)
        head, loose = {plain_name(name) for name in anatomy.head_parameter_names}, set(anatomy.loose_parameter_names)
        own = {name for name, _ in model.named_parameters()}
        if config.is_prompt_learning:
            complete(config, self.name, model)
        with quiet():
            wrapped: PeftModel = get_peft_model(model, config)
        if config.is_prompt_learning:
            require_place_before_rows(self.name, wrapped)
        inside = names_inside(wrapped)
        for name, parameter in wrapped.named_parameters():
            if inside.get(name) in loose:  # PEFT trains modules only
                parameter.requires_grad_(True)
        if getattr(config, "modules_to_save", None) is not None:
            config.modules_to_save = sorted(set(config.modules_to_save))  # PEFT repeats usual names
        trained = {inside.get(name, name) for name, parameter in wrapped.named_parameters() if parameter.requires_grad}
        of_base = {name for name in trained & own if name in head or not self.also_trains(name)}
        assert trained - own, "nothing was added to the model"
        assert of_base == head, sorted(of_base ^ head)
        return wrapped

    def loading_code(self, auto_class: str, num_outputs: int | None) -> LoadingCode | None:
        """Return the code of the model card; None where PEFT's scores are not one for every token that was given.

        They are not of tokens before which it puts others.
        """
        with quiet():
            from peft import PromptLearningConfig
        puts_before = issubclass(config_class(self.kind), PromptLearningConfig)
        if puts_before and auto_class == "AutoModelForTokenClassification":
            return None
        return super().loading_code(auto_class, num_outputs)

    def parameter_groups(self, model: nn.Module) -> list[ParameterGroup]:
        names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
        return group_parameters(model, names, self, self.rate_of)

    def save(self, model: nn.Module, folder: Path) -> None:
        """Write ``adapter_config.json`` and ``adapter_model.safetensors``: equal weights give equal files."""
        folder.mkdir(parents=True, exist_ok=True)
        config = copy.copy(_config(model))
        if getattr(config, "target_modules", None) is not None:
            config.target_modules = sorted(config.target_modules)  # a set, in no stable order
        if hasattr(config, "modules_to_save"):
            config.modules_to_save = sorted(set(config.modules_to_save or ())) or None
        config.inference_mode = True
        with quiet():
            config.save_pretrained(str(folder))
        tensors = {name: tensor.contiguous() for name, tensor in _state(model).items()}
        base = describe_base(origin(model))
        write_tensors(tensors, folder / ADAPTER_WEIGHTS, {"format": "pt", **base})

    def load(self, model: PreTrainedModel, folder: Path) -> nn.Module:
        """Return a ``PeftModel`` around ``model`` with the saved adapter and head, ready to be trained on.

        What the folder's ``adapter_config.json`` says of the adapter counts. Raises ``InputError``
        when files are damaged, or the adapter was trained beside another model or other weights.
        """
        check_adapter_folder(folder)
        with quiet():
            from peft import set_peft_model_state_dict
        from safetensors.torch import load_file

        config = read_adapter_config(folder, model, self.kind)
        check_base(folder, origin(model))
        config.inference_mode = False
        config.base_model_name_or_path = None
        self._quantize(model)
        with torch.random.fork_rng(devices=[]):  # first values are replaced below
            try:
                trained = self.wrap(model, config)
            except InputError:
                raise
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
        _config(trained).inference_mode = not self.trains_what_is_saved
        return trained


def config_class(kind: str) -> Any:
    """Return the class of PEFT's settings for what it calls ``kind`` (``LORA``)."""
    with quiet():  # importing PEFT imports bitsandbytes, which has something to say
        from peft import PEFT_TYPE_TO_CONFIG_MAPPING, PeftType

        return PEFT_TYPE_TO_CONFIG_MAPPING[PeftType(kind)]


def _config(model: nn.Module) -> Any:
    return model.peft_config["default"]  # type: ignore[index]


def _state(model: nn.Module) -> dict[str, torch.Tensor]:
    """Return adapter and head by PEFT's file names, each weight once."""
    from peft import get_peft_model_state_dict

    with quiet():
        state: dict[str, torch.Tensor] = get_peft_model_state_dict(model, save_embedding_layers=False)
    inside, loose = names_inside(model), set(Anatomy.of(model).loose_parameter_names)
    # PEFT loads every weight that it finds by its name in a file, so that loose ones need no module of their own.
    state |= {name: tensor.detach() for name, tensor in model.named_parameters() if inside.get(name) in loose}
    # With bias "all", PEFT lists the head's biases a second and third time under its wrapper's own names,
    # and that of a tied output layer under both of its names.
    named = set(inside.values())
    every = {plain_name(name) for name, _ in inner(model).named_parameters(remove_duplicate=False)}
    kept = {
        name: tensor
        for name, tensor in state.items()
        if not re.search(r"\.(modules_to_save|original_module)\.", name)
        and (plain_name(name) in named or plain_name(name) not in every)
    }
    # What all layers share (random matrices) is listed for each of them, and once for all.
    first: dict[tuple[Any, ...], str] = {}
    for name in sorted(kept, key=lambda name: (f"{plain_name(name)}.default" not in named, name.count("."))):
        first.setdefault((kept[name].data_ptr(), kept[name].shape), name)
    return {name: tensor for name, tensor in kept.items() if first[tensor.data_ptr(), tensor.shape] == name}


def _task_type(model: PreTrainedModel) -> str | None:
    if takes_images(model) and not writes_from_encoder(model) and Anatomy.of(model).output_embeddings is not None:
        return None  # PEFT has no name for models that see and write
    name = type(model).__name__
    return next((task for suffix, task in _TASK_TYPES.items() if name.endswith(suffix)), None)
