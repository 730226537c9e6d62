from __future__ import annotations

import re
import runpy
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from tunesmith.run.card import model_card

runs = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("runs.py"))))
LABELS = ["fresh", "rotten"]


def card(method: str = "lora", **changes: Any) -> str:
    config = runs.config_of(method, labels=LABELS)
    config["model"] = {"name": "org/tiny-bert"}
    return model_card(
        config | changes.pop("config", {}), runs.training_of(method), runs.evaluation_of(LABELS), runs.environment_of()
    )


def front_matter(text: str) -> dict[str, Any]:
    matter = yaml.safe_load(text.split("---\n")[1])
    assert isinstance(matter, dict)
    return matter


def code(text: str) -> str:
    return re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)[0]


def test_front_matter_by_method() -> None:
    lora = front_matter(card("lora"))
    assert lora["library_name"] == "peft"
    assert lora["base_model"] == "org/tiny-bert"
    assert lora["base_model_relation"] == "adapter"
    assert lora["pipeline_tag"] == "text-classification"
    assert "accuracy" in lora["metrics"]
    full = front_matter(card("full"))
    assert (full["library_name"], full["base_model_relation"]) == ("transformers", "finetune")
    scratch = front_matter(card("full", config={"model": {"name": "lstm"}}))
    assert scratch["library_name"] == "tunesmith"
    assert "base_model" not in scratch
    local = front_matter(card("full", config={"model": {"name": "/home/me/models/tiny"}}))
    assert "base_model" not in local


def test_golden_words() -> None:
    text = card()
    for golden in (
        "0.853 [0.834, 0.871]",
        "better than the baseline (TF-IDF + logistic regression) by 8.1 points [6.2, 9.9].",
        "+8.1 points [6.2, 9.9]",
        "LoRA (rank 16)",
        "738k of 23.5M",
        "1 min 32 s",
        "10,240 train",
        "“fresh”",
        "reviews.csv",
    ):
        assert golden in text, golden
    assert "/home" not in card("full", config={"data": {"path": "/home/me/secret/reviews.csv"}})


def test_scratch_networks_need_tunesmith() -> None:
    assert "tunesmith.Run.open" in card("full", config={"model": {"name": "cnn"}})
    assert "import tunesmith" not in card("full")


def test_regression_and_multi_label() -> None:
    task = {"name": "regression", "standardize": True, "mean": 2.5, "std": 1.25}
    text = model_card(
        runs.config_of("full") | {"task": task},
        runs.training_of("full"),
        runs.regression_evaluation(),
        runs.environment_of(),
    )
    assert 'function_to_apply="none"' in text
    assert "multiply its output by 1.25 and add 2.5" in text
    assert "0.561 [0.539, 0.582]" in text
    multi = model_card(runs.config_of("full", multi_label=True, threshold=0.4), runs.training_of("full"), None, {})
    assert 'function_to_apply="sigmoid"' in multi
    assert "above 0.4" in multi
    assert "Not evaluated." in multi


def test_nothing_known() -> None:
    text = model_card({}, {}, None, {})
    assert front_matter(text)["library_name"] == "transformers"
    assert "Not evaluated." in text


def test_outside_text_does_nothing_in_markdown() -> None:
    labels = ["a | b", runs.HOSTILE, "line\nbreak\n# title", "[x](javascript:alert(1))"]
    config = runs.config_of("lora", labels=labels)
    evaluation = runs.evaluation_of(LABELS)
    evaluation["baseline"]["name"] = "x | <script>"
    text = model_card(config, runs.training_of(), evaluation, runs.environment_of())
    prose = re.sub(r"```python\n.*?```", "", text, flags=re.DOTALL)
    assert "<script>" not in prose
    assert "\n# title" not in prose
    assert not re.search(r"(?<!\\)\]\(javascript", prose)
    compile(code(text), "card", "exec")


@pytest.mark.parametrize("method", ["full", "lora"])
@pytest.mark.parametrize("kind", ["single", "multi", "regression"])
def test_the_code_of_the_card_runs(
    method: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The code block runs as it stands, offline, on a tiny random model saved in the plain layout."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    num_labels = 1 if kind == "regression" else 2
    config = BertConfig(
        vocab_size=8,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=8,
        max_position_embeddings=16,
        num_labels=num_labels,
    )
    model = BertForSequenceClassification(config)
    base, folder = tmp_path / "base", tmp_path / "run"
    model.save_pretrained(base)
    if method == "lora":
        from peft import LoraConfig, TaskType, get_peft_model

        model.name_or_path = model.config.name_or_path = str(base)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            get_peft_model(model, LoraConfig(task_type=TaskType.SEQ_CLS, target_modules=["query"])).save_pretrained(
                folder
            )
    else:
        model.save_pretrained(folder)
    words = Tokenizer(WordLevel({"[UNK]": 0, "[PAD]": 1, "Your": 2, "text": 3, ".": 4}, unk_token="[UNK]"))
    words.pre_tokenizer = Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=words, unk_token="[UNK]", pad_token="[PAD]", model_max_length=16
    ).save_pretrained(folder)
    task = {"single": {"labels": LABELS}, "multi": {"labels": LABELS, "multi_label": True}, "regression": {}}[kind]
    name = "regression" if kind == "regression" else "classification"
    text = model_card(runs.config_of(method, name, **task), {}, None, {})
    monkeypatch.chdir(folder)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exec(compile(code(text), "card", "exec"), {})
    printed = capsys.readouterr().out
    assert printed.strip()
