"""Reward models of encoders and decoders: trained, judged, asked, and loaded in plain transformers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from chats import assistant, user
from tiny import tiny_folder
from tunesmith.run import Run, RunConfig, train

Configure = Callable[..., RunConfig]
WORDS = ("film", "plot", "cast")


def pair(i: int) -> dict[str, Any]:
    good, bad = f"great {WORDS[i % 3]}", f"dull {WORDS[i // 3 % 3]} {i % 7}"
    return {"prompt": f"what {WORDS[i % 3]} {i % 31}?", "chosen": good, "rejected": bad}


@pytest.mark.parametrize("arch", ["bert", "llama"])
def test_a_run_scores_texts_and_files_and_loads_in_plain_transformers(
    configured: Configure, tmp_path: Path, arch: str
) -> None:
    folder = tiny_folder(tmp_path / "model", arch, **({"head": "causal"} if arch == "llama" else {}))
    data = tmp_path / "pairs.jsonl"
    data.write_text("".join(json.dumps(pair(i)) + "\n" for i in range(90)), encoding="utf-8")
    config = configured(model=str(folder), data=str(data), task="reward", method="full", train={"epochs": 3})
    run = Run.open(train(config))
    assert run.evaluation["metrics"]["reward_accuracy"]["value"] > 0.9
    assert run.evaluation["metrics"]["margin"]["low"] > 0
    assert run.evaluate()["loss"] == pytest.approx(run.evaluation["loss"], abs=1e-6)
    good, bad = run.predict(["great film", "dull film"])
    assert good["value"] > bad["value"]
    rows = [
        {"prompt": pair(i)["prompt"], "completion": pair(i)[side]} for i in (1, 5) for side in ("chosen", "rejected")
    ]
    scores = [row["value"] for row in run.predict(rows)]
    assert scores[0] > scores[1]
    assert scores[2] > scores[3]
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = AutoModelForSequenceClassification.from_pretrained(run.folder)
    tokenizer = AutoTokenizer.from_pretrained(run.folder)
    assert model.config.num_labels == 1
    if arch == "llama":
        text = tokenizer.apply_chat_template(
            [user(rows[0]["prompt"]), assistant(rows[0]["completion"])], tokenize=False
        )
        inputs = tokenizer(text, add_special_tokens=False, return_tensors="pt")
    else:
        inputs = tokenizer(rows[0]["prompt"], rows[0]["completion"], return_tensors="pt")
    with torch.no_grad():
        assert model(**inputs).logits.item() == pytest.approx(scores[0], abs=1e-5)
