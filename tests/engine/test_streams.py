"""Inputs in several streams, and rows of several sequences: what the model's own ``forward`` makes of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from tiny import END, HIDDEN, VOCABULARY, tiny_config, tiny_model
from tunesmith.data.encoded import Encoded, Ragged
from tunesmith.engine.batch import Collator
from tunesmith.engine.layout import choose_layout, collator_for
from tunesmith.engine.losses import loss_sum
from tunesmith.engine.order import micro_batches
from tunesmith.engine.scorer import Scorer
from tunesmith.tasks.causal_lm import CausalLM

HOST = torch.device("cpu")


def ragged(lengths: list[int], seed: int, dtype: Any = np.int32) -> Ragged:
    generator = np.random.default_rng(seed)
    return Ragged.from_rows([[*generator.integers(5, VOCABULARY, length - 1), END] for length in lengths], dtype)


def test_a_decoder_reads_its_own_stream_and_its_tokens_are_learned() -> None:
    """The loss of a sequence-to-sequence batch is that of ``transformers``, with its labels padded by -100."""
    from transformers import BartForConditionalGeneration

    torch.manual_seed(0)
    model = BartForConditionalGeneration(tiny_config("bart")).double().eval()
    source, target = ragged([9, 4, 6], 0), ragged([3, 7, 2], 1)
    starts = Ragged.from_rows([[END, *target[row][:-1]] for row in range(3)])
    data = Encoded(
        {"input_ids": source, "decoder_input_ids": starts},
        {"labels": Ragged(target.values.astype(np.int64), target.offsets)},
        reads=Ragged.from_rows([np.arange(len(target[row])) for row in range(3)]),
    )
    assert data.lengths.tolist() == [12, 11, 8]
    batch = Collator("padded", 1)(data, np.arange(3))
    assert batch.num_tokens == 31
    scorer = Scorer(model, "padded", "token")
    with scorer.surrounding(batch):
        found = loss_sum(scorer, CausalLM(), batch)
    labels = torch.full(batch.inputs["decoder_input_ids"].shape, -100)
    labels[batch.inputs["decoder_attention_mask"].bool()] = batch.targets["labels"]
    with torch.no_grad():
        expected = model(**batch.inputs, labels=labels).loss * len(batch.targets["labels"])
    torch.testing.assert_close(found.detach(), expected, rtol=1e-9, atol=0)


def test_images_are_inputs_without_tokens() -> None:
    from transformers import ViTConfig, ViTForImageClassification

    settings = {"hidden_size": HIDDEN, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}
    model = ViTForImageClassification(ViTConfig(image_size=8, patch_size=4, num_labels=3, **settings)).eval()
    pixels = np.random.default_rng(0).normal(size=(5, 3, 8, 8)).astype(np.float32)
    data = Encoded({"pixel_values": pixels}, {"label": np.array([0, 1, 2, 0, 1])})
    scores = torch.zeros(5, 3)
    for sequences in micro_batches(data, np.array([4, 2, 0, 1, 3]), "padded", 2):
        batch = Collator("padded")(data, sequences)
        assert len(batch.sequences) == 2 or batch.sequences.tolist() == [3]
        scorer = Scorer(model, "padded", "row")
        with torch.no_grad(), scorer.surrounding(batch):
            scores[batch.sequences] = scorer(batch)
    with torch.no_grad():
        torch.testing.assert_close(scores, model(pixel_values=torch.from_numpy(pixels)).logits)


@pytest.mark.parametrize("pooling", ["cls", "mean"])
@pytest.mark.parametrize("arch", ["bert", "roberta", "distilbert", "modernbert", "llama"])
def test_rows_of_several_sequences_score_alike_in_both_layouts(arch: str, pooling: str) -> None:
    """Sequences of a row stay together in the order given, though the flat row is sorted by length."""
    settings = {"classifier_pooling": pooling} if arch == "modernbert" else {}
    lengths = [9, 3, 7, 7, 2, 12, 5]
    data = Encoded(
        {"input_ids": ragged(lengths, 2)},
        {"label": np.array([5, 6, 7])},
        rows=np.array([0, 2, 2, 5, 7])[[0, 1, 3, 4]],
        keeps_rows=True,
    )
    found = {}
    for layout in ("flat", "padded"):
        model = tiny_model(arch, dtype=torch.float32, **settings)
        chosen, reason = choose_layout(model, "row", VOCABULARY, layout)
        assert chosen == layout, reason
        scorer, collate = Scorer(model, chosen, "row"), collator_for(model, chosen, 1, HOST)
        batch = collate(data, data.sequences_of(np.array([2, 0, 1])))
        assert batch.sequences.tolist() == [5, 6, 0, 1, 2, 3, 4]
        assert batch.units.per_row == [2, 2, 3]
        assert batch.targets["label"].tolist() == [7, 5, 6]
        with torch.no_grad(), scorer.surrounding(batch):
            found[layout] = scorer(batch)
    torch.testing.assert_close(found["flat"], found["padded"], rtol=1e-4, atol=1e-5)
