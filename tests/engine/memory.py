"""Parts for tests of memory: trainings of models large enough for activations to matter, and what they really take."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile

from tiny import tiny_model, train_and_compute
from tunesmith.data.encoded import Encoded, Ragged
from tunesmith.engine.layout import choose_layout, collator_for
from tunesmith.engine.memory_needs import bytes_of, separate_masters
from tunesmith.engine.optimizers import MasterOptimizer
from tunesmith.engine.order import StepPlan
from tunesmith.engine.scorer import Scorer
from tunesmith.engine.step import Training
from tunesmith.methods import METHODS
from tunesmith.tasks import TASKS

VOCABULARY = 1500
SIZES = {"hidden_size": 96, "num_hidden_layers": 4, "intermediate_size": 384, "num_attention_heads": 4}
MODELS = {
    # the shape of MiniLM, smaller: dropout, GELU, norms after the layers
    "minilm": ("bert", {"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1}),
    # the shape of SmolLM2, smaller: shared key heads, gated feed-forward, tied embeddings
    "smollm": ("llama", {"num_key_value_heads": 2, "head_dim": 24, "tie_word_embeddings": True}),
}
OPTIONS: dict[str, dict[str, int]] = {"lora": {"rank": 4}, "lisa": {"layers": 1, "draws": 3}}


def training(
    model: str,
    *,
    head: str = "sequence",
    method: str = "full",
    dtype: torch.dtype = torch.float32,
    layout: str = "flat",
    lengths: tuple[int, int] = (20, 60),
    rows: int = 48,
    vocabulary: int = VOCABULARY,
    fused: bool = True,
    **settings: Any,
) -> Training:
    """Return a training whose steps take all rows; ``fused`` with the blocks and tables that are made for the CPU."""
    arch, own = MODELS[model]
    sizes = {**SIZES, "vocab_size": vocabulary, "max_position_embeddings": 1024, **own}
    surgery = METHODS[method](**OPTIONS.get(method, {}))
    network = surgery.apply(tiny_model(arch, dtype=torch.float32, head=head, **sizes))
    reads = "row" if head == "sequence" else "token"
    chosen, reason = choose_layout(network, reads, vocabulary, layout, fused=fused)
    assert chosen == layout, reason
    network.to(dtype)
    data = _rows(rows, lengths, vocabulary, reads)
    config, compute = train_and_compute(
        **{"batch_size": rows, "epochs": 3, "learning_rate": 0.01, "micro_batch_tokens": 4096, **settings}
    )
    task = TASKS["causal_lm"]() if reads == "token" else TASKS["classification"](labels=("a", "b"), multi_label=False)
    return Training(
        scorer=Scorer(network, chosen, reads),
        collate=collator_for(network, chosen, 1, torch.device("cpu")),
        task=task,
        data=data,
        plan=StepPlan(rows, config.batch_size, config.epochs, 0),
        optimizer=MasterOptimizer(network, surgery.parameter_groups(network), config.optimizer, 0.01),
        learning_rate=0.01,
        config=config,
        compute=compute,
        method=surgery,
    )


def _rows(num_rows: int, lengths: tuple[int, int], vocabulary: int, reads: str) -> Encoded:
    generator = np.random.default_rng(0)
    chosen = np.linspace(*lengths, num_rows).round().astype(int)
    tokens = Ragged.from_rows([generator.integers(5, vocabulary, length) for length in chosen])
    if reads == "row":
        return Encoded({"input_ids": tokens}, {"label": np.arange(num_rows, dtype=np.int64) % 2})
    positions = Ragged.from_rows([np.arange(length // 2, length) for length in chosen])
    labels = Ragged.from_rows([generator.integers(5, vocabulary, length - length // 2) for length in chosen])
    return Encoded({"input_ids": tokens}, {"labels": labels}, reads=positions)


def actual_peak(parts: Training, run: Callable[[], Any]) -> int:
    """Return what is there before ``run`` plus the most that it has allocated at once, by torch's own account."""
    optimizer = parts.optimizer
    present = bytes_of([*parts.scorer.model.parameters(), *parts.scorer.model.buffers()])
    present += bytes_of(separate_masters(optimizer))
    present += sum(
        value.nbytes
        for state in optimizer.optimizer.state.values()
        for value in state.values()
        if torch.is_tensor(value)
    )
    return present + max(itertools.accumulate(changes_of_memory(run)), default=0)


def changes_of_memory(run: Callable[[], Any]) -> list[int]:
    """Return the bytes that ``run`` allocates and frees (less than 0), in their order, by torch's own account."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        run()
    events = recorded.profiler.kineto_results.events()  # type: ignore[union-attr]
    return [event.nbytes() for event in events if event.name() == "[memory]"]
