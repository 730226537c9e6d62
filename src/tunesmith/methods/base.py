"""The contract of a method: which parameters are trained, and how.

A method is model surgery: ``apply`` receives a loaded model and returns the module that
is trained. The model's own code is never edited. What happens in the course of training
are the hooks of ``StepHooks``, and all that the engine knows of a method.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import Field

from tunesmith.config.base import BY_DATA, Config
from tunesmith.methods.calibration import Calibration
from tunesmith.methods.hooks import StepHooks
from tunesmith.methods.situation import Situation

if TYPE_CHECKING:
    import torch
    from torch import nn
    from transformers import PreTrainedModel


REFERENCE_WEIGHTS = 100_000_000
"""Weights below the vocabulary of the model that methods name their rate for: about those of BERT base."""
REFERENCE_ROWS = 32
"""Rows a step that they name it for."""


@dataclass(frozen=True, slots=True)
class ParameterGroup:
    """Parameters that share a learning rate and a weight decay."""

    names: tuple[str, ...]
    """Names as ``named_parameters()`` of the trained module gives them."""
    learning_rate_scale: float
    """Factor on the schedule's learning rate (layer-wise decay, LoRA+)."""
    decay: bool
    """Whether weight decay applies (not to biases and norms)."""
    places: Mapping[str, torch.Tensor] = field(default_factory=dict)
    """Of weights of which a part alone is trained, by name: where in the flattened weight that is, int64 [K]. The
    optimizer remembers nothing of the others and never changes them."""


@dataclass(frozen=True, slots=True)
class LoadingCode:
    """Python that makes ``model``, ready to predict, of the files in ``folder``."""

    library: str
    """The package that it takes, as the hub calls it."""
    imports: tuple[str, ...]
    """Names by package, as import lines."""
    lines: tuple[str, ...]


RATE_OPTIONS = frozenset({"layer_decay", "head_factor"})
"""The options that say how fast parts of a model learn, and nothing of the model before its first step."""


class Method(Config, StepHooks):
    """Which parameters are trained, and how. One file and one entry of ``METHODS`` each."""

    name: str

    default_learning_rate: ClassVar[float]
    """Peak rate that suits a pretrained model of ``REFERENCE_WEIGHTS`` in steps of ``REFERENCE_ROWS``."""
    trains_everything: ClassVar[bool] = False
    """Whether every weight of the model is trained."""
    result: ClassVar[Literal["model", "adapter", "own"]]
    """What ``save`` writes: a whole model; an adapter in PEFT's layout, beside a base model; or something beside a base
    model in a form of its own, which ``load`` alone reads."""
    changes_sizes: ClassVar[bool] = False
    """Whether the model is smaller after ``take_calibration``: what it costs is measured before and after."""
    shaping_options: ClassVar[tuple[str, ...] | None] = None
    """The options that decide, but for weights drawn from the seed, what the model computes before its first step and
    what of it stays frozen; None for all but ``RATE_OPTIONS``."""

    title: ClassVar[str] = ""
    """What it is called in a sentence, after "fine-tuned by"; its name when empty."""

    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Factor on the learning rate per layer below the head (1 = the same rate everywhere)."""
    head_factor: Annotated[float, Field(gt=0)] | None = Field(default=None, json_schema_extra=BY_DATA)
    """Factor on the learning rate of the head that is new for the task: it begins with nothing, the rest with much."""

    def without_rates(self) -> dict[str, Any]:
        """Return all options but ``RATE_OPTIONS``, as JSON values."""
        return self.model_dump(mode="json", exclude=set(RATE_OPTIONS))

    def shape(self) -> dict[str, Any]:
        """Return the options that ``shaping_options`` names, as JSON values."""
        options = self.without_rates()
        return {key: options[key] for key in self.shaping_options or options}

    def rate_factor(self) -> float:
        """Return what the method's options ask for as a factor on ``default_learning_rate``."""
        return 1.0

    def check(self) -> None:
        """Raise ``InputError`` where the options cannot be used with any model: asked before anything is read."""

    def settled(self, model: PreTrainedModel, situation: Situation) -> Self:
        """Return the method with what it leaves open chosen for a model as loaded and for what is to be learned.

        What is chosen becomes a part of the run's configuration: a resumed run is not asked again.
        """
        return self

    def should_stop(self, model: nn.Module, step: int, total_steps: int, value: float) -> bool:
        """Look at an evaluation, whose ``value`` is the better the higher it is; say whether to end the training.

        Called after every evaluation that the configuration asks for, before the checkpoint of the step.
        """
        return False

    def decisions(self, model: nn.Module) -> Sequence[Mapping[str, Any]]:
        """Return what the method decided while it trained: each with ``step``, ``what`` and ``reason``."""
        return ()

    def apply(self, model: PreTrainedModel) -> nn.Module:
        """Return the module to train, with ``requires_grad`` set on what is trained.

        Raises ``InputError`` when the method does not fit the model, naming what would.
        """
        raise NotImplementedError

    @property
    def leaves_weights_unread(self) -> bool:
        """Whether ``apply`` neither looks at what the weights are nor changes it: they may still be in files."""
        return False

    @property
    def num_calibration_rows(self) -> int:
        """How many training rows ``calibrate`` is shown; 0 where the method looks at none."""
        return 0

    def calibrate(self, model: nn.Module, rows: Calibration) -> Mapping[str, torch.Tensor]:
        """Return what is learned of ``rows`` with what ``apply`` made, which stays as it is.

        Tensors by names of the method's choice; what is shorter than float32 is kept in it. Torch's random numbers
        begin at the run's seed.
        """
        raise NotImplementedError

    def take_calibration(self, model: nn.Module, found: Mapping[str, torch.Tensor]) -> None:
        """Set ``model`` up from what ``calibrate`` returned, before the optimizer is made.

        Trained weights are in float32 meanwhile, with their exact values. They may be changed, replaced, frozen or
        thawed: ``parameter_groups`` is asked again. Frozen weights may be shared with other runs: they may be
        replaced, never written to. The tensors come on the model's device; torch's random numbers begin at the run's
        seed.
        """
        raise NotImplementedError

    def parameter_groups(self, model: nn.Module) -> list[ParameterGroup]:
        """Return groups that together hold each parameter ever trained exactly once."""
        raise NotImplementedError

    def save(self, model: nn.Module, folder: Path) -> None:
        """Write the trained model into ``folder`` in the Hugging Face or PEFT layout, as safetensors."""
        raise NotImplementedError

    def load(self, model: PreTrainedModel, folder: Path) -> nn.Module:
        """Return the trained module: ``model`` (as loaded for this run) with what ``save`` wrote in it.

        Only of methods whose result needs its base; ``tunesmith.models.load_trained`` opens whole models.
        """
        raise NotImplementedError

    def dense(self, model: nn.Module) -> nn.Module:
        """Return the trained module as plain ``transformers`` has it, with equal scores; it may be changed in place.

        Of methods whose result is of a form of its own: ``tunesmith restore`` writes it.
        """
        raise NotImplementedError

    @property
    def needs_base(self) -> bool:
        """Whether what ``save`` wrote is opened by ``load``, beside the base model that was trained on."""
        return self.result != "model"

    @property
    def detail(self) -> str:
        """What sets it apart from the same method in other runs, in a word or two: ``rank 16``."""
        return ""

    def loading_code(self, auto_class: str, num_outputs: int | None) -> LoadingCode | None:
        """Return the code of the model card that loads what ``save`` wrote; None where only tunesmith can."""
        if self.result == "own":
            return None
        if self.result == "model":
            imports = (f"from transformers import {auto_class}, AutoTokenizer",)
            return LoadingCode("transformers", imports, (f"model = {auto_class}.from_pretrained(folder).eval()",))
        outputs = "" if num_outputs is None else f", num_labels={num_outputs}"
        return LoadingCode(
            "peft",
            ("from peft import PeftConfig, PeftModel", f"from transformers import {auto_class}, AutoTokenizer"),
            (
                "settings = PeftConfig.from_pretrained(folder)",
                f"base = {auto_class}.from_pretrained(settings.base_model_name_or_path{outputs})",
                "model = PeftModel.from_pretrained(base, folder).eval()",
            ),
        )


def trained_parameters(model: nn.Module, groups: list[ParameterGroup]) -> Iterator[tuple[str, nn.Parameter]]:
    """Yield the name and parameter of every parameter in ``groups``, in their order."""
    named: Mapping[str, nn.Parameter] = dict(model.named_parameters())
    for group in groups:
        for name in group.names:
            yield name, named[name]
