from __future__ import annotations

import ast
import re
import runpy
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import yaml

from tunesmith.data.encoded import Ragged
from tunesmith.methods import METHODS
from tunesmith.models import MODELS, Pretrained
from tunesmith.publish import Parts, model_card
from tunesmith.tasks import TASKS
from tunesmith.tasks.card import TaskCard
from tunesmith.tasks.crf import potentials
from tunesmith.tasks.tag_decoding import best_tags
from tunesmith.types import HeadSettings

runs = SimpleNamespace(**runpy.run_path(str(Path(__file__).parents[1] / "report" / "runs.py")))
LABELS = ["fresh", "rotten"]


def parts(config: dict[str, Any], inputs: tuple[str, ...] = ("text",)) -> Parts:
    """Return what a configuration names, bound as it says."""
    task = TASKS[config["task"]["name"]].model_validate(config["task"])
    method = METHODS[config["method"]["name"]].model_validate(config["method"])
    name = config["model"]["name"]
    model = MODELS.get(name, Pretrained).model_validate({"name": name})
    return Parts(task.card(inputs), task.head(), method, model)


def card_of(config: dict[str, Any], training: Any, evaluation: Any, environment: Any) -> str:
    return model_card(parts(config), config, training, evaluation, environment)


def card(method: str = "lora", **changes: Any) -> str:
    config = runs.config_of(method, labels=LABELS)
    config["model"] = {"name": "org/tiny-bert"}
    return card_of(
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
    text = card_of(
        runs.config_of("full") | {"task": task},
        runs.training_of("full"),
        runs.regression_evaluation(),
        runs.environment_of(),
    )
    assert 'function_to_apply="none"' in text
    assert "multiply its output by 1.25 and add 2.5" in text
    assert "0.561 [0.539, 0.582]" in text
    config = runs.config_of("full", labels=LABELS, multi_label=True, threshold=0.4)
    multi = card_of(config, runs.training_of("full"), None, {})
    assert 'function_to_apply="sigmoid"' in multi
    assert "above 0.4" in multi
    assert "Not evaluated." in multi


UNKNOWN = Parts(
    TaskCard(),
    HeadSettings("AutoModelForSomething", None),
    METHODS["full"].model_validate({}),
    Pretrained.model_validate({"name": "m"}),
)
"""A run of a task that says nothing of itself."""


def test_nothing_known() -> None:
    text = model_card(UNKNOWN, {}, {}, None, {})
    assert front_matter(text)["library_name"] == "transformers"
    assert "Not evaluated." in text


def test_outside_text_does_nothing_in_markdown() -> None:
    labels = ["a | b", runs.HOSTILE, "line\nbreak\n# title", "[x](javascript:alert(1))"]
    config = runs.config_of("lora", labels=labels)
    evaluation = runs.evaluation_of(LABELS)
    evaluation["baseline"]["name"] = "x | <script>"
    text = card_of(config, runs.training_of(), evaluation, runs.environment_of())
    prose = re.sub(r"```python\n.*?```", "", text, flags=re.DOTALL)
    assert "<script>" not in prose
    assert "\n# title" not in prose
    assert not re.search(r"(?<!\\)\]\(javascript", prose)
    compile(code(text), "card", "exec")


def test_language_models() -> None:
    config = runs.config_of("full", "causal_lm", form="chat")
    training = runs.training_of("full")
    text = card_of(config, training, runs.chat_evaluation(), runs.environment_of())
    matter = front_matter(text)
    assert matter["pipeline_tag"] == "text-generation"
    assert matter["tags"] == ["tunesmith", "language-modelling", "full-fine-tuning"]
    for golden in (
        "it answers in a conversation.",
        "Perplexity: better than before fine-tuning by 7.460 in perplexity",
        "| Metric | This model | Before fine-tuning | Gain |",
        "| ROUGE-L | 0.412 [0.400, 0.424] | 0.281 [0.273, 0.289] | +13.1 points [11.9, 14.3] |",
        "| Perplexity (lower is better) |",
        "that need not be true",
        "add_generation_prompt=True",
    ):
        assert golden in text, golden
    assert "baseline" not in text
    assert "labels" not in text
    text = card_of(runs.config_of("full", "causal_lm", form="text"), training, None, {})
    assert "goes on with a text" in text
    assert "apply_chat_template" not in text
    masked = card_of(runs.config_of("lora", "masked_lm"), {}, None, {})
    assert front_matter(masked)["pipeline_tag"] == "fill-mask"
    unknown = model_card(UNKNOWN, runs.config_of("full", "new_task"), {}, None, {})
    assert "pipeline_tag" not in front_matter(unknown)
    assert "AutoModelForSomething.from_pretrained(folder)" in unknown


TAGS = {"name": "token_classification", "labels": ["O", "B-x", "I-x"]}
CHAT = {"name": "causal_lm", "system": "Be 'brief'.", "template_arguments": {"enable_thinking": False}}
KINDS: dict[str, dict[str, Any]] = {
    "single": {"name": "classification", "labels": LABELS},
    "multi": {"name": "classification", "labels": LABELS, "multi_label": True},
    "regression": {"name": "regression"},
    "tags": TAGS,
    "chains": {**TAGS, "crf": True, "split": "character"},
    "chat": {**CHAT, "form": "chat"},
    "text": {"name": "causal_lm", "form": "text"},
    "masked": {"name": "masked_lm"},
}
"""Kind of model -> the task with its settings."""


@pytest.mark.parametrize("method", ["full", "lora"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_code_of_the_card_runs(
    method: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The code block runs as it stands, offline, on a tiny random model saved in the plain layout."""
    import torch
    import transformers
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from transformers import BertConfig, LlamaConfig, PreTrainedTokenizerFast

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    sizes = {
        "vocab_size": 8,
        "hidden_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 8,
        "max_position_embeddings": 300,
        "bos_token_id": None,
        "eos_token_id": 4,
    }
    run_config = runs.config_of(method) | {"task": KINDS[kind]}
    head = parts(run_config).head
    auto_class = head.auto_class
    config = LlamaConfig(**sizes) if "Causal" in auto_class else BertConfig(**sizes)
    if head.num_outputs is not None:
        config.num_labels = head.num_outputs
    torch.manual_seed(0)
    model = getattr(transformers, auto_class).from_config(config)
    base, folder = tmp_path / "base", tmp_path / "run"
    model.save_pretrained(base)
    if method == "lora":
        from peft import LoraConfig, get_peft_model

        model.name_or_path = model.config.name_or_path = str(base)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            names = {"SequenceClassification": "SEQ_CLS", "TokenClassification": "TOKEN_CLS", "CausalLM": "CAUSAL_LM"}
            target = "q_proj" if "Causal" in auto_class else "query"
            lora = LoraConfig(task_type=names.get(auto_class.removeprefix("AutoModelFor")), target_modules=[target])
            get_peft_model(model, lora).save_pretrained(folder)
    else:
        model.save_pretrained(folder)
    vocabulary = {"[UNK]": 0, "[PAD]": 1, "Your": 2, "text": 3, ".": 4, "[MASK]": 5, "user": 6}
    words = Tokenizer(WordLevel(vocabulary, unk_token="[UNK]"))
    words.pre_tokenizer = Whitespace()
    special = {"unk_token": "[UNK]", "pad_token": "[PAD]", "mask_token": "[MASK]"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, model_max_length=16, **special)
    tokenizer.chat_template = "{% for m in messages %}{{ m.role }} {{ m.content }} {% endfor %}"
    tokenizer.save_pretrained(folder)
    text = card_of(run_config, {}, None, {})
    monkeypatch.chdir(folder)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        names: dict[str, Any] = {}
        exec(compile(code(text), "card", "exec"), names)
    printed = capsys.readouterr().out
    assert printed  # a random language model may have written nothing but special tokens, which are left out
    if kind == "chains":
        scores = Ragged(potentials(names["scores"]).numpy(), np.array([0, 4]))
        assert names["tags"][::-1] == best_tags(scores, np.zeros((3, 3)), np.zeros(3)).tolist()
        assert [word for word, _ in ast.literal_eval(printed)] == list("一段文字")
