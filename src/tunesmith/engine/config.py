"""The engine's configuration, whatever is trained: the recipe, and the machine that follows it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, PositiveInt, field_validator

from tunesmith.config.base import BY_DATA, Choice, Config
from tunesmith.engine.optimizer_config import OptimizerConfig
from tunesmith.engine.schedules import ScheduleConfig


class EarlyStoppingConfig(Config):
    """When to stop before the last epoch."""

    patience: PositiveInt | Literal["never"] | None = Field(default=None, json_schema_extra=BY_DATA)
    """Stop after this many evaluations in a row without gain, or never."""
    metric: str | None = None
    """What must gain, also for choosing the best checkpoint: any metric of the task, or loss; the task's main
    metric when not given."""
    minimum_gain: float = Field(default=0.0, ge=0)
    """A change no larger than this is no gain. At 0, a lower loss is a gain where the metric stays the same."""
    restore_best: bool = True
    """At the end, return to the evaluated step that was best by the metric."""


def _kernels(value: Any) -> Any:
    """Read what older configurations say: ``auto`` chose between the two."""
    return "own" if value == "auto" else value


def _parallel(value: Any) -> Any:
    """Name what is not there for rows that are longer than a device's memory."""
    if isinstance(value, str) and value in {"context", "sequence", "cp"}:
        raise ValueError(
            "a row is not divided over processes (context parallel): expected data or fsdp. Longer rows fit with fsdp, "
            "which leaves room beside the weights, checkpointing: always, the method lora, or a lower model.max_length"
        )
    return value


class TrainConfig(Config):
    """The recipe: what decides the result. ``tunesmith.run`` fills what is None by model, task and data."""

    epochs: float | None = Field(default=None, gt=0, json_schema_extra=BY_DATA)
    """Passes over the training rows; may be a fraction."""
    max_steps: PositiveInt | None = None
    """Stop after this many optimizer steps."""
    batch_size: PositiveInt | None = Field(default=None, json_schema_extra=BY_DATA)
    """Rows of the data per optimizer step, however they are split into micro-batches, each with all of its sequences.
    Of a row that is cut because it is longer than the model reads, each piece that is learned for itself counts."""
    learning_rate: float | None = Field(default=None, gt=0, json_schema_extra=BY_DATA)
    """Peak learning rate."""
    optimizer: Annotated[OptimizerConfig, Choice("optimizer", {}, default=OptimizerConfig)] = OptimizerConfig()
    schedule: Annotated[ScheduleConfig, Choice("schedule", {}, default=ScheduleConfig)] = ScheduleConfig()
    clip_norm: float | None = Field(default=1.0, gt=0)
    """Largest L2 norm of the whole gradient; longer ones are scaled down. null switches it off."""
    l1: float = Field(default=0.0, ge=0)
    """L1 penalty on the trained weights that weight decay applies to (added to the gradient)."""
    l2: float = Field(default=0.0, ge=0)
    """L2 penalty on the same weights (added to the gradient; not the decoupled decay of AdamW)."""
    mixup: float | None = Field(default=None, gt=0, le=10)
    """Learn from rows between rows (mix-up): each row's vectors of tokens are mixed with those of another training row,
    and its label with that one's. The share is drawn for each step from Beta(mixup, mixup): 0.2 mixes little, 1 any
    share alike. For texts with labels or numbers."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Numbers of weights and activations. bf16 keeps an fp32 master of every trained weight; auto takes bf16 where
    the hardware multiplies it natively."""
    evaluate_steps: PositiveInt | None = Field(default=None, json_schema_extra=BY_DATA)
    """Evaluate on the validation rows every so many steps."""
    early_stopping: EarlyStoppingConfig = EarlyStoppingConfig()
    max_skipped_steps: PositiveInt = 5
    """Give up after this many steps in a row whose loss or gradient is not finite or spikes."""
    spike_factor: float | None = Field(default=None, gt=1)
    """Skip a step whose gradient norm exceeds this many times the median of the last 32; off when not given."""
    seed: int = Field(default=0, ge=0, lt=2**32)
    """Seeds new weights, the order of rows and dropout."""


class ComputeConfig(Config):
    """How and where it is computed, and how safely: nothing here decides a result, up to rounding.

    Checkpoints belong here, too: how often they are saved follows from how often the machine fails, and no weight
    depends on it.
    """

    exact: ClassVar[frozenset[str]] = frozenset({"checkpoint_steps", "keep_checkpoints", "offload", "rank_timeout"})
    """Keys that do not even decide how sums are rounded."""

    device: str = "auto"
    """cpu, cuda, cuda:0, ...; auto takes an accelerator where there is one."""
    layout: Literal["auto", "flat", "padded"] = "auto"
    """flat: no padding at all; padded: batches of similar length. auto takes flat where it is proven equal for this
    model."""
    micro_batch_tokens: PositiveInt = 4096
    """Tokens per forward and backward pass; a step of more is accumulated over several."""
    micro_batch_rows: PositiveInt | None = None
    """Rows per forward and backward pass, besides the limit on tokens."""
    checkpointing: Literal["auto", "never", "always"] = "auto"
    """Activation checkpointing: layers keep their inputs only and compute the rest again in the backward pass, for a
    third more work. auto does so where a step would not fit into memory otherwise, after making micro-batches
    smaller."""
    offload: Literal["none", "cpu", "disk"] = "none"
    """Where the frozen weights of the base rest when they are not computed with, of methods that leave them as they are
    (LoRA and its kin): in files, of which a layer at a time comes into memory, for models that are larger than it. On a
    GPU, cpu keeps them in the host's memory and disk in files; on the CPU both are files."""
    compile: Literal["auto", "never", "always"] = "auto"
    """Compile the model's layers. auto does so on CUDA, for runs long enough to pay for it."""
    kernels: Annotated[Literal["own", "liger"], BeforeValidator(_kernels)] = "own"
    """liger: those of the package liger-kernel on CUDA, for the loss and for norms and gated layers, where they are
    proven equal on this model. They take less memory, and more time of the host."""
    cuda_graphs: bool = False
    """Replay the base model's kernels from CUDA graphs: for models below a billion weights, in bf16 and the flat
    layout, without dropout in attention."""
    keep_states: bool = True
    """Compute what frozen layers below everything trained make of the rows once, and train on that. Nothing changes
    but the time."""
    deterministic: bool = False
    """Refuse operations whose result may vary from run to run (on the CPU all of ours repeat anyway)."""
    checkpoint_steps: PositiveInt | None = None
    """Save a checkpoint every so many steps, besides those at evaluations."""
    keep_checkpoints: PositiveInt = 1
    """How many of the newest checkpoints stay; the best one stays besides."""
    parallel: Annotated[Literal["data", "fsdp"], BeforeValidator(_parallel)] = "data"
    """How several processes train one model (--ranks N, or torchrun); each computes the gradients of its share of a
    step's rows. data: each holds all of the model; fsdp: each holds a part of all weights, gradients and optimizer
    state, and layers are put together as they compute, which takes more time."""
    rank_timeout: float = Field(default=10.0, ge=2, le=3600)
    """Seconds without a sign of life after which a process of several is given up, and with it the others."""

    def differences(self, before: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
        """Return what was and what is, by key, of the keys in ``before`` (plain values) that are others here."""
        now = self.model_dump(mode="json")
        return {key: (value, now[key]) for key, value in before.items() if key in now and now[key] != value}

    @field_validator("device")
    @classmethod
    def _known_device(cls, device: str) -> str:
        kind = device.split(":", maxsplit=1)[0]
        if kind not in {"auto", "cpu", "cuda", "mps", "xpu"}:
            raise ValueError("expected auto, cpu, cuda, cuda:N, mps or xpu")
        return device
