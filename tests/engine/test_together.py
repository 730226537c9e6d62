"""Several LoRA trainings in one pass: each makes the steps that it makes alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from engine.kept_states import keep_states
from tiny import VOCABULARY, tiny_model, train_and_compute
from tunesmith.data.encoded import Encoded, Ragged
from tunesmith.engine import loop as loop_module
from tunesmith.engine.batch import FEW, Batch
from tunesmith.engine.layout import choose_layout, collator_for
from tunesmith.engine.loop import Training, train
from tunesmith.engine.optimizers import MasterOptimizer, Penalties
from tunesmith.engine.order import StepPlan
from tunesmith.engine.prefix import find_prefix
from tunesmith.engine.scorer import Scorer
from tunesmith.engine.together import Member, join, make_steps, obstacle
from tunesmith.methods.lora import Lora
from tunesmith.models.sharing import share_frozen
from tunesmith.models.wrapping import plain_name
from tunesmith.tasks.base import Task
from tunesmith.tasks.classification import Classification
from tunesmith.types import RunError, StepInfo

SETTINGS: list[dict[str, Any]] = [
    {"rank": 4},
    {"rank": 2, "alpha": 5.0, "seed": 1, "learning_rate": 0.03, "micro_batch_rows": 3},
    {"rank": 8, "rslora": True, "seed": 2, "epochs": 3, "clip_norm": 0.01, "schedule": {"name": "cosine"}},
    {"rank": 4, "lora_plus_ratio": 4.0, "seed": 3, "batch_size": 5, "l2": 0.01, "optimizer": {"name": "sgd"}},
]
DROPOUT = {
    "bert": ("hidden_dropout_prob", "attention_probs_dropout_prob"),
    "gpt2": ("embd_pdrop", "attn_pdrop", "resid_pdrop"),
    "llama": ("attention_dropout",),
}
METHOD_KEYS = ("rank", "alpha", "rslora", "dora", "lora_plus_ratio", "target_modules", "bias", "dropout")


class Tokens(Task):
    """Cross-entropy over the vocabulary at every token read."""

    reads = "token"
    name: str = "tokens"

    def loss_sum(self, scores_UK: torch.Tensor, targets: Any, units: Any) -> torch.Tensor:
        return functional.cross_entropy(scores_UK, targets["labels"].long(), reduction="sum")

    def count_units(self, targets: Any, units: Any) -> float:
        return float(len(targets["labels"]))


def labelled_rows(num_rows: int = 22) -> Encoded:
    random = np.random.default_rng(0)
    tokens = [random.integers(5, VOCABULARY, random.integers(2, 20)) for _ in range(num_rows)]
    labels = np.array([int(row[0]) % 3 for row in tokens], dtype=np.int64)
    return Encoded(inputs={"input_ids": Ragged.from_rows(tokens)}, targets={"label": labels})


def token_rows(seed: int) -> Encoded:
    random = np.random.default_rng(seed)
    tokens = [random.integers(5, VOCABULARY, length) for length in (3, 17, 5, 5, 9, 30, 4, 11, 6, 6, 2, 8)]
    reads = [np.flatnonzero(random.random(len(row) - 1) < 0.7) for row in tokens]
    return Encoded(
        inputs={"input_ids": Ragged.from_rows(tokens)},
        targets={"labels": Ragged.from_rows([row[kept + 1] for row, kept in zip(tokens, reads, strict=True)])},
        reads=Ragged.from_rows(reads),
    )


def training(arch: str = "bert", dtype: torch.dtype = torch.float64, **settings: Any) -> Training:
    """Return a LoRA training: of classes with BERT, of next tokens with Llama and GPT-2."""
    causal = arch != "bert"
    dropped = dict.fromkeys(DROPOUT[arch], settings.pop("model_dropout", 0.0))
    plain = tiny_model(arch, dtype=torch.float32, head="causal" if causal else "sequence", **dropped)
    reads: Any = "token" if causal else "row"
    method = Lora(**{key: settings.pop(key) for key in METHOD_KEYS if key in settings})
    config, compute = train_and_compute(**{"batch_size": 8, "epochs": 2, "learning_rate": 0.01, **settings})
    torch.manual_seed(config.seed)
    if not causal:  # a head of its own
        nn.init.normal_(plain.classifier.weight)
    model = method.apply(plain)
    for name, parameter in model.named_parameters():
        if ".lora_B." in name:
            nn.init.normal_(parameter, std=0.1)
    layout, reason = choose_layout(model, reads, VOCABULARY, "flat")
    assert layout == "flat", reason
    model.to(dtype)
    rows = token_rows(config.seed) if causal else labelled_rows()
    rate = config.learning_rate
    assert rate is not None
    penalties = Penalties(config.l1, config.l2)
    optimizer = MasterOptimizer(model, method.parameter_groups(model), config.optimizer, rate, penalties)
    return Training(
        scorer=Scorer(model, "flat", reads, FEW, find_prefix(model, optimizer.names)),
        collate=collator_for(model, "flat", 1, torch.device("cpu"), FEW),
        task=Tokens() if causal else Classification(labels=("a", "b", "c"), multi_label=False),
        data=rows,
        plan=StepPlan(len(rows), config.batch_size, config.epochs, config.seed, config.max_steps),
        optimizer=optimizer,
        learning_rate=rate,
        config=config,
        compute=compute,
    )


def members(trainings: list[Training]) -> list[Member]:
    for other in trainings[1:]:
        share_frozen(other.scorer.model, trainings[0].scorer.model)
    assert not any(map(obstacle, trainings))
    return [Member.of(one) for one in trainings]


def train_together(trainings: list[Training]) -> list[list[StepInfo]]:
    """Make all steps of all trainings; those that have none left leave."""
    curves: list[list[StepInfo]] = [[] for _ in trainings]
    active = list(enumerate(members(trainings)))
    while active := [(k, one) for k, one in active if one.training.step < one.training.plan.total_steps]:
        for (k, _), info in zip(active, make_steps([one for _, one in active]), strict=True):
            curves[k].append(info)
    return curves


def assert_same(found: list[StepInfo], expected: list[StepInfo], tolerance: float) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        for name in ("step", "epoch", "learning_rate", "num_rows", "num_tokens", "skipped", "rows"):
            assert getattr(one, name) == getattr(other, name)
        assert one.loss == pytest.approx(other.loss, rel=tolerance, nan_ok=True)
        assert one.gradient_norm == pytest.approx(other.gradient_norm, rel=10 * tolerance, nan_ok=True)


def assert_same_weights(found: Training, expected: Training, tolerance: float) -> None:
    others = expected.optimizer.master_weights()
    for name, weight in found.optimizer.master_weights().items():
        torch.testing.assert_close(weight, others[name], rtol=tolerance, atol=tolerance, msg=name)


@pytest.mark.parametrize("arch", ["bert", "llama", "gpt2"])
def test_each_training_is_the_one_it_is_alone(arch: str) -> None:
    """Other seeds, ranks, rates, schedules, lengths, batch sizes, optimizers; several micro-batches in some steps."""
    together = [training(arch, **settings) for settings in SETTINGS]
    curves = train_together(together)
    assert len({len(curve) for curve in curves}) > 1
    for settings, curve, found in zip(SETTINGS, curves, together, strict=True):
        alone = training(arch, **settings)
        assert_same(curve, list(train(alone)), 1e-6)
        assert_same_weights(found, alone, 1e-6)


def test_the_frozen_base_is_in_memory_once_and_stays_as_it_was() -> None:
    together = [training(**settings) for settings in SETTINGS[:2]]
    train_together(together)
    fresh = dict(tiny_model("bert", dtype=torch.float32).double().named_parameters())
    first, second = (dict(one.scorer.model.named_parameters()) for one in together)
    for name, parameter in first.items():
        if not parameter.requires_grad and ".original_module." not in name:
            assert second[name] is parameter
            assert torch.equal(parameter, fresh[plain_name(name)])
        else:
            assert second[name].data_ptr() != parameter.data_ptr()


@pytest.mark.parametrize("arch", ["bert", "llama", "gpt2"])
def test_each_drops_what_it_drops_alone(arch: str) -> None:
    """In the base, in front of adapters (some have that, with probabilities of their own), in the head."""
    settings = [
        {**one, "dropout": dropout, "model_dropout": 0.2, "max_steps": 3}
        for one, dropout in zip(SETTINGS, (0.0, 0.3, 0.0, 0.1), strict=True)
    ]
    for curve, one in zip(train_together([training(arch, **one) for one in settings]), settings, strict=True):
        alone = training(arch, **one)
        assert_same(curve, list(train(alone)), 1e-6)
        undropped = [info.loss for info in train(training(arch, **{**one, "dropout": 0.0, "model_dropout": 0.0}))]
        assert [info.loss for info in curve] != pytest.approx(undropped, rel=1e-3)


def test_in_fp32_too() -> None:
    curves = train_together([training(dtype=torch.float32, **settings) for settings in SETTINGS])
    for settings, curve in zip(SETTINGS, curves, strict=True):
        assert_same(curve, list(train(training(dtype=torch.float32, **settings))), 1e-4)


def test_a_training_in_bf16_is_nearly_the_one_it_is_alone() -> None:
    settings = [{**one, "clip_norm": 1.0} for one in SETTINGS]
    for curve, one in zip(
        train_together([training("llama", torch.bfloat16, **s) for s in settings]), settings, strict=True
    ):
        expected = [info.loss for info in train(training("llama", torch.bfloat16, **one))]
        assert [info.loss for info in curve] == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("budget", [1, 40])
def test_how_many_tokens_a_pass_holds_changes_nothing(budget: int) -> None:
    """With a budget of one token, every row is a pass of its own."""
    settings = [{**one, "micro_batch_tokens": budget} for one in SETTINGS[1:]]
    curves = train_together([training(**one) for one in settings])
    for curve, one in zip(curves, settings, strict=True):
        assert_same(curve, list(train(training(**one))), 1e-6)


def with_states(one: Training, folder: Path) -> Training:
    prefix = one.scorer.prefix
    assert prefix is not None

    def run(batch: Batch) -> None:
        with one.scorer.surrounding(batch):
            one.scorer.base(batch)

    folder.mkdir()
    return replace(one, data=keep_states(prefix, one.data, one.collate, run, 100, folder / "states.npy"))


def test_frozen_layers_below_all_adapters_may_be_computed_before(tmp_path: Path) -> None:
    top = {"target_modules": ("encoder.layer.1.attention.self.query", "encoder.layer.1.output.dense")}
    settings = [{**one, **top} for one in SETTINGS]
    together = [with_states(training(**one), tmp_path / str(k)) for k, one in enumerate(settings)]
    for curve, one in zip(train_together(together), settings, strict=True):
        assert_same(curve, list(train(training(**one))), 1e-6)


def test_a_loss_of_nan_stays_in_its_own_training(monkeypatch: pytest.MonkeyPatch) -> None:
    together = [training(**settings) for settings in SETTINGS]
    poisoned, original = together[1], loop_module.loss_sum

    def loss_sum(scorer: Any, task: Any, batch: Any) -> torch.Tensor:
        loss = original(scorer, task, batch)
        return loss * float("nan") if scorer is poisoned.scorer and poisoned.step == 2 else loss

    monkeypatch.setattr(loop_module, "loss_sum", loss_sum)
    curves = train_together(together)
    assert ["loss is nan" in info.skipped for info in curves[1]][:4] == [False, False, True, False]
    for k in (0, 2, 3):
        assert_same(curves[k], list(train(training(**SETTINGS[k]))), 1e-6)


def test_weights_of_nan_stay_in_their_own_training() -> None:
    together = [training(**settings) for settings in SETTINGS]
    with torch.no_grad():
        together[1].optimizer.masters[0].fill_(float("nan"))
    active = members(together)
    for _ in range(5):
        infos = make_steps(active)
        assert [bool(info.skipped) for info in infos] == [False, True, False, False]
    with pytest.raises(RunError, match="5 steps in a row"):
        loop_module.require_updates(together[1], infos[1])
    alone = training(**SETTINGS[2])
    curve = train(alone)
    for _ in range(5):
        next(curve)
    assert_same_weights(together[2], alone, 1e-6)


def test_out_of_memory_makes_the_passes_smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = [{**one, "micro_batch_rows": None} for one in SETTINGS]
    together = [training(**one) for one in settings]
    original, tries = Scorer.base, []

    def base(scorer: Scorer, batch: Any) -> torch.Tensor:
        tries.append(batch.num_tokens)
        if batch.num_tokens > 130:
            raise torch.OutOfMemoryError
        return original(scorer, batch)

    monkeypatch.setattr(Scorer, "base", base)
    curves = train_together(together)
    assert max(tries) > 130
    assert all("out of memory" in curve[0].note for curve in curves)
    assert not any(info.note for curve in curves for info in curve[1:])
    for curve, one in zip(curves, settings, strict=True):
        assert [info.loss for info in curve] == pytest.approx([info.loss for info in train(training(**one))], rel=1e-6)


def test_batches_are_joined_end_to_end() -> None:
    one = training()
    batches = [one.collate(one.data, np.array(rows)) for rows in ([3, 1, 2], [5], [4, 6, 7, 8, 9])]
    whole = join(batches)
    assert whole.borders is not None
    sizes = [batch.inputs["input_ids"].shape[1] for batch in batches]
    assert [part.tolist() for part in whole.inputs["input_ids"].split(sizes, dim=1)] == [
        batch.inputs["input_ids"].tolist() for batch in batches
    ]
    start = 0
    for group in whole.borders.groups:
        assert group.start == start
        start += group.num_tokens
    assert start == sum(sizes)
    lengths = whole.borders.cumulative_lengths.diff()
    assert int(whole.borders.cumulative_lengths[-1]) == sum(sizes)
    assert whole.borders.cumulative_lengths.dtype == torch.int32
    assert int(lengths.max()) == whole.borders.max_length


@pytest.mark.parametrize(
    ("settings", "reason"),
    [({"dora": True}, "more than a product"), ({"bias": "all"}, "weights of the base itself")],
)
def test_what_cannot_share_a_base_says_why(settings: dict[str, Any], reason: str) -> None:
    assert reason in obstacle(training(**settings))
