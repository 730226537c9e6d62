"""What a method's hooks see of a step, and that what they do is as exact as the step itself."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

import tunesmith.engine.loop as loop_module
from engine.test_loop import training
from tiny import VOCABULARY, tiny_model
from tunesmith.engine import checkpoint
from tunesmith.engine.blocks.block import Block
from tunesmith.engine.layout import choose_layout, collator_for
from tunesmith.engine.loop import train
from tunesmith.engine.optimizer_config import OptimizerConfig
from tunesmith.engine.optimizers import RATE_FACTOR, MasterOptimizer
from tunesmith.engine.scorer import Scorer
from tunesmith.engine.stand_ins import has_stand_ins
from tunesmith.engine.step import Training
from tunesmith.methods.adalora import AdaLora
from tunesmith.methods.hooks import StepHooks

WEIGHT = "classifier.weight"


def weight_of(model: torch.nn.Module) -> torch.nn.Parameter:
    return model.get_parameter(WEIGHT)


class Watching(StepHooks):
    """Keeps what it sees of one weight; changes nothing."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, int, torch.Tensor, torch.Tensor | None]] = []

    def _note(self, what: str, step: int, model: torch.nn.Module) -> None:
        weight = weight_of(model)
        gradient = None if weight.grad is None else weight.grad.clone()
        self.seen.append((what, step, weight.detach().clone(), gradient))

    def after_gradients(self, model: torch.nn.Module, step: int, total_steps: int) -> None:
        self._note("gradients", step, model)

    def after_step(self, model: torch.nn.Module, step: int, total_steps: int) -> None:
        self._note("step", step, model)


class Busy(StepHooks):
    """Uses all that hooks may do: a penalty, a mean of gradients, noise, weights set to zero."""

    def penalty(self, model: torch.nn.Module) -> torch.Tensor | None:
        return 0.01 * weight_of(model).square().sum()

    def after_gradients(self, model: torch.nn.Module, step: int, total_steps: int) -> None:
        gradient = weight_of(model).grad
        assert gradient is not None
        before: torch.Tensor = vars(model).get("tunesmith_mean", torch.zeros_like(gradient))
        vars(model)["tunesmith_mean"] = before.lerp(gradient, 0.5)
        vars(model)["tunesmith_calls"] = vars(model).get("tunesmith_calls", 0) + 1
        gradient.add_(before).add_(torch.randn_like(gradient), alpha=0.01)

    def after_step(self, model: torch.nn.Module, step: int, total_steps: int) -> None:
        with torch.no_grad():
            weight_of(model)[:, step % 3] = 0
            weight_of(model).add_(torch.randn(()), alpha=1e-4)

    def state(self, model: torch.nn.Module) -> dict[str, Any]:
        return {"mean": vars(model)["tunesmith_mean"], "calls": vars(model)["tunesmith_calls"]}

    def load_state(self, model: torch.nn.Module, state: Mapping[str, Any]) -> None:
        vars(model)["tunesmith_mean"], vars(model)["tunesmith_calls"] = state["mean"], state["calls"]


def parts_with(method: StepHooks, **settings: Any) -> Training:
    parts = training(dropout=0.1, **settings)
    parts.method = method
    return parts


def masters(parts: Training) -> dict[str, torch.Tensor]:
    return {name: weight.clone() for name, weight in parts.optimizer.master_weights().items()}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_hooks_see_masters_and_the_whole_gradient_and_change_nothing_by_looking(dtype: torch.dtype) -> None:
    plain, watching = training(dtype=dtype, dropout=0.1), Watching()
    watched = parts_with(watching, dtype=dtype)
    format_of_masters = torch.promote_types(dtype, torch.float32)
    for info, expected in zip(train(watched), train(plain), strict=True):
        assert (info.loss, info.gradient_norm) == (expected.loss, expected.gradient_norm)
        (first, before, gradient), (second, after, nothing) = ((step, *rest) for _, step, *rest in watching.seen[-2:])
        assert first == second == info.step
        assert gradient is not None
        assert nothing is None
        assert gradient.dtype == before.dtype == after.dtype == format_of_masters
        assert torch.equal(after, watched.optimizer.master_weights()[WEIGHT])
        assert not torch.equal(after, before)
    assert {name: weight.tolist() for name, weight in masters(watched).items()} == {
        name: weight.tolist() for name, weight in masters(plain).items()
    }
    for parameter, master in zip(watched.optimizer.parameters, watched.optimizer.masters, strict=True):
        assert parameter.dtype == dtype
        assert torch.equal(parameter, master.to(dtype))


@pytest.mark.parametrize("settings", [{}, {"micro_batch_rows": 1}])
def test_the_gradient_seen_is_that_of_the_whole_step_before_clipping(settings: dict[str, int]) -> None:
    watching = Watching()
    parts = parts_with(watching, clip_norm=1e-3, **settings)
    parts.optimizer.optimizer = torch.optim.SGD(
        [{"params": parts.optimizer.masters, "lr": 1.0, RATE_FACTOR: 1.0}], weight_decay=0.0
    )
    info = next(iter(train(parts)))
    (_, _, before, gradient), (_, _, after, _) = watching.seen
    assert gradient is not None
    rate = info.learning_rate * 1e-3 / info.gradient_norm
    torch.testing.assert_close(after, before - rate * gradient, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_penalties_are_added_once_a_step_whatever_its_micro_batches(dtype: torch.dtype) -> None:
    class Pulling(Watching):
        def penalty(self, model: torch.nn.Module) -> torch.Tensor | None:
            assert weight_of(model).dtype == torch.float32
            return 0.5 * weight_of(model).square().sum()

    without, whole, split = Watching(), Pulling(), Pulling()
    for method, settings in ((without, {}), (whole, {}), (split, {"micro_batch_rows": 1})):
        parts = training(dtype=dtype, **settings)
        parts.method = method
        next(iter(train(parts)))
    (_, _, weight, gradient), (_, _, _, plain), (_, _, _, of_split) = (one.seen[0] for one in (whole, without, split))
    assert gradient is not None
    assert plain is not None
    torch.testing.assert_close(gradient, plain + weight, rtol=0, atol=1e-6)
    torch.testing.assert_close(of_split, gradient, rtol=0, atol=1e-6 if dtype == torch.float32 else 1e-2)


def test_a_hook_that_changes_nothing_costs_no_gradient_of_rows() -> None:
    assert not StepHooks().has("after_gradients")
    assert Watching().has("after_gradients")
    assert not Watching().has("penalty")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_resumed_equals_uninterrupted_bit_for_bit(tmp_path: Path, dtype: torch.dtype) -> None:
    whole = parts_with(Busy(), dtype=dtype)
    curve = [info.loss for info in train(whole)]
    first = parts_with(Busy(), dtype=dtype)
    steps = train(first)
    for _ in range(3):
        next(steps)
    checkpoint.save(first, tmp_path, {})
    second = parts_with(Busy(), dtype=dtype)
    found, _ = checkpoint.find(tmp_path)
    assert found is not None
    checkpoint.restore(second, found)
    assert vars(second.scorer.model)["tunesmith_calls"] == 3
    assert [info.loss for info in train(second)] == curve[3:]
    expected = masters(whole)
    assert all(torch.equal(weight, expected[name]) for name, weight in masters(second).items())


def test_what_belongs_to_weights_goes_back_with_them(tmp_path: Path) -> None:
    parts = parts_with(Busy())
    for info in train(parts):
        if info.step == 2:
            folder = checkpoint.save(parts, tmp_path, {})
    assert vars(parts.scorer.model)["tunesmith_calls"] > 2
    checkpoint.restore_weights(parts, folder)
    assert vars(parts.scorer.model)["tunesmith_calls"] == 2


def test_checkpoints_of_methods_that_remember_nothing_have_no_more_files(tmp_path: Path) -> None:
    folder = checkpoint.save(training(), tmp_path, {})
    assert not (folder / "method.safetensors").exists()
    assert '"method"' not in (folder / "state.json").read_text(encoding="utf-8")


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_skipped_steps_call_no_hook_but_the_penalty(poison: float, monkeypatch: pytest.MonkeyPatch) -> None:
    watching = Watching()
    parts = parts_with(watching, epochs=3)
    original = loop_module.loss_sum

    def poisoned(scorer: Any, task: Any, batch: Any) -> torch.Tensor:
        return original(scorer, task, batch) * (poison if parts.step == 2 else 1)

    monkeypatch.setattr(loop_module, "loss_sum", poisoned)
    infos = list(train(parts))
    assert [info.step for info in infos if info.skipped] == [3]
    assert {step for _, step, *_ in watching.seen} == {info.step for info in infos} - {3}


def test_gradients_that_a_hook_breaks_are_not_used() -> None:
    class Breaking(StepHooks):
        def after_gradients(self, model: torch.nn.Module, step: int, total_steps: int) -> None:
            gradient = weight_of(model).grad
            assert gradient is not None
            if step == 2:
                gradient.fill_(torch.nan)

    parts = parts_with(Breaking())
    skipped = {info.step: info.skipped for info in train(parts)}
    assert skipped.pop(2) == "its gradient norm is nan"
    assert not any(skipped.values())
    assert all(bool(weight.isfinite().all()) for weight in masters(parts).values())


def test_memory_that_runs_out_changes_nothing_of_what_hooks_do(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = training(dtype=torch.float64)
    plain.method = Busy()
    curve = [info.loss for info in train(plain)]
    parts = training(dtype=torch.float64)
    parts.method, parts.token_budget = Busy(), 400
    original = loop_module.loss_sum

    def limited(scorer: Any, task: Any, batch: Any) -> torch.Tensor:
        if batch.num_tokens > 30:
            raise torch.OutOfMemoryError("no")
        return original(scorer, task, batch)

    monkeypatch.setattr(loop_module, "loss_sum", limited)
    infos = list(train(parts))
    assert infos[0].note.startswith("out of memory")
    assert [info.loss for info in infos] == pytest.approx(curve, abs=1e-9)
    assert vars(parts.scorer.model)["tunesmith_calls"] == len(infos)


@pytest.mark.parametrize("layout", ["flat", "padded"])
def test_ranks_that_move_are_those_of_a_plain_loop_with_peft(layout: Any) -> None:
    """Same rows, same maths: AdaLoRA's penalty, statistics and masks by its own code, around AdamW with clipping."""
    method = AdaLora(initial_rank=3, target_rank=1, warmup=0)
    models: list[Any] = []
    for _ in range(2):
        torch.manual_seed(0)
        names = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
        models.append(method.apply(tiny_model("bert", dtype=torch.float64, **names)).double())
    model, reference = models
    assert choose_layout(model, "row", VOCABULARY, layout)[0] == layout
    assert has_stand_ins(model, Block) == (layout == "flat")
    parts = training(layout=layout, clip_norm=0.5, epochs=4, schedule={"name": "constant", "warmup": 0})
    parts.method, parts.scorer = method, Scorer(model, layout, "row")
    parts.collate = collator_for(model, layout, 1, torch.device("cpu"))
    padded = collator_for(reference, "padded", 1, torch.device("cpu"))
    groups = method.parameter_groups(model)
    parts.optimizer = MasterOptimizer(model, groups, OptimizerConfig(weight_decay=0.0), 0.01)
    trained = [parameter for parameter in reference.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=0.01, weight_decay=0.0)
    allocator, total = reference.base_model.rankallocator, parts.plan.total_steps
    allocator.peft_config.total_step, allocator.peft_config.tfinal = total, total // 4
    allocator.peft_config.tinit = 0
    take_note, allocator.update_ipt = allocator.update_ipt, lambda _: None  # PEFT's own examples do it after the step
    for info in train(parts):
        batch = padded(parts.data, parts.plan.samples_of(info.step - 1))
        labels = torch.from_numpy(parts.data.targets["label"])[batch.sequences]
        optimizer.zero_grad()
        reference.train()(**batch.inputs, labels=labels).loss.backward()
        if info.step < total - total // 4:
            take_note(reference.base_model.model)
        norm = torch.nn.utils.clip_grad_norm_(trained, 0.5)
        optimizer.step()
        reference.base_model.update_and_allocate(info.step)
        assert info.gradient_norm == pytest.approx(norm.item(), rel=1e-9)
    ranks = [int((weight != 0).sum()) for name, weight in model.named_parameters() if ".lora_E." in name]
    assert sum(ranks) == len(ranks)
    for (name, expected), found in zip(reference.named_parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-9, msg=name)
