"""What stands in for parts of a model: blocks for layers, keyed noise for dropout, one operation for an adapter."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from tunesmith.engine.attention import current_borders
from tunesmith.engine.blocks import decoder, encoder
from tunesmith.engine.blocks.block import Block
from tunesmith.engine.blocks.projection import layer_of, project
from tunesmith.engine.stand_ins import Forward, Tier, put, stand_in_of
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

    def over(self, _below: Forward) -> Forward:
        return self.forward

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

    def over(self, below: Forward) -> Forward:
        self.below = below
        return self.forward

    def forward(self, x: torch.Tensor, *arguments: Any, **settings: Any) -> torch.Tensor:
        """Return [..., N] for [..., K]; what is more than plain products goes to the layer's own code."""
        is_plain = current_borders() is not None and not arguments and not settings
        layer = layer_of(self.module, self.sites) if is_plain else None
        if layer is None or any(one.down.dtype != x.dtype for one in layer.adapters):
            own: torch.Tensor = self.below(x, *arguments, **settings)
            return own
        return project(x.reshape(-1, x.shape[-1]), [layer]).view(*x.shape[:-1], -1)


@dataclass
class SparseTable:
    """Stands in for the ``forward`` of a table of words: of a large one, few rows have a gradient in any one step."""

    table: nn.Embedding

    def over(self, _below: Forward) -> Forward:
        return self.forward

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Return the rows of ``ids``; their gradient comes as rows, too."""
        table = self.table
        return functional.embedding(
            ids, table.weight, table.padding_idx, scale_grad_by_freq=table.scale_grad_by_freq, sparse=True
        )


def install_adapters(model: nn.Module) -> None:
    """Put one operation in the place of every adapted linear layer."""
    sites = dropout_sites(model)
    for module in model.modules():
        if type(getattr(module, "base_layer", None)) is nn.Linear and hasattr(module, "lora_A"):
            put(module, Tier.BLOCK, AdaptedLinear(module, sites))


def install(model: nn.Module) -> None:
    """Put blocks in the place of the layers that are recognised, and keyed noise in that of every dropout."""
    sites, anatomy = dropout_sites(model), Anatomy.of(model)
    shared: dict[str, Any] = {}
    for index, (_, name) in enumerate(anatomy.layers):
        layer = model.get_submodule(name)
        block = _block(layer, anatomy.attentions_in(layer))
        if block is not None:
            is_last = index == len(anatomy.layers) - 1
            put(layer, Tier.BLOCK, block(layer, index, is_last, sites, shared=shared))
    for module, site in sites.items():
        assert isinstance(module, nn.Dropout)
        put(module, Tier.BLOCK, KeyedDropout(module, site))
    for table in _tables(anatomy):
        put(table, Tier.BLOCK, SparseTable(table))


def dropout_sites(model: nn.Module) -> dict[nn.Module, int]:
    """Return names of all modules that drop: equal for equal places of models of one architecture."""
    return {module: site for site, module in enumerate(model.modules()) if type(module) is nn.Dropout}


def blocks_of(model: nn.Module) -> Iterator[tuple[nn.Module, Block]]:
    """Yield the layers in whose place blocks are, from the bottom up, with their blocks."""
    for _, name in Anatomy.of(model).layers:
        layer = model.get_submodule(name)
        block = stand_in_of(layer, Block)
        if block is not None:
            yield layer, block


def _tables(anatomy: Anatomy) -> list[nn.Embedding]:
    """Return the trained embeddings of words, unless they serve as output layer too: then all rows have a gradient."""
    table, output = anatomy.input_embeddings, anatomy.output_embeddings
    if type(table) is not nn.Embedding or not table.weight.requires_grad or table.max_norm is not None:
        return []
    return [] if output is not None and output.weight is table.weight else [table]


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
