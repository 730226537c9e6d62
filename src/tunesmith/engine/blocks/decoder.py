"""Decoder layers of Llama's kind: norm, rotary attention, norm, gated feed-forward (Touvron et al. 2023, section 2.2).

Shapes: T tokens, Q tokens that are read, D numbers each.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from tunesmith.engine.attention import Settings
from tunesmith.engine.batch import Borders
from tunesmith.engine.blocks.block import Block, Reading
from tunesmith.engine.blocks.projection import project
from tunesmith.kernels import attention as native
from tunesmith.kernels.rows import add_rms_norm, gated

PARTS = {
    "self_attn": ("q_proj", "k_proj", "v_proj", "o_proj", "head_dim", "scaling"),
    "mlp": ("gate_proj", "up_proj", "down_proj", "act_fn"),
    "input_layernorm": ("weight", "variance_epsilon"),
    "post_attention_layernorm": ("weight", "variance_epsilon"),
}
"""What a layer must have."""

FORBIDDEN = ("self_attn.q_norm", "pre_feedforward_layernorm", "self_attn.sinks", "block_sparse_moe")


class DecoderBlock(Block):
    """A layer whose parts have Llama's names (SmolLM, Qwen2, Mistral, ... have them too)."""

    def compute(
        self, hidden_TD: torch.Tensor, borders: Borders, read: Reading | None, settings: Mapping[str, Any], /
    ) -> torch.Tensor | None:
        """Return [T, D]; with ``read``, zeros for all tokens that are not read."""
        own, feed = self.layer.self_attn, self.layer.mlp
        inputs = self.linear(own.q_proj, own.k_proj, own.v_proj)
        outputs = self.linear(own.o_proj, feed.gate_proj, feed.up_proj, feed.down_proj)
        if inputs is None or outputs is None:
            return None
        depth = own.head_dim
        mask = self.attention_mask(own.attention_dropout)
        seeing = Settings(own.scaling, causal=True, window=self.window, mask=mask)
        rotation = self.rotation(*settings["position_embeddings"])
        norm = self.layer.input_layernorm
        stream, normed = add_rms_norm(hidden_TD, None, norm.weight, norm.variance_epsilon)
        num_heads, num_key_heads = (len(layer.weight) // depth for layer in inputs[:2])
        pattern = self.of_few(read, hidden_TD, (num_heads, num_key_heads, depth), seeing, borders, rotation=rotation)
        if read is None or pattern is None:
            attended = self.attend(project(normed, inputs), num_heads, depth, seeing, borders, rotation=rotation)
            return self._rest(attended, stream, outputs)
        query = project(normed[read.tokens], [inputs[0].of(read.tokens)])
        key, value = project(normed, inputs[1:]).chunk(2, dim=1)
        query, key, value = (tensor.view(len(tensor), -1, depth) for tensor in (query, key, value))
        attended = native.attend(query, key, value, pattern)
        outputs = [layer.of(read.tokens) for layer in outputs]
        result_QD = self._rest(attended, stream[read.tokens], outputs)
        return torch.zeros_like(hidden_TD).index_copy(0, read.tokens, result_QD)

    def predict(
        self, hidden_TD: torch.Tensor, borders: Borders, read: Reading | None, settings: Mapping[str, Any], /
    ) -> torch.Tensor | None:
        """Return what ``compute`` does."""
        own, feed = self.layer.self_attn, self.layer.mlp
        sizes = self.linear(own.q_proj, own.k_proj)
        if sizes is None:
            return None
        depth = own.head_dim
        num_heads, num_key_heads = (len(layer.weight) // depth for layer in sizes)
        seeing = Settings(own.scaling, causal=True, window=self.window)
        rotation = self.rotation(*settings["position_embeddings"])
        pattern = self.of_few(read, hidden_TD, (num_heads, num_key_heads, depth), seeing, borders, rotation=rotation)
        few = read if pattern is not None else None
        inputs = ([own.q_proj], [own.k_proj, own.v_proj]) if few else ([own.q_proj, own.k_proj, own.v_proj],)
        packed = self.packed(*inputs, [own.o_proj], [feed.gate_proj, feed.up_proj], [feed.down_proj])
        if packed is None:
            return None
        *reading, first, wide, narrow = packed
        norm, second = self.layer.input_layernorm, self.layer.post_attention_layernorm
        stream, normed = add_rms_norm(hidden_TD, None, norm.weight, norm.variance_epsilon)
        if pattern is None or few is None:
            attended = self.attend(reading[0](normed), num_heads, depth, seeing, borders, rotation=rotation)
        else:
            stream = stream[few.tokens]
            query = reading[0](normed[few.tokens]).view(len(stream), -1, depth)
            key, value = (one.view(len(one), -1, depth) for one in reading[1](normed).chunk(2, dim=1))
            attended = native.attend(query, key, value, pattern)
        stream, normed = add_rms_norm(first(attended), stream, second.weight, second.variance_epsilon)
        result = stream + narrow(gated(wide(normed), self.activation))
        return result if few is None else torch.zeros_like(hidden_TD).index_copy(0, few.tokens, result)

    def _rest(self, attended: torch.Tensor, stream: torch.Tensor, outputs: Any) -> torch.Tensor:
        """Return what follows attention, for any number of tokens."""
        first, gate, up, down = outputs
        norm = self.layer.post_attention_layernorm
        stream, normed = add_rms_norm(project(attended, [first]), stream, norm.weight, norm.variance_epsilon)
        return stream + project(gated(project(normed, [gate, up]), self.activation), [down])

    def rotation(self, cosines: torch.Tensor, sines: torch.Tensor) -> native.Rotation:
        """Return the rotation in float32, prepared once for all layers."""
        prepared = self.shared.get("rotation")
        if prepared is None or prepared[0] is not cosines:
            made = native.Rotation(*(tensor[0].float().contiguous() for tensor in (cosines, sines)))
            prepared = self.shared["rotation"] = (cosines, made)
        rotation: native.Rotation = prepared[1]
        return rotation
