"""Flat equals padded equals plain transformers: logits, loss and gradients, per architecture."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional
from transformers import AutoModelForTokenClassification, BertForSequenceClassification
from transformers.modeling_outputs import SequenceClassifierOutput

from tiny import ARCHITECTURES, VOCABULARY, gradients_of, tiny_model
from tunesmith.data.encoded import Encoded, Ragged
from tunesmith.engine import attention
from tunesmith.engine.batch import EXACT, FEW, MAX_GROUP_WASTE, MIN_GROUP_ROWS, Shapes, find_borders
from tunesmith.engine.layout import choose_layout, collator_for
from tunesmith.engine.scorer import Scorer
from tunesmith.models.anatomy import Anatomy
from tunesmith.models.facts import facts_of

FLAT = ["bert", "roberta", "distilbert", "modernbert", "llama", "qwen3", "gpt2"]
PADDED_ONLY = [name for name in ARCHITECTURES if name not in FLAT]
LENGTHS = {
    "mixed": [3, 17, 5, 5, 9, 30, 4, 11, 6, 6, 2, 8],
    "equal": [7] * 6,
    "single": [13],
}


def reference(arch: str, **settings):
    """Return a tiny model whose padded attention is torch's own.

    The eager attention of some models rounds to float32, and gives NaN gradients for padding in float64.
    """
    model = tiny_model(arch, **settings)
    model.set_attn_implementation("sdpa")
    return model


def rows(lengths: list[int], seed: int = 0) -> Encoded:
    generator = np.random.default_rng(seed)
    tokens = [generator.integers(5, VOCABULARY, length) for length in lengths]
    return Encoded(
        inputs={"input_ids": Ragged.from_rows(tokens)}, targets={"label": np.arange(len(lengths), dtype=np.int64) % 3}
    )


def loss_and_gradients(model, layout, data, shapes=EXACT):
    """Return logits in row order, the loss and every gradient, in the given layout."""
    collate = collator_for(model, layout, model.config.pad_token_id, torch.device("cpu"), shapes)
    scorer = Scorer(model, layout, "row")
    batch = collate(data, np.arange(len(data)))
    model.zero_grad()
    with scorer.surrounding(batch):
        scores = scorer(batch)
        loss = functional.cross_entropy(scores, batch.targets["label"], reduction="sum") / len(data)
        loss.backward()
    back = np.argsort(batch.sequences)
    gradients = gradients_of(model)
    return scores.detach()[back], loss.item(), gradients


@pytest.mark.parametrize("shapes", [EXACT, FEW], ids=["exact", "few"])
@pytest.mark.parametrize("lengths", ["mixed", "equal", "single"])
@pytest.mark.parametrize("arch", FLAT)
def test_flat_equals_plain_transformers(arch: str, lengths: str, shapes: Shapes) -> None:
    data = rows(LENGTHS[lengths])
    model = reference(arch)
    expected = loss_and_gradients(model, "padded", data)
    layout, reason = choose_layout(model, "row", VOCABULARY, "auto")
    assert layout == "flat", reason
    found = loss_and_gradients(model, "flat", data, shapes)
    torch.testing.assert_close(found[0], expected[0], rtol=0, atol=1e-8)
    assert found[1] == pytest.approx(expected[1], abs=1e-8)
    assert found[2].keys() == expected[2].keys()
    for name, gradient in expected[2].items():
        torch.testing.assert_close(found[2][name], gradient, rtol=0, atol=1e-8, msg=name)


@pytest.mark.parametrize("arch", ["bert", "llama", "modernbert"])
def test_long_rows_take_the_tiled_kernel_and_stay_equal(arch: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "MATMUL_MAX_LENGTH", 6)
    data = rows(LENGTHS["mixed"])
    model = reference(arch)
    expected = loss_and_gradients(model, "padded", data)
    assert choose_layout(model, "row", VOCABULARY, "auto")[0] == "flat"
    found = loss_and_gradients(model, "flat", data)
    torch.testing.assert_close(found[0], expected[0], rtol=0, atol=1e-8)
    for name, gradient in expected[2].items():
        torch.testing.assert_close(found[2][name], gradient, rtol=0, atol=1e-8, msg=name)


@pytest.mark.parametrize("arch", FLAT)
def test_a_row_does_not_see_its_neighbours(arch: str) -> None:
    model = tiny_model(arch)
    choose_layout(model, "row", VOCABULARY, "auto")
    lengths = LENGTHS["mixed"]
    one, other = rows(lengths, seed=1), rows(lengths, seed=2)
    kept = 4
    mixed = [one.inputs["input_ids"][row] if row == kept else other.inputs["input_ids"][row] for row in range(12)]
    changed = Encoded(inputs={"input_ids": Ragged.from_rows(mixed)}, targets=one.targets)
    before = loss_and_gradients(model, "flat", one)[0][kept]
    after = loss_and_gradients(model, "flat", changed)[0][kept]
    torch.testing.assert_close(before, after, rtol=0, atol=1e-12)


@pytest.mark.parametrize("arch", PADDED_ONLY)
def test_models_that_cannot_be_flat_fall_back_and_say_why(arch: str) -> None:
    model = tiny_model(arch)
    layout, reason = choose_layout(model, "row", VOCABULARY, "auto")
    assert layout == "padded"
    assert reason
    data = rows([5, 5, 5]) if arch in ("bart", "t5") else rows(LENGTHS["mixed"])
    if arch in ("bart", "t5"):
        data.inputs["input_ids"].values[4::5] = 2
    assert torch.isfinite(loss_and_gradients(model, "padded", data)[0]).all()


def test_a_model_whose_flat_scores_are_wrong_is_caught() -> None:
    model = tiny_model("bert")
    original = model.bert.pooler.forward
    model.bert.pooler.forward = lambda hidden: original(hidden) + hidden.shape[1]
    layout, reason = choose_layout(model, "row", VOCABULARY, "auto")
    assert layout == "padded"
    assert "differ from" in reason
    assert model.config._attn_implementation == "eager"


def test_attention_groups_cover_every_row_once_and_waste_little() -> None:
    generator = np.random.default_rng(0)
    for _ in range(50):
        lengths = sorted(generator.integers(1, 200, generator.integers(1, 80)).tolist())
        borders = find_borders(lengths, torch.device("cpu"))
        assert [length for group in borders.groups for length in group.lengths] == lengths
        assert borders.cumulative_lengths.tolist() == [0, *np.cumsum(lengths)]
        for group in borders.groups:
            cells = group.num_rows * group.length
            assert 1 - group.num_tokens / cells <= MAX_GROUP_WASTE or group.num_rows <= MIN_GROUP_ROWS
            if group.gather is not None:
                assert group.gather[group.scatter].tolist() == list(range(group.num_tokens))


def test_rounded_shapes_are_multiples_and_cover_every_token() -> None:
    borders = find_borders([3, 9, 9, 30], torch.device("cpu"), FEW)
    assert sum(group.num_tokens for group in borders.groups) == 64
    assert all(group.length % 8 == 0 for group in borders.groups)
    assert borders.cumulative_lengths.tolist() == [0, 3, 12, 21, 51, 64]
    assert sum(group.num_tokens for group in find_borders([64], torch.device("cpu"), FEW).groups) == 64


def test_soft_capping_is_refused_rather_than_left_out() -> None:
    from tunesmith.engine.attention import borders_of, flat_attention

    tensor = torch.zeros(1, 1, 4, 2)
    with borders_of(find_borders([4], torch.device("cpu"))), pytest.raises(NotImplementedError, match="softcap"):
        flat_attention(torch.nn.Module(), tensor, tensor, tensor, None, softcap=30.0)


@pytest.mark.parametrize("shapes", [EXACT, FEW], ids=["exact", "few"])
@pytest.mark.parametrize("arch", ["bert", "roberta", "distilbert", "modernbert", "llama", "qwen3", "gpt2"])
def test_tokens_read_flat_are_those_of_plain_transformers(arch: str, shapes: Shapes) -> None:
    torch.manual_seed(0)
    config = tiny_model(arch).config
    model = AutoModelForTokenClassification.from_config(config).double().eval()
    model.set_attn_implementation("sdpa")
    data = rows(LENGTHS["mixed"])
    positions = [np.arange(index % 3, length, 2) for index, length in enumerate(LENGTHS["mixed"])]
    data = Encoded(data.inputs, {}, reads=Ragged.from_rows(positions))
    found = {}
    for layout in ("padded", "flat"):
        if layout == "flat":
            assert choose_layout(model, "token", VOCABULARY, "flat")[0] == "flat"
        collate = collator_for(model, layout, 1, torch.device("cpu"), shapes)
        batch = collate(data, np.arange(len(data)))
        scorer = Scorer(model, layout, "token")
        with torch.no_grad(), scorer.surrounding(batch):
            found[layout] = scorer(batch)
    torch.testing.assert_close(found["flat"], found["padded"], rtol=0, atol=1e-8)
    one = torch.tensor(data.inputs["input_ids"][5].astype(np.int64))[None]
    model.set_attn_implementation("sdpa")
    with torch.no_grad():
        expected = model(input_ids=one).logits[0, positions[5]]
    first = sum(len(positions[row]) for row in batch.sequences[: batch.sequences.tolist().index(5)])
    torch.testing.assert_close(found["flat"][first : first + len(positions[5])], expected, rtol=0, atol=1e-8)


class OwnHead(BertForSequenceClassification):
    """A head that nobody has heard of: it reads the last token, or the mean, in steps of its own."""

    pools = "last"

    def forward(self, input_ids=None, attention_mask=None, **settings):
        hidden = self.bert(input_ids, attention_mask=attention_mask, **settings).last_hidden_state
        if self.pools == "last":
            pooled = hidden[torch.arange(len(hidden)), attention_mask.sum(1) - 1]
        elif self.pools == "mean":
            pooled = (hidden * attention_mask[..., None]).sum(1) / attention_mask.sum(1, keepdim=True)
        else:
            pooled = hidden.masked_fill(attention_mask[..., None] == 0, -torch.inf).amax(1)
        return SequenceClassifierOutput(logits=3 * torch.tanh(self.classifier(pooled.square())) + pooled[:, :3])


@pytest.mark.parametrize("pools", ["last", "mean", "max"])
def test_a_head_runs_by_its_own_forward(pools: str) -> None:
    data = rows(LENGTHS["mixed"])
    torch.manual_seed(0)
    model = OwnHead(tiny_model("bert").config).double().eval()
    model.set_attn_implementation("sdpa")
    model.pools = pools
    expected = loss_and_gradients(model, "padded", data)
    layout, reason = choose_layout(model, "row", VOCABULARY, "auto")
    if pools == "max":
        assert (layout, "neither one of a row's hidden states nor their mean" in reason) == ("padded", True)
        return
    assert layout == "flat", reason
    found = loss_and_gradients(model, "flat", data)
    torch.testing.assert_close(found[0], expected[0], rtol=0, atol=1e-8)
    assert found[2].keys() == expected[2].keys()
    for name, gradient in expected[2].items():
        torch.testing.assert_close(found[2][name], gradient, rtol=0, atol=1e-8, msg=name)


def test_a_model_is_looked_at_apart_from_the_pass_that_asks() -> None:
    chosen, fresh = tiny_model("bert", dtype=torch.float32), tiny_model("bert", dtype=torch.float32)
    for model in (chosen, fresh):
        choose_layout(model, "row", VOCABULARY, "flat")
    facts_of(fresh).clear()
    found = [loss_and_gradients(model, "flat", rows(LENGTHS["mixed"])) for model in (chosen, fresh)]
    assert torch.equal(found[0][0], found[1][0])
    assert Anatomy.of(fresh).row_reading == "first"
