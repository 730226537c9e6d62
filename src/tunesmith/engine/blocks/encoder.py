"""Encoder layers of BERT's kind: attention, norm, feed-forward, norm; norms follow residuals (Devlin et al. 2019).

Shapes: T tokens, Q tokens that are read, D numbers each.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from tunesmith.engine.attention import Settings
from tunesmith.engine.batch import Borders
from tunesmith.engine.blocks.block import Block, Reading
from tunesmith.engine.blocks.projection import project
from tunesmith.kernels import attention as native
from tunesmith.kernels.noise import Mask
from tunesmith.kernels.rows import activate, add_layer_norm

PARTS = {
    "attention.self": ("query", "key", "value", "dropout"),
    "attention.output": ("dense", "LayerNorm.weight", "LayerNorm.bias", "dropout"),
    "intermediate": ("dense", "intermediate_act_fn"),
    "output": ("dense", "LayerNorm.weight", "LayerNorm.bias", "dropout"),
}
"""What a layer must have."""

FORBIDDEN = ("crossattention",)


class EncoderBlock(Block):
    """A layer whose parts have BERT's names (RoBERTa, XLM-R, ELECTRA, CamemBERT, ... have them too)."""

    def compute(
        self, hidden_TD: torch.Tensor, borders: Borders, read: Reading | None, _settings: Mapping[str, Any], /
    ) -> torch.Tensor | None:
        """Return [T, D]; with ``read``, zeros for all tokens that are not read."""
        attention, inner, outer = self.layer.attention, self.layer.intermediate, self.layer.output
        own = attention.self
        inputs = self.linear(own.query, own.key, own.value)
        outputs = self.linear(attention.output.dense, inner.dense, outer.dense)
        if inputs is None or outputs is None:
            return None
        depth = own.attention_head_size
        weights_mask = self.attention_mask(own.dropout.p)
        masks = self.mask(attention.output.dropout), self.mask(outer.dropout)
        seeing = Settings(depth**-0.5, bool(own.is_causal), window=self.window, mask=weights_mask)
        num_heads = own.num_attention_heads
        pattern = self.of_few(read, hidden_TD, (num_heads, num_heads, depth), seeing, borders)
        if read is None or pattern is None:
            attended = self.attend(project(hidden_TD, inputs), num_heads, depth, seeing, borders)
            return self._rest(attended, hidden_TD, outputs, masks)
        query = project(hidden_TD[read.tokens], [inputs[0].of(read.tokens)])
        key, value = project(hidden_TD, inputs[1:]).chunk(2, dim=1)
        query, key, value = (tensor.view(len(tensor), -1, depth) for tensor in (query, key, value))
        attended = native.attend(query, key, value, pattern)
        few = (None if mask is None else mask.of(read.tokens) for mask in masks)
        outputs = [layer.of(read.tokens) for layer in outputs]
        result_QD = self._rest(attended, hidden_TD[read.tokens], outputs, tuple(few))
        return torch.zeros_like(hidden_TD).index_copy(0, read.tokens, result_QD)

    def predict(
        self, hidden_TD: torch.Tensor, borders: Borders, read: Reading | None, _settings: Mapping[str, Any], /
    ) -> torch.Tensor | None:
        """Return what ``compute`` does."""
        attention, inner, outer = self.layer.attention, self.layer.intermediate, self.layer.output
        own = attention.self
        num_heads, depth = own.num_attention_heads, own.attention_head_size
        seeing = Settings(depth**-0.5, bool(own.is_causal), window=self.window)
        pattern = self.of_few(read, hidden_TD, (num_heads, num_heads, depth), seeing, borders)
        few = read if pattern is not None else None
        inputs = ([own.query], [own.key, own.value]) if few else ([own.query, own.key, own.value],)
        packed = self.packed(*inputs, [attention.output.dense], [inner.dense], [outer.dense])
        if packed is None:
            return None
        *reading, first, second, third = packed
        residual = hidden_TD if few is None else hidden_TD[few.tokens]
        if pattern is None:
            attended = self.attend(reading[0](hidden_TD), num_heads, depth, seeing, borders)
        else:
            query = reading[0](residual).view(len(residual), -1, depth)
            key, value = (one.view(len(one), -1, depth) for one in reading[1](hidden_TD).chunk(2, dim=1))
            attended = native.attend(query, key, value, pattern)
        between = _added(first(attended), residual, attention.output.LayerNorm)
        fused = self.packed([inner.dense, self.activation])
        wide = activate(second(between), None, self.activation) if fused is None else fused[0](between)
        result = _added(third(wide), between, outer.LayerNorm)
        return result if few is None else torch.zeros_like(hidden_TD).index_copy(0, few.tokens, result)

    def _rest(
        self, attended: torch.Tensor, residual: torch.Tensor, outputs: Any, masks: tuple[Mask | None, ...]
    ) -> torch.Tensor:
        """Return what follows attention, for any number of tokens."""
        first, second, third = outputs
        between = _normed(
            project(attended, [first], with_bias=False), first, residual, self.layer.attention.output, masks[0]
        )
        wide = activate(project(between, [second], with_bias=False), second.bias, self.activation)
        return _normed(project(wide, [third], with_bias=False), third, between, self.layer.output, masks[1])


def _added(x: torch.Tensor, residual: torch.Tensor, norm: nn.LayerNorm) -> torch.Tensor:
    return add_layer_norm(x, None, residual, norm.weight, norm.bias, epsilon=norm.eps)


def _normed(x: torch.Tensor, linear: Any, residual: torch.Tensor, module: Any, mask: Mask | None) -> torch.Tensor:
    norm: nn.LayerNorm = module.LayerNorm
    return add_layer_norm(x, linear.bias, residual, norm.weight, norm.bias, epsilon=norm.eps, mask=mask)
