"""A smaller model: layers of low rank, or without their least important heads and units; then trained to recover."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field, field_validator

from tunesmith.methods.base import Method, ParameterGroup
from tunesmith.methods.compression import (
    LowRankLinear,
    factors,
    head_scores,
    keep_heads,
    keep_units,
    rank_for,
    replace_module,
    restore_heads,
    restore_units,
    unit_scores,
    weight_of,
)
from tunesmith.methods.groups import group_parameters
from tunesmith.methods.targets import ALL_LINEAR, find_targets
from tunesmith.models.anatomy import Anatomy, is_linear
from tunesmith.models.layer_parts import layer_parts
from tunesmith.models.origin import origin
from tunesmith.models.pinning import check_base, describe_base, write_tensors
from tunesmith.models.safety import check_own_folder, read_json
from tunesmith.models.weights import align
from tunesmith.types import InputError

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel

    from tunesmith.methods.calibration import Calibration

COMPRESSED_WEIGHTS = "compressed_weights.safetensors"
COMPRESSED_CONFIG = "compressed_config.json"
DOWN, UP, HEADS, UNITS = ":down", ":up", ":heads", ":units"
"""After a module's name: its two factors; after a layer's: what of it is kept."""
GRAM_BYTES = 2**30
"""Of the products X X^T that are held at once; the rows are run again for other layers."""


class Compress(Method):
    """Make the model smaller before the first step, and train what is left of it.

    Heads of attention and feed-forward units are pruned by the size of their weights times that of what these multiply
    (Wanda, Sun et al. 2024; heads that share keys and values together), or layers become the product of two thin ones:
    nearest by weights, or by outputs on training rows (SVD-LLM, Wang et al. 2024). ``tunesmith restore`` makes a plain
    model with layers of the old sizes of it.
    """

    name: Literal["compress"] = "compress"

    title: ClassVar[str] = "compression and recovery"
    default_learning_rate: ClassVar[float] = 1e-4
    result: ClassVar[Literal["model", "adapter", "own"]] = "own"
    changes_sizes: ClassVar[bool] = True

    way: Literal["prune", "whitened", "svd"] = "prune"
    """Prune heads and units; or factorise layers: by their outputs on training rows (`whitened`), by weights alone
    (`svd`)."""
    heads: Annotated[float, Field(gt=0, le=1)] = 0.75
    """Share of every layer's attention heads that `prune` keeps; those that share keys and values stay together."""
    units: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Share of every layer's feed-forward units that `prune` keeps."""
    keep: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Share of the weights of factorised layers that stays: it decides their ranks."""
    target_modules: Literal["all-linear"] | tuple[str, ...] = ALL_LINEAR
    """Which layers are factorised: every linear one below the head, or module names (or their last parts)."""
    train: Literal["all", "compressed"] = "all"
    """What is trained then: the whole model, or what was made smaller and the head."""
    calibration_rows: Annotated[int, Field(ge=1)] = 128
    """How many training rows are looked at."""

    @field_validator("target_modules", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        if isinstance(value, str) and value != ALL_LINEAR:
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @property
    def detail(self) -> str:
        if self.way == "prune":
            return f"{self.heads:.0%} of the heads, {self.units:.0%} of the units"
        return f"{self.way}, {self.keep:.0%} of the weights"

    @property
    def num_calibration_rows(self) -> int:
        return self.calibration_rows

    def apply(self, model: PreTrainedModel) -> nn.Module:
        """Return ``model``, still of its size; ``InputError`` where it has no parts that can be made smaller."""
        self._thaw(model, self._compressible(model))
        if self.way == "prune":
            self._require_something_to_prune(model)
        return model

    def calibrate(self, model: nn.Module, rows: Calibration) -> Mapping[str, torch.Tensor]:
        """Return the factors of every layer, or the places of heads and units that are kept."""
        if self.way == "prune":
            return self._kept(model, rows)
        return self._factors(model, rows)

    def take_calibration(self, model: nn.Module, found: Mapping[str, torch.Tensor]) -> None:
        layers = {name.removesuffix(DOWN) for name in found if name.endswith(DOWN)}
        for name in layers:
            layer = model.get_submodule(name)
            dtype = weight_of(layer).dtype
            down, up = (found[f"{name}{end}"].to(dtype) for end in (DOWN, UP))
            replace_module(model, name, LowRankLinear(layer, down, up))
        kept = {name: places for name, places in found.items() if name.endswith((HEADS, UNITS))}
        _prune(model, kept)
        self._thaw(model, self._compressible(model) if not layers else self._low_rank(model))

    def parameter_groups(self, model: nn.Module) -> list[ParameterGroup]:
        names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
        return group_parameters(model, names, self)

    def save(self, model: nn.Module, folder: Path) -> None:
        """Write all that was trained, and what of the layers was kept: equal weights give equal files."""
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {
            name: parameter.detach().contiguous()
            for name, parameter in model.named_parameters()
            if parameter.requires_grad
        }
        tensors |= {name: places.to(torch.int32).cpu() for name, (places, _) in _kept_of(model).items()}
        write_tensors(tensors, folder / COMPRESSED_WEIGHTS, {"format": "pt", **describe_base(origin(model))})
        described = {
            "version": 1,
            "method": self.model_dump(mode="json"),
            "low_rank": self._low_rank(model),
            "sizes": {name: size for name, (_, size) in _kept_of(model).items()},
        }
        (folder / COMPRESSED_CONFIG).write_text(json.dumps(described, indent=1) + "\n", encoding="utf-8")

    def load(self, model: PreTrainedModel, folder: Path) -> nn.Module:
        """Return ``model`` made as small as what ``folder`` holds, with its weights, ready to be trained on.

        Raises ``InputError`` when files are damaged, or were made beside another model or other weights.
        """
        from safetensors.torch import load_file

        check_own_folder(folder, COMPRESSED_WEIGHTS, COMPRESSED_CONFIG)
        check_base(folder, origin(model), COMPRESSED_WEIGHTS)
        described = read_json(folder / COMPRESSED_CONFIG)
        saved = load_file(folder / COMPRESSED_WEIGHTS)
        try:
            found = {
                f"{name}{end}": saved[f"{name}.{part}.weight"]
                for name in described["low_rank"]
                for part, end in (("down", DOWN), ("up", UP))
            }
            found |= {name: saved.pop(name).long() for name in described["sizes"]}
            self._compressible(model)
            self.take_calibration(model, found)
            named = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
            wrong = sorted(
                name for name in {*saved, *named} if name not in named or saved[name].shape != named[name].shape
            )
        except (KeyError, AttributeError, IndexError, TypeError) as error:
            wrong = [str(error).strip("'\"")]
        if wrong:
            raise InputError(
                f"The weights in {folder} do not fit this {type(model).__name__}: {len(wrong)} are missing, unknown or "
                f"of another shape ({', '.join(wrong[:3])}{', …' if len(wrong) > 3 else ''}).",
                "Open it beside the base model that it was trained on.",
            )
        for name, parameter in named.items():
            parameter.data = saved[name].to(parameter.dtype)
        align(model)
        return model

    def dense(self, model: nn.Module) -> nn.Module:
        """Return ``model`` with layers of their old sizes: products multiplied, what was left out as zeros."""
        for name in self._low_rank(model):
            layer = model.get_submodule(name)
            assert isinstance(layer, LowRankLinear)
            replace_module(model, name, layer.dense())
        kept = _kept_of(model)
        for parts in layer_parts(model) if kept else ():
            if (entry := kept.get(f"{parts.name}{HEADS}")) is not None:
                restore_heads(parts, *entry)
            if (entry := kept.get(f"{parts.name}{UNITS}")) is not None:
                restore_units(parts, *entry)
        vars(model).pop("tunesmith_kept", None)
        return model

    def _compressible(self, model: nn.Module) -> list[str]:
        """Return the names of the modules that are made smaller; ``InputError`` where there are none."""
        if self.way != "prune":
            return [name for name, _ in self._targets(model)]
        names = {id(module): name for name, module in model.named_modules()}
        found = [
            names[id(module)]
            for parts in layer_parts(model)
            for module in (parts.query, parts.key, parts.value, parts.output, *parts.wide, parts.narrow)
        ]
        if not found:
            raise InputError(
                f"method.way prune: the layers of {type(model).__name__} are not of a kind whose heads and units are "
                "known (as BERT, DistilBERT or Llama have them).",
                "Set method.way to whitened, which needs linear layers only, or use another method, such as lora.",
            )
        return found

    def _require_something_to_prune(self, model: nn.Module) -> None:
        layers = layer_parts(model)
        if not any(
            _number(share, total) < total
            for parts in layers
            for share, total in ((self.heads, parts.num_groups), (self.units, parts.num_units))
        ):
            groups = layers[0].num_groups
            raise InputError(
                f"Nothing would be pruned: {self.heads:.0%} of {groups} head{'' if groups == 1 else 's'} with keys of "
                f"their own, and {self.units:.0%} of the units, are all of them.",
                "Lower method.units or method.heads, or use the method 'full'.",
            )

    def _targets(self, model: Any) -> list[tuple[str, nn.Module]]:
        found = find_targets(model, self.target_modules, method=self.name)
        tied = set(Anatomy.of(model).tied_modules)
        linear = [(name, module) for name, module in found.items() if is_linear(module) and name not in tied]
        if not linear:
            raise InputError("method.target_modules names no linear layer.", f"Set it to {ALL_LINEAR}.")
        return linear

    def _thaw(self, model: nn.Module, compressed: list[str]) -> None:
        if self.train == "all":
            return
        head, inside = set(Anatomy.of(model).head_parameter_names), tuple(f"{name}." for name in compressed)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name in head or name.startswith(inside))

    def _low_rank(self, model: nn.Module) -> list[str]:
        return [name for name, module in model.named_modules() if isinstance(module, LowRankLinear)]

    def _kept(self, model: nn.Module, rows: Calibration) -> dict[str, torch.Tensor]:
        layers = layer_parts(model)
        squares: dict[int, torch.Tensor] = {}

        def add(place: int, states: torch.Tensor) -> None:
            one = states.double().square().sum(0)
            squares[place] = squares[place] + one if place in squares else one

        watched: list[tuple[nn.Module, int]] = [(parts.output, 2 * number) for number, parts in enumerate(layers)]
        watched += [(parts.narrow, 2 * number + 1) for number, parts in enumerate(layers)]
        _look(rows, watched, add)
        found = {}
        for number, parts in enumerate(layers):
            heads, units = head_scores(parts, squares[2 * number]), unit_scores(parts, squares[2 * number + 1])
            for share, end, scores in ((self.heads, HEADS, heads), (self.units, UNITS, units)):
                most = _number(share, len(scores))
                if most < len(scores):
                    best = scores.argsort(descending=True, stable=True)[:most].sort().values
                    found[f"{parts.name}{end}"] = best.to(torch.int32)
        return found

    def _factors(self, model: nn.Module, rows: Calibration) -> dict[str, torch.Tensor]:
        found: dict[str, torch.Tensor] = {}
        for part in _within_memory(self._targets(model)):
            grams: dict[int, torch.Tensor] = {}

            def add(place: int, states: torch.Tensor, grams: dict[int, torch.Tensor] = grams) -> None:
                one = states.double().t() @ states.double()
                grams[place] = grams[place] + one if place in grams else one

            if self.way == "whitened":
                _look(rows, [(module, place) for place, (_, module) in enumerate(part)], add)
            for place, (name, module) in enumerate(part):
                weight = weight_of(module)
                rank = rank_for(weight.shape[0], weight.shape[1], self.keep)
                down, up = factors(weight, rank, grams.pop(place, None))
                found |= {f"{name}{DOWN}": down, f"{name}{UP}": up}
        return found


def _number(share: float, total: int) -> int:
    """Return how many of ``total`` are kept."""
    return max(round(share * total), 1)


def _look(rows: Calibration, watched: list[tuple[nn.Module, int]], add: Callable[[int, torch.Tensor], None]) -> None:
    """Run the rows, and give what each of the modules reads to ``add``: its number, and [T, K]."""
    for batch in rows.batches():

        def watch(place: int, batch: Any = batch) -> Callable[..., None]:
            return lambda _, given: add(place, batch.real(given[0].detach()))

        with _hooks([module.register_forward_pre_hook(watch(place)) for module, place in watched]):
            batch.forward()


@contextmanager
def _hooks(handles: list[Any]) -> Iterator[None]:
    with ExitStack() as stack:
        for handle in handles:
            stack.callback(handle.remove)
        yield


def _within_memory(layers: list[tuple[str, nn.Module]]) -> Iterator[list[tuple[str, nn.Module]]]:
    """Yield the layers in parts whose products X X^T are held at once."""
    part: list[tuple[str, nn.Module]] = []
    size = 0
    for name, module in layers:
        one = 8 * weight_of(module).shape[1] ** 2
        if part and size + one > GRAM_BYTES:
            yield part
            part, size = [], 0
        part.append((name, module))
        size += one
    yield part


def _prune(model: nn.Module, kept: Mapping[str, torch.Tensor]) -> None:
    """Leave out what is not kept, and remember on the model what was, and of how many."""
    remembered: dict[str, tuple[torch.Tensor, int]] = {}
    for parts in layer_parts(model) if kept else ():
        for end, size, keep in ((HEADS, parts.num_groups, keep_heads), (UNITS, parts.num_units, keep_units)):
            places = kept.get(f"{parts.name}{end}")
            if places is not None:
                keep(parts, places)
                remembered[f"{parts.name}{end}"] = (places, size)
    vars(model)["tunesmith_kept"] = remembered


def _kept_of(model: nn.Module) -> dict[str, tuple[torch.Tensor, int]]:
    found: dict[str, tuple[torch.Tensor, int]] = vars(model).get("tunesmith_kept", {})
    return found
