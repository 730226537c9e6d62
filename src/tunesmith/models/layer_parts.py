"""Where the attention heads and the feed-forward units of a layer have their weights, for models of some kinds.

Kinds are recognised by the names of a layer's parts, as those of BERT, DistilBERT and Llama call them; most encoders
and decoders use one of these three sets of names. Layers of other kinds (fused projections, cross-attention, experts)
have no parts here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from tunesmith.models.anatomy import Anatomy

_NUMBERS_OF_HEADS = ("num_attention_heads", "num_heads", "n_heads")
"""What attention modules call the number of their heads, where they keep it."""


@dataclass(frozen=True, slots=True)
class _Kind:
    """Names of modules within a layer."""

    attention: str
    """The module that knows the size of a head."""
    head_size: str
    inputs: tuple[str, str, str]
    """What makes queries, keys and values."""
    output: str
    wide: tuple[str, ...]
    """What makes the feed-forward units: one product, or one with its gate."""
    narrow: str


_KINDS = (
    _Kind(
        "attention.self",
        "attention_head_size",
        ("attention.self.query", "attention.self.key", "attention.self.value"),
        "attention.output.dense",
        ("intermediate.dense",),
        "output.dense",
    ),
    _Kind(
        "self_attn",
        "head_dim",
        ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
        "self_attn.o_proj",
        ("mlp.gate_proj", "mlp.up_proj"),
        "mlp.down_proj",
    ),
    _Kind(
        "attention",
        "attention_head_size",
        ("attention.q_lin", "attention.k_lin", "attention.v_lin"),
        "attention.out_lin",
        ("ffn.lin1",),
        "ffn.lin2",
    ),
)
_FORBIDDEN = ("crossattention", "encoder_attn")


@dataclass(frozen=True, slots=True)
class LayerParts:
    """The linear layers of one layer's attention and feed-forward part."""

    name: str
    """Of the layer, in the model."""
    attention: Any
    """The module that attends."""
    head_size: int
    query: nn.Linear
    key: nn.Linear
    value: nn.Linear
    output: nn.Linear
    wide: tuple[nn.Linear, ...]
    narrow: nn.Linear

    @property
    def num_groups(self) -> int:
        """Heads of keys and values; each serves as many heads of queries."""
        return self.key.out_features // self.head_size

    @property
    def heads_of_a_group(self) -> int:
        """Heads of queries that share one of keys and values."""
        return self.query.out_features // self.key.out_features

    @property
    def num_units(self) -> int:
        """Numbers between the two products of the feed-forward part."""
        return self.narrow.in_features

    def tell_number_of_heads(self) -> None:
        """Let the attention module know how many heads there are now, where it keeps their number."""
        num_heads = self.query.out_features // self.head_size
        for name in _NUMBERS_OF_HEADS:
            if hasattr(self.attention, name):
                setattr(self.attention, name, num_heads)
        if hasattr(self.attention, "all_head_size"):
            self.attention.all_head_size = self.query.out_features


def layer_parts(model: nn.Module) -> list[LayerParts]:
    """Return the parts of every layer, from the bottom up; nothing where any layer is of another kind."""
    found = [_parts_of(model, name) for _, name in Anatomy.of(model).layers]
    known = [parts for parts in found if parts is not None]
    return known if len(known) == len(found) else []


def _parts_of(model: nn.Module, name: str) -> LayerParts | None:
    layer = model.get_submodule(name)
    modules = dict(layer.named_modules())
    if any(part in modules for part in _FORBIDDEN):
        return None
    for kind in _KINDS:
        inside: list[Any] = [modules.get(one) for one in (*kind.inputs, kind.output, *kind.wide, kind.narrow)]
        head_size = getattr(modules.get(kind.attention), kind.head_size, None)
        if isinstance(head_size, int) and all(type(one) is nn.Linear for one in inside):
            query, key, value, output, *wide, narrow = inside
            return LayerParts(name, modules[kind.attention], head_size, query, key, value, output, tuple(wide), narrow)
    return None
