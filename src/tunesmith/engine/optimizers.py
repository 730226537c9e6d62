"""An optimizer, of whatever kind, that steps on fp32 masters.

The weights of the model may be bf16; the optimizer then holds an fp32 copy of every trained
one (of its values before rounding), steps on that, and writes the rounded result back. Updates smaller than a bf16 step
are therefore not lost. With fp32 weights the model's own parameters are the masters.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from tunesmith.engine import ranks
from tunesmith.engine.gradient_sums import StepSums
from tunesmith.engine.optimizer_config import OptimizerConfig
from tunesmith.engine.optimizer_state import collect_state, restore_state, scalars_of_groups
from tunesmith.engine.precision import take_exact
from tunesmith.kernels import adamw
from tunesmith.kernels.adamw import RowGradient
from tunesmith.kernels.library import serves
from tunesmith.methods.base import ParameterGroup

RATE_FACTOR = "rate_factor"
"""What a group's rate is multiplied with, among what torch keeps of a group."""


@dataclass(frozen=True, slots=True)
class Penalties:
    """L1 and L2 penalties on the weights that decay applies to."""

    l1: float = 0.0
    l2: float = 0.0


class MasterOptimizer:
    """An optimizer over fp32 masters of a model's trained parameters.

    Use: ``collect()`` after each micro-batch's backward pass, ``sum_over_ranks()`` after the last, then ``step(rate)``.
    """

    def __init__(
        self,
        model: nn.Module,
        groups: Iterable[ParameterGroup],
        config: OptimizerConfig,
        learning_rate: float,
        penalties: Penalties = Penalties(),
    ) -> None:
        parameters = dict(model.named_parameters())
        self.penalties = penalties
        self.names: list[str] = []
        self.parameters: list[nn.Parameter] = []
        self.masters: list[torch.Tensor] = []
        self._places: list[torch.Tensor | None] = []
        """Of weights of which a part alone is trained: where that is; their masters hold nothing else."""
        self._decayed: list[torch.Tensor] = []
        torch_groups: list[dict[str, Any]] = []
        for group in groups:
            places = [group.places.get(name) for name in group.names]
            masters = [
                self._make_master(parameters[name], some) for name, some in zip(group.names, places, strict=True)
            ]
            self._places += [
                None if some is None else some.to(master.device) for some, master in zip(places, masters, strict=True)
            ]
            self.names += group.names
            self.parameters += [parameters[name] for name in group.names]
            self.masters += masters
            self._decayed += masters if group.decay else []
            torch_groups.append(
                {
                    "params": masters,
                    "lr": learning_rate * group.learning_rate_scale,
                    RATE_FACTOR: group.learning_rate_scale,
                    "weight_decay": config.weight_decay if group.decay else 0.0,
                }
            )
        self.optimizer = config.build(torch_groups)
        self._settings = scalars_of_groups(self.optimizer)
        self._collected: list[torch.Tensor | RowGradient | None] = [None] * len(self.masters)
        self._rows_with_moments: dict[int, torch.Tensor] = {}
        self._factor = 1.0
        self._sums = StepSums(self.parameters, self.masters)

    def _make_master(self, parameter: nn.Parameter, places: torch.Tensor | None) -> torch.Tensor:
        return _master(parameter, places)

    def _is_copy(self, index: int) -> bool:
        """Say whether a whole weight is to be set from its master, whose memory is another."""
        return self.parameters[index] is not self.masters[index] and self._places[index] is None

    def collect(self, *, copy: bool = False) -> None:
        """Take over the gradients of bf16 weights and clear them: as they are, several of them summed in fp32.

        With ``copy`` they lie where the next backward pass writes its own, and are copied.
        """
        for index in range(len(self.parameters)):
            self._collect(index, copy=copy)

    def _collect(self, index: int, *, copy: bool = False) -> None:
        parameter, master, places = self.parameters[index], self.masters[index], self._places[index]
        given, before = parameter.grad, self._collected[index]
        if given is not None and places is not None:
            given = given.reshape(-1)[places]
        elif given is not None and copy and before is None:
            given = parameter.grad = given.clone()
        if given is None or (parameter is master and not given.is_sparse):
            return
        if before is None:
            self._collected[index] = RowGradient.of(given) if given.is_sparse else given
        elif isinstance(before, RowGradient):
            assert given.is_sparse, "a table has gradients of one kind"
            self._collected[index] = before.plus(RowGradient.of(given))
        else:
            self._collected[index] = before.to(master.dtype).add_(given)
        parameter.grad = None

    def expect_gradients(self, *, of_one_pass: bool) -> None:
        """Take note of whether, on all ranks, no gradients of several micro-batches are added up in the coming step."""
        self._sums.is_of_one_pass = of_one_pass

    @contextmanager
    def last_backward(self) -> Iterator[None]:
        """Begin to sum gradients over ranks while the last backward pass of a step, inside the block, computes them.

        Those that were dense in the step before, which all ranks know; all others follow in ``sum_over_ranks``.
        """
        sums = self._sums.under_way()
        if sums is None:
            yield
            return

        def arrived(index: int, _: torch.Tensor) -> None:
            self._collect(index)
            sums.arrived(index, self._gradient(index))

        expected = ((index, self.parameters[index]) for index in sums.indices)
        hooks = [
            one.register_post_accumulate_grad_hook(partial(arrived, index))  # type: ignore[no-untyped-call]
            for index, one in expected
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def finish_sums(self) -> None:
        """Bring to their end the sums that any rank may have begun, also where this one's memory did not suffice."""
        if ranks.size() > 1:
            self._sums.finish(self._gradients())

    def sum_over_ranks(self) -> None:
        """Make every gradient the sum of those of all ranks, which have it from then on; after ``finish_sums``."""
        if ranks.size() > 1:
            self._collected = self._sums.total(self._gradients())
            for master in self.masters:
                master.grad = None

    def discard(self) -> None:
        """Forget all gradients."""
        for tensor in (*self.parameters, *self.masters):
            tensor.grad = None
        self._collected = [None] * len(self.masters)
        self._sums.forget()
        self._factor = 1.0

    def forget_frozen(self) -> None:
        """Forget the state of weights that are not trained now: if they are again, they begin anew."""
        for index, (parameter, master) in enumerate(zip(self.parameters, self.masters, strict=True)):
            if not parameter.requires_grad:
                self.optimizer.state.pop(master, None)
                self._rows_with_moments.pop(index, None)

    @property
    def has_gradients(self) -> bool:
        """Whether any master has a gradient."""
        return any(gradient is not None for gradient in self._gradients())

    def gradients(self) -> dict[str, torch.Tensor]:
        """Return the gradients by parameter name, whole and in fp32 or wider."""
        found = zip(self.names, self._gradients(), self.masters, strict=True)
        return {name: _whole(gradient, master) for name, gradient, master in found if gradient is not None}

    def add_penalties(self) -> None:
        """Add the gradients of the L1 and L2 penalties."""
        if not (self.penalties.l1 or self.penalties.l2):
            return
        self._to_masters()
        with torch.no_grad():
            for master in self._decayed:
                if master.grad is None:
                    continue
                if self.penalties.l1:
                    master.grad.add_(master.sign(), alpha=self.penalties.l1)
                if self.penalties.l2:
                    master.grad.add_(master, alpha=2 * self.penalties.l2)

    @contextmanager
    def as_masters(self) -> Iterator[None]:
        """Let the model's trained weights be their masters inside the block, with the step's gradients as ``.grad``.

        What is done to either in place is done to the masters; rounded weights are set from them in the end. Weights of
        which a part is trained stay as they are, without gradients.
        """
        self._to_masters()
        pairs = enumerate(zip(self.parameters, self.masters, strict=True))
        apart = [pair for index, pair in pairs if self._is_copy(index)]
        rounded = [parameter.data for parameter, _ in apart]
        for parameter, master in apart:
            parameter.data = master.data  # first, since gradients must be of their weights' format
            parameter.grad = master.grad
        try:
            yield
        finally:
            for (parameter, master), data in zip(apart, rounded, strict=True):
                master.grad, parameter.grad = parameter.grad, None
                parameter.data = data
            self.write_weights()

    def gradient_norm(self) -> torch.Tensor:
        """Return the L2 norm of the whole gradient, accumulated in fp32 or wider: a scalar, still on the device."""
        given = (gradient for gradient in self._gradients() if gradient is not None)
        gradients = [gradient.values if isinstance(gradient, RowGradient) else gradient for gradient in given]
        if not gradients:
            return torch.zeros(())
        if all(map(serves, gradients)):
            return torch.tensor(math.sqrt(math.fsum(map(adamw.squares, gradients))))
        return norm_of(gradients)

    def scale_gradients(self, factor: float) -> None:
        """Multiply every gradient by ``factor`` in the coming step."""
        self._factor *= factor

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        """Update the masters at ``learning_rate`` (times each group's scale) and the weights from them."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate * group[RATE_FACTOR]
        if not self._step_in_one_pass():
            self._to_masters()
            if self._factor != 1:
                torch._foreach_mul_([master.grad for master in self.masters if master.grad is not None], self._factor)
            self.optimizer.step()
            self._write([master.grad is not None for master in self.masters])
        self.discard()

    def _gradients(self) -> list[torch.Tensor | RowGradient | None]:
        """Return every master's gradient, in fp32 or as it came."""
        return [self._gradient(index) for index in range(len(self.masters))]

    def _gradient(self, index: int) -> torch.Tensor | RowGradient | None:
        collected = self._collected[index]
        return self.masters[index].grad if collected is None else collected

    def _to_masters(self) -> None:
        """Make what was collected the masters' gradients in fp32."""
        for index, collected in enumerate(self._collected):
            if collected is not None:
                self.masters[index].grad = _whole(collected, self.masters[index])
        self._collected = [None] * len(self.masters)

    @property
    def steps_in_one_pass(self) -> bool:
        """Whether native code makes the steps, from gradients as they come."""
        return (
            type(self.optimizer) is torch.optim.AdamW
            and not any(group["amsgrad"] or group["maximize"] for group in self.optimizer.param_groups)
            and all(map(serves, self.masters))
        )

    def _step_in_one_pass(self) -> bool:
        """Make the step by native code; return whether it could."""
        if not self.steps_in_one_pass:
            return False
        shadows = [parameter if self._is_copy(index) else None for index, parameter in enumerate(self.parameters)]
        parts = list(zip(self._gradients(), self.masters, shadows, strict=True))
        if not all(
            gradient is None or adamw.serves_all(gradient, master, shadow) for gradient, master, shadow in parts
        ):
            return False
        groups = [group for group in self.optimizer.param_groups for _ in group["params"]]
        for index, (gradient, master, shadow) in enumerate(parts):
            if gradient is None:
                continue
            state, group = self.optimizer.state[master], groups[index]
            if not state:
                state["step"] = torch.tensor(0.0)
                state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(master), torch.zeros_like(master)
            state["step"] += 1
            moments = state["exp_avg"], state["exp_avg_sq"]
            settings = adamw.AdamW(
                group["lr"], group["betas"], group["eps"], group["weight_decay"], int(state["step"]), self._factor
            )
            if isinstance(gradient, RowGradient):
                known = self._rows_with_moments.get(index)
                self._rows_with_moments[index] = adamw.update_rows(
                    settings, gradient, master, moments, shadow, with_moments=known
                )
            else:
                adamw.update(settings, gradient, master, moments, shadow)
        self._write_parts([gradient is not None for gradient, _, _ in parts])
        return True

    @torch.no_grad()
    def write_weights(self) -> None:
        """Set the model's weights from the masters."""
        self._write([True] * len(self.masters))

    def _write(self, chosen: Sequence[bool]) -> None:
        """Set the chosen weights from their masters, in few passes over a device."""
        copies = [index for index, is_chosen in enumerate(chosen) if is_chosen and self._is_copy(index)]
        if copies:
            torch._foreach_copy_(
                [self.parameters[index] for index in copies], [self.masters[index] for index in copies]
            )
        self._write_parts(chosen)

    def _write_parts(self, chosen: Sequence[bool]) -> None:
        """Set, of the chosen weights, those of which a part is trained."""
        for parameter, master, places, is_chosen in self._with_places(chosen):
            if is_chosen and places is not None:
                parameter.data.view(-1).index_copy_(0, places, master.to(parameter.dtype))

    def _with_places(
        self, chosen: Sequence[bool]
    ) -> Iterator[tuple[nn.Parameter, torch.Tensor, torch.Tensor | None, bool]]:
        return zip(self.parameters, self.masters, self._places, chosen, strict=True)

    @property
    def num_trained(self) -> int:
        """How many weights are ever trained."""
        return sum(master.numel() for master in self.masters)

    def master_weights(self) -> dict[str, torch.Tensor]:
        """Return the fp32 masters by parameter name."""
        return {name: master.detach() for name, master in zip(self.names, self.masters, strict=True)}

    @torch.no_grad()
    def load_master_weights(self, weights: Mapping[str, torch.Tensor]) -> None:
        """Set masters and weights from ``master_weights()`` of an equal optimizer."""
        for name, master in zip(self.names, self.masters, strict=True):
            master.copy_(weights[name])
        self.write_weights()

    def state(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """Return the optimizer's state as tensors by ``parameter/entry`` and the rest as JSON-ready values."""
        return collect_state(self.optimizer, self._by_name(), self._settings)

    def load_state(self, tensors: Mapping[str, torch.Tensor], values: Mapping[str, Any]) -> None:
        """Set the optimizer's state from ``state()``, on the devices where torch keeps it."""
        self._rows_with_moments.clear()
        restore_state(self.optimizer, self._by_name(), tensors, values)

    def _by_name(self) -> dict[str, torch.Tensor]:
        return dict(zip(self.names, self.masters, strict=True))


def _master(parameter: nn.Parameter, places: torch.Tensor | None = None) -> torch.Tensor:
    """Return the parameter itself when it is fp32 or wider, else fp32: its values as they were before rounding.

    Of a parameter that is trained in some ``places`` alone, the values there.
    """
    is_wide = parameter.dtype in (torch.float32, torch.float64)
    if is_wide and places is None:
        return parameter
    exact = None if is_wide else take_exact(parameter)
    values = parameter.detach() if exact is None else exact
    if places is not None:
        values = values.reshape(-1)[places.to(values.device)]
    return (values if is_wide else values.float()).requires_grad_()


def norm_of(tensors: Iterable[torch.Tensor]) -> torch.Tensor:
    """Return the L2 norm of all tensors together, summed in fp32 or wider without wider copies of them."""
    alike: dict[torch.dtype, list[torch.Tensor]] = {}
    for tensor in tensors:
        alike.setdefault(tensor.dtype, []).append(tensor)
    norms = [
        norm
        for dtype, group in alike.items()
        for norm in torch._foreach_norm(group, 2, torch.promote_types(dtype, torch.float32))
    ]
    widest = max((norm.dtype for norm in norms), key=lambda dtype: dtype.itemsize)
    total: torch.Tensor = torch.linalg.vector_norm(torch.stack([norm.to(norms[0].device, widest) for norm in norms]))
    return total


def _whole(gradient: torch.Tensor | RowGradient, master: torch.Tensor) -> torch.Tensor:
    dense = gradient.dense(master) if isinstance(gradient, RowGradient) else gradient
    return dense.to(master.dtype)
