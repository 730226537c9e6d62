"""What a model costs to keep and to run, measured: before and after a method makes it smaller."""

from __future__ import annotations

import time

import numpy as np
import torch

from tunesmith.engine.order import micro_batches
from tunesmith.engine.predict import forward_tokens
from tunesmith.models.modes import evaluating
from tunesmith.run.assembly import Network, count_parameters
from tunesmith.run.session import Composed

ROWS = 64
"""Training rows that are scored."""
PASSES = 5
"""Times that they are, after one that is not counted; the quickest is taken."""


def cost_of(composed: Composed, network: Network) -> dict[str, float]:
    """Return ``parameters``, ``bytes`` of the weights, and ``rows_per_second``, scored as predictions are."""
    scorer, collate, data = network.scorer, network.collate, composed.training.data
    samples = np.arange(min(ROWS, data.num_samples))
    budget = forward_tokens(composed.config.compute.micro_batch_tokens, network.device)
    batches = [collate(data, part) for part in micro_batches(data, samples, collate.layout, budget)]
    seconds = []
    with torch.inference_mode(), evaluating(network.model):
        for _ in range(PASSES + 1):
            composed.stop.check()
            began = time.perf_counter()
            for batch in batches:
                with scorer.surrounding(batch):
                    scores = scorer(batch) if scorer.reads == "row" else scorer.read(batch)
                    float(scores.sum())  # waits for the device
            seconds.append(time.perf_counter() - began)
    parameters = list(network.model.parameters())
    return {
        "parameters": count_parameters(network.model),
        "bytes": sum(one.nbytes for one in parameters),
        "rows_per_second": len(samples) / min(seconds[1:]),
    }
