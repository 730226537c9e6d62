"""What a run settles for its device: recorded, the same results, and refused where it cannot be had."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from run.test_training import Watcher, losses
from tiny import tiny_folder, tiny_model
from tunesmith.engine import free_memory
from tunesmith.engine.blocks.block import Block
from tunesmith.engine.blocks.install import KeyedDropout
from tunesmith.engine.cuda import liger
from tunesmith.engine.cuda.graphs import hindrance
from tunesmith.engine.memory_plan import MemoryPlan
from tunesmith.engine.precision import be_deterministic
from tunesmith.engine.stand_ins import has_stand_ins
from tunesmith.engine.step import Training
from tunesmith.run import Observer, RunConfig, Stopped, step_settings, train
from tunesmith.types import InputError, MissingExtraError, StepInfo

Configure = Callable[..., RunConfig]


def summary(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "training.json").read_text(encoding="utf-8"))
    return found


def test_checkpointing_changes_no_loss_and_is_recorded(configured: Configure, tmp_path: Path) -> None:
    plain = train(configured(output=str(tmp_path / "plain")))
    again = train(configured(output=str(tmp_path / "again"), compute={"checkpointing": "always"}))
    assert losses(plain) == losses(again)
    one, two = summary(plain), summary(again)
    assert (one["checkpointing"], two["checkpointing"]) == (False, True)
    assert one["micro_batch_tokens"] == 4096
    assert one["compiled_layers"] == 0


def test_what_training_takes_is_predicted(
    configured: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = {"hidden_size": 256, "num_hidden_layers": 4, "intermediate_size": 1024}
    settings = {"model": str(tiny_folder(tmp_path, **sizes)), "evaluation": {"baseline": False}}
    train(configured(**settings, output=str(tmp_path / "first")))  # imports and the like are no part of it
    asked: list[tuple[int, int]] = []

    def memory_of(device: torch.device) -> tuple[int, int]:
        asked.append(free_memory.memory_of(device))
        return asked[-1]

    monkeypatch.setattr(step_settings, "memory_of", memory_of)
    found = summary(train(configured(**settings, train={"batch_size": 128})))
    ((in_use, _),) = asked
    # 1.0 in a process of its own; memory that earlier tests gave back to the process is taken again without a trace.
    assert 0.75 < (found["predicted_memory_bytes"] - in_use) / (found["peak_memory_bytes"] - in_use) < 1.6


def test_where_memory_is_short_a_run_makes_do_and_says_so(
    configured: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(step_settings, "memory_of", lambda _device: (10**9, 1000))
    watcher = Watcher()
    folder = train(configured(compute={"micro_batch_tokens": 512}), observers=[watcher])
    found = summary(folder)
    assert found["micro_batch_tokens"] < 512
    messages = [problem.message for problem in watcher.problems]
    assert any("To fit into memory" in message and "micro-batches hold" in message for message in messages)
    assert any("A step may take" in message for message in messages)
    assert "To fit into memory" in (folder / "training.json").read_text(encoding="utf-8")


def test_a_row_that_no_memory_of_this_machine_holds_is_refused_with_what_would_fit(
    configured: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(step_settings, "memory_of", lambda _device: (10**9, 1000))
    monkeypatch.setattr(step_settings, "memory_in_all", lambda _device: 10**6)
    watcher = Watcher()
    with pytest.raises(InputError) as refused:
        train(configured(compute={"checkpointing": "never", "layout": "padded"}), observers=[watcher])
    (problem,) = refused.value.problems
    assert "A row is not divided over processes" in problem.message
    assert all(way in problem.fix for way in ("model.max_length", "lora", "compute.checkpointing", "compute.layout"))
    assert not any("A step may take" in problem.message for problem in watcher.problems)


class Stop(Observer):
    """Asks the process to stop after a step, as Ctrl-C does."""

    def stepped(self, info: StepInfo, total_steps: int) -> None:
        if info.step == total_steps // 2:
            os.kill(os.getpid(), signal.SIGINT)


def test_steps_are_split_after_an_interruption_as_before_whatever_memory_there_is(
    configured: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def configure(name: str) -> RunConfig:
        return configured(output=str(tmp_path / name), compute={"micro_batch_tokens": 512})

    with monkeypatch.context() as patch:
        patch.setattr(step_settings, "memory_of", lambda _device: (10**9, 1000))
        whole = train(configure("whole"))
        with pytest.raises(Stopped):
            train(configure("stopped"), observers=[Stop()])
    watcher = Watcher()
    folder = train(configure("stopped"), resume=True, observers=[watcher])
    for key in ("micro_batch_tokens", "checkpointing"):
        assert summary(folder)[key] == summary(whole)[key]
    assert summary(folder)["micro_batch_tokens"] < 512
    assert losses(folder) == losses(whole)
    assert (folder / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    assert any("As before the interruption" in problem.message for problem in watcher.problems)


def test_checkpoints_that_do_not_tell_how_steps_were_split_are_planned_anew(
    configured: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(step_settings, "memory_of", lambda _device: (10**9, 1000))
    config = configured(compute={"micro_batch_tokens": 512})
    with pytest.raises(Stopped):
        train(config, observers=[Stop()])
    monkeypatch.undo()
    (state,) = Path(config.output or "").glob("checkpoints/step-*/state.json")
    values = json.loads(state.read_text(encoding="utf-8"))
    del values["token_budget"], values["recomputes"]
    state.write_text(json.dumps(values), encoding="utf-8")
    monkeypatch.setattr("tunesmith.engine.checkpoint.verify_manifest", lambda _folder: [])
    assert summary(train(config, resume=True))["micro_batch_tokens"] == 512


def test_memory_is_planned_with_the_layers_that_will_be_compiled(
    configured: Configure, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found: list[bool] = []

    def plan_memory(training: Training, *arguments: Any, **settings: Any) -> MemoryPlan:
        found.append(has_stand_ins(training.scorer.model, Block, KeyedDropout))
        return planned(training, *arguments, **settings)

    planned = step_settings.plan_memory
    monkeypatch.setattr(step_settings, "plan_memory", plan_memory)
    monkeypatch.setattr(step_settings, "compile_layers", lambda _model: 2)
    for name in ("never", "always"):
        train(configured(output=str(tmp_path / name), train={"epochs": 1}, compute={"compile": name}))
    assert found == [True, False]


def test_a_model_without_layers_cannot_be_checkpointed(configured: Configure) -> None:
    with pytest.raises(InputError, match=r"compute\.checkpointing"):
        train(configured(model="lstm", compute={"checkpointing": "always"}))


def test_graphs_are_refused_off_cuda_with_every_reason(configured: Configure) -> None:
    with pytest.raises(InputError, match=r"the device is cpu.*the precision is fp32"):
        train(configured(compute={"cuda_graphs": True}))


@pytest.mark.parametrize(
    ("arch", "settings", "expected"),
    [
        ("bert", {"attention_probs_dropout_prob": 0.1}, r"attention has dropout \(0\.1\)"),
        ("llama", {"attention_dropout": 0.25}, r"attention has dropout \(0\.25\)"),
        ("distilbert", {"attention_dropout": 0.0}, "takes heads of 8 numbers"),
        ("modernbert", {"attention_dropout": 0.0, "hidden_size": 32}, "takes heads of 16 numbers"),
    ],
)
def test_graphs_need_attention_in_one_kernel(arch: str, settings: dict[str, Any], expected: str) -> None:
    """Without a GPU there is no such kernel for any size of heads."""
    assert re.search(expected, hindrance(tiny_model(arch, dtype=torch.bfloat16, **settings)))


def test_kernels_that_cannot_be_loaded_leave_the_model_as_it_is(
    configured: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> Any:
        raise ImportError(f"No module named '{name}'")

    monkeypatch.setattr(liger, "runs_on", lambda _device: True)
    monkeypatch.setattr(liger, "find_spec", lambda _name: object())
    monkeypatch.setattr(liger, "import_module", missing)
    watcher = Watcher()
    train(configured(train={"max_steps": 1}, compute={"kernels": "liger"}), observers=[watcher])
    assert any("the package cannot be used (ImportError: " in problem.message for problem in watcher.problems)


def test_kernels_for_gpus_are_refused_elsewhere(configured: Configure) -> None:
    with pytest.raises(InputError, match=r"compute\.kernels: liger was asked for, but the device is cpu"):
        train(configured(compute={"kernels": "liger"}))


def test_kernels_that_are_not_installed_are_asked_for_by_name(
    configured: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(liger, "runs_on", lambda _device: True)
    monkeypatch.setattr(liger, "find_spec", lambda _name: None)
    with pytest.raises(MissingExtraError, match=r"tunesmith\[cuda\]"):
        train(configured(compute={"kernels": "liger"}))


@pytest.mark.parametrize(
    ("result", "expected"), [((0, 0), "knows none of Bert"), ((0, 3), "all 3 that it replaces differ"), ((2, 1), "")]
)
def test_kernels_asked_for_that_replace_nothing_are_warned_of(
    configured: Configure, monkeypatch: pytest.MonkeyPatch, result: tuple[int, int], expected: str
) -> None:
    monkeypatch.setattr(liger, "runs_on", lambda _device: True)
    monkeypatch.setattr(liger, "find_spec", lambda _name: object())
    monkeypatch.setattr(liger, "use_kernels", lambda _model: result)
    watcher = Watcher()
    train(configured(train={"max_steps": 1}, compute={"kernels": "liger"}), observers=[watcher])
    found = [str(problem) for problem in watcher.problems if problem.severity == "warning"]
    assert [expected in one for one in found if "compute.kernels: liger" in one] == [True] * bool(expected)


def test_graphs_that_give_way_to_memory_are_said(configured: Configure, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step_settings, "_require", lambda _session: None)
    monkeypatch.setattr(step_settings, "memory_of", lambda _device: (10**9, 1000))
    watcher = Watcher()
    folder = train(configured(train={"max_steps": 1}, compute={"cuda_graphs": True}), observers=[watcher])
    assert summary(folder)["checkpointing"]
    assert not summary(folder)["cuda_graphs"]
    assert any("compute.cuda_graphs: true: switched off" in problem.message for problem in watcher.problems)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_compiled_layers_learn_the_same(configured: Configure, tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path, "llama", seed=1)
    model = {"model": str(folder), "train": {"epochs": 1}}
    plain = train(configured(**model, output=str(tmp_path / "plain")))
    compiled = train(configured(**model, compute={"compile": "always"}, output=str(tmp_path / "compiled")))
    torch._dynamo.reset()
    assert summary(compiled)["compiled_layers"] == 2
    assert losses(compiled) == pytest.approx(losses(plain), rel=1e-4)


def test_repeating_results_on_cuda_needs_a_setting_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    be_deterministic(wanted=True)
    try:
        assert torch.are_deterministic_algorithms_enabled()
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    finally:
        be_deterministic(wanted=False)
        del os.environ["CUBLAS_WORKSPACE_CONFIG"]
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no NVIDIA GPU")
@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_whole_run_on_a_gpu(method: str, configured: Configure) -> None:
    settings = {"precision": "bf16", "epochs": 20, "learning_rate": 5e-3}
    folder = train(configured(train=settings, compute={"device": "cuda"}, method=method))
    found = summary(folder)
    assert found["device"].startswith("cuda")
    assert found["layout"] == "flat"
    assert found["precision"] == "bf16"
    curve = losses(folder)
    third = len(curve) // 3
    assert sum(curve[-third:]) < 0.9 * sum(curve[:third])
    assert found["peak_memory_bytes"] > 0
