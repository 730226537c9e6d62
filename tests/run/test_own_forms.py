"""Runs whose result has a form of its own: small files that make the trained model of the base."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file
from transformers import AutoConfig

from tunesmith.cli.application import run as main
from tunesmith.engine.stand_ins import as_written
from tunesmith.export import restore
from tunesmith.methods.compress import COMPRESSED_WEIGHTS
from tunesmith.methods.sparse import PLACES, SPARSE_WEIGHTS, VALUES
from tunesmith.models import load_trained
from tunesmith.readable import compact
from tunesmith.report.facts import cost_facts
from tunesmith.report.load import load_run
from tunesmith.run import Run, RunConfig, Stopped, train
from tunesmith.run.observers import Observer
from tunesmith.types import InputError


@pytest.mark.parametrize("choose", ["gradient", "fisher"])
def test_rows_decide_and_the_files_make_the_trained_model_of_the_base(
    configured: Callable[..., RunConfig], bert_folder: Path, tmp_path: Path, choose: str
) -> None:
    config = configured(
        method={"name": "sparse", "share": 0.05, "choose": choose, "calibration_rows": 16},
        train={"epochs": 1, "optimizer": {"weight_decay": 0.5}},
        evaluation={"num_resamples": 0, "baseline": False},
        output=str(tmp_path / choose),
    )
    run = Run.open(train(config))
    saved, base = load_file(run.folder / SPARSE_WEIGHTS), load_file(bert_folder / "model.safetensors")
    assert not (run.folder / "model.safetensors").exists()
    assert (run.folder / SPARSE_WEIGHTS).stat().st_size < 0.5 * (bert_folder / "model.safetensors").stat().st_size
    trained = run.network.model
    opened = {name: parameter.detach() for name, parameter in trained.named_parameters()}
    places = {name.removesuffix(PLACES): where for name, where in saved.items() if name.endswith(PLACES)}
    moved = 0
    for name, weight in base.items():
        now = opened[name if name in opened else f"bert.{name}"]
        different = (now != weight).reshape(-1).nonzero().reshape(-1).tolist()
        where = places.get(f"bert.{name}", torch.tensor([], dtype=torch.int32))
        assert set(different) <= set(where.tolist()), name
        if len(where):
            assert torch.equal(now.reshape(-1)[where.long()], saved[f"bert.{name}{VALUES}"].to(now.dtype))
        moved += len(different)
    head = sum(opened[name].numel() for name in saved if not name.endswith((PLACES, VALUES)))
    assert 0 < moved <= run.summary["num_trained_parameters"] == sum(map(len, places.values())) + head
    assert run.evaluate()["loss"] == pytest.approx(run.evaluation["loss"], abs=1e-6)


METHODS: dict[str, dict[str, Any]] = {
    "sparse": {"name": "sparse", "share": 0.1, "calibration_rows": 16},
    "pruned": {"name": "compress", "heads": 0.5, "calibration_rows": 16},
    "factorised": {"name": "compress", "way": "whitened", "calibration_rows": 16},
}


def config_of(
    configured: Callable[..., RunConfig], folder: Path, method: str, model: Path | None, **train: Any
) -> RunConfig:
    data = {}
    if model is not None:
        rows = [{"prompt": f"what {i % 7}?", "completion": ("film", "plot")[i % 2]} for i in range(90)]
        path = folder.parent / "chats.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        data = {"model": str(model), "data": str(path), "task": "causal_lm"}
    return configured(
        method=METHODS[method],
        train={"max_steps": 6, "evaluate_steps": 6, **train},
        evaluation={"num_resamples": 0, "baseline": False},
        output=str(folder),
        **data,
    )


@pytest.mark.parametrize(
    ("method", "kind"), [("sparse", "labels"), ("pruned", "labels"), ("pruned", "chat"), ("factorised", "chat")]
)
def test_restored_it_is_a_plain_model_that_predicts_the_same(
    configured: Callable[..., RunConfig],
    bert_folder: Path,
    llama_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    method: str,
    kind: str,
) -> None:
    run = Run.open(train(config_of(configured, tmp_path / "run", method, llama_folder if kind == "chat" else None)))
    asked = "what 3?" if kind == "chat" else "a great film"
    expected = run.predict(asked)
    target = tmp_path / "plain"
    assert main(["restore", str(run.folder), "--output", str(target)]) == 0
    assert "a plain model with the scores of" in capsys.readouterr().out
    base = AutoConfig.from_pretrained(llama_folder if kind == "chat" else bert_folder)
    plain = getattr(transformers, run.summary["auto_class"]).from_pretrained(target)
    assert plain.config.hidden_size == base.hidden_size
    again = load_trained(target, run.task.head()).model
    network = Run.open(run.folder).network
    ids = torch.tensor([network.tokenizer(asked)["input_ids"]])
    with torch.no_grad(), as_written(network.model):
        scores = network.model(input_ids=ids).logits
        torch.testing.assert_close(plain(input_ids=ids).logits, scores, rtol=0, atol=1e-5)
        torch.testing.assert_close(again.eval()(input_ids=ids).logits, scores, rtol=0, atol=1e-5)
    assert Run.open(run.folder).predict(asked) == expected
    with pytest.raises(InputError, match="is there already"):
        restore(Run.open(run.folder), target)


def test_what_a_compressed_model_costs_is_measured_before_and_after(
    configured: Callable[..., RunConfig], tmp_path: Path
) -> None:
    run = Run.open(train(config_of(configured, tmp_path / "run", "pruned", None)))
    before, after = (run.summary["compression"][when] for when in ("before", "after"))
    assert after["parameters"] == run.summary["num_parameters"] < before["parameters"]
    assert after["bytes"] == 4 * after["parameters"]
    assert after["rows_per_second"] > 0 < before["rows_per_second"]
    assert run.summary["layout"] == "flat"
    facts = {fact.name: fact for fact in cost_facts(load_run(run.folder))}
    assert facts["Parameters"].note == f"{compact(before['parameters'])} before compression"
    assert facts["Parameters"].value == compact(after["parameters"])
    with pytest.raises(Stopped):
        train(config_of(configured, tmp_path / "stopped", "pruned", None), observers=[Ending()])
    resumed = Run.open(train(config_of(configured, tmp_path / "stopped", "pruned", None), resume=True))
    files = [(one.folder / COMPRESSED_WEIGHTS).read_bytes() for one in (run, resumed)]
    assert files[0] == files[1]
    assert resumed.summary["compression"]["after"]["parameters"] == after["parameters"]


@pytest.mark.parametrize("method", ["pruned", "factorised"])
def test_flat_equals_padded(configured: Callable[..., RunConfig], tmp_path: Path, method: str) -> None:
    losses = []
    for layout in ("flat", "padded"):
        made = config_of(configured, tmp_path / layout, method, None)
        model, compute = made.model.changed(dropout=0.0), made.compute.changed(layout=layout)
        folder = train(made.model_copy(update={"model": model, "compute": compute}))
        lines = map(json.loads, (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
        losses.append([line["loss"] for line in lines if line["kind"] == "step"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-3, abs=1e-5)


@pytest.mark.parametrize(("method", "message"), [("full", "a plain model already"), ("lora", "it is merged")])
def test_runs_that_need_no_restoring_say_so(
    configured: Callable[..., RunConfig], tmp_path: Path, method: str, message: str
) -> None:
    run = Run.open(train(configured(method=method, train={"max_steps": 1}, output=str(tmp_path / "run"))))
    with pytest.raises(InputError, match=message):
        restore(run, tmp_path / "plain")
    assert not (tmp_path / "plain").exists()


class Ending(Observer):
    def stepped(self, info: Any, total_steps: int) -> None:
        if info.step == 3:
            os.kill(os.getpid(), signal.SIGTERM)
