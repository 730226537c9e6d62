"""Parameter groups: layer-wise learning rates, and weight decay on matrices only."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from tunesmith.methods.base import ParameterGroup
from tunesmith.models.anatomy import Anatomy

if TYPE_CHECKING:
    from torch import nn

    from tunesmith.methods.base import Method


def group_parameters(
    model: nn.Module,
    names: Iterable[str],
    method: Method,
    factor: Callable[[str], float] = lambda _: 1.0,
) -> list[ParameterGroup]:
    """Return ``names`` in groups of equal learning rate and decay, each name exactly once.

    With L layers, the rate of a parameter is scaled by ``layer_decay ** (L + 1 - depth)``, where the
    head has depth L + 1 (scale 1), the top layer L (``layer_decay``), the bottom layer 1 and the
    embeddings 0 (``layer_decay ** (L + 1)``); a final norm or pretrained pooler goes with the top
    layer. Layer-wise rates are those of Howard & Ruder 2018 (section 3.2, "discriminative
    fine-tuning"). The head's is ``head_factor`` times that. Weight decay leaves out biases, norms and other vectors.

    Args:
        model: The trained module.
        names: What is ever trained, by its name in ``model.named_parameters()``.
        method: Says the factor per layer below the head, and that of the head.
        factor: A further factor on a parameter's rate, by its name (LoRA+).
    """
    wanted = set(names)
    anatomy = Anatomy.of(model)
    depths, decayed = anatomy.depths, anatomy.is_decayed
    top = anatomy.num_layers + 1
    assert wanted <= depths.keys(), sorted(wanted - depths.keys())
    members: dict[tuple[float, bool], list[str]] = {}
    for name, depth in depths.items():
        if name in wanted:
            scale = factor(name) * method.layer_decay ** (top - depth)
            if depth == top:
                scale *= method.head_factor or 1.0
            members.setdefault((scale, decayed[name]), []).append(name)
    ordered = sorted(members.items(), key=lambda item: (-item[0][0], not item[0][1]))
    return [ParameterGroup(tuple(found), scale, decay) for (scale, decay), found in ordered]


def fixed_by_design(model: nn.Module) -> set[str]:
    """Return the parameters that the architecture itself never trains (sinusoidal positions), for a fresh model."""
    return {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
