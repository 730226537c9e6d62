"""A model by the sizes that decide what it costs: found in its modules, which need have no weights."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, cast

import torch
from torch import nn

from tunesmith.models.anatomy import Anatomy
from tunesmith.models.weights import num_weights

if TYPE_CHECKING:
    from tunesmith.methods.base import Method


@dataclass(frozen=True, slots=True)
class Shape:
    """What a model consists of, and which part of it is trained."""

    num_layers: int
    hidden: int
    """Numbers of a hidden state."""
    attended: int
    """Numbers of all heads' queries of a token."""
    products: int
    """Weights of the linear maps of all layers, without what a method has added."""
    kept: int
    """Numbers that all layers keep of a token for the backward pass."""
    outputs: int
    """Scores for a token that is read; 0 where whole rows are."""
    weights: int
    """All of the model."""
    trained: int
    """Weights that are trained."""
    trained_products: int
    """Those of ``products`` that are trained themselves, so that their own gradients are computed."""
    added: int
    """Weights of linear maps that a method has added beside others."""
    num_added: int
    """How many maps these stand beside."""
    backward: float
    """Share of the layers that a backward pass runs through."""
    is_causal: bool

    @classmethod
    def of(cls, model: nn.Module, trained: Iterable[str], *, is_causal: bool, reads_tokens: bool) -> Self:
        """Return the sizes of a model to which a method was applied; its weights may be on the device ``meta``."""
        anatomy, names = Anatomy.of(model), set(trained)
        layers = anatomy.layer_modules or (anatomy.base,)
        inside = {id(one) for layer in layers for one in layer.parameters()}
        linear = [(name, one) for name, one in anatomy.linear_modules.items() if _is_inside(one, inside)]
        own = [(name, one) for name, one in linear if not _is_added(name)]
        added = [(name, one) for name, one in linear if _is_added(name)]
        named = dict(model.named_parameters())
        trained_ids = {id(named[name]) for name in names}
        depths = anatomy.depths
        lowest = min((depths[name] for name in names), default=len(layers) + 1)
        hidden = _hidden(anatomy.whole.config)
        output = anatomy.output_embeddings
        return cls(
            num_layers=max(anatomy.num_layers, 1),
            hidden=hidden,
            attended=_attended(anatomy.whole.config, hidden),
            products=sum(_size(one) for _, one in own),
            kept=sum(map(_out, (one for _, one in own))) + _inputs(own) + 2 * hidden * len(layers),
            outputs=_out(output) if reads_tokens and output is not None else 0,
            weights=sum(num_weights(one) for one in named.values()),
            trained=sum(num_weights(named[name]) for name in names),
            trained_products=sum(_size(one) for _, one in own if id(_weight(one)) in trained_ids),
            added=sum(_size(one) for _, one in added),
            num_added=len({name.split(".lora_")[0] for name, _ in added}),
            backward=min(max(len(layers) - max(lowest - 1, 0), 0) / len(layers), 1.0),
            is_causal=is_causal,
        )

    @classmethod
    def of_decoder(
        cls,
        num_layers: int,
        hidden: int,
        intermediate: int,
        vocabulary: int,
        *,
        keys: int | None = None,
        gated: bool = True,
        tied: bool = False,
        rank: int = 0,
        adapted: tuple[str, ...] = ("q", "k", "v", "o", "gate", "up", "down"),
    ) -> Self:
        """Return the sizes of a plain decoder, trained whole or, with a ``rank``, by LoRA beside the ``adapted`` maps.

        ``keys`` are the numbers of a token's keys, where there are fewer of them than queries.
        """
        keys = keys or hidden
        maps = {"q": (hidden, hidden), "k": (hidden, keys), "v": (hidden, keys), "o": (hidden, hidden)}
        maps |= {"up": (hidden, intermediate), "down": (intermediate, hidden)}
        maps |= {"gate": (hidden, intermediate)} if gated else {}
        products = num_layers * sum(inside * outside for inside, outside in maps.values())
        weights = products + vocabulary * hidden * (1 if tied else 2) + (2 * num_layers + 1) * hidden
        chosen = [maps[name] for name in adapted if name in maps] if rank else []
        added = num_layers * rank * sum(inside + outside for inside, outside in chosen)
        kept = sum(outside for _, outside in maps.values()) + 2 * hidden + intermediate + 2 * hidden
        return cls(
            num_layers=num_layers,
            hidden=hidden,
            attended=hidden,
            products=products,
            kept=num_layers * kept,
            outputs=vocabulary,
            weights=weights + added,
            trained=added if rank else weights,
            trained_products=0 if rank else products,
            added=added,
            num_added=num_layers * len(chosen),
            backward=1.0,
            is_causal=True,
        )


def shape_of(model: nn.Module, method: Method, *, is_causal: bool, reads_tokens: bool) -> Shape:
    """Return the sizes of ``model`` as ``method`` trains it; the method changes the model.

    Raises ``InputError`` where the method does not fit it.
    """
    with torch.device("meta"):
        applied = method.apply(model)  # type: ignore[arg-type]
    names = [name for group in method.parameter_groups(applied) for name in group.names]
    return Shape.of(applied, names, is_causal=is_causal, reads_tokens=reads_tokens)


def _is_inside(module: nn.Module, parameters: set[int]) -> bool:
    own = next(module.parameters(), None)
    return own is not None and id(own) in parameters


def _is_added(name: str) -> bool:
    """Say whether PEFT has put a map there, beside another."""
    return ".lora_" in name


def _weight(module: nn.Module) -> torch.Tensor:
    weight = getattr(module, "weight", None)
    if not isinstance(weight, torch.Tensor):  # a layer that an adapter stands beside passes its base's on
        weight = next(module.parameters())
    return weight


def _size(module: nn.Module) -> int:
    return num_weights(cast("nn.Parameter", _weight(module)))


def _out(module: nn.Module) -> int:
    return int(getattr(module, "out_features", 0) or getattr(module, "nf", 0))


def _inputs(linear: list[tuple[str, nn.Module]]) -> int:
    """Return the numbers of all inputs of linear maps; those of one size within one module are the same input."""
    plain = [(name.removesuffix(".base_layer"), one) for name, one in linear]  # an adapter's layer stands around it
    sizes = {(name.rpartition(".")[0], getattr(one, "in_features", 0) or _weight(one).shape[0]) for name, one in plain}
    return sum(int(size) for _, size in sizes)


def _hidden(config: Any) -> int:
    """Return the numbers of a hidden state by the configuration: nothing can be run to see it."""
    return int(config.get_text_config().hidden_size)


def _attended(config: Any, hidden: int) -> int:
    text = config.get_text_config()
    heads, size = getattr(text, "num_attention_heads", None), getattr(text, "head_dim", None)
    return int(heads * size) if isinstance(heads, int) and isinstance(size, int) else hidden
