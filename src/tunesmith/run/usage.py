"""The code of a model card: how to load a run and predict with it in plain transformers and peft.

What is written follows from the model's auto class and from the task's settings (its labels, several a row or not, a
scale), never from the task's name.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

Json = Mapping[str, Any]

SEQUENCE = "AutoModelForSequenceClassification"
TOKENS = "AutoModelForTokenClassification"
CAUSAL = "AutoModelForCausalLM"
MASKED = "AutoModelForMaskedLM"

PIPELINES = {
    SEQUENCE: "text-classification",
    TOKENS: "token-classification",
    CAUSAL: "text-generation",
    MASKED: "fill-mask",
    "AutoModelForSeq2SeqLM": "text2text-generation",
    "AutoModelForQuestionAnswering": "question-answering",
}
"""The hub's name for what models of an auto class do."""

PLAIN = "It loads in plain `transformers`; tunesmith is not needed:"


def predicts_number(auto_class: str, task: Json) -> bool:
    """Say whether a model of one vector a row has no labels to choose from, but a number."""
    return auto_class == SEQUENCE and bool(task) and not task.get("labels") and not task.get("multi_label")


def use_with_tunesmith() -> str:
    """Return how to use a network that tunesmith alone can build."""
    return "This network is built by tunesmith, which is needed to load it:\n\n" + _code(
        "import tunesmith", "", 'run = tunesmith.Run.open(".")  # this folder', 'print(run.predict(["Your text."]))'
    )


def use_full(auto_class: str, task: Json) -> str:
    """Return how to use a folder that holds the whole model."""
    if auto_class == SEQUENCE:
        return _use_classifier(task)
    if auto_class == TOKENS and not task.get("crf"):
        return f"{PLAIN}\n\n" + _code(
            "from transformers import pipeline",
            "",
            'predict = pipeline("token-classification", model=".", aggregation_strategy="first")  # this folder',
            'print(predict("Your text."))',
        )
    if auto_class == MASKED:
        return f"{PLAIN}\n\n" + _code(
            "from transformers import pipeline",
            "",
            'predict = pipeline("fill-mask", model=".")  # this folder',
            'print(predict(f"Your {predict.tokenizer.mask_token} text."))',
        )
    code = _code(
        *_imports(auto_class),
        f"from transformers import {auto_class}, AutoTokenizer",
        "",
        'folder = "."  # this folder',
        f"model = {auto_class}.from_pretrained(folder).eval()",
        "tokenizer = AutoTokenizer.from_pretrained(folder)",
        *_predict(auto_class, task),
    )
    return f"{PLAIN}\n\n{code}"


def use_adapter(auto_class: str, task: Json, base_model: str | None) -> str:
    """Return how to use a folder that holds a LoRA adapter."""
    num_outputs = _num_outputs(auto_class, task)
    arguments = f", num_labels={num_outputs}" if num_outputs else ""
    code = _code(
        *_imports(auto_class),
        "from peft import PeftConfig, PeftModel",
        f"from transformers import {auto_class}, AutoTokenizer",
        "",
        'folder = "."  # this folder',
        "settings = PeftConfig.from_pretrained(folder)",
        f"base = {auto_class}.from_pretrained(settings.base_model_name_or_path{arguments})",
        "model = PeftModel.from_pretrained(base, folder).eval()",
        "tokenizer = AutoTokenizer.from_pretrained(folder)",
        *_predict(auto_class, task),
    )
    where = f"`{base_model}`" if base_model else "the starting weights named in `adapter_config.json`"
    after = _unscale(task) if predicts_number(auto_class, task) else ""
    return f"This folder holds a LoRA adapter of {where}; plain `peft` loads it:\n\n{code}{after}"


def _code(*lines: str) -> str:
    return "```python\n" + "\n".join(lines) + "\n```"


def _imports(auto_class: str) -> list[str]:
    return [] if auto_class == CAUSAL else ["import torch"]


def _labels(task: Json) -> list[str]:
    return [str(label) for label in task.get("labels") or []]


def _num_outputs(auto_class: str, task: Json) -> int:
    """Return how many scores the head gives; 0 where that is the base model's own affair."""
    if auto_class not in (SEQUENCE, TOKENS):
        return 0
    num_labels = len(_labels(task)) or 1
    return num_labels * (num_labels + 2) if task.get("crf") else num_labels


def _use_classifier(task: Json) -> str:
    options, after = "", ""
    if predicts_number(SEQUENCE, task):
        options, after = ', function_to_apply="none"', _unscale(task)
    elif task.get("multi_label"):
        options = ', function_to_apply="sigmoid", top_k=None'
        after = f"\nLabels with a score above {_threshold(task)} are predicted."
    code = _code(
        "from transformers import pipeline",
        "",
        f'predict = pipeline("text-classification", model="."{options})  # this folder',
        'print(predict("Your text."))',
    )
    return f"{PLAIN}\n\n{code}" + '\n\nOf a pair of texts, give `{"text": ..., "text_pair": ...}`.' + after


def _predict(auto_class: str, task: Json) -> Sequence[str]:
    """Return the lines that predict with ``model`` and ``tokenizer``."""
    if auto_class == CAUSAL:
        return _write(task)
    if auto_class == MASKED:
        return (
            'inputs = tokenizer(f"Your {tokenizer.mask_token} text.", return_tensors="pt")',
            "place = inputs.input_ids[0].tolist().index(tokenizer.mask_token_id)",
            "with torch.no_grad():",
            "    scores = model(**inputs).logits[0, place]",
            "print([tokenizer.decode([k]) for k in scores.topk(5).indices.tolist()])",
        )
    if auto_class == TOKENS and task.get("crf"):
        return _follow_chain(task)
    labels = [] if predicts_number(auto_class, task) else [f"labels = {_labels(task)!r}"]
    return (
        *labels,
        "with torch.no_grad():",
        '    scores = model(**tokenizer("Your text.", return_tensors="pt", truncation=True)).logits',
        _decode(auto_class, task),
    )


def _decode(auto_class: str, task: Json) -> str:
    if predicts_number(auto_class, task):
        return "print(scores[0].item())"
    if auto_class == TOKENS:
        return "print([labels[k] for k in scores[0].argmax(-1).tolist()])  # a tag for each piece of a word"
    if task.get("multi_label"):
        return f"print([label for label, p in zip(labels, scores.sigmoid()[0].tolist()) if p > {_threshold(task)}])"
    return "print(dict(zip(labels, scores.softmax(-1)[0].tolist())))"


def _write(task: Json) -> Sequence[str]:
    """Return the lines that have an answer written, or a text gone on with."""
    if task.get("form") == "text":
        inputs: list[str] = ['inputs = tokenizer("The beginning of a text", return_tensors="pt")']
    else:
        messages = [{"role": "system", "content": str(task["system"])}] if task.get("system") else []
        messages.append({"role": "user", "content": "Your question."})
        more = "".join(f", {name}={value!r}" for name, value in (task.get("template_arguments") or {}).items())
        inputs = [
            f"messages = {json.dumps(messages, ensure_ascii=False)}",
            "inputs = tokenizer.apply_chat_template(",
            f'    messages, add_generation_prompt=True, return_dict=True, return_tensors="pt"{more}',
            ")",
        ]
    return (
        *inputs,
        "written = model.generate(**inputs, max_new_tokens=256, do_sample=False)",
        "print(tokenizer.decode(written[0, inputs.input_ids.shape[1] :], skip_special_tokens=True))",
    )


def _follow_chain(task: Json) -> Sequence[str]:
    """Return the lines that find the likeliest sequence of tags: the Viterbi algorithm."""
    words = 'list("一段文字")' if task.get("split") == "character" else '"Your text .".split()'
    return (
        f"labels = {_labels(task)!r}",
        f"words = {words}",
        'inputs = tokenizer(words, is_split_into_words=True, return_tensors="pt", truncation=True)',
        "places = inputs.word_ids()",
        "first = [places.index(k) for k in range(len(words)) if k in places]  # the first piece of each word",
        "with torch.no_grad():",
        "    scores = model(**inputs).logits[0, first]",
        "n = len(labels)  # the head scores each tag, and each tag after each tag (the last n: at the beginning)",
        "pairs = scores[:, None, :n] + scores[:, n:].view(-1, n + 1, n)",
        "best, came_from = pairs[0, n], []",
        "for step in pairs[1:, :n]:",
        "    best, before = (best[:, None] + step).max(0)",
        "    came_from.append(before)",
        "tags = [int(best.argmax())]",
        "for before in reversed(came_from):",
        "    tags.append(int(before[tags[-1]]))",
        "print(list(zip(words, [labels[k] for k in reversed(tags)])))",
    )


def _threshold(task: Json) -> float:
    return float(task.get("threshold") or 0.5)


def _unscale(task: Json) -> str:
    """Say how to get from the model's output to the user's units where targets were standardised."""
    if task.get("standardize") and task.get("mean") is not None and task.get("std") is not None:
        return (
            f"\n\nThe model learned standardised values: multiply its output by {task['std']} and add {task['mean']}."
        )
    return ""
