"""Devices and number formats: what the hardware multiplies natively, and bringing a model there."""

from __future__ import annotations

import copy
import os
from collections.abc import Collection
from typing import TYPE_CHECKING, Literal

import torch
from torch import nn

from tunesmith.models.streaming import brought_to, hollow, stream_of
from tunesmith.models.wrapping import inner, plain_name
from tunesmith.types import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Precision = Literal["fp32", "bf16"]

DTYPES: dict[Precision, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16}


def choose_device(wanted: str) -> torch.device:
    """Return the device named, or the best there is; ``InputError`` for one that is not there."""
    if wanted == "auto":
        accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        return accelerator or torch.device("cpu")
    device = torch.device(wanted)
    if device.type == "cpu":
        return device
    available = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    count = torch.accelerator.device_count()
    if available is None or available.type != device.type or (device.index or 0) >= count:
        here = f"{count} of kind '{available.type}'" if available is not None else "none"
        raise InputError(
            f"compute.device: '{wanted}' is not on this machine (accelerators: {here}).",
            "Use --compute.device auto or cpu.",
        )
    return device


def multiplies_bf16(device: torch.device) -> bool:
    """Say whether the device has matrix instructions for bf16 (AMX, AVX512_BF16, CUDA from Ampere on)."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        return any(
            bool(getattr(torch.cpu, name, lambda: False)())
            for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        )
    return False


def choose_precision(wanted: str, device: torch.device, *, from_scratch: bool) -> Precision:
    """Return the number format: as wanted, or for ``auto`` bf16 where it is native.

    Small models trained from scratch (LSTM, CNN) gain nothing from bf16 and stay in fp32.
    """
    if wanted == "fp32" or (wanted == "auto" and (from_scratch or not multiplies_bf16(device))):
        return "fp32"
    return "bf16"


def place(model: nn.Module, precision: Precision, device: torch.device, trained: Collection[str] = ()) -> nn.Module:
    """Move the model to the device in the number format; the optimizer keeps fp32 masters itself.

    Weights that are ``trained`` (names) keep their exact values for ``take_exact``. Masters that began at the rounded
    ones would all be half a step of bf16 away from where the model's copy changes: for many updates hardly a weight
    would move.

    Buffers that are no weights (rotary frequencies) keep their own format: rounded to bf16, the angle of the
    thousandth token would be off by more than a turn.
    """
    dtype, stream = DTYPES[precision], stream_of(model)
    for name, parameter in model.named_parameters():
        if name in trained and parameter.dtype == torch.float32 and dtype != torch.float32:
            is_in_file = stream is not None and stream.is_in_file(parameter)  # whoever divides it reads it there
            exact = hollow(tuple(parameter.shape)) if is_in_file else parameter.detach().to(device, copy=True)
            parameter.exact = exact  # type: ignore[attr-defined]
    kept = _buffers_to_keep(model, dtype)
    placed = brought_to(model, device, dtype)
    for module, name, buffer in kept:
        module._buffers[name] = buffer.to(device)
    return placed


def _buffers_to_keep(model: nn.Module, dtype: torch.dtype) -> list[tuple[nn.Module, str, torch.Tensor]]:
    """Return the buffers that ``transformers`` would not have in ``dtype`` in a model that it loads so, as they are.

    Those are computed rather than stored. Some of them are made in the format that weights have (the factor on
    Gemma's embeddings), and the others in one of their own.
    """
    found = [
        (module, path, name, buffer)
        for path, module in inner(model).named_modules()
        for name, buffer in module._buffers.items()
        if buffer is not None
        and buffer.is_floating_point()
        and buffer.dtype != dtype
        and name in module._non_persistent_buffers_set
    ]
    if not found:
        return []
    rounded = _buffers_made_in(inner(model), dtype)
    return [
        (module, name, buffer) for module, path, name, buffer in found if plain_name(f"{path}.{name}") not in rounded
    ]


def _buffers_made_in(model: PreTrainedModel, dtype: torch.dtype) -> set[str]:
    """Return the names of the buffers that have ``dtype`` in a new model of this kind, which takes no memory."""
    try:
        with torch.device("meta"), torch.random.fork_rng(devices=[]):
            made = type(model)._from_config(copy.deepcopy(model.config), dtype=dtype)  # type: ignore[no-untyped-call]
    except Exception:  # a model that was put together by hand, or computes with what it makes
        return set()
    return {name for name, buffer in made.named_buffers() if buffer.dtype == dtype}


def take_exact(parameter: nn.Parameter) -> torch.Tensor | None:
    """Return a parameter's values from before ``place`` rounded them, once; None where nothing was kept."""
    exact: torch.Tensor | None = vars(parameter).pop("exact", None)
    return exact


def be_deterministic(*, wanted: bool) -> None:
    """Refuse operations whose result may vary from run to run, or allow them again.

    cuBLAS repeats its results only with a workspace of fixed size, which it reads from the environment
    when it is first used; attention's backward pass then adds up in a fixed order, too.
    """
    if wanted:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    set_deterministic(wanted=wanted)


def set_deterministic(*, wanted: bool, only_warns: bool = False) -> None:
    """Switch torch's determinism, unless it is so: to switch it imports parts of torch that nothing else needs."""
    warns = torch.is_deterministic_algorithms_warn_only_enabled()
    if (torch.are_deterministic_algorithms_enabled(), warns) != (wanted, only_warns):
        torch.use_deterministic_algorithms(wanted, warn_only=only_warns)
