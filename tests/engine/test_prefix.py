"""What the frozen layers compute is computed once, and nothing else changes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from engine.kept_states import keep_read_states, keep_states
from tiny import VOCABULARY, gradients_of, tiny_model
from tunesmith.data.encoded import Encoded, Ragged
from tunesmith.engine.batch import EXACT, FEW, Collator
from tunesmith.engine.cuda.transfer import to_device
from tunesmith.engine.layout import choose_layout, collator_for
from tunesmith.engine.prefix import find_prefix
from tunesmith.engine.scorer import Scorer
from tunesmith.methods import METHODS
from tunesmith.methods.base import Method
from tunesmith.models.origin import Origin, set_origin

LENGTHS = [3, 17, 5, 5, 9, 30, 4, 11]
TOP = {
    "probe": {"name": "freeze", "all_but_head": True},
    "top layer": {"name": "freeze", "layers": 1, "embeddings": True},
    "lora at the top": {"name": "lora", "rank": 2, "target_modules": "top"},
}
PROJECTIONS = {
    "bert": "encoder.layer.1.attention.self.query",
    "modernbert": "model.layers.1.attn.Wqkv",
    "llama": "model.layers.1.self_attn.q_proj",
}


def rows() -> Encoded:
    random = np.random.default_rng(0)
    tokens = [random.integers(5, VOCABULARY, length) for length in LENGTHS]
    return Encoded({"input_ids": Ragged.from_rows(tokens)}, {"label": np.arange(len(LENGTHS), dtype=np.int64) % 3})


def method_of(name: str, arch: str) -> Method:
    settings: dict[str, Any] = dict(TOP[name])
    if settings.get("target_modules") == "top":
        settings["target_modules"] = PROJECTIONS[arch].split(".", maxsplit=1)[1]
    return METHODS[settings.pop("name")](**settings)


def gradients(scorer: Scorer, collate: Any, data: Encoded) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    torch.manual_seed(0)
    scorer.model.zero_grad()
    scorer.set_training()
    batch = collate(data, np.arange(len(data)))
    with scorer.surrounding(batch):
        scores = scorer(batch)
        functional.cross_entropy(scores, batch.targets["label"]).backward()
    return scores.detach(), gradients_of(scorer.model)


@pytest.mark.parametrize("shapes", [EXACT, FEW], ids=["exact", "few"])
@pytest.mark.parametrize("layout", ["flat", "padded"])
@pytest.mark.parametrize("arch", list(PROJECTIONS))
@pytest.mark.parametrize("name", TOP)
def test_kept_states_change_nothing(name: str, arch: str, layout: str, shapes: Any, tmp_path: Path) -> None:
    model = tiny_model(arch)
    model.set_attn_implementation("sdpa")
    trained = method_of(name, arch).apply(model)
    assert choose_layout(trained, "row", VOCABULARY, layout)[0] == layout
    names = [n for n, parameter in trained.named_parameters() if parameter.requires_grad]
    prefix = find_prefix(trained, names)
    assert prefix is not None
    assert len(prefix.layers) == (2 if name == "probe" else 1)
    scorer = Scorer(trained, layout, "row", shapes, prefix)
    collate = collator_for(trained, layout, model.config.pad_token_id, torch.device("cpu"), shapes)
    plain = rows()
    expected = gradients(scorer, collate, plain)

    def run(batch: Any) -> None:
        with scorer.surrounding(batch):
            scorer.base(batch)

    kept = keep_states(prefix, plain, collate, run, 40, tmp_path / "states.npy")
    calls = []
    hook = prefix.layers[0].register_forward_hook(lambda module, given, output: calls.append(output))
    inside = [m for m in prefix.layers[0].modules() if isinstance(m, torch.nn.Linear)]
    hooks = [linear.register_forward_hook(lambda *_: pytest.fail("a frozen layer was run")) for linear in inside]
    found = gradients(scorer, collate, kept)
    assert calls
    for handle in (hook, *hooks):
        handle.remove()
    torch.testing.assert_close(found[0], expected[0], rtol=0, atol=1e-10)
    assert found[1].keys() == expected[1].keys()
    for key, gradient in expected[1].items():
        torch.testing.assert_close(found[1][key], gradient, rtol=0, atol=1e-10, msg=key)


@pytest.mark.parametrize("reads", ["row", "token"])
@pytest.mark.parametrize("layout", ["flat", "padded"])
@pytest.mark.parametrize("arch", list(PROJECTIONS))
def test_what_the_head_reads_is_enough_to_train_it(arch: str, layout: str, reads: Any, tmp_path: Path) -> None:
    model = tiny_model(arch, head="sequence" if reads == "row" else "token")
    model.set_attn_implementation("sdpa")
    trained = method_of("probe", arch).apply(model)
    assert choose_layout(trained, reads, VOCABULARY, layout)[0] == layout
    prefix = find_prefix(trained, [n for n, parameter in trained.named_parameters() if parameter.requires_grad])
    assert prefix is not None
    assert prefix.is_all
    scorer = Scorer(trained, layout, reads, EXACT, prefix)
    assert scorer.reads_apart == (layout == "flat" or reads == "token")
    if not scorer.reads_apart:
        return
    collate = collator_for(trained, layout, model.config.pad_token_id, torch.device("cpu"))
    plain = rows()
    if reads == "token":
        read = Ragged.from_rows([np.arange(0, length, 2) for length in LENGTHS])
        plain = replace(plain, reads=read, targets={"label": Ragged.from_rows([row % 3 for row in read], np.int64)})
    expected = gradients(scorer, collate, plain)

    def read_states(batch: Any) -> torch.Tensor:
        with scorer.surrounding(batch):
            return scorer.read(batch)

    kept = keep_read_states(prefix, plain, collate, read_states, 40, tmp_path / "states.npy")
    hooks = [m.register_forward_hook(lambda *_: pytest.fail("a frozen layer was run")) for m in prefix.layers]
    found = gradients(scorer, collate, kept)
    for handle in hooks:
        handle.remove()
    torch.testing.assert_close(found[0], expected[0], rtol=0, atol=1e-10)
    assert found[1].keys() == expected[1].keys()
    for key, gradient in expected[1].items():
        torch.testing.assert_close(found[1][key], gradient, rtol=0, atol=1e-10, msg=key)
    batch = collate(kept, np.arange(len(kept)))
    assert batch.num_tokens == sum(LENGTHS)
    some = kept.select(np.array([5, 2]))
    torch.testing.assert_close(
        collate(some, np.array([1, 0])).read_states, collate(kept, np.array([2, 5])).read_states, rtol=0, atol=0
    )


def test_new_weights_below_the_head_leave_no_prefix() -> None:
    model = tiny_model("bert")
    new = frozenset({"bert.embeddings.token_type_embeddings.weight", "classifier.weight", "classifier.bias"})
    set_origin(model, Origin("org/name", "abc", new))
    trained = method_of("probe", "bert").apply(model)
    names = [name for name, parameter in trained.named_parameters() if parameter.requires_grad]
    assert "bert.embeddings.token_type_embeddings.weight" in names
    assert find_prefix(trained, names) is None


def test_states_in_bf16_come_back_bit_for_bit(tmp_path: Path) -> None:
    model = method_of("probe", "bert").apply(tiny_model("bert", dtype=torch.bfloat16))
    choose_layout(model, "row", VOCABULARY, "padded")
    prefix = find_prefix(model, [n for n, parameter in model.named_parameters() if parameter.requires_grad])
    assert prefix is not None
    scorer = Scorer(model, "padded", "row", EXACT, prefix)
    collate = collator_for(model, "padded", model.config.pad_token_id, torch.device("cpu"))
    kept = keep_states(prefix, rows(), collate, scorer.base, 10_000, tmp_path / "states.npy")
    batch = collate(kept, np.arange(len(kept)))
    model.eval()
    with torch.no_grad():
        expected = scorer.base(collate(rows(), np.arange(len(kept))))
    mask = batch.inputs["attention_mask"].bool()
    assert batch.states is not None
    assert batch.states.dtype == torch.bfloat16
    assert torch.equal(batch.states[mask], expected[mask])


@pytest.mark.parametrize("layout", ["flat", "padded"])
@pytest.mark.parametrize("reads_only", [False, True])
def test_a_batch_laid_out_on_the_host_is_there_whole(layout: str, reads_only: bool) -> None:
    """A step lays all its micro-batches out: a device holds the states of one of them at a time."""
    states = np.zeros((sum(LENGTHS), 16), dtype=np.float32)
    kept = (
        {"read_states": states[: len(LENGTHS)]}
        if reads_only
        else {"states": Ragged(states, rows().inputs["input_ids"].offsets)}
    )
    device = torch.device("meta")
    batch = Collator(layout, device=device).on_host(replace(rows(), **kept), np.arange(len(LENGTHS)))
    found = [batch.states, batch.read_states, batch.first_tokens, batch.last_tokens, *batch.targets.values()]
    assert {tensor.device.type for tensor in found if tensor is not None} == {"cpu"}
    moved = to_device(batch, device)
    assert (moved.read_states if reads_only else moved.states).device == device


def test_the_prefix_runs_without_dropout_and_the_rest_with_it() -> None:
    model = method_of("top layer", "bert").apply(tiny_model("bert"))
    prefix = find_prefix(model, [n for n, parameter in model.named_parameters() if parameter.requires_grad])
    scorer = Scorer(model, "padded", "row", EXACT, prefix)
    scorer.set_training()
    assert not model.bert.embeddings.dropout.training
    assert [layer.training for layer in model.bert.encoder.layer] == [False, True]
    assert model.dropout.training


@pytest.mark.parametrize("arch", ["bert", "t5", "cnn", "lstm"])
def test_there_is_no_prefix_below_what_is_trained_whole(arch: str) -> None:
    model = tiny_model(arch)
    assert find_prefix(model, [name for name, _ in model.named_parameters()]) is None
