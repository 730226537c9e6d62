"""What a method does between the parts of an optimizer step: all of it that the engine knows.

Of a step whose gradients have been computed, the loop calls ``penalty``, ``after_gradients``, updates the weights, and
calls ``after_step``. In each of the three the weights that are trained are the optimizer's masters, in fp32 or wider,
whatever format the model computes in, and ``.grad`` is the gradient of the whole step in the same format: summed over
micro-batches, divided by the step's units, not clipped. What a hook writes into either in place counts. Everything
else of the model is what it is: frozen weights in the model's format, and no gradients of theirs.

Torch's random numbers begin in each hook at a seed of the step, so that a resumed run draws the same ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import nn


class StepHooks:
    """Hooks that do nothing; a method overrides those that it needs, and only these are called.

    Whatever they remember lies in the module that is trained, and must be given by ``state``.
    """

    def update(self, model: nn.Module, progress: float) -> None:
        """Set what is trainable at ``progress`` (0 to 1 of all steps); called before each step.

        A pure function of ``progress``, so that a resumed run needs no state of the method. The optimizer forgets what
        it has of weights that are frozen, and begins anew with them when they are trained again.
        """

    def trained_at_once(self, model: nn.Module) -> set[str] | None:
        """Return the names of what is trained in one step, where all that is ever trained never is; None else.

        Steps of which more is trained than of others count: memory is planned by it.
        """
        return None

    def penalty(self, model: nn.Module) -> torch.Tensor | None:
        """Return a scalar whose gradient is added to that of the loss, once a step; None for none.

        It is not part of the loss that is reported.
        """
        return None

    def after_gradients(self, model: nn.Module, step: int, total_steps: int) -> None:
        """Look at the gradients of step ``step`` (from 1), or change them, before they are clipped.

        Not called for a step that is skipped, since its gradients are no numbers, or far too large.
        """

    def after_step(self, model: nn.Module, step: int, total_steps: int) -> None:
        """Look at the weights that step ``step`` (from 1) has made, or change them; there are no gradients any more.

        Not called for a step that is skipped.
        """

    def state(self, model: nn.Module) -> dict[str, Any]:
        """Return what belongs to the weights beside them: tensors, and values that JSON can hold, by name."""
        return {}

    def load_state(self, model: nn.Module, state: Mapping[str, Any]) -> None:
        """Set what ``state`` gave, with the weights of the same step in place; tensors come on the weights' device."""

    def has(self, hook: str) -> bool:
        """Say whether the method has this hook, by its name."""
        return getattr(type(self), hook) is not getattr(StepHooks, hook)
