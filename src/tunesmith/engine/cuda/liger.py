"""Kernels of Liger (Hsu et al. 2024, arXiv:2410.10989), an optional package: norms, gated layers, and the loss.

What is replaced is proven equal first: every replaced module is run, forward and backward, as written
and as replaced, and put back where the results differ. Rotary embeddings are left alone: Liger replaces
them for all models of an architecture in the process, those on the CPU included.

All of it is used only when asked for. Liger's loss reads the number of labels back from the GPU in every forward and
backward pass, which ours (``engine.losses``) does not; and its kernels are launched from Python, which took a fifth of
the speed of a Llama of 1.2 billion weights (docs/gpu.md).

Shapes: U tokens read, D numbers per hidden state, K scores.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Literal

import torch
from torch import nn

from tunesmith.engine.stand_ins import Forward, Tier, put
from tunesmith.models.anatomy import Anatomy
from tunesmith.models.wrapping import inner
from tunesmith.types import MissingExtraError

Wish = Literal["own", "liger"]

PACKAGE = "liger_kernel"

TOLERANCE = {torch.bfloat16: 2e-2, torch.float16: 4e-3, torch.float32: 1e-4}
"""Largest difference, relative to the largest value, for two modules to count as equal: a few roundings."""

PROBE_TOKENS = 32


class UnusableError(Exception):
    """The installed release lacks what it needs, or has other names for it."""


def runs_on(device: torch.device) -> bool:
    """Say whether the package has kernels for a device: it cannot even be imported without a GPU."""
    return device.type not in ("cpu", "mps")


def wants_kernels(wish: Wish, device: torch.device) -> bool:
    """Say whether Liger's kernels are to be tried: where they are asked for, on every GPU.

    ``MissingExtraError`` without the package. Where it has no kernels the answer is no: a run that was trained with
    them can be opened there.
    """
    if wish != "liger" or not runs_on(device):
        return False
    if find_spec(PACKAGE) is None:
        raise MissingExtraError("compute.kernels: liger", "liger-kernel", "cuda")
    return True


def use_kernels(model: nn.Module) -> tuple[int, int]:
    """Replace the norms and gated layers of ``model``, which is on its device, by Liger's where they are equal.

    Returns how many modules were replaced and how many were put back because they differ. Raises ``UnusableError``
    when the package itself fails; the model is then as it was.
    """
    whole = inner(model)
    before = {module: dict(vars(module)) for module in whole.modules()}
    try:
        with _modules_of(whole):
            patching = import_module(f"{PACKAGE}.transformers.monkey_patch")
            patching._apply_liger_kernel_to_instance(
                model=whole, rope=False, cross_entropy=False, fused_linear_cross_entropy=False
            )
    except Exception as error:
        for module, state in before.items():
            _put_back(module, state)
        raise UnusableError(f"{type(error).__name__}: {error}") from error
    replaced = [module for module, state in before.items() if vars(module).get("forward") is not state.get("forward")]
    different = [module for module in replaced if not _is_equal(module, before[module])]
    for module in replaced:
        kernel, state = vars(module).pop("forward"), before[module]
        if module in different:
            _put_back(module, state)
            continue
        if "forward" in state:
            vars(module)["forward"] = state["forward"]
        put(module, Tier.KERNEL, _Kernel(kernel))
    return len(replaced) - len(different), len(different)


@dataclass(frozen=True, slots=True)
class _Kernel:
    forward: Forward

    def over(self, _below: Forward) -> Forward:
        return self.forward


@contextmanager
def _modules_of(model: nn.Module) -> Iterator[None]:
    """Undo what is changed in the module of the architecture: Liger replaces classes there for later models."""
    source = vars(sys.modules[type(model).__module__])
    before = dict(source)
    try:
        yield
    finally:
        source.update(before)


def _put_back(module: nn.Module, state: dict[str, Any]) -> None:
    vars(module).clear()
    vars(module).update(state)


def _is_equal(module: nn.Module, state: dict[str, Any]) -> bool:
    """Say whether ``module`` and what it was before ``state`` was changed do the same, forward and backward."""
    now = dict(vars(module))
    found = _results(module)
    _put_back(module, state)
    expected = _results(module)
    _put_back(module, now)
    if isinstance(found, Exception) or isinstance(expected, Exception):
        return False
    return all(
        one.shape == two.shape and bool((one - two).abs().max() <= TOLERANCE.get(dtype, 1e-4) * two.abs().max())
        for (one, dtype), (two, _) in zip(found, expected, strict=True)
    )


def _results(module: nn.Module) -> list[tuple[torch.Tensor, torch.dtype]] | Exception:
    """Return the output of a module on random states and their gradient, in float64; what failed is an answer, too."""
    if not all(one.is_floating_point() for one in module.parameters()):
        return TypeError("its weights are quantised")
    weight = next(module.parameters())
    generator = torch.Generator().manual_seed(0)
    width = weight.shape[-1]
    states = torch.randn(1, PROBE_TOKENS, width, generator=generator).to(weight.device, weight.dtype).requires_grad_()
    pull = torch.randn(1, PROBE_TOKENS, width, generator=generator).to(weight.device, weight.dtype)
    try:
        with torch.enable_grad():
            output = module(states.clone())
            (gradient,) = torch.autograd.grad(output, states, pull)
    except Exception as error:  # a kernel may refuse in any way it likes
        return error
    return [(tensor.detach().double(), weight.dtype) for tensor in (output, gradient)]


LinearCrossEntropy = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


def linear_cross_entropy_sum(hidden_UD: torch.Tensor, weight_KD: torch.Tensor, labels_U: torch.Tensor) -> torch.Tensor:
    """Return the cross-entropy of ``hidden @ weight.T`` summed over the tokens, by Liger's kernel.

    Gradients of the weight are added up in float32, as ours are.
    """
    loss = import_module(f"{PACKAGE}.transformers.fused_linear_cross_entropy").LigerFusedLinearCrossEntropyLoss
    total: torch.Tensor = loss(reduction="sum", accum_dtype=torch.float32)(weight_KD, hidden_UD, labels_U.long())
    return total


def choose_loss(
    model: nn.Module, head: Callable[[torch.Tensor], torch.Tensor], fused: LinearCrossEntropy
) -> tuple[torch.Tensor | None, str]:
    """Return the weight that a fused loss may be computed with, or nothing, and why.

    The output layer must be a bare linear one and ``head``, the whole way from hidden states to scores,
    nothing else: loss and gradient of random states are compared.
    """
    output: Any = Anatomy.of(model).output_embeddings
    if type(output) is not nn.Linear or "bias" in dict(output.named_parameters()):
        return None, "the output layer is more than a matrix"
    weight: torch.Tensor = output.weight
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(PROBE_TOKENS, weight.shape[1], generator=generator).to(weight.device, weight.dtype)
    labels = torch.randint(weight.shape[0], (PROBE_TOKENS,), generator=generator).to(weight.device)
    try:
        expected = _loss_and_gradient(
            states, lambda given: nn.functional.cross_entropy(head(given).float(), labels, reduction="sum")
        )
        found = _loss_and_gradient(states, lambda given: fused(given, weight, labels))
    except Exception as error:  # a kernel may refuse in any way it likes
        return None, f"the fused loss fails on this model ({type(error).__name__})"
    tolerance = TOLERANCE.get(weight.dtype, 1e-4)
    pairs = zip(found, expected, strict=True)
    if not all(bool((one - two).abs().max() <= tolerance * two.abs().max()) for one, two in pairs):
        return None, "its loss or gradient differs"
    return weight, "proven equal on this model"


def _loss_and_gradient(states: torch.Tensor, compute: Callable[[torch.Tensor], torch.Tensor]) -> list[torch.Tensor]:
    given = states.clone().requires_grad_()
    with torch.enable_grad():
        loss = compute(given)
        (gradient,) = torch.autograd.grad(loss, given)
    return [loss.detach().double(), gradient.double()]
