"""The loop: how a step is split changes nothing, bad steps are not made, a resumed run is the same run."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from engine.stepping import compute_gradients
from tiny import VOCABULARY, tiny_model, train_and_compute
from tunesmith.data.encoded import Encoded, Ragged
from tunesmith.engine import checkpoint
from tunesmith.engine import loop as loop_module
from tunesmith.engine.layout import choose_layout, collator_for
from tunesmith.engine.loop import train
from tunesmith.engine.optimizer_config import OptimizerConfig
from tunesmith.engine.optimizers import MasterOptimizer, Penalties, norm_of
from tunesmith.engine.order import StepPlan
from tunesmith.engine.predict import predict
from tunesmith.engine.scorer import Scorer
from tunesmith.engine.step import Training
from tunesmith.methods.base import ParameterGroup
from tunesmith.tasks.classification import Classification
from tunesmith.types import InputError, RunError

NUM_ROWS = 22


def data(num_rows: int = NUM_ROWS) -> Encoded:
    generator = np.random.default_rng(0)
    tokens = [generator.integers(5, VOCABULARY, generator.integers(2, 20)) for _ in range(num_rows)]
    labels = np.array([int(row[0]) % 3 for row in tokens], dtype=np.int64)
    return Encoded(inputs={"input_ids": Ragged.from_rows(tokens)}, targets={"label": labels})


def task(**settings: Any) -> Classification:
    return Classification(labels=("a", "b", "c"), multi_label=False, **settings)


def training(
    arch: str = "bert", layout: str = "flat", dtype: torch.dtype = torch.float64, dropout: float = 0.0, **settings: Any
) -> Training:
    names = {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout} if arch == "bert" else {}
    model = tiny_model(arch, dtype=torch.float64, **names)
    chosen, reason = choose_layout(model, "row", VOCABULARY, layout)
    assert chosen == layout, reason
    model.to(dtype)
    config, compute = train_and_compute(**{"batch_size": 8, "epochs": 2, "learning_rate": 0.01, **settings})
    rows = data()
    names = tuple(name for name, _ in model.named_parameters())
    return Training(
        scorer=Scorer(model, chosen, "row"),
        collate=collator_for(model, chosen, 1, torch.device("cpu")),
        task=task(),
        data=rows,
        plan=StepPlan(len(rows), config.batch_size, config.epochs, config.seed, config.max_steps),
        optimizer=MasterOptimizer(
            model,
            [ParameterGroup(names, 1.0, decay=True)],
            config.optimizer,
            0.01,
            Penalties(config.l1, config.l2),
        ),
        learning_rate=0.01,
        config=config,
        compute=compute,
    )


def gradients(parts: Training, rows: list[int]) -> tuple[float, dict[str, torch.Tensor]]:
    parts.optimizer.discard()
    losses, _ = compute_gradients(parts, np.array(rows))
    return float(sum(losses)), {name: gradient.clone() for name, gradient in parts.optimizer.gradients().items()}


@pytest.mark.parametrize("settings", [{"micro_batch_rows": 1}, {"micro_batch_rows": 3}, {"micro_batch_tokens": 25}])
@pytest.mark.parametrize("layout", ["flat", "padded"])
@pytest.mark.parametrize("options", [{}, {"class_weights": {"a": 5.0, "b": 0.5}, "label_smoothing": 0.1}])
def test_accumulation_changes_nothing(layout: str, settings: dict[str, int], options: dict[str, Any]) -> None:
    whole, split = training(layout=layout), training(layout=layout, **settings)
    whole.task = split.task = task(**options).bind({"text": ["x"] * 3, "label": ["a", "b", "c"]})
    rows = list(range(8))
    loss, expected = gradients(whole, rows)
    split_loss, found = gradients(split, rows)
    assert split_loss == pytest.approx(loss, abs=1e-12)
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=0, atol=1e-10, msg=name)


def test_a_step_is_that_of_plain_transformers_and_torch() -> None:
    """Same data, same order, same maths: ten steps of AdamW with clipping against a hand-written loop."""
    parts = training(clip_norm=0.5, schedule={"name": "constant", "warmup": 0}, epochs=4)
    reference = tiny_model("bert", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    optimizer = torch.optim.AdamW(reference.parameters(), lr=0.01, weight_decay=0.01)
    for info in train(parts):
        rows = parts.plan.samples_of(info.step - 1)
        lengths = parts.data.lengths[rows]
        input_ids = torch.ones(len(rows), int(lengths.max()), dtype=torch.long)
        mask = torch.zeros_like(input_ids)
        for index, row in enumerate(rows):
            input_ids[index, : lengths[index]] = torch.from_numpy(parts.data.inputs["input_ids"][row])
            mask[index, : lengths[index]] = 1
        labels = torch.from_numpy(parts.data.targets["label"][rows])
        loss = reference(input_ids=input_ids, attention_mask=mask, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(reference.parameters(), 0.5)
        optimizer.step()
        assert info.loss == pytest.approx(loss.item(), abs=1e-6)
        assert info.gradient_norm == pytest.approx(norm.item(), rel=1e-6)
    for (name, expected), found in zip(reference.named_parameters(), parts.scorer.model.parameters(), strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-6, msg=name)


def test_the_norm_of_gradients_of_all_formats_is_theirs() -> None:
    generator = torch.Generator().manual_seed(0)
    tensors = [
        torch.randn(30, 7, generator=generator, dtype=torch.float64).to(dtype)
        for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.bfloat16)
    ]
    expected = math.sqrt(sum(float(tensor.double().square().sum()) for tensor in tensors))
    assert float(norm_of(tensors)) == pytest.approx(expected, rel=1e-6)
    assert float(norm_of([torch.full((2,), 1e100, dtype=torch.float64)])) == pytest.approx(2**0.5 * 1e100)
    assert float(norm_of([torch.full((70_000,), 300.0, dtype=torch.float16)])) == pytest.approx(
        300 * 70_000**0.5, rel=1e-3
    )


def test_flat_and_padded_train_the_same_model() -> None:
    curves = [[info.loss for info in train(training(layout=layout))] for layout in ("flat", "padded")]
    assert curves[0] == pytest.approx(curves[1], abs=1e-9)


def test_bf16_weights_keep_updates_below_their_own_resolution() -> None:
    parts = training(dtype=torch.bfloat16, schedule={"name": "constant", "warmup": 0})
    parts.learning_rate = 1e-5
    before = {name: weight.clone() for name, weight in parts.optimizer.master_weights().items()}
    for _ in train(parts):
        pass
    moved = 0
    for name, weight in parts.optimizer.master_weights().items():
        assert weight.dtype == torch.float32
        moved += int((weight != before[name]).sum())
    assert moved > 0.5 * sum(weight.numel() for weight in before.values())
    for parameter, master in zip(parts.optimizer.parameters, parts.optimizer.masters, strict=True):
        assert torch.equal(parameter, master.to(torch.bfloat16))


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_a_step_with_a_broken_loss_is_not_made(poison: float, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = training(epochs=3)
    original = loop_module.loss_sum

    def poisoned(scorer: Any, task: Any, batch: Any) -> torch.Tensor:
        loss = original(scorer, task, batch)
        return loss * poison if parts.step == 2 else loss

    monkeypatch.setattr(loop_module, "loss_sum", poisoned)
    before: dict[str, torch.Tensor] = {}
    for info in train(parts):
        now = {name: weight.clone() for name, weight in parts.optimizer.master_weights().items()}
        if info.step == 3:
            assert "loss is" in info.skipped
            assert set(info.rows) == set(parts.plan.samples_of(2).tolist())
            assert all(torch.equal(now[name], before[name]) for name in now)
        else:
            assert not info.skipped
        before = now
    assert all(torch.isfinite(weight).all() for weight in before.values())


def test_a_step_without_anything_to_learn_from_is_not_made() -> None:
    parts = training(l2=0.1)
    parts.task = task(class_weights={"a": 0.0, "b": 0.0, "c": 1.0}).bind({"text": ["x"] * 3, "label": ["a", "b", "c"]})
    labels = parts.data.targets["label"]
    parts.data = Encoded(parts.data.inputs, {"label": np.where(labels == 2, 0, labels)})
    before = {name: weight.clone() for name, weight in parts.optimizer.master_weights().items()}
    with pytest.raises(RunError, match="anything to learn from"):
        list(train(parts))
    assert all(torch.equal(weight, before[name]) for name, weight in parts.optimizer.master_weights().items())


def test_too_many_broken_steps_in_a_row_end_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = training(epochs=10, max_skipped_steps=3)
    monkeypatch.setattr(loop_module, "loss_sum", lambda scorer, task, batch: scorer(batch).sum() * float("nan"))
    infos = []
    with pytest.raises(RunError, match="3 steps in a row"):
        infos += list(train(parts))
    assert parts.step == 3


def test_a_gradient_spike_is_skipped_when_asked() -> None:
    parts = training(epochs=20, spike_factor=50.0)
    parts.recent_norms.extend([1e-6] * 32)
    assert "recent median" in next(iter(train(parts))).skipped


def test_out_of_memory_halves_the_micro_batches_and_keeps_the_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = list(range(8))
    loss, expected = gradients(training(), rows)
    parts = training()
    original = loop_module.loss_sum

    def limited(scorer: Any, task: Any, batch: Any) -> torch.Tensor:
        if batch.num_tokens > 30:
            raise RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory")
        return original(scorer, task, batch)

    monkeypatch.setattr(loop_module, "loss_sum", limited)
    parts.token_budget = 400
    step = loop_module.Step(parts, np.array(rows), seed=0)
    loop_module._within_memory(step, loop_module._compute)
    assert "25 tokens" in step.note
    assert float(sum(step.losses)) == pytest.approx(loss, abs=1e-12)
    for name, gradient in parts.optimizer.gradients().items():
        torch.testing.assert_close(gradient, expected[name], rtol=0, atol=1e-10, msg=name)


def test_out_of_memory_with_single_rows_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(scorer: Any, task: Any, batch: Any) -> torch.Tensor:
        raise torch.OutOfMemoryError("no")

    monkeypatch.setattr(loop_module, "loss_sum", never)
    with pytest.raises(RunError, match="single row"):
        list(train(training()))


@pytest.mark.parametrize(
    "message",
    [
        "could not create a primitive",
        "could not create a primitive descriptor for the linear forward propagation primitive",
        "CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported at some other API call",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    ],
)
def test_libraries_that_lack_memory_say_so_in_their_own_ways(message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = training()
    original = loop_module.loss_sum

    def limited(scorer: Any, task: Any, batch: Any) -> torch.Tensor:
        if batch.num_tokens > 30:
            raise RuntimeError(message)
        return original(scorer, task, batch)

    monkeypatch.setattr(loop_module, "loss_sum", limited)
    first = next(train(parts))
    assert first.note.startswith("out of memory")
    assert not first.skipped


def test_another_error_is_not_taken_for_lack_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(scorer: Any, task: Any, batch: Any) -> torch.Tensor:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(loop_module, "loss_sum", failing)
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        next(train(training()))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_gradients_that_lie_in_one_place_are_added_up_all_the_same(dtype: torch.dtype) -> None:
    """As those of captured backward passes do, each of which writes over what the one before has left."""
    parameter = torch.nn.Parameter(torch.zeros(5, dtype=dtype))
    model = torch.nn.Module()
    model.register_parameter("weight", parameter)
    optimizer = MasterOptimizer(model, [ParameterGroup(("weight",), 1.0, decay=False)], OptimizerConfig(), 0.1)
    place = torch.empty(5, dtype=dtype)
    given = [torch.full((5,), value, dtype=dtype) for value in (1.0, 2.5, -0.25)]
    for one in given:
        place.copy_(one)
        if parameter.grad is None:
            parameter.grad = place  # what autograd does with a gradient that nobody else holds
        else:
            parameter.grad += place
        optimizer.collect(copy=True)
    place.fill_(torch.nan)
    assert optimizer.gradients()["weight"].tolist() == [3.25] * 5


OPTIMIZERS = (
    *("adamw", "sgd", "adam", "adafactor", "NAdam", "RAdam"),
    *("AdamW8bit", "Lion8bit"),
    *("GaLore", "APOLLO", "Lion", "CAME"),
)
"""Of torch, bitsandbytes and pytorch-optimizer."""
SETTINGS_OF = {
    "sgd": {"momentum": 0.9},
    "GaLore": {"rank": 3, "update_proj_gap": 3},
    "APOLLO": {"rank": 3, "update_proj_gap": 3},
    "AdamW8bit": {"min_8bit_size": 16},
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("arch", "optimizer"),
    [("llama", "adamw"), *(("bert", name) for name in OPTIMIZERS)],
)
def test_resumed_equals_uninterrupted_bit_for_bit(tmp_path: Any, arch: str, optimizer: str, dtype: torch.dtype) -> None:
    options = SETTINGS_OF.get(optimizer, {})
    settings = {"optimizer": {"name": optimizer, "options": options}, "dtype": dtype, "arch": arch, "dropout": 0.1}
    whole = training(**settings)
    curve = [info.loss for info in train(whole)]

    first = training(**settings)
    steps = train(first)
    for _ in range(4):
        next(steps)
    checkpoint.save(first, tmp_path, {"note": 1})
    second = training(**settings)
    found, problems = checkpoint.find(tmp_path)
    assert found is not None
    assert found.extra == {"note": 1}
    assert not problems
    checkpoint.restore(second, found)
    rest = [info.loss for info in train(second)]
    assert rest == curve[4:]
    expected = whole.optimizer.master_weights()
    for name, weight in second.optimizer.master_weights().items():
        assert torch.equal(weight, expected[name]), name


def test_penalties_are_the_gradients_of_their_formulas() -> None:
    plain, rows = training(), list(range(8))
    _, without = gradients(plain, rows)
    _, with_both = gradients(training(l1=0.01, l2=0.02, micro_batch_rows=2), rows)
    for name, weight in plain.optimizer.master_weights().items():
        expected = without[name] + 0.01 * weight.sign() + 2 * 0.02 * weight
        torch.testing.assert_close(with_both[name], expected, rtol=0, atol=1e-10, msg=name)


def test_damaged_checkpoints_are_named_and_the_older_one_is_used(tmp_path: Any) -> None:
    parts = training(epochs=4)
    for info in train(parts):
        if info.step in (2, 4, 6):
            checkpoint.save(parts, tmp_path, {})
    damage: dict[int, Callable[[Any], Any]] = {
        6: lambda folder: (folder / "optimizer.safetensors").unlink(),
        4: lambda folder: flip_a_bit(folder / "weights.safetensors"),
    }
    for step, do in damage.items():
        do(tmp_path / f"step-{step}")
    found, problems = checkpoint.find(tmp_path)
    assert found is not None
    assert found.step == 2
    assert len(problems) == 2
    assert "optimizer.safetensors" in problems[0].message
    assert "weights.safetensors" in problems[1].message


def flip_a_bit(path: Any) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def test_rotation_keeps_the_newest_and_the_best(tmp_path: Any) -> None:
    parts = training(epochs=4)
    for info in train(parts):
        checkpoint.save(parts, tmp_path, {})
        checkpoint.rotate(tmp_path, 2, {3})
        assert info.step in checkpoint.list_steps(tmp_path)
    assert sorted(checkpoint.list_steps(tmp_path)) == [3, 11, 12]


def test_a_checkpoint_of_another_model_is_refused(tmp_path: Any) -> None:
    checkpoint.save(training(), tmp_path, {})
    found, _ = checkpoint.find(tmp_path)
    assert found is not None
    with pytest.raises(InputError, match="does not belong"):
        checkpoint.restore(training(arch="gpt2"), found)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"name": "adanw"}, "Choose one of"),
        ({"name": "LBFGS"}, "Choose one of"),
        ({"name": "adamw", "options": {"momentum": 0.9}}, "has no option momentum"),
        ({"name": "Muon"}, "refuses"),
        ({"name": "galor"}, "Did you mean 'galore'"),
        ({"name": "GaLore", "options": {"ranks": 4}}, "(?s)has no option ranks.*rank"),
        ({"name": "GaLore", "options": {"projection_type": "full"}}, "it remembers a tuple"),
        ({"name": "ScheduleFreeAdamW"}, "are others while it trains"),
        ({"name": "LOMO"}, "cannot be used"),
        ({"name": "PagedAdamW8bit"}, "Choose one of"),
    ],
)
def test_optimizers_that_do_not_fit_are_refused_with_a_way_out(config: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        OptimizerConfig(**config).build([{"params": [torch.nn.Parameter(torch.zeros(3))], "lr": 0.1}])


def test_predictions_are_in_row_order_whatever_the_batches() -> None:
    parts = training()
    parts.scorer.model.train()
    many = predict(parts.scorer, parts.collate, parts.task, parts.data, token_budget=30)
    one = predict(parts.scorer, parts.collate, parts.task, parts.data, token_budget=100_000)
    assert parts.scorer.model.training
    for name, values in many.outputs.items():
        np.testing.assert_allclose(values, one.outputs[name], atol=1e-12)
    assert many.loss == pytest.approx(one.loss, abs=1e-12)
    scores = next(iter(many.outputs.values()))
    expected = functional.cross_entropy(torch.from_numpy(scores), torch.from_numpy(parts.data.targets["label"]))
    assert many.loss == pytest.approx(expected.item(), abs=1e-6)
