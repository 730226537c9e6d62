"""Runs whose base is streamed from files: equal to the bit to runs that have it in memory."""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest

from run.test_training import Watcher
from small_runs import small_config
from tiny import tiny_folder
from tiny_writers import writer_folder
from tunesmith.models import pretrained
from tunesmith.models.streaming import stream_of
from tunesmith.run import Observer, Run, RunConfig, Stopped, Workshop, step_settings, train
from tunesmith.run.offload import check_offload
from tunesmith.types import InputError, StepInfo


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "cache"))


def curve(folder: Path) -> list[dict[str, Any]]:
    """Return what a run recorded, without what time and machine decide."""
    lines = (json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    return [
        {key: value for key, value in line.items() if "second" not in key and "memory" not in key} for line in lines
    ]


def weights(folder: Path) -> bytes:
    return (folder / "adapter_model.safetensors").read_bytes()


Case = tuple[str, dict[str, Any]]

CASES: dict[str, Case] = {
    "encoder, flat": ("bert", {"compute": {"layout": "flat"}}),
    "encoder, padded": ("bert", {"compute": {"layout": "padded"}}),
    "activations computed again": ("bert", {"compute": {"checkpointing": "always"}}),
    "several micro-batches": ("bert", {"compute": {"micro_batch_tokens": 64}}),
    "bf16": ("bert", {"train": {"precision": "bf16"}}),
    "top layer": ("bert", {"method": {"name": "lora", "layers_to_transform": "top 1"}}),
    "weights in columns": ("gpt2", {}),
    "ia3": ("bert", {"method": {"name": "ia3"}}),
    "dora": ("bert", {"method": {"name": "lora", "dora": True}}),
    "pissa": ("bert", {"method": {"name": "pissa"}}),
}


def both(tmp_path: Path, data: Path, model: Path, sections: dict[str, Any]) -> tuple[Path, Path]:
    """Make a run with its base in memory and one with it streamed."""
    found = []
    for name, offload in (("plain", "none"), ("streamed", "cpu")):
        settings = {"method": "lora", **sections}
        settings["compute"] = {**settings.get("compute", {}), "offload": offload}
        settings["train"] = {"epochs": 1, **settings.get("train", {})}
        found.append(train(small_config(data, model, tmp_path / name, **settings)))
    return found[0], found[1]


def assert_same(plain: Path, streamed: Path) -> None:
    assert curve(streamed) == curve(plain)
    assert weights(streamed) == weights(plain)
    evaluations = [json.loads((one / "evaluation.json").read_text(encoding="utf-8")) for one in (plain, streamed)]
    assert evaluations[0]["metrics"] == evaluations[1]["metrics"]
    summaries = [json.loads((one / "training.json").read_text(encoding="utf-8")) for one in (plain, streamed)]
    assert summaries[0]["streamed_bytes"] == 0 < summaries[1]["streamed_bytes"]


@pytest.mark.parametrize("case", CASES)
def test_a_streamed_base_gives_the_same_run_to_the_bit(case: str, tmp_path: Path, reviews: Path) -> None:
    arch, sections = CASES[case]
    plain, streamed = both(tmp_path, reviews, tiny_folder(tmp_path, arch), sections)
    assert_same(plain, streamed)
    runs = Run.open(plain), Run.open(streamed)
    assert runs[1].predict(["a great film"]) == runs[0].predict(["a great film"])
    assert stream_of(runs[0].network.model) is None
    assert stream_of(runs[1].network.model) is not None


WRITERS: dict[str, dict[str, Any]] = {
    "its own output matrix": {"tie_word_embeddings": False},
    "tied to the embeddings": {"tie_word_embeddings": True},
}


@pytest.mark.parametrize("kind", WRITERS)
def test_a_streamed_language_model_gives_the_same_run_to_the_bit(kind: str, tmp_path: Path) -> None:
    data = tmp_path / "texts.csv"
    data.write_text("text\n" + "".join(f"the film number {k} was {['warm', 'dull'][k % 2]}\n" for k in range(60)))
    model = tiny_folder(tmp_path, "llama", head="causal", **WRITERS[kind])
    assert_same(*both(tmp_path, data, model, {"task": "causal_lm"}))


def test_a_streamed_model_of_vectors_gives_the_same_run_to_the_bit(tmp_path: Path) -> None:
    data = tmp_path / "pairs.jsonl"
    rows = [{"anchor": f"film {k}", "positive": f"the movie of number {k}"} for k in range(60)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    plain, streamed = both(tmp_path, data, tiny_folder(tmp_path, "bert"), {"task": "embedding"})
    assert_same(plain, streamed)


def test_a_streamed_encoder_decoder_gives_the_same_run_to_the_bit(tmp_path: Path) -> None:
    data = tmp_path / "pairs.jsonl"
    rows = [{"source": f"film {k}", "target": f"the movie of number {k}"} for k in range(60)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    model = writer_folder(tmp_path, "t5")
    sections = {"task": "seq2seq", "evaluation": {"max_new_tokens": 4}}
    assert_same(*both(tmp_path, data, model, sections))


class Stop(Observer):
    """Asks the process to stop after a step, as Ctrl-C does."""

    def __init__(self, step: int) -> None:
        self.step = step

    def stepped(self, info: StepInfo, total_steps: int) -> None:
        if info.step == self.step:
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("before", ["none", "cpu"])
def test_a_stopped_run_goes_on_streamed_to_the_same_bytes_however_it_began(
    before: str, tmp_path: Path, reviews: Path
) -> None:
    model = tiny_folder(tmp_path)

    def config(name: str, offload: str) -> RunConfig:
        return small_config(reviews, model, tmp_path / name, method="lora", compute={"offload": offload})

    whole = train(config("whole", "none"))
    with pytest.raises(Stopped):
        train(config("stopped", before), observers=[Stop(5)])
    resumed = train(config("stopped", "cpu"), resume=True)
    assert curve(resumed) == curve(whole)
    assert weights(resumed) == weights(whole)


def test_runs_that_share_a_workshop_share_the_files_and_are_what_they_are_alone(tmp_path: Path, reviews: Path) -> None:
    model, methods = tiny_folder(tmp_path), ("lora", "ia3", "lora")

    def config(k: int, offload: str) -> RunConfig:
        settings: dict[str, Any] = {"compute": {"offload": offload}, "train": {"epochs": 1, "seed": k}}
        return small_config(reviews, model, tmp_path / f"{offload}-{k}", method=methods[k], **settings)

    with Workshop() as workshop:
        streamed = [train(config(k, "cpu"), workshop=workshop) for k in range(3)]
        (template,) = workshop._templates.values()
        assert stream_of(template.model) is not None
    for k, folder in enumerate(streamed):
        assert_same(train(config(k, "none")), folder)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "full": ({"method": "full"}, "method: full: it trains weights of the base"),
    "freeze": ({"method": "freeze"}, "method: freeze: it trains weights of the base"),
    "bitfit": ({"method": "bitfit"}, "method: bitfit: it trains weights of the base"),
    "4 bits": ({"method": {"name": "lora", "quantize": "nf4"}}, "method.quantize: nf4"),
    "8 bits": ({"method": {"name": "lora", "quantize": "int8"}}, "method.quantize: int8"),
    "biases": ({"method": {"name": "lora", "bias": "all"}}, "method.bias: all"),
    "compiled": ({"compute": {"compile": "always"}}, "compute.compile: always"),
    "graphs": ({"compute": {"cuda_graphs": True}}, "compute.cuda_graphs: true"),
    "from scratch": ({"model": "lstm", "method": "full"}, "model: lstm: it is made anew"),
    "read weights": ({"method": {"name": "lora", "dora": True}, "train": {"precision": "bf16"}}, "made of weights"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_streamed_is_refused_by_name(
    case: str, tmp_path: Path, reviews: Path, bert_folder: Path
) -> None:
    sections, said = REFUSED[case]
    settings = {"method": "lora", **sections, "compute": {**sections.get("compute", {}), "offload": "cpu"}}
    model = Path(settings.pop("model", bert_folder))
    with pytest.raises(InputError, match=re.escape(said)) as caught:
        train(small_config(reviews, model, tmp_path / "run", **settings))
    assert "compute.offload" in str(caught.value)
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_all_that_hinders_is_said_at_once(tmp_path: Path, reviews: Path, bert_folder: Path) -> None:
    settings: dict[str, Any] = {"method": "full", "compute": {"offload": "disk", "compile": "always"}}
    with pytest.raises(InputError) as caught:
        check_offload(small_config(reviews, bert_folder, tmp_path / "run", **settings))
    assert len(caught.value.problems) == 2


def test_a_model_that_is_larger_than_the_memory_is_refused_with_a_way_out(
    tmp_path: Path, reviews: Path, bert_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pretrained, "free_memory", lambda: -(2**50))
    with pytest.raises(InputError, match=r"take .* of memory, more than there is") as caught:
        train(small_config(reviews, bert_folder, tmp_path / "plain", method="lora"))
    assert "--compute.offload cpu" in str(caught.value)
    sections: dict[str, Any] = {"method": "lora", "compute": {"offload": "cpu"}, "train": {"max_steps": 1}}
    train(small_config(reviews, bert_folder, tmp_path / "streamed", **sections))


@pytest.mark.parametrize(("method", "is_offered"), [("lora", True), ("full", False)])
def test_where_a_step_does_not_fit_streaming_is_offered_with_what_it_saves(
    method: str, is_offered: bool, tmp_path: Path, reviews: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(step_settings, "memory_of", lambda _device: (10**9, 1000))
    watcher, model = Watcher(), tiny_folder(tmp_path, num_hidden_layers=4)
    config = small_config(reviews, model, tmp_path / "run", method=method, train={"max_steps": 1})
    train(config, observers=[watcher])
    (fix,) = [one.fix for one in watcher.problems if "A step may take" in one.message]
    assert ("compute.offload to cpu, which leaves" in fix) == is_offered
