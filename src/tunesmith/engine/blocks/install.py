"""What stands in for parts of a model: blocks for layers, keyed noise for dropout, one operation for an adapter."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from tunesmith.engine.attention import current_borders
from tunesmith.engine.blocks import decoder, encoder
from tunesmith.engine.blocks.block import Block
from tunesmith.engine.blocks.projection import layer_of, project
from tunesmith.kernels import noise
from tunesmith.kernels.rows import EAGER, Activation
from tunesmith.models.anatomy import Anatomy
from tunesmith.models.observation import Attention

_KINDS: tuple[tuple[Any, type[Block], str], ...] = (
    (encoder, encoder.EncoderBlock, "intermediate.intermediate_act_fn"),
    (decoder, decoder.DecoderBlock, "mlp.act_fn"),
)


@dataclass
class KeyedDropout:
    """Stands in for the ``forward`` of a dropout module: the noise is that of the tokens' keys."""

    module: nn.Dropout
    site: int

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.module.training or not self.module.p:
            return x
        return noise.dropout(x, self.site, self.module.p)


@dataclass
class AdaptedLinear:
    """Stands in for the ``forward`` of PEFT's plain LoRA layer on a flat row: base and adapters are one operation.

    PEFT's own passes queue more kernels, and write each output three times.
    """

    module: Any
    sites: Mapping[nn.Module, int]

    def forward(self, x: torch.Tensor, *arguments: Any, **settings: Any) -> torch.Tensor:
        """Return [..., N] for [..., K]; what is more than plain products goes to the layer's own code."""
        is_plain = current_borders() is not None and not arguments and not settings
        layer = layer_of(self.module, self.sites) if is_plain else None
        if layer is None or any(one.down.dtype != x.dtype for one in layer.adapters):
            own: torch.Tensor = type(self.module).forward(self.module, x, *arguments, **settings)
            return own
        return project(x.reshape(-1, x.shape[-1]), [layer]).view(*x.shape[:-1], -1)


def install_adapters(model: nn.Module) -> None:
    """Put one operation in the place of every adapted linear layer."""
    sites = dropout_sites(model)
    for module in model.modules():
        if type(getattr(module, "base_layer", None)) is nn.Linear and hasattr(module, "lora_A"):
            vars(module)["forward"] = AdaptedLinear(module, sites).forward


def install(model: nn.Module) -> None:
    """Put blocks in the place of the layers that are recognised, and keyed noise in that of every dropout."""
    sites = dropout_sites(model)
    for module, site in sites.items():
        assert isinstance(module, nn.Dropout)
        vars(module)["forward"] = KeyedDropout(module, site).forward
    for table in _tables(model):
        table.sparse = True
    anatomy = Anatomy.of(model)
    shared: dict[str, Any] = {}
    for index, (_, name) in enumerate(anatomy.layers):
        layer = model.get_submodule(name)
        block = _block(layer, anatomy.attentions_in(layer))
        if block is not None:
            is_last = index == len(anatomy.layers) - 1
            vars(layer)["forward"] = block(layer, index, is_last, sites, shared=shared).forward


def dropout_sites(model: nn.Module) -> dict[nn.Module, int]:
    """Return names of all modules that drop: equal for equal places of models of one architecture."""
    return {module: site for site, module in enumerate(model.modules()) if type(module) is nn.Dropout}


def blocks_of(model: nn.Module) -> Iterator[tuple[nn.Module, Block]]:
    """Yield the layers in whose place blocks are, from the bottom up, with their blocks."""
    for _, name in Anatomy.of(model).layers:
        layer = model.get_submodule(name)
        forward = vars(layer).get("forward")
        block = getattr(getattr(forward, "__wrapped__", forward), "__self__", None)  # some are computed again
        if isinstance(block, Block):
            yield layer, block


def uninstall(model: nn.Module) -> None:
    """Give layers, dropouts and adapted layers their own ``forward`` back."""
    for module in model.modules():
        if _is_stood_in(module):
            del vars(module)["forward"]
    for table in _tables(model):
        table.sparse = False


def is_installed(model: nn.Module) -> bool:
    """Say whether ``install`` was called on ``model`` and not undone."""
    return any(isinstance(_stand_in(module), Block | KeyedDropout) for module in model.modules())


def has_adapters_installed(model: nn.Module) -> bool:
    """Say whether ``install_adapters`` was called on ``model`` and not undone."""
    return any(isinstance(_stand_in(module), AdaptedLinear) for module in model.modules())


def _is_stood_in(module: nn.Module) -> bool:
    return isinstance(_stand_in(module), Block | KeyedDropout | AdaptedLinear)


def _stand_in(module: nn.Module) -> Any:
    return getattr(vars(module).get("forward"), "__self__", None)


def _tables(model: nn.Module) -> list[nn.Embedding]:
    """Return the trained embeddings of words: of a large table, few rows have a gradient in any one step.

    One that serves as output layer too has a gradient everywhere.
    """
    anatomy = Anatomy.of(model)
    found, output = anatomy.input_embeddings, anatomy.output_embeddings
    if type(found) is not nn.Embedding or not found.weight.requires_grad or found.max_norm is not None:
        return []
    return [] if output is not None and output.weight is found.weight else [found]


def _block(layer: nn.Module, attentions: Sequence[Attention]) -> Callable[..., Block] | None:
    """Return what makes the block of a layer, but for its place in the model; None where it is not recognised."""
    if len(attentions) != 1 or attentions[0].variants:
        return None
    for kind, block, activation_name in _KINDS:
        if _has(layer, kind.PARTS) and not any(_part(layer, name) is not None for name in kind.FORBIDDEN):
            activation = _activation(_part(layer, activation_name))
            if activation is not None:
                return partial(block, activation=activation, window=attentions[0].window)
    return None


def _has(layer: nn.Module, parts: Mapping[str, tuple[str, ...]]) -> bool:
    return all(_part(layer, f"{place}.{name}") is not None for place, names in parts.items() for name in names)


def _part(layer: Any, path: str) -> Any:
    for name in path.split("."):
        layer = getattr(layer, name, None)
        if layer is None:
            return None
    return layer


def _activation(function: Any) -> Activation | None:
    """Return which activation a function is, told by what it computes."""
    # Some are cut off far from 0 (relu6, clipped gelu), others differ around it only.
    x = torch.cat([torch.linspace(-end, end, 97) for end in (1e-3, 0.1, 6, 100)])
    with torch.no_grad():
        computed = function(x)
        return next((name for name, known in EAGER.items() if torch.allclose(known(x), computed, atol=1e-6)), None)
