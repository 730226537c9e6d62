"""Decoder layers of Llama's kind as they are used in writing: a few fused steps on few tokens, beside a cache.

What is recognised, and what it computes, is that of ``engine.blocks.decoder``; weights are packed and side by side.

Shapes: N tokens of a pass, D numbers each, H heads of queries, G of keys and values.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tunesmith.engine.attention import Settings
from tunesmith.engine.blocks.block import Block
from tunesmith.engine.blocks.decoder import DecoderBlock
from tunesmith.engine.decoding.cache import Seeing
from tunesmith.engine.decoding.linear import Linear
from tunesmith.engine.decoding.work import current_work
from tunesmith.kernels import attention as native
from tunesmith.kernels.decoding import Gate, RmsNorm

if TYPE_CHECKING:
    import torch


class DecodingLayer:
    """Stands in for the ``forward`` of a layer."""

    def __init__(self, block: DecoderBlock, linears: Sequence[Linear]) -> None:
        layer = block.layer
        norms = (layer.input_layernorm, layer.post_attention_layernorm)
        self.block, self.attention = block, layer.self_attn
        self.inputs, self.outputs, self.wide, self.narrow = linears
        self.first_norm, self.second_norm = (RmsNorm(norm.weight, norm.variance_epsilon) for norm in norms)
        self.gate = Gate(block.activation, norms[0].weight)
        self.depth: int = self.attention.head_dim
        self.num_heads: int = self.attention.o_proj.in_features // self.depth
        self.scale: float = self.attention.scaling
        self.window = block.window

    @classmethod
    def of(cls, block: Block | None) -> DecodingLayer | None:
        """Return what stands in for a layer that is recognised; None where its parts are of an unknown kind."""
        if not isinstance(block, DecoderBlock):
            return None
        own, feed = block.layer.self_attn, block.layer.mlp
        groups = ([own.q_proj, own.k_proj, own.v_proj], [own.o_proj], [feed.gate_proj, feed.up_proj], [feed.down_proj])
        linears = [linear for linear in (Linear.of(*group) for group in groups) if linear is not None]
        return cls(block, linears) if len(linears) == len(groups) else None

    def forward(
        self, hidden_states: torch.Tensor, *_: Any, position_embeddings: tuple[torch.Tensor, torch.Tensor], **__: Any
    ) -> torch.Tensor:
        """Return the layer's output [1, N, D]."""
        stream = hidden_states[0]
        packed = self.inputs(self.first_norm(stream))
        stream = self.outputs(self._attend(packed, self.block.rotation(*position_embeddings)), stream)
        return self.narrow(self.gate(self.wide(self.second_norm(stream))), stream)[None]

    def _attend(self, packed_NP: torch.Tensor, rotation: native.Rotation) -> torch.Tensor:
        work = current_work()
        if work.step is not None:
            kept = work.cache.known(self.attention)
            return kept.attend_packed(packed_NP, self.num_heads, work.step, Seeing(self.scale, self.window, rotation))
        assert work.borders is not None
        query, key, value = native.split_heads(packed_NP, self.num_heads, self.depth)
        kept = work.cache.of(self.attention, (query, key, value))
        kept.write(native.rotated(key, rotation), value, work.at.slots, work.at.places)
        if work.continued is not None:
            return work.continued.attend(native.rotated(query, rotation), kept, Seeing(self.scale, self.window))
        settings = Settings(self.scale, causal=True, window=self.window)
        return self.block.attend(packed_NP, self.num_heads, self.depth, settings, work.borders, rotation=rotation)
