"""Adapting an encoder to unlabelled texts first, then fine-tuning it on few labels."""

from __future__ import annotations

import json
import math
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tunesmith.run import Run, RunConfig, train
from tunesmith.run.observers import Observer
from tunesmith.run.signals import Stopped
from tunesmith.tasks import Classification

Configure = Callable[..., RunConfig]

OPENINGS = ("a great film", "a dull film", "this boring plot", "the wonderful cast", "what a waste")
ENDINGS = ("and funny too", "and a waste of time", "slow and far too long", "warm and wonderful", "one of the best")


def write_texts(path: Path, num_rows: int = 120) -> Path:
    """Write unlabelled texts in which much can be guessed, some longer than a row."""
    texts = [f"{OPENINGS[i % 5]} , {ENDINGS[i // 5 % 5]} {'and funny ' * (i % 9)}" for i in range(num_rows)]
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    return path


def adapt(configured: Configure, folder: Path, **sections: Any) -> Run:
    """Run the first step: a tiny encoder learns the language of the texts."""
    texts = write_texts(folder / "texts.jsonl")
    model = {"name": configured().model.name, "max_length": 16}
    defaults = {"data": str(texts), "model": model, "task": "masked_lm", "output": str(folder / "adapted")}
    return Run.open(train(configured(**{**defaults, **sections})))


def test_adapting_makes_the_texts_less_surprising(configured: Configure, tmp_path: Path) -> None:
    run = adapt(configured, tmp_path, train={"epochs": 8})
    assert run.evaluation["main_metric"] == "pseudo_perplexity"
    metrics = run.evaluation["metrics"]
    assert metrics["pseudo_perplexity"]["low"] <= metrics["pseudo_perplexity"]["value"]
    records = [json.loads(line) for line in run.directory.metrics.read_text(encoding="utf-8").splitlines()]
    measured = [one["metrics"]["pseudo_perplexity"] for one in records if one["kind"] == "evaluation"]
    assert measured[-1] < 0.5 * measured[0]
    assert run.evaluation["num_rows"] == run.summary["rows"]["test"], "metrics count rows, not windows"
    losses = [one["loss"] for one in records if one["kind"] == "step"]
    assert len(set(losses)) == len(losses)
    again = run.evaluate()
    assert again["metrics"]["pseudo_perplexity"]["value"] == pytest.approx(metrics["pseudo_perplexity"]["value"])


def test_masks_of_a_resumed_run_are_those_it_would_have_had(configured: Configure, tmp_path: Path) -> None:
    class StopAfterThree(Observer):
        def stepped(self, info: Any, total_steps: int) -> None:
            if info.step == 3:
                signal.raise_signal(signal.SIGTERM)

    straight = adapt(configured, tmp_path, train={"epochs": 2}, output=str(tmp_path / "straight"))
    texts, folder = tmp_path / "texts.jsonl", tmp_path / "resumed"
    model = {"name": configured().model.name, "max_length": 16}
    config = configured(
        data=str(texts),
        model=model,
        task="masked_lm",
        output=str(folder),
        train={"epochs": 2},
        compute={"checkpoint_steps": 1},
    )
    with pytest.raises(Stopped):
        train(config, observers=[StopAfterThree()])
    resumed = Run.open(train(config, resume=True))
    one, two = (load_file(run.folder / "model.safetensors") for run in (straight, resumed))
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_an_adapted_encoder_is_fine_tuned_on_few_labels(configured: Configure, reviews: Path, tmp_path: Path) -> None:
    adapted = adapt(configured, tmp_path)
    config = configured(
        model=str(adapted.folder), data={"path": str(reviews), "limit": 60}, output=str(tmp_path / "classifier")
    )
    assert config.task is None
    head = Classification(labels=("bad", "good"), multi_label=False).head()
    loaded = config.model.load(head, [], 0)
    weights = load_file(adapted.folder / "model.safetensors")
    before = load_file(Path(configured().model.name) / "model.safetensors")
    trunk = {name: tensor for name, tensor in loaded.model.base_model.state_dict().items() if "pooler" not in name}
    assert trunk
    for name, tensor in trunk.items():
        assert torch.equal(tensor, weights[f"bert.{name}"]), f"{name} is as adapted"
    changed = [name for name, tensor in trunk.items() if name in before and not torch.equal(tensor, before[name])]
    assert len(changed) > len(trunk) // 2, "adapting changed the trunk"
    run = Run.open(train(config))
    assert run.task.name == "classification"
    assert run.summary["rows"]["train"] <= 60
    assert run.predict(["a great film"])[0]["label"] in ("good", "bad")


def pseudo_perplexity(folder: Path, text: str) -> float:
    """Mask one token after the other, by transformers alone."""
    from transformers import AutoModelForMaskedLM, AutoTokenizer

    model, tokenizer = AutoModelForMaskedLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    ids = tokenizer(text)["input_ids"]
    losses = []
    for place in range(1, len(ids) - 1):
        masked = torch.tensor([[*ids[:place], tokenizer.mask_token_id, *ids[place + 1 :]]])
        with torch.no_grad():
            losses.append(-model(input_ids=masked).logits[0, place].log_softmax(-1)[ids[place]].item())
    return math.exp(sum(losses) / len(losses))


def test_a_run_fills_masks_and_scores_texts(configured: Configure, tmp_path: Path) -> None:
    run = adapt(configured, tmp_path)
    filled, scored, empty = run.predict(["a [MASK] film", "a great film", ""])
    assert len(filled["fillers"]) == 1
    assert len(filled["fillers"][0]) == 5
    assert all(isinstance(one["token"], str) for one in filled["fillers"][0])
    assert filled["label"] == [filled["fillers"][0][0]["token"]]
    assert scored["value"] == pytest.approx(pseudo_perplexity(run.folder, "a great film"), rel=1e-3)
    assert scored["num_tokens"] == 3
    assert empty["value"] is None


def test_the_saved_model_is_one_of_transformers(configured: Configure, tmp_path: Path) -> None:
    from transformers import AutoModelForMaskedLM, AutoTokenizer

    run = adapt(configured, tmp_path)
    model, tokenizer = (one.from_pretrained(run.folder) for one in (AutoModelForMaskedLM, AutoTokenizer))
    with torch.no_grad():
        batch = tokenizer("a [MASK] film", return_tensors="pt")
        probabilities = model(**batch).logits[0, 2].softmax(dim=0)
    best = run.predict(["a [MASK] film"])[0]["score"]
    assert best == pytest.approx(float(probabilities.max()), rel=1e-5)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif("TUNESMITH_TEST_DATA" not in os.environ, reason="TUNESMITH_TEST_DATA is not set")
def test_a_real_encoder_adapts_to_reviews_and_classifies_them(configured: Configure, tmp_path: Path) -> None:
    """MiniLM's checkpoint has no masked-word head: it starts from a random one. Fetches both samples."""
    adapted = Run.open(
        train(
            configured(
                model={"name": "sample:minilm", "max_length": 48},
                data={"path": "sample:rotten-tomatoes", "limit": 700},
                task="masked_lm",
                output=str(tmp_path / "adapted"),
                train={"epochs": 2, "learning_rate": 5e-4},
            )
        )
    )
    assert adapted.evaluation["difference"]["pseudo_perplexity"]["high"] < 0, "less surprised than untuned"
    classifier = Run.open(
        train(
            configured(
                model={"name": str(adapted.folder), "max_length": 48},
                data={"path": "sample:rotten-tomatoes", "limit": 1200},
                output=str(tmp_path / "classifier"),
                train={"epochs": 3, "learning_rate": 1e-4},
            )
        )
    )
    assert classifier.evaluation["metrics"]["accuracy"]["value"] > 0.6
