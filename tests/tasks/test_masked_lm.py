"""Masked language modelling: parity with plain transformers, fixed evaluation, fillers, windows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForMaskedLM, PreTrainedModel

from engine.stepping import compute_gradients
from tiny import PAD, SENTENCES, VOCABULARY, tiny_config, tiny_tokenizer, train_and_compute
from tunesmith.data.encoded import Encoded, Ragged
from tunesmith.engine.layout import choose_layout, collator_for
from tunesmith.engine.losses import loss_sum
from tunesmith.engine.optimizers import MasterOptimizer, Penalties
from tunesmith.engine.order import StepPlan
from tunesmith.engine.predict import Scored, predict
from tunesmith.engine.scorer import Scorer
from tunesmith.engine.step import Training
from tunesmith.methods.base import ParameterGroup
from tunesmith.tasks import MaskedLM
from tunesmith.types import InputError

TASK = MaskedLM()
TEXTS = [*SENTENCES, "lovingly made", "", "waste of time, slow and far too long and boring"]
COLUMNS = {"text": TEXTS}
ARCHITECTURES = ["bert", "roberta", "distilbert", "modernbert"]


def masked_model(arch: str, **settings: Any) -> PreTrainedModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AutoModelForMaskedLM.from_config(tiny_config(arch, **settings))
    model.set_attn_implementation("sdpa")
    return model.double().eval()


def encoded(texts: list[str] = TEXTS, max_length: int = 64, **settings: Any) -> Encoded:
    return MaskedLM(**settings).encode({"text": texts}, tiny_tokenizer(), max_length)


def scored(model: PreTrainedModel, data: Encoded, task: MaskedLM = TASK, layout: str = "padded") -> Scored:
    assert layout == "padded" or choose_layout(model, "token", VOCABULARY, "flat")[0] == "flat"
    collate = collator_for(model, layout, PAD, torch.device("cpu"))  # type: ignore[arg-type]
    return predict(Scorer(model, layout, "token"), collate, task, data, 60)  # type: ignore[arg-type]


def ragged(values: Any) -> Ragged:
    assert isinstance(values, Ragged)
    return values


# ---- the loss ------------------------------------------------------------------------------------


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("layout", ["padded", "flat"])
def test_loss_is_that_of_transformers(arch: str, layout: str) -> None:
    model = masked_model(arch)
    data = TASK.corrupt(encoded(), np.array([7, 0, 3, 10, 8]), 12345)
    assert data.reads is not None
    labels = ragged(data.targets["token"])
    input_ids = torch.full((len(data), int(data.lengths.max())), PAD)
    expected_labels = torch.full_like(input_ids, -100)
    for row in range(len(data)):
        input_ids[row, : data.lengths[row]] = torch.from_numpy(data.inputs["input_ids"][row].astype(np.int64))
        expected_labels[row, data.reads[row]] = torch.from_numpy(labels[row].astype(np.int64))
    mask = (torch.arange(input_ids.shape[1]) < torch.from_numpy(data.lengths)[:, None]).long()
    with torch.no_grad():
        output = model(input_ids=input_ids, attention_mask=mask, labels=expected_labels)
        assert layout == "padded" or choose_layout(model, "token", VOCABULARY, "flat")[0] == "flat"
        scorer = Scorer(model, layout, "token")  # type: ignore[arg-type]
        collate = collator_for(model, layout, PAD, torch.device("cpu"))  # type: ignore[arg-type]
        batch = collate(data, np.arange(len(data)))
        with scorer.surrounding(batch):
            loss = loss_sum(scorer, TASK, batch) / TASK.count_units(batch.targets, batch.units)
    exact = torch.nn.functional.cross_entropy(output.logits.flatten(0, 1), expected_labels.flatten())
    assert loss.item() == pytest.approx(exact.item(), abs=1e-8)
    # Some models take their own loss in float32, whatever their weights are.
    assert loss.item() == pytest.approx(output.loss.item(), abs=1e-6 if arch == "modernbert" else 1e-8)


@pytest.mark.parametrize("settings", [{"micro_batch_rows": 1}, {"micro_batch_tokens": 25}, {"layout": "flat"}])
def test_how_a_step_is_split_changes_nothing(settings: dict[str, Any]) -> None:
    """Masks are drawn before rows are laid out: accumulation and layout give one and the same gradient."""

    def gradient(layout: str = "padded", **settings: Any) -> tuple[float, list[torch.Tensor]]:
        model = masked_model("bert", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
        assert layout == "padded" or choose_layout(model, "token", VOCABULARY, "flat")[0] == "flat"
        config, compute = train_and_compute(**{"batch_size": 8, "epochs": 2, "learning_rate": 0.01, **settings})
        data = encoded()
        groups = [ParameterGroup(tuple(name for name, _ in model.named_parameters()), 1.0, decay=True)]
        parts = Training(
            scorer=Scorer(model, layout, "token"),  # type: ignore[arg-type]
            collate=collator_for(model, layout, PAD, torch.device("cpu")),  # type: ignore[arg-type]
            task=TASK,
            data=data,
            plan=StepPlan(len(data), 8, 2, 0, None),
            optimizer=MasterOptimizer(model, groups, config.optimizer, 0.01, Penalties(0.0, 0.0)),
            learning_rate=0.01,
            config=config,
            compute=compute,
        )
        losses, _ = compute_gradients(parts, np.array([0, 9, 4, 10, 6, 3, 1, 2]))
        return float(sum(losses)), [master.grad for master in parts.optimizer.masters if master.grad is not None]

    loss, expected = gradient()
    other_loss, found = gradient(**settings)
    assert other_loss == pytest.approx(loss, abs=1e-12)
    assert len(found) == len(expected) > 0
    for one, two in zip(found, expected, strict=True):
        torch.testing.assert_close(one, two, rtol=0, atol=1e-10)


# ---- rows ----------------------------------------------------------------------------------------


def test_training_rows_are_masked_anew_and_come_out_in_order() -> None:
    data, rows = encoded(), np.array([4, 0, 10])
    first, again, other = (TASK.corrupt(data, rows, seed) for seed in (1, 1, 2))
    assert len(first) == 3
    assert set(first.targets) == {"token"}
    np.testing.assert_array_equal(first.inputs["input_ids"].values, again.inputs["input_ids"].values)
    assert first.inputs["input_ids"].values.tolist() != other.inputs["input_ids"].values.tolist()
    tokenizer = tiny_tokenizer()
    for place, row in enumerate(rows):
        clean = np.array(tokenizer(TEXTS[row])["input_ids"])
        assert first.reads is not None
        reads, labels = first.reads[place], ragged(first.targets["token"])[place]
        np.testing.assert_array_equal(clean[reads], labels)
        restored = first.inputs["input_ids"][place].copy()
        restored[reads] = labels
        np.testing.assert_array_equal(restored, clean)


def test_settings_are_obeyed() -> None:
    data = encoded(list(SENTENCES) * 20)
    rows = np.arange(len(data))
    mask_id = tiny_tokenizer().mask_token_id
    all_masked = MaskedLM(mask_share=1.0, random_share=0.0, probability=0.5).corrupt(data, rows, 1)
    assert all_masked.reads is not None
    shown = [all_masked.inputs["input_ids"][row][all_masked.reads[row]] for row in rows]
    assert (np.concatenate(shown) == mask_id).all()
    maskable = (ragged(data.extras["words"]).values >= 0).sum()
    assert len(all_masked.reads.values) / maskable == pytest.approx(0.5, abs=0.03)
    kept = MaskedLM(mask_share=0.0, random_share=0.0).corrupt(data, rows, 1)
    np.testing.assert_array_equal(kept.inputs["input_ids"].values, ragged(data.extras["ids"]).values)
    with pytest.raises(ValueError, match="together are more than 1"):
        MaskedLM(mask_share=0.8, random_share=0.3)


def test_evaluation_masks_depend_on_the_text_alone() -> None:
    """Not on the row's place, its neighbours, or the settings of training; and all of them are mask tokens."""
    data = encoded()
    other = encoded([*TEXTS[::-1], "boring"], probability=0.4, whole_words=False, mask_share=0.5)
    back = len(TEXTS) - 1
    for row in range(len(TEXTS)):
        np.testing.assert_array_equal(data.inputs["input_ids"][row], other.inputs["input_ids"][back - row])
    assert data.reads is not None
    assert data.reads.lengths[TEXTS.index("")] == 0
    shown = np.concatenate([data.inputs["input_ids"][row][data.reads[row]] for row in range(len(data))])
    assert (shown == tiny_tokenizer().mask_token_id).all()
    assert TASK.corrupt(data, np.arange(len(data)), None) is data
    some = TASK.corrupt(data, np.array([3, 1]), None)
    np.testing.assert_array_equal(some.inputs["input_ids"][0], data.inputs["input_ids"][3])


def test_what_is_needed_for_masking_is_kept_on_disk(tmp_path: Path) -> None:
    data = encoded()
    data.save(tmp_path)
    rows = np.array([2, 5])
    one, two = (TASK.corrupt(split, rows, 9) for split in (data, Encoded.load(tmp_path)))
    np.testing.assert_array_equal(one.inputs["input_ids"].values, two.inputs["input_ids"].values)
    np.testing.assert_array_equal(ragged(one.targets["token"]).values, ragged(two.targets["token"]).values)


def test_a_model_without_a_mask_token_is_refused() -> None:
    with pytest.raises(InputError, match="no mask token"):
        TASK.encode(COLUMNS, tiny_tokenizer("bpe"), 64)


# ---- numbers and answers -------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["padded", "flat"])
def test_metrics_are_those_of_all_masked_tokens(layout: str) -> None:
    model, data = masked_model("bert"), encoded()
    found = scored(masked_model("bert"), data, layout=layout)
    losses, right = [], []
    for row in range(len(data)):
        with torch.no_grad():
            ids = torch.from_numpy(data.inputs["input_ids"][row].astype(np.int64))[None]
            logits = model(input_ids=ids).logits[0]
        assert data.reads is not None
        labels = torch.from_numpy(ragged(data.targets["token"])[row].astype(np.int64))
        scores = logits[torch.from_numpy(data.reads[row].astype(np.int64))]
        losses.append(torch.nn.functional.cross_entropy(scores, labels, reduction="none").numpy())
        right.append((scores.argmax(1) == labels).numpy())
    weights = np.random.default_rng(0).integers(0, 3, (4, len(TEXTS))).astype(np.float64)
    measured = TASK.measure(found.outputs, found.targets, weights)
    for replicate, counts in enumerate(weights.astype(int)):
        drawn = np.concatenate([np.tile(row, count) for row, count in zip(losses, counts, strict=True)])
        hits = np.concatenate([np.tile(row, count) for row, count in zip(right, counts, strict=True)])
        assert measured["pseudo_perplexity"][replicate] == pytest.approx(np.exp(drawn.mean()), rel=1e-6)
        assert measured["token_accuracy"][replicate] == pytest.approx(hits.mean())
    assert found.loss == pytest.approx(np.concatenate(losses).mean(), abs=1e-8)
    np.testing.assert_allclose(
        TASK.errors(found.outputs, found.targets), [row.mean() if len(row) else 0.0 for row in losses], rtol=1e-6
    )
    nothing = np.zeros((1, len(TEXTS)))
    assert all(np.isnan(values[0]) for values in TASK.measure(found.outputs, found.targets, nothing).values())


def test_hopeless_losses_stay_finite() -> None:
    offsets = np.array([0, 2], dtype=np.int64)
    outputs = {
        "loss": Ragged(np.array([5000.0, 3000.0], dtype=np.float32), offsets),
        "right": Ragged(np.array([False, False]), offsets),
        "fillers": Ragged(np.zeros((2, 1), dtype=np.int32), offsets),
        "probabilities": Ragged(np.zeros((2, 1), dtype=np.float32), offsets),
    }
    assert np.isfinite(TASK.measure(outputs, {}, np.ones((1, 1)))["pseudo_perplexity"]).all()
    assert np.isfinite(TASK.decode(outputs)[0]["value"])


@pytest.mark.parametrize("max_length", [64, 7])
def test_plain_texts_are_scored_word_by_word(max_length: int) -> None:
    """Every token is masked once, in one copy of its window or another."""
    tokenizer = tiny_tokenizer()
    data = TASK.encode(TASK.complete(COLUMNS), tokenizer, max_length)
    assert data.num_data_rows == len(TEXTS)
    tokens = ragged(data.data_targets["token"])
    for row, text in enumerate(TEXTS):
        expected = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert sorted(tokens[row].tolist()) == sorted(expected)
    found = scored(masked_model("bert"), data)
    decoded = TASK.spell(TASK.decode(found.outputs, COLUMNS), tokenizer)
    losses = ragged(found.outputs["loss"])
    for row, one in enumerate(decoded):
        assert one["num_tokens"] == len(tokens[row])
        if one["num_tokens"]:
            assert one["value"] == pytest.approx(np.exp(losses[row].astype(float).mean()))
            assert one["score"] == pytest.approx(1 / one["value"])
    assert decoded[TEXTS.index("")] == {"value": None, "score": None, "num_tokens": 0}


def test_masks_in_a_text_are_filled() -> None:
    tokenizer, model = tiny_tokenizer(), masked_model("bert")
    texts = ["the [MASK] is dull", "boring", "[MASK] and [MASK]"]
    task = MaskedLM(num_fillers=3)
    found = scored(model, task.encode(task.complete({"text": texts}), tokenizer, 64), task)
    ids = task.decode(found.outputs)
    spelled = task.spell(ids, tokenizer)
    assert [len(one.get("fillers", [])) for one in spelled] == [1, 0, 2]
    assert "value" in spelled[1]
    for row in (0, 2):
        batch = tokenizer(texts[row], return_tensors="pt")
        with torch.no_grad():
            logits = model(**batch).logits[0]
        places = (batch["input_ids"][0] == tokenizer.mask_token_id).nonzero()[:, 0]
        best = logits[places].softmax(dim=1).topk(3)
        for index in range(len(places)):
            fillers = spelled[row]["fillers"][index]
            assert [one["token"] for one in ids[row]["fillers"][index]] == best.indices[index].tolist()
            assert [one["token"] for one in fillers] == [tokenizer.decode([one]) for one in best.indices[index]]
            expected = pytest.approx(best.values[index].tolist(), rel=1e-5)
            assert [one["probability"] for one in fillers] == expected
        assert spelled[row]["label"] == [place[0]["token"] for place in spelled[row]["fillers"]]
        assert spelled[row]["score"] == min(place[0]["probability"] for place in spelled[row]["fillers"])


def test_masks_in_texts_to_learn_from_are_not_read() -> None:
    data = encoded(["the [MASK] is dull"])
    mask_id = tiny_tokenizer().mask_token_id
    for seed in (None, 1, 2, 3):
        split = TASK.corrupt(data, np.array([0]), seed)
        assert mask_id not in ragged(split.targets["token"]).values
        assert len(ragged(split.targets["token"]).values)
