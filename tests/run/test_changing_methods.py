"""Methods with hooks, or around the model: they learn, and a run that is killed goes on to the same bytes."""

from __future__ import annotations

import ast
import json
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import pytest
import torch
from safetensors.torch import load_file, save_file

from run.test_usage import close, printed, trained
from tunesmith.methods import METHODS, Freeze
from tunesmith.run import Run, RunConfig, Stopped, train
from tunesmith.run.observers import Observer
from tunesmith.types import InputError

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel

SETTINGS: dict[str, dict[str, Any]] = {
    "adalora": {"initial_rank": 4, "target_rank": 1},
    "bitfit": {},
    "lisa": {"layers": 1, "draws": 5},
    "sparse": {"share": 0.1, "calibration_rows": 20},
    "prompt_tuning": {"length": 3},
}
PARTS = {
    "adalora": ".lora_B.",
    "bitfit": ".query.bias",
    "lisa": ".query.weight",
    "sparse": ".query.weight",
    "prompt_tuning": "prompt_encoder.",
}
LAST = 16
"""Steps of a whole run."""


class Killed(BaseException):
    """Ends a run in process as a kill would: nothing that catches errors sees it."""


class Ending(Observer):
    """Ends a training after some step, by a signal that it takes note of, or at once."""

    def __init__(self, step: int, *, at_once: bool = False) -> None:
        self.step = step
        self.at_once = at_once

    def stepped(self, info: Any, total_steps: int) -> None:
        if info.step == self.step and self.at_once:
            raise Killed
        if info.step == self.step:
            os.kill(os.getpid(), signal.SIGTERM)


def config_of(configured: Any, folder: Path, method: str, **sections: Any) -> RunConfig:
    settings = {"batch_size": 16, "epochs": 2, "learning_rate": 0.03, **sections.pop("train", {})}
    return configured(
        method={"name": method, **SETTINGS[method]},
        train=settings,
        compute={"checkpoint_steps": 3, **sections.pop("compute", {})},
        evaluation={"num_resamples": 0, "baseline": False},
        output=str(folder),
        **sections,
    )


def result(folder: Path) -> tuple[dict[str, bytes], list[float]]:
    lines = map(json.loads, (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    return (
        {path.name: path.read_bytes() for path in folder.glob("*.safetensors")},
        [line["loss"] for line in lines if line["kind"] == "step"],
    )


@pytest.mark.parametrize(
    ("method", "precision"),
    [  # the two in turn; every method in both is slow
        pytest.param(method, precision, marks=pytest.mark.slow if (place + number) % 2 else ())
        for place, method in enumerate(SETTINGS)
        for number, precision in enumerate(["bf16", "fp32"])
    ],
)
def test_stopped_and_killed_runs_go_on_to_the_same_bytes(
    configured: Any, tmp_path: Path, method: str, precision: str
) -> None:
    def config(name: str) -> RunConfig:
        return config_of(configured, tmp_path / name, method, train={"precision": precision})

    whole = result(train(config("whole")))
    assert len(whole[1]) == LAST
    with pytest.raises(Stopped):
        train(config("ended"), observers=[Ending(4)])
    with pytest.raises(Killed):
        train(config("ended"), resume=True, observers=[Ending(8, at_once=True)])
    with pytest.raises(Killed):  # in AdaLoRA's last quarter
        train(config("ended"), resume=True, observers=[Ending(LAST - 2, at_once=True)])
    assert result(train(config("ended"), resume=True)) == whole


@pytest.mark.parametrize("method", SETTINGS)
def test_what_is_added_or_chosen_moves_alike_whatever_the_micro_batches(
    configured: Any, tmp_path: Path, method: str
) -> None:
    settings = {"model": {"name": configured().model.name, "dropout": 0.0}}
    whole = train(config_of(configured, tmp_path / "whole", method, **settings))
    split = train(config_of(configured, tmp_path / "split", method, compute={"micro_batch_rows": 3}, **settings))
    assert result(split)[1] == pytest.approx(result(whole)[1], rel=1e-3, abs=1e-4)
    first, *_, last = (load_file(path) for path in sorted((whole / "checkpoints").glob("*/weights.safetensors")))
    moved = {name for name, values in last.items() if not torch.equal(values, first[name])}
    assert any(PARTS[method] in name for name in moved), sorted(moved)
    run = Run.open(whole)
    assert run.summary["layout"] == ("padded" if method == "prompt_tuning" else "flat")
    assert run.evaluate()["loss"] == pytest.approx(run.evaluation["loss"], abs=1e-6)


def test_ranks_move_and_the_best_step_comes_with_its_own(configured: Any, tmp_path: Path) -> None:
    """Of four ranks an adapter, one is left on the average, and here and there another number of them."""
    folder = train(
        config_of(configured, tmp_path / "run", "adalora", train={"early_stopping": {"restore_best": False}})
    )
    weights = load_file(folder / "adapter_model.safetensors")
    ranks = [int((values != 0).sum()) for name, values in weights.items() if name.endswith("lora_E")]
    assert sum(ranks) == len(ranks)
    assert len(set(ranks)) > 1
    assert all(len(values) == 4 for name, values in weights.items() if name.endswith("lora_E"))
    state = load_file(folder / "checkpoints" / f"step-{LAST}" / "method.safetensors")
    assert {name.partition("/")[0] for name in state} == {"exp_avg_ipt", "exp_avg_unc"}
    assert all(values.dtype == torch.float32 for values in state.values())


def test_rows_leave_place_for_what_is_put_before_them(configured: Any, tmp_path: Path) -> None:
    """The tiny model has 64 positions."""
    prompted = Run.open(train(config_of(configured, tmp_path / "run", "prompt_tuning", train={"max_steps": 1})))
    assert prompted.summary["max_length"] == 61
    assert len(prompted.predict(["film " * 100])) == 1
    config = config_of(configured, tmp_path / "other", "prompt_tuning")
    config = config.model_copy(update={"method": config.method.changed(length=60)})
    with pytest.raises(InputError, match="has 64 places, of which 60 leave too few"):
        train(config)


def test_what_does_not_fit_is_refused_before_training(configured: Any, tmp_path: Path, llama_folder: Path) -> None:
    flat = config_of(configured, tmp_path / "flat", "prompt_tuning", compute={"layout": "flat"})
    with pytest.raises(InputError, match=r"compute\.layout: flat was asked for"):
        train(flat)
    with pytest.raises(InputError, match="takes padding for a part of the row"):
        train(config_of(configured, tmp_path / "rows", "prompt_tuning", model=str(llama_folder)))
    with pytest.raises(InputError, match="is trained from scratch"):
        train(config_of(configured, tmp_path / "scratch", "adalora", model={"name": "lstm"}))


@pytest.mark.parametrize("kind", ["labels", "entities", "chat"])
@pytest.mark.parametrize("method", ["adalora", "bitfit", "prompt_tuning"])
def test_the_code_of_the_card_gives_the_runs_own_predictions(
    configured: Any,
    llama_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    method: str,
    kind: str,
) -> None:
    if (method, kind) == ("bitfit", "chat"):  # that model has neither biases nor a head
        return
    run = trained(configured, tmp_path, kind, method, llama_folder if kind == "chat" else None)
    if (method, kind) == ("prompt_tuning", "entities"):  # PEFT gives scores for what it puts before the tokens, too
        assert "tunesmith, which is needed to load it" in (run.folder / "README.md").read_text(encoding="utf-8")
        return
    out = printed(run, monkeypatch, capsys)
    if kind == "chat":
        assert out.strip() == run.predict("Your question.")[0]["answer"]
        return
    found = ast.literal_eval(out)
    if kind == "entities":
        assert [tag for _, tag in found] == run.predict("Your text .")[0]["tags"]
        return
    (own,) = run.predict("Your text.")
    if method == "bitfit":
        assert (found[0]["label"], found[0]["score"]) == (own["label"], close(own["score"]))
    else:
        assert found == {label: close(share) for label, share in own["probabilities"].items()}


class HeadOf(Freeze):
    """Train the head, and save nothing else, in a form that nobody else knows."""

    name: Literal["head_of"] = "head_of"  # type: ignore[assignment]
    result: ClassVar[Literal["model", "adapter", "own"]] = "own"

    def save(self, model: nn.Module, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        weights = {name: weight.detach() for name, weight in model.named_parameters() if weight.requires_grad}
        save_file(weights, folder / "head.safetensors")

    def load(self, model: PreTrainedModel, folder: Path) -> nn.Module:
        self.apply(model).load_state_dict(load_file(folder / "head.safetensors"), strict=False)
        return model


def test_results_of_a_form_of_their_own_are_opened_by_the_method_beside_the_base(
    configured: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(METHODS, "head_of", HeadOf)
    monkeypatch.setitem(SETTINGS, "head_of", {})
    run = Run.open(train(config_of(configured, tmp_path / "run", "head_of")))
    assert [path.name for path in run.folder.glob("*.safetensors")] == ["head.safetensors"]
    assert run.summary["saved_bytes"] < 2000
    assert run.evaluate()["loss"] == pytest.approx(run.evaluation["loss"], abs=1e-6)
    card = (run.folder / "README.md").read_text(encoding="utf-8")
    assert "library_name: tunesmith" in card
    assert "tunesmith, which is needed to load it" in card
    with pytest.raises(InputError, match="is trained from scratch"):
        train(config_of(configured, tmp_path / "scratch", "head_of", model={"name": "lstm"}))
