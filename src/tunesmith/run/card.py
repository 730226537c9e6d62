"""The model card: ``README.md`` of a run directory, in the Hugging Face form."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from tunesmith.readable import compact, count, duration, is_higher_better, judge, metric_title, number, size
from tunesmith.readable import interval as interval_text
from tunesmith.types import Interval

Json = Mapping[str, Any]

SCRATCH_MODELS = ("lstm", "cnn")
"""Models that are built by tunesmith itself: plain transformers cannot load them."""
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_METHODS = {"full": "full fine-tuning", "freeze": "training of the head and the upper layers only", "lora": "LoRA"}


def model_card(config: Json, training: Json, evaluation: Json | None, environment: Json) -> str:
    """Return the text of ``README.md`` for a finished run.

    Arguments are the contents of ``config.yaml``, ``training.json``, ``evaluation.json``
    (None when nothing was evaluated) and ``environment.json``. Keys may be missing: what is
    not known is left out. Nothing is read from disk.
    """
    parts = [
        _front_matter(config, evaluation, environment),
        f"# {_title(config)}",
        _summary(config, environment),
        "## How to use\n\n" + _usage(config, environment),
        "## Results\n\n" + _results(evaluation),
        "## Training data\n\n" + _data(config, training, environment),
        "## Training\n\n" + _settings(config, training, environment),
        "## Limits\n\n" + _limits(config, evaluation),
    ]
    return "\n\n".join(part.strip() for part in parts) + "\n"


# ---- reading the dicts ---------------------------------------------------------------------------


def _section(config: Json, name: str) -> Json:
    """Return a section of the configuration; a bare name is short for ``{"name": ...}``."""
    value = config.get(name)
    if isinstance(value, Mapping):
        return value
    return {"name": value} if isinstance(value, str) else {}


def _method(config: Json) -> str:
    return str(_section(config, "method").get("name") or "full")


def _is_scratch(config: Json) -> bool:
    return _section(config, "model").get("name") in SCRATCH_MODELS


def _is_regression(config: Json) -> bool:
    return _section(config, "task").get("name") == "regression"


def _is_tagging(config: Json) -> bool:
    return _section(config, "task").get("name") == "token_classification"


def _is_multi_label(config: Json) -> bool:
    return _section(config, "task").get("multi_label") is True


def _base_model(config: Json, environment: Json) -> str | None:
    """Return the hub id of the model that was fine-tuned, where one is known."""
    recorded = environment.get("model")
    known = recorded.get("hub_id") if isinstance(recorded, Mapping) else None
    name = str(known or _section(config, "model").get("name") or "")
    return name if _HUB_ID.fullmatch(name) and ":" not in name else None


def _source(environment: Json) -> str:
    recorded = environment.get("model")
    return str(recorded.get("source") or "") if isinstance(recorded, Mapping) else ""


def _estimate(values: Any) -> Interval | None:
    if not isinstance(values, Mapping):
        return None
    ends = [values.get(key) for key in ("value", "low", "high")]
    value, low, high = (math.nan if end is None else float(end) for end in ends)
    return Interval(value, low, high) if math.isfinite(value) else None


def _plain(text: object) -> str:
    """Return text from outside so that Markdown and HTML show it and do nothing else with it."""
    return re.sub(r"([\\`*_{}\[\]<>#|~!])", r"\\\1", " ".join(str(text).split())).replace("\\<", "&lt;")


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


# ---- the parts -----------------------------------------------------------------------------------


def _front_matter(config: Json, evaluation: Json | None, environment: Json) -> str:
    method, base = _method(config), _base_model(config, environment)
    library = "tunesmith" if _is_scratch(config) else "peft" if method == "lora" else "transformers"
    fields: dict[str, Any] = {"library_name": library}
    if base and not _is_scratch(config):
        fields["base_model"] = base
        fields["base_model_relation"] = "adapter" if method == "lora" else "finetune"
    task = str(_section(config, "task").get("name") or "classification")
    fields["pipeline_tag"] = "token-classification" if _is_tagging(config) else "text-classification"
    kind = "token-classification" if _is_tagging(config) else f"text-{task}"
    tags = ["tunesmith", kind, method if method != "full" else "full-fine-tuning"]
    fields["tags"] = list(dict.fromkeys(tags))
    if evaluation and evaluation.get("metrics"):
        fields["metrics"] = [str(name) for name in evaluation["metrics"]]
    return "---\n" + yaml.safe_dump(fields, sort_keys=False, allow_unicode=True) + "---"


def _model_name(config: Json) -> str:
    name = str(_section(config, "model").get("name") or "model")
    is_path = name.startswith(("/", ".", "~")) or "\\" in name or name.count("/") > 1
    return re.split(r"[/\\]", name.rstrip("/\\"))[-1] if is_path else name


def _data_name(config: Json) -> str:
    path = str(_section(config, "data").get("path") or "")
    return path if path.startswith(("hub:", "sample:")) else re.split(r"[/\\]", path.rstrip("/\\"))[-1]


def _title(config: Json) -> str:
    data = _data_name(config)
    return _plain(_model_name(config)) + (f" fine-tuned on {_plain(data)}" if data else ", fine-tuned")


def _summary(config: Json, environment: Json) -> str:
    task = _section(config, "task")
    name = "LSTM" if task and _section(config, "model").get("name") == "lstm" else _model_name(config)
    made = (
        "trained from scratch"
        if _is_scratch(config)
        else f"fine-tuned by {_METHODS.get(_method(config), _method(config))}"
    )
    if _is_regression(config):
        purpose = "predicts a number from a text"
    elif _is_tagging(config):
        purpose = "gives every token of a text a tag"
    elif _is_multi_label(config):
        purpose = "gives a text any number of labels"
    else:
        purpose = "gives a text one label"
    text = f"{_plain(name)}, {made} with tunesmith; it {purpose}."
    labels = task.get("labels")
    if isinstance(labels, list | tuple) and labels:
        shown = ", ".join(f"“{_plain(label)}”" for label in labels[:20])
        text += f" Labels ({len(labels)}): {shown}" + (", …" if len(labels) > 20 else ".")
    if source := _source(environment):
        text += f"\n\nStarting weights: {_plain(source)}."
    return text


def _usage(config: Json, environment: Json) -> str:
    if _is_scratch(config):
        return "This network is built by tunesmith, which is needed to load it:\n\n" + _code(
            "import tunesmith", "", 'run = tunesmith.Run.open(".")  # this folder', 'print(run.predict(["Your text."]))'
        )
    return _use_adapter(config, environment) if _method(config) == "lora" else _use_full(config)


def _code(*lines: str) -> str:
    return "```python\n" + "\n".join(lines) + "\n```"


def _use_full(config: Json) -> str:
    if _is_tagging(config):
        return _use_tagger()
    options, after = "", ""
    if _is_regression(config):
        options, after = ', function_to_apply="none"', _unscale(config)
    elif _is_multi_label(config):
        options = ', function_to_apply="sigmoid", top_k=None'
        after = f"\nLabels with a score above {_threshold(config)} are predicted."
    intro = "It loads in plain `transformers`; tunesmith is not needed:\n\n"
    code = _code(
        "from transformers import pipeline",
        "",
        f'predict = pipeline("text-classification", model="."{options})  # this folder',
        'print(predict("Your text."))',
    )
    return intro + code + '\n\nOf a pair of texts, give `{"text": ..., "text_pair": ...}`.' + after


def _use_tagger() -> str:
    return "It loads in plain `transformers`; tunesmith is not needed:\n\n" + _code(
        "from transformers import pipeline",
        "",
        'predict = pipeline("token-classification", model=".", aggregation_strategy="first")  # this folder',
        'print(predict("Your text."))',
    )


def _use_adapter(config: Json, environment: Json) -> str:
    labels = _section(config, "task").get("labels")
    names = ["value"] if _is_regression(config) else [str(label) for label in labels or []]
    base = _base_model(config, environment)
    head = {"num_labels": len(names)} if names else {}
    arguments = "".join(f", {key}={value}" for key, value in head.items())
    auto_class = "AutoModelForTokenClassification" if _is_tagging(config) else "AutoModelForSequenceClassification"
    base_line = f"base = {auto_class}.from_pretrained(settings.base_model_name_or_path"
    if _is_regression(config):
        decode = "print(scores[0].item())"
    elif _is_tagging(config):
        decode = "print([labels[k] for k in scores[0].argmax(-1).tolist()])  # a tag for each piece of a word"
    elif _is_multi_label(config):
        decode = f"print([label for label, p in zip(labels, scores.sigmoid()[0].tolist()) if p > {_threshold(config)}])"
    else:
        decode = "print(dict(zip(labels, scores.softmax(-1)[0].tolist())))"
    label_line = [] if _is_regression(config) else [f"labels = {names!r}"]
    code = _code(
        "import torch",
        "from peft import PeftConfig, PeftModel",
        f"from transformers import {auto_class}, AutoTokenizer",
        "",
        'folder = "."  # this folder',
        *label_line,
        "settings = PeftConfig.from_pretrained(folder)",
        f"{base_line}{arguments})",
        "model = PeftModel.from_pretrained(base, folder).eval()",
        "tokenizer = AutoTokenizer.from_pretrained(folder)",
        "with torch.no_grad():",
        '    scores = model(**tokenizer("Your text.", return_tensors="pt", truncation=True)).logits',
        decode,
    )
    where = f"`{base}`" if base else "the starting weights named in `adapter_config.json`"
    after = _unscale(config) if _is_regression(config) else ""
    return f"This folder holds a LoRA adapter of {where}; plain `peft` loads it:\n\n{code}{after}"


def _threshold(config: Json) -> float:
    return float(_section(config, "task").get("threshold") or 0.5)


def _unscale(config: Json) -> str:
    """Say how to get from the model's output to the user's units where targets were standardised."""
    task = _section(config, "task")
    if task.get("standardize") and task.get("mean") is not None and task.get("std") is not None:
        return (
            f"\n\nThe model learned standardised values: multiply its output by {task['std']} and add {task['mean']}."
        )
    return ""


def _results(evaluation: Json | None) -> str:
    if not evaluation or not evaluation.get("metrics"):
        return "Not evaluated."
    baseline = evaluation.get("baseline") or {}
    rival, difference = baseline.get("metrics") or {}, evaluation.get("difference") or {}
    directions = evaluation.get("higher_is_better")
    has_baseline, rows = bool(rival), []
    for name, values in evaluation["metrics"].items():
        estimate = _estimate(values)
        if estimate is None:
            continue
        gap, higher = _estimate(difference.get(name)), is_higher_better(name, directions)
        row = [metric_title(name) + ("" if higher else " (lower is better)"), interval_text(estimate)]
        if has_baseline:
            gain = judge(name, gap, higher_is_better=higher).gain if gap else ""
            row += [interval_text(_estimate(rival.get(name))), gain]
        rows.append(row)
    head = ["Metric", "This model"] + ([_plain(baseline.get("name") or "Baseline"), "Gain"] if has_baseline else [])
    return "\n\n".join(part for part in (_verdict(evaluation), _table(head, rows), _footnote(evaluation)) if part)


def _verdict(evaluation: Json) -> str:
    main, names = evaluation.get("main_metric"), list(evaluation["metrics"])
    name = str(main) if main in names else names[0]
    gap = _estimate((evaluation.get("difference") or {}).get(name))
    if gap is None:
        return ""
    higher = is_higher_better(name, evaluation.get("higher_is_better"))
    against = f"the baseline ({_plain((evaluation.get('baseline') or {}).get('name') or 'a simple model')})"
    verdict = judge(name, gap, against=against, higher_is_better=higher, confidence=_confidence(evaluation))
    return f"{metric_title(name)}: {verdict.sentence[:1].lower()}{verdict.sentence[1:]}"


def _confidence(evaluation: Json) -> float:
    return float(evaluation.get("confidence") or 0.95)


def _footnote(evaluation: Json) -> str:
    split, rows = evaluation.get("split") or "test", evaluation.get("num_rows")
    resamples = evaluation.get("num_resamples")
    text = f"On {count(rows)} {split} rows" if rows else f"On the {split} rows"
    if resamples:
        text += f"; in brackets {_confidence(evaluation):.0%} intervals from {count(resamples)} bootstrap resamples"
    return text + ". A gain whose interval includes 0 is no evidence of a difference."


def _data(config: Json, training: Json, environment: Json) -> str:
    lines = []
    recorded = environment.get("data")
    source = _data_name(config) or (str(recorded.get("source") or "") if isinstance(recorded, Mapping) else "")
    if source:
        lines.append(f"Source: {_plain(source)}.")
    rows = training.get("rows")
    if isinstance(rows, Mapping) and rows:
        lines.append("Rows: " + ", ".join(f"{count(number_)} {split}" for split, number_ in rows.items()) + ".")
    columns = training.get("columns") or []
    if columns:
        lines.append(
            "Columns: " + ", ".join(f"{c.get('role')} from “{_plain(c.get('column'))}”" for c in columns) + "."
        )
    return " ".join(lines) or "Not recorded."


def _settings(config: Json, training: Json, environment: Json) -> str:
    method = _section(config, "method")
    detail = f" (rank {method['rank']})" if _method(config) == "lora" and method.get("rank") else ""
    facts: list[tuple[str, str]] = [("Method", _METHODS.get(_method(config), _plain(_method(config))) + detail)]
    total, trained = training.get("num_parameters"), training.get("num_trained_parameters")
    if trained is not None:
        facts.append(("Trained parameters", compact(trained) + (f" of {compact(total)}" if total else "")))
    for name, key in (("Epochs", "epochs"), ("Steps", "steps"), ("Kept step", "best_step")):
        if training.get(key) is not None:
            facts.append((name, number(training[key], decimals=2 if key == "epochs" else 0)))
    train = _section(config, "train")
    facts += [(f"train.{key}", _plain(value)) for key, value in train.items() if isinstance(value, int | float | str)]
    if environment.get("seed") is not None:
        facts.append(("Seed", str(environment["seed"])))
    for name, key, form in (
        ("Time", "seconds", duration),
        ("Peak memory", "peak_memory_bytes", size),
        ("Saved size", "saved_bytes", size),
    ):
        if training.get(key) is not None:
            facts.append((name, form(training[key])))
    versions = environment.get("versions")
    if isinstance(versions, Mapping) and versions:
        facts.append(("Versions", ", ".join(f"{name} {version}" for name, version in versions.items())))
    return _table(["Setting", "Value"], facts) + "\n\nThe whole configuration is in `config.yaml`."


def _limits(config: Json, evaluation: Json | None) -> str:
    lines = [
        "The numbers above hold for rows like the tested ones; on other kinds of text they may be worse.",
        "The model repeats what its training rows and starting weights hold, their errors and prejudices included.",
        "The licences of the starting weights and of the data apply to it too.",
    ]
    length = _section(config, "model").get("max_length")
    if length:
        cut = "read in pieces that do not see each other" if _is_tagging(config) else "cut"
        lines.insert(1, f"Texts longer than {length} tokens are {cut}.")
    if not _is_regression(config) and not _is_tagging(config):
        lines.insert(1, "Every text gets its answer from the labels above, whether one fits or not.")
    if not evaluation:
        lines.insert(0, "It was not evaluated: nothing is known about how good it is.")
    return "\n".join(f"- {line}" for line in lines)
