"""A few of the weights are trained where they are, chosen once before the first step; the rest stays as it was."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator

from tunesmith.methods.base import Method, ParameterGroup
from tunesmith.methods.groups import group_parameters
from tunesmith.methods.targets import find_targets
from tunesmith.models.anatomy import Anatomy
from tunesmith.models.origin import origin
from tunesmith.models.pinning import check_base, describe_base, write_tensors
from tunesmith.models.safety import check_own_folder, read_json
from tunesmith.models.weights import align
from tunesmith.types import InputError

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel

    from tunesmith.methods.calibration import Calibration

SPARSE_WEIGHTS = "sparse_weights.safetensors"
SPARSE_CONFIG = "sparse_config.json"
PLACES, VALUES = ".places", ".values"
"""After the name of a weight of which a part is saved: where (int32 in the flattened weight), and what is there."""


class Sparse(Method):
    """Train a static share of the weights of the linear layers, and the head.

    Which ones is decided before the first step: those with the largest gradient over some training rows, with the
    largest mean squared gradient a row (Fisher information; FISH mask, Sung et al. 2021), the largest ones, or at
    random. The optimizer holds nothing of the others. Saved are places and values of what was trained, from which
    the base model becomes the trained one to the bit.
    """

    name: Literal["sparse"] = "sparse"

    title: ClassVar[str] = "training of a share of the weights"
    default_learning_rate: ClassVar[float] = 1e-3
    result: ClassVar[Literal["model", "adapter", "own"]] = "own"

    share: Annotated[float, Field(gt=0, lt=1)] = 0.02
    """Share of the weights of the linear layers that is trained."""
    choose: Literal["gradient", "fisher", "magnitude", "random"] = "gradient"
    """Which ones: of the largest gradient over some training rows, of the largest squared gradient of single rows, the
    largest themselves, or any."""
    across: Literal["layer", "model"] = "layer"
    """Whether the share is that of every layer, or the whole model's, wherever it then lies."""
    pattern: Annotated[str, Field(pattern=r"^(none|[1-9][0-9]*:[1-9][0-9]*)$")] = "none"
    """N:M trains N of every M weights that follow one another, in the place of `share`: `1:32`."""
    calibration_rows: Annotated[int, Field(ge=1)] = 256
    """How many training rows `gradient` and `fisher` look at."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.pattern != "none":
            some, of = self._pattern
            if some >= of:
                raise ValueError(f"pattern {self.pattern} would train every weight; give fewer than {of} of {of}")
            if self.across == "model":
                raise ValueError("pattern chooses within every layer; set across to layer, or pattern to none")
        return self

    @property
    def _pattern(self) -> tuple[int, int]:
        some, _, of = self.pattern.partition(":")
        return int(some), int(of)

    @property
    def detail(self) -> str:
        return f"{self.share:.3g} of the weights" if self.pattern == "none" else self.pattern

    @property
    def num_calibration_rows(self) -> int:
        return self.calibration_rows if self.choose in ("gradient", "fisher") else 0

    def apply(self, model: PreTrainedModel) -> nn.Module:
        """Return ``model`` with all but linear layers and head frozen, and places chosen if no rows are needed for it.

        Raises ``InputError`` where it has no linear layers.
        """
        names = self._thaw(model)
        if not self.num_calibration_rows:
            self._set_places(model, self._choose(_scores_without_rows(model, names, self.choose)))
        return model

    def calibrate(self, model: nn.Module, rows: Calibration) -> Mapping[str, torch.Tensor]:
        """Return the places by the names of weights: int32 [K] each, in ascending order."""
        names = self._names(model)
        weights = {name: model.get_parameter(name) for name in names}
        sums = {name: torch.zeros_like(weight, dtype=torch.float32) for name, weight in weights.items()}
        by_row = self.choose == "fisher"
        for batch in rows.batches(1 if by_row else None):
            model.zero_grad()
            batch.backward()
            for name, weight in weights.items():
                if weight.grad is not None:  # sums of bf16 would be rounded at every batch
                    gradient = weight.grad.float()
                    sums[name] += gradient.square() if by_row else gradient
        return self._choose({name: total.abs_() for name, total in sums.items()})

    def take_calibration(self, model: nn.Module, found: Mapping[str, torch.Tensor]) -> None:
        self._set_places(model, found)

    def parameter_groups(self, model: nn.Module) -> list[ParameterGroup]:
        names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
        places = self._places(model)
        return [
            replace(group, places={name: places[name] for name in group.names if name in places})
            for group in group_parameters(model, names, self)
        ]

    def save(self, model: nn.Module, folder: Path) -> None:
        """Write places and values of what was trained, and the head whole: equal weights give equal files."""
        folder.mkdir(parents=True, exist_ok=True)
        named = dict(model.named_parameters())
        places = self._places(model)
        tensors: dict[str, torch.Tensor] = {}
        for name, where in places.items():
            weight = named[name].detach()
            tensors[f"{name}{PLACES}"] = where.to(torch.int32).cpu()
            tensors[f"{name}{VALUES}"] = weight.reshape(-1)[where.to(weight.device)].contiguous()
        for name, parameter in named.items():
            if parameter.requires_grad and name not in places:
                tensors[name] = parameter.detach().contiguous()
        write_tensors(tensors, folder / SPARSE_WEIGHTS, {"format": "pt", **describe_base(origin(model))})
        described = {
            "version": 1,
            "method": self.model_dump(mode="json"),
            "shapes": {name: list(named[name].shape) for name in places},
        }
        (folder / SPARSE_CONFIG).write_text(json.dumps(described, indent=1) + "\n", encoding="utf-8")

    def load(self, model: PreTrainedModel, folder: Path) -> nn.Module:
        """Return ``model`` with the values of ``folder`` in their places, ready to be trained on.

        Raises ``InputError`` when files are damaged, or were made beside another model or other weights.
        """
        from safetensors.torch import load_file

        check_own_folder(folder, SPARSE_WEIGHTS, SPARSE_CONFIG)
        check_base(folder, origin(model), SPARSE_WEIGHTS)
        shapes = read_json(folder / SPARSE_CONFIG).get("shapes", {})
        saved = load_file(folder / SPARSE_WEIGHTS)
        self._thaw(model)
        named = dict(model.named_parameters())
        whole = {name for name in saved if not name.endswith((PLACES, VALUES))}
        head = {name for name, parameter in named.items() if parameter.requires_grad} - set(self._names(model))
        fits = whole == head and all(saved[name].shape == named[name].shape for name in whole)
        if not fits or not all(name in named and list(named[name].shape) == shape for name, shape in shapes.items()):
            raise InputError(
                f"The weights in {folder} do not fit this {type(model).__name__}: their names or shapes are others.",
                "Open it beside the base model that it was trained on.",
            )
        places = {name: saved[f"{name}{PLACES}"].long() for name in shapes}
        for name, parameter in named.items():
            if name in places:
                # What is frozen may be another run's memory, too.
                weight = parameter.data.clone().contiguous()
                weight.view(-1)[places[name]] = saved[f"{name}{VALUES}"].to(weight.dtype)
                parameter.data = weight
            elif name in whole:
                parameter.data = saved[name].to(parameter.dtype)
        align(model)
        self._set_places(model, places)
        return model

    def dense(self, model: nn.Module) -> nn.Module:
        """Return ``model`` itself: what was trained lies where plain ``transformers`` has it."""
        return model

    def _thaw(self, model: PreTrainedModel) -> list[str]:
        """Let linear layers and head be trained, and nothing else; return the names of the layers' weights."""
        find_targets(model, method=self.name)
        names, head = self._names(model), set(Anatomy.of(model).head_parameter_names)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name in names or name in head)
        return names

    def _names(self, model: nn.Module) -> list[str]:
        tied = set(Anatomy.of(model).tied_modules)
        layers = {f"{name}.weight" for name in Anatomy.of(model).linear_modules if name not in tied}
        return [name for name, _ in model.named_parameters() if name in layers]

    def _choose(self, scores: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return the places of the highest scores, as the options ask for."""
        if self.across == "model":
            sizes = [score.numel() for score in scores.values()]
            number = max(round(self.share * sum(sizes)), 1)
            chosen = _largest(torch.cat([score.reshape(-1) for score in scores.values()]), number)
            ends = torch.tensor(sizes).cumsum(0).tolist()
            pairs = zip(scores, sizes, ends, strict=True)
            parts = {name: chosen[(chosen >= end - size) & (chosen < end)] - (end - size) for name, size, end in pairs}
            return {name: part.to(torch.int32) for name, part in parts.items()}
        if self.pattern != "none":
            return {name: _of_every(score.reshape(-1), *self._pattern) for name, score in scores.items()}
        return {
            name: _largest(score.reshape(-1), max(round(self.share * score.numel()), 1)).to(torch.int32)
            for name, score in scores.items()
        }

    def _set_places(self, model: nn.Module, found: Mapping[str, torch.Tensor]) -> None:
        """Remember the places on the model; weights that have none are frozen."""
        places = {name: where.long() for name, where in found.items()}
        for name, where in places.items():
            model.get_parameter(name).requires_grad_(bool(len(where)))
        vars(model)["tunesmith_places"] = {name: where for name, where in places.items() if len(where)}

    def _places(self, model: nn.Module) -> dict[str, torch.Tensor]:
        found: dict[str, torch.Tensor] = vars(model).get("tunesmith_places", {})
        return found


def _scores_without_rows(model: nn.Module, names: list[str], choose: str) -> dict[str, torch.Tensor]:
    """Return a score of every weight: its size, or what the run's seed draws."""
    # Without a draw from torch's own numbers: nothing else that is random becomes another.
    generator = torch.Generator().manual_seed(torch.initial_seed())

    def score(weight: torch.Tensor) -> torch.Tensor:
        if choose == "magnitude":
            return weight.detach().abs()
        return torch.rand(weight.shape, generator=generator)

    return {name: score(model.get_parameter(name)) for name in names}


def _largest(scores: torch.Tensor, number: int) -> torch.Tensor:
    """Return the places of the ``number`` highest of [W] scores, ascending; of equal ones the first."""
    return scores.argsort(descending=True, stable=True)[:number].sort().values


def _of_every(scores: torch.Tensor, some: int, of: int) -> torch.Tensor:
    """Return the places of the highest ``some`` in every ``of`` of [W] scores that follow one another: int32."""
    padded = torch.nn.functional.pad(scores, (0, -len(scores) % of), value=-math.inf).reshape(-1, of)
    chosen = padded.argsort(dim=1, descending=True, stable=True)[:, :some]
    places = (chosen + torch.arange(0, padded.numel(), of, device=scores.device)[:, None]).reshape(-1)
    return places[places < len(scores)].sort().values.to(torch.int32)
