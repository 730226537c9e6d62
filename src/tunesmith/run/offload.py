"""A frozen base that is streamed from its files: what a run asks for, and what cannot be had with it."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from tunesmith.engine.precision import DTYPES, choose_device, choose_precision
from tunesmith.models.streaming import StreamSettings, stream_of
from tunesmith.models.wrapping import inner
from tunesmith.readable import size
from tunesmith.types import InputError, Problem

if TYPE_CHECKING:
    from torch import nn

    from tunesmith.run.config import RunConfig

NONE = "none"
DEVICES = ("cpu", "cuda")


def streaming_of(config: RunConfig) -> StreamSettings | None:
    """Return how a run's model is to be loaded so that it is streamed; None where it is to be in memory."""
    if config.compute.offload == NONE:
        return None
    device = choose_device(config.compute.device)
    precision = choose_precision(config.train.precision, device, from_scratch=False)
    is_on_cpu = device.type == "cpu"
    return StreamSettings(DTYPES[precision], is_on_cpu, not is_on_cpu and config.compute.offload == "cpu")


def check_offload(config: RunConfig) -> None:
    """Refuse what cannot be had with a streamed base, before anything is read; all of it at once."""
    if config.compute.offload != NONE and (found := _hindrances(config)):
        raise InputError(found)


def can_be_streamed(config: RunConfig) -> bool:
    """Say whether a run whose base is in memory could have it streamed."""
    return config.compute.offload == NONE and not config.model.from_scratch and not _hindrances(config)


def _hindrances(config: RunConfig) -> list[Problem]:
    method, compute = config.method, config.compute
    found: list[Problem] = []

    def refuse(key: str, reason: str, fix: str) -> None:
        message = f"compute.offload: {compute.offload} cannot be had with {key}: {reason}."
        found.append(Problem("error", message, f"{fix}, or set compute.offload to none."))

    if config.model.from_scratch:
        refuse(f"model: {config.model.name}", "it is made anew, not read from files", "Choose a pretrained model")
    elif method.result == "own" or not method.needs_base:
        reason = "it trains weights of the base, which have to be in memory for that"
        refuse(f"method: {method.name}", reason, "Use a method that leaves the base as it is, such as lora")
    if getattr(method, "quantize", NONE) != NONE:
        reason = "weights in 4 or 8 bits are made from those in memory, and stay there"
        refuse(f"method.quantize: {method.quantize}", reason, "Set method.quantize to none")  # type: ignore[attr-defined]
    if getattr(method, "bias", NONE) != NONE:
        reason = "it trains biases of the base"
        refuse(f"method.bias: {method.bias}", reason, "Set method.bias to none")  # type: ignore[attr-defined]
    if compute.parallel != "data":
        reason = "ranks that hold a part of the base each have it in memory"
        refuse(f"compute.parallel: {compute.parallel}", reason, "Set compute.parallel to data")
    if compute.compile == "always":
        reason = "compiled layers hold on to their weights"
        refuse("compute.compile: always", reason, "Set compute.compile to auto")
    if compute.cuda_graphs:
        reason = "graphs read weights where they were when they were captured"
        refuse("compute.cuda_graphs: true", reason, "Set compute.cuda_graphs to false")
    device = choose_device(compute.device).type
    if device not in DEVICES:
        reason = "weights have been brought in layer by layer on the CPU and on CUDA alone"
        refuse(f"the device {device}", reason, "Set compute.device to cpu")
    return found


def check_streamed(model: nn.Module, trained: Collection[str]) -> None:
    """Refuse a method that has trained, or put others in the place of, weights that are streamed."""
    stream = stream_of(model)
    if stream is None or stream.settings.until_divided:
        return
    named = dict(model.named_parameters())
    wrong = [*(name for name in trained if named[name] in stream.parameters), *stream.lost(model)]
    if wrong:
        raise InputError(
            f"compute.offload: the method changes weights of the base, which are to be streamed from their files "
            f"({', '.join(sorted(wrong)[:3])}{', …' if len(wrong) > 3 else ''}).",
            "Set compute.offload to none, or use a method that leaves the base as it is, such as lora.",
        )
    read = [name for name in trained if not bool(named[name].isfinite().all())]
    if read:
        raise InputError(
            f"compute.offload: what the method adds to the model is made of weights of the base, which are not in "
            f"memory then ({', '.join(sorted(read)[:3])}{', …' if len(read) > 3 else ''}).",
            "Set train.precision to fp32 on the CPU, compute.offload to none, or use a method such as lora.",
        )


def offload_note(model: nn.Module) -> tuple[Problem, ...]:
    """Return what is to be said of a model whose base is streamed."""
    stream = stream_of(model)
    if stream is None or stream.settings.until_divided:
        return ()
    message = (
        f"The layers' weights of {type(inner(model)).__name__} ({size(stream.num_bytes)}) stay in files and are "
        f"brought in layer by layer: at most {size(stream.bytes_at_once)} of them are in memory at once."
    )
    return (Problem("note", message, f"The files are in {stream.place}."),)
