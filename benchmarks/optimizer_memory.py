"""What optimizers and methods remember of every weight of a model: ``python -m benchmarks.optimizer_memory``.

Each makes a step of random gradients on the model's own weights in fp32; nothing is computed but that. Counted are the
bytes that the optimizer then holds, and those of the gradients of what is trained in one step.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import torch

from tunesmith.engine.memory_needs import bytes_of
from tunesmith.engine.optimizer_config import OptimizerConfig
from tunesmith.engine.optimizers import MasterOptimizer
from tunesmith.methods import METHODS
from tunesmith.models import Pretrained
from tunesmith.types import HeadSettings

CASES: Mapping[str, tuple[str, dict[str, Any], str]] = {
    "full, adamw": ("full", {}, "adamw"),
    "full, adafactor": ("full", {}, "adafactor"),
    "full, AdamW8bit": ("full", {}, "AdamW8bit"),
    "full, Lion8bit": ("full", {}, "Lion8bit"),
    "full, Lion": ("full", {}, "Lion"),
    "full, CAME": ("full", {}, "CAME"),
    "full, GaLore (rank 64)": ("full", {}, "GaLore"),
    "full, APOLLO (rank 64)": ("full", {}, "APOLLO"),
    "lisa (2 layers), adamw": ("lisa", {}, "adamw"),
    "sparse (2%), adamw": ("sparse", {"choose": "magnitude"}, "adamw"),
    "bitfit, adamw": ("bitfit", {}, "adamw"),
    "lora (rank 8), adamw": ("lora", {}, "adamw"),
}


def measure(name: str, model_name: str) -> tuple[int, int, int]:
    """Return how many weights there are, and the bytes of gradients and of the optimizer."""
    method_name, options, optimizer_name = CASES[name]
    method = METHODS[method_name](**options)
    torch.manual_seed(0)
    loaded = Pretrained(name=model_name).load(HeadSettings("AutoModelForSequenceClassification", 2), [], 0)
    num_weights = sum(parameter.numel() for parameter in loaded.model.parameters())
    model = method.apply(loaded.model)
    optimizer = MasterOptimizer(model, method.parameter_groups(model), OptimizerConfig(name=optimizer_name), 1e-5)
    method.update(model, 0.0)
    trained = [parameter for parameter in optimizer.parameters if parameter.requires_grad]
    for parameter in trained:
        parameter.grad = torch.randn_like(parameter)
    gradients = bytes_of([parameter.grad for parameter in trained if parameter.grad is not None])
    optimizer.collect()
    optimizer.step(1e-5)
    tensors, _ = optimizer.state()
    return num_weights, gradients, bytes_of(list(tensors.values()))


def main() -> None:
    """Print a table of all cases, for the model named or ``sample:minilm``."""
    model = sys.argv[1] if len(sys.argv) > 1 else "sample:minilm"
    print("| method, optimizer | gradients | optimizer | with fp32 weights | bytes a weight |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name in CASES:
        num_weights, gradients, state = measure(name, model)
        total = 4 * num_weights + gradients + state
        shown = " | ".join(f"{one / 1e6:.1f} MB" for one in (gradients, state, total))
        print(f"| {name} | {shown} | {total / num_weights:.1f} |", flush=True)


if __name__ == "__main__":
    main()
