# mypy: disable-error-code="no-untyped-call"
"""Layers made smaller, and made whole again: products of two thin matrices; heads and units that are left out.

Shapes: N outputs, K inputs, R the rank, T tokens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from tunesmith.models.layer_parts import LayerParts

DAMPING = 1e-6
"""Of the mean of the diagonal of X X^T, added to all of it: inputs that were never seen would make it singular."""


class LowRankLinear(nn.Module):
    """A linear layer whose weight is the product of two thin ones: ``up(down(x))``."""

    def __init__(self, layer: nn.Module, down_RK: torch.Tensor, up_NR: torch.Tensor) -> None:
        super().__init__()
        self.down = _linear(down_RK, None)
        self.up = _linear(up_NR, bias_of(layer))
        self.in_features, self.out_features = self.down.in_features, self.up.out_features
        self._is_turned = not isinstance(layer, nn.Linear)

    @property
    def weight(self) -> torch.Tensor:
        """The product: code of a model's own may ask a layer for its weight, as T5 does for its format."""
        product: torch.Tensor = self.up.weight @ self.down.weight
        return product

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return [..., N] of [..., K]."""
        result: torch.Tensor = self.up(self.down(x))
        return result

    @torch.no_grad()
    def dense(self) -> nn.Module:
        """Return a layer as the model had it, with the product as its weight, multiplied in float64."""
        product = (self.up.weight.double() @ self.down.weight.double()).to(self.up.weight.dtype)
        if not self._is_turned:
            return _linear(product, self.up.bias)
        from transformers.pytorch_utils import Conv1D

        turned: Any = Conv1D(self.out_features, self.in_features)
        turned.weight, turned.bias = nn.Parameter(product.t().contiguous()), self.up.bias
        dense: nn.Module = turned
        return dense


def rank_for(num_outputs: int, num_inputs: int, keep: float) -> int:
    """Return the largest rank whose two matrices hold at most a share ``keep`` of the weights of the whole one."""
    return max(int(keep * num_outputs * num_inputs / (num_outputs + num_inputs)), 1)


@torch.no_grad()
def factors(weight_NK: torch.Tensor, rank: int, gram_KK: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
    """Return down [R, K] and up [N, R], whose product is the nearest to ``weight_NK`` of this rank.

    The nearest by its entries (Eckart and Young 1936) or, with ``gram_KK`` = X X^T of inputs X, the one whose outputs
    on these inputs are nearest: W L is cut, where L L^T = X X^T (SVD-LLM, Wang et al. 2024, section 3.1).
    """
    weight = weight_NK.double()
    lower = None
    if gram_KK is not None:
        lower = _cholesky(gram_KK.double())
        weight = weight @ lower
    left, sizes, right = torch.linalg.svd(weight, full_matrices=False)
    roots = sizes[:rank].sqrt()
    down = roots[:, None] * right[:rank]
    if lower is not None:
        down = torch.linalg.solve_triangular(lower, down, upper=False, left=False)
    return down.float().contiguous(), (left[:, :rank] * roots).float().contiguous()


def _cholesky(gram_KK: torch.Tensor) -> torch.Tensor:
    """Return L with L L^T = ``gram_KK``, damped as much as it takes: sums of few rows are singular, up to rounding."""
    damping = DAMPING * gram_KK.diagonal().mean().clamp(min=torch.finfo(torch.float32).tiny)
    while True:
        lower: torch.Tensor
        lower, failed = torch.linalg.cholesky_ex(gram_KK + torch.diag_embed(damping.expand(len(gram_KK))))
        if not failed:
            return lower
        damping = 10 * damping


def replace_module(model: nn.Module, name: str, module: nn.Module) -> None:
    """Put a module into the place of another one."""
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, module)


def weight_of(layer: nn.Module) -> torch.Tensor:
    """Return the weight of a linear layer as [N, K]; GPT-2's have theirs the other way round."""
    weight = layer.get_parameter("weight").detach()
    return weight if isinstance(layer, nn.Linear) else weight.t()


def bias_of(layer: nn.Module) -> torch.Tensor | None:
    """Return its bias [N], if it has one."""
    bias: Any = getattr(layer, "bias", None)
    return None if bias is None else bias.detach()


def head_scores(parts: LayerParts, squares_K: torch.Tensor) -> torch.Tensor:
    """Return how much every group of heads that share keys matters: [groups].

    The sum of |W| times the norm of what it multiplies (Wanda, Sun et al. 2024, eq. 1), over all outputs and all
    inputs that a group's heads give; ``squares_K`` are the sums of these inputs' squares.
    """
    scores_K = parts.output.weight.detach().double().abs().sum(0) * squares_K.double().sqrt()
    return scores_K.view(parts.num_groups, -1).sum(1)


def unit_scores(parts: LayerParts, squares_K: torch.Tensor) -> torch.Tensor:
    """Return the same of every feed-forward unit: [units]."""
    return parts.narrow.weight.detach().double().abs().sum(0) * squares_K.double().sqrt()


def keep_heads(parts: LayerParts, groups: torch.Tensor) -> None:
    """Leave out all heads of a layer but those of ``groups``: places of heads of keys and values, ascending."""
    size, per_group = parts.head_size, parts.heads_of_a_group
    keys = _expanded(groups, size)
    queries = _expanded(groups, size * per_group)
    for layer, rows in ((parts.query, queries), (parts.key, keys), (parts.value, keys)):
        _keep_outputs(layer, rows)
    _keep_inputs(parts.output, queries)
    parts.tell_number_of_heads()


def keep_units(parts: LayerParts, units: torch.Tensor) -> None:
    """Leave out all feed-forward units of a layer but some: their places, ascending."""
    for layer in parts.wide:
        _keep_outputs(layer, units)
    _keep_inputs(parts.narrow, units)


def restore_heads(parts: LayerParts, groups: torch.Tensor, num_groups: int) -> None:
    """Put heads that were left out back, with weights of zero: the layer computes what it did."""
    size, per_group = parts.head_size, parts.heads_of_a_group
    keys, queries = _expanded(groups, size), _expanded(groups, size * per_group)
    total_keys = num_groups * size
    _spread_outputs(parts.query, queries, total_keys * per_group)
    _spread_outputs(parts.key, keys, total_keys)
    _spread_outputs(parts.value, keys, total_keys)
    _spread_inputs(parts.output, queries, total_keys * per_group)
    parts.tell_number_of_heads()


def restore_units(parts: LayerParts, units: torch.Tensor, num_units: int) -> None:
    """Put feed-forward units that were left out back, with weights of zero."""
    for layer in parts.wide:
        _spread_outputs(layer, units, num_units)
    _spread_inputs(parts.narrow, units, num_units)


def _expanded(blocks: torch.Tensor, size: int) -> torch.Tensor:
    """Return the places of all numbers in some blocks of ``size``."""
    return (blocks.long()[:, None] * size + torch.arange(size, device=blocks.device)).reshape(-1)


def _linear(weight: torch.Tensor, bias: torch.Tensor | None) -> nn.Linear:
    made = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    made.weight = nn.Parameter(weight)
    if bias is not None:
        made.bias = nn.Parameter(bias.detach().clone())
    return made


def _set(layer: nn.Linear, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
    """Give a layer new weights, of another size; the old ones may be another model's, too."""
    trains = layer.weight.requires_grad
    layer.weight = nn.Parameter(weight.contiguous(), requires_grad=trains)
    if bias is not None:
        layer.bias = nn.Parameter(bias.contiguous(), requires_grad=trains)
    layer.out_features, layer.in_features = weight.shape


def _keep_outputs(layer: nn.Linear, rows: torch.Tensor) -> None:
    bias = bias_of(layer)
    _set(layer, layer.weight.detach()[rows.long()], None if bias is None else bias[rows.long()])


def _keep_inputs(layer: nn.Linear, columns: torch.Tensor) -> None:
    _set(layer, layer.weight.detach()[:, columns.long()], bias_of(layer))


def _spread_outputs(layer: nn.Linear, rows: torch.Tensor, total: int) -> None:
    weight, bias = layer.weight.detach(), bias_of(layer)
    whole = weight.new_zeros((total, weight.shape[1])).index_copy_(0, rows.long(), weight)
    _set(layer, whole, None if bias is None else bias.new_zeros(total).index_copy_(0, rows.long(), bias))


def _spread_inputs(layer: nn.Linear, columns: torch.Tensor, total: int) -> None:
    weight = layer.weight.detach()
    _set(layer, weight.new_zeros((len(weight), total)).index_copy_(1, columns.long(), weight), bias_of(layer))
