"""One model of several that were trained from the same weights: a soup, or their changes merged.

Adapters are merged by what they do to the base's weights, not factor by factor: ``B A`` of a mean is not the mean of
``B A``, and neither are scales (rsLoRA), biases and magnitudes (DoRA). Nothing is written that was not shown, on real
rows, to give the scores that the runs' own models, unmerged, give together.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tunesmith.engine.stand_ins import standing_in
from tunesmith.methods.full import Full
from tunesmith.models import LoadedModel, load_trained, tokenizer_hash
from tunesmith.models.merging import TOLERANCE, apart, probe_scores
from tunesmith.models.origin import origin
from tunesmith.models.wrapping import inner
from tunesmith.run.whole_model import load_whole
from tunesmith.study import task_vectors
from tunesmith.study.ensemble_members import Member
from tunesmith.tasks.base import Columns
from tunesmith.tasks.saved_head import head_of_run
from tunesmith.types import InputError

NUM_ROWS = 8
"""Rows that the merged model is compared on."""

State = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class Ingredients:
    """The weights of runs, whole, and of what they were trained from."""

    base: LoadedModel
    """With a new head, which is nobody's."""
    models: tuple[LoadedModel, ...]
    """Each run's own, with its adapter merged into it."""
    new: frozenset[str]
    """Weights that the base has not: heads, which are averaged whatever is done with the others."""

    def states(self) -> list[State]:
        """Return the weights of every run."""
        return [loaded.model.state_dict() for loaded in self.models]


def require_common_ground(members: Sequence[Member]) -> None:
    """Refuse runs whose weights mean different things, with what would do."""
    first = members[0]
    for member in members:
        reasons = {
            f"{member.name} was trained from scratch: its weights stand for something else in every run": (
                member.config.model.from_scratch
            ),
            f"{member.name} was trained from other weights than {first.name}": _base_of(member) != _base_of(first),
            f"the labels of {member.name} are in another order than those of {first.name}": (
                member.task.answer_names != first.task.answer_names
            ),
            f"{member.name} was trained beside a quantised base": (
                getattr(member.config.method, "quantize", "none") != "none"
            ),
            f"{member.name} reads other tokens than {first.name}": (
                member.model.tokenizer_sha256 != first.model.tokenizer_sha256
            ),
        }
        if found := [reason for reason, holds in reasons.items() if holds]:
            raise InputError(
                f"The weights of these runs cannot be merged: {'; '.join(found)}.",
                "Average what they answer instead: --how average.",
            )


def _base_of(member: Member) -> Any:
    known = member.environment["model"]
    return known.get("weights_sha256") or known.get("source")


def load_ingredients(members: Sequence[Member], columns: Columns) -> Ingredients:
    """Load all weights, and show that each run's, whole, do what the run does."""
    models = tuple(load_whole(member.directory, member.config, member.task) for member in members)
    first = members[0]
    base = first.config.model.load(first.task.head(), [], first.config.train.seed, head_of_run)
    known = origin(base.model)
    new = known.new_parameters if known is not None else frozenset[str]()
    shapes = [{name: value.shape for name, value in one.model.state_dict().items()} for one in (base, *models)]
    for member, own in zip(members, shapes[1:], strict=True):
        if own != shapes[0]:
            differing = sorted(name for name in {*own, *shapes[0]} if own.get(name) != shapes[0].get(name))
            raise InputError(
                f"The weights of these runs cannot be merged: {member.name} has others than its base "
                f"({', '.join(differing[:3])}).",
                "Average what they answer instead: --how average.",
            )
    ingredients = Ingredients(base, models, new)
    first.task.adapt(base.tokenizer)
    require_same_tokenizer(base, first)
    rows = real_rows(first, base, columns)
    for member, loaded in zip(members, models, strict=True):
        _require_equal(
            probe_scores(unmerged(member), rows), probe_scores(loaded.model, rows), f"{member.name}, merged,"
        )
    return ingredients


def unmerged(member: Member) -> nn.Module:
    """Return a run's model as it was trained: the adapter beside its base."""
    config, head, folder = member.config, member.task.head(), member.directory.path
    if not config.method.needs_base:
        return load_trained(folder, head, member.summary["max_length"]).model
    loaded = config.model.load(head, [], config.train.seed, head_of_run)
    return config.method.load(loaded.model, folder).eval()


def real_rows(member: Member, loaded: LoadedModel, columns: Columns) -> list[list[int]]:
    """Return the token ids of a few rows of the data."""
    few = {name: values[:NUM_ROWS] for name, values in columns.items()}
    member.task.adapt(loaded.tokenizer)
    ids: Any = member.task.encode(few, loaded.tokenizer, loaded.max_length).inputs["input_ids"]
    return [ids[row].tolist() for row in range(min(len(ids), NUM_ROWS))]


@dataclass(frozen=True)
class Merged:
    """Weights of one model, and how they come about: what the proof computes in another way."""

    state: State
    parts: tuple[tuple[float, Callable[[], nn.Module]], ...]
    """Models and their coefficients, adding up to 1: in every module the mean of what they give is what the merged
    model is to give."""


def averaged_weights(ingredients: Ingredients, members: Sequence[Member], weights_M: Sequence[float]) -> Merged:
    """Return the weighted mean of the runs' weights."""
    states = ingredients.states()
    state = {
        name: _mean([one[name] for one in states], weights_M) if value.is_floating_point() else value
        for name, value in states[0].items()
    }
    parts = [(weight, partial(unmerged, member)) for member, weight in zip(members, weights_M, strict=True) if weight]
    return Merged(state, tuple(parts))


def merged_changes(ingredients: Ingredients, how: str, weights_M: Sequence[float], density: float, seed: int) -> Merged:
    """Return the base with the runs' changes, as TIES or DARE keeps them; heads are averaged."""
    states, base = ingredients.states(), ingredients.base.model.state_dict()
    names = [name for name, value in base.items() if value.is_floating_point() and name not in ingredients.new]
    changes = [{name: one[name] - base[name] for name in names} for one in states]
    if how == "ties":
        kept = task_vectors.ties(changes, weights_M, density)
    else:
        kept = task_vectors.dare(changes, weights_M, density, seed)
    ground = {
        name: base[name]
        if name in names or not base[name].is_floating_point()
        else _mean([one[name] for one in states], weights_M)
        for name in base
    }
    state = {name: value + sum(one[name] for one in kept) if name in names else value for name, value in ground.items()}

    def part(change: State) -> nn.Module:
        return _with_state(ingredients.base.model, {n: v + change[n] if n in change else v for n, v in ground.items()})

    parts: list[tuple[float, Callable[[], nn.Module]]] = [(1.0 - len(kept), partial(part, {}))]
    parts += [(1.0, partial(part, one)) for one in kept]
    return Merged({name: torch.as_tensor(value) for name, value in state.items()}, tuple(parts))


def _mean(values: Sequence[torch.Tensor], weights_M: Sequence[float]) -> torch.Tensor:
    total = torch.zeros_like(values[0], dtype=torch.float64)
    for value, weight in zip(values, weights_M, strict=True):
        total += weight * value.double()
    return total.to(values[0].dtype)


def _with_state(model: nn.Module, state: State) -> nn.Module:
    own = copy.deepcopy(model)
    own.load_state_dict(dict(state))
    return own.eval()


def proven(ingredients: Ingredients, merged: Merged, member: Member, columns: Columns) -> nn.Module:
    """Return the model of merged weights, shown, as it is read from its files, to be what its parts are together.

    ``InputError`` where, on rows of the data, its scores are others, or what any of its modules makes of its inputs:
    scores alone may hardly show that a weight is wrong.
    """
    model: Any = _with_state(ingredients.models[0].model, merged.state)
    rows = real_rows(member, ingredients.base, columns)
    parts = [(coefficient, inner(make())) for coefficient, make in merged.parts]
    expected = _together(model, parts, rows)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        Full().save(model, folder)
        ingredients.base.tokenizer.save_pretrained(folder)
        again = load_trained(folder, member.task.head(), member.summary["max_length"])
    _require_equal(expected, probe_scores(again.model, rows), "the merged model")
    _require_equal_modules(again.model, parts, rows)
    return model  # type: ignore[no-any-return]


Parts = Sequence[tuple[float, nn.Module]]
"""Models and their coefficients."""


def _together(model: nn.Module, parts: Parts, rows: Sequence[Sequence[int]]) -> list[torch.Tensor]:
    """Return the scores of a model in which every module with weights gives the mean of what it gives in each part."""
    whole = copy.deepcopy(model)
    with ExitStack() as stack:
        for name, module in _with_weights(whole):
            stack.enter_context(standing_in(module, partial(_mean_output, _named(parts, name))))
        return probe_scores(whole, rows)


def _require_equal_modules(model: nn.Module, parts: Parts, rows: Sequence[Sequence[int]]) -> None:
    """Refuse a model of which a module makes anything else of what it is given than its parts do together."""

    def compare(name: str, _: nn.Module, inputs: tuple[Any, ...], options: dict[str, Any], output: Any) -> None:
        _require_equal([_mean_output(_named(parts, name), *inputs, **options)], [output], f"its part '{name}'")

    with ExitStack() as stack:
        for name, module in _with_weights(model):
            hook = module.register_forward_hook(partial(compare, name), with_kwargs=True)
            stack.callback(hook.remove)
        probe_scores(model, rows)


def _with_weights(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """Return the modules that hold weights themselves and no other modules, by name."""
    found = ((name, one) for name, one in model.named_modules() if not list(one.children()))
    return [(name, one) for name, one in found if list(one.parameters(recurse=False))]


def _named(parts: Parts, name: str) -> Parts:
    return [(coefficient, part.get_submodule(name)) for coefficient, part in parts]


def _mean_output(modules: Parts, *inputs: Any, **options: Any) -> Any:
    found = [coefficient * module(*inputs, **options) for coefficient, module in modules]
    return sum(found[1:], found[0])


def _require_equal(expected: Sequence[torch.Tensor], found: Sequence[torch.Tensor], what: str) -> None:
    difference, size = apart(expected, found)
    if not difference <= TOLERANCE * size:
        raise InputError(
            f"The runs were not merged: on rows of the data {what} gives other scores than the runs' own models do "
            f"(they differ by {difference:.3g}, the largest is {size:.3g}).",
            "Average what they answer instead: --how average.",
        )


def require_same_tokenizer(loaded: LoadedModel, member: Member) -> None:
    """Refuse a tokenizer that is not the runs' own."""
    if tokenizer_hash(loaded.tokenizer) != member.model.tokenizer_sha256:
        raise InputError(
            f"The tokenizer of {loaded.source} is not the one that the runs were trained with.",
            "Use the model that the runs were trained from.",
        )
