"""The model card: ``README.md`` of a run directory, in the Hugging Face form."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from tunesmith.readable import (
    compact,
    count,
    duration,
    is_higher_better,
    judge,
    metric_title,
    number,
    rival_phrase,
    size,
)
from tunesmith.readable import interval as interval_text
from tunesmith.run import usage
from tunesmith.types import Interval

Json = Mapping[str, Any]

SCRATCH_MODELS = ("lstm", "cnn")
"""Models that are built by tunesmith itself: plain transformers cannot load them."""
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_FATES = {
    **dict.fromkeys((usage.TOKENS, usage.MASKED), "read in pieces that do not see each other"),
    usage.CAUSAL: "more than it was trained on",
}
"""Auto class -> what becomes of texts that are too long; others are cut."""
_METHODS = {"full": "full fine-tuning", "freeze": "training of the head and the upper layers only", "lora": "LoRA"}


def model_card(config: Json, training: Json, evaluation: Json | None, environment: Json) -> str:
    """Return the text of ``README.md`` for a finished run.

    Arguments are the contents of ``config.yaml``, ``training.json``, ``evaluation.json``
    (None when nothing was evaluated) and ``environment.json``. Keys may be missing: what is
    not known is left out. Nothing is read from disk.
    """
    parts = [
        _front_matter(config, training, evaluation, environment),
        f"# {_title(config)}",
        _summary(config, training, environment),
        "## How to use\n\n" + _usage(config, training, environment),
        "## Results\n\n" + _results(evaluation),
        "## Training data\n\n" + _data(config, training, environment),
        "## Training\n\n" + _settings(config, training, environment),
        "## Limits\n\n" + _limits(config, training, evaluation),
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


def _auto_class(training: Json) -> str:
    """Return the ``transformers`` auto class of the model, which says more about it than a task's name."""
    return str(training.get("auto_class") or usage.SEQUENCE)


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


def _front_matter(config: Json, training: Json, evaluation: Json | None, environment: Json) -> str:
    method, base = _method(config), _base_model(config, environment)
    library = "tunesmith" if _is_scratch(config) else "peft" if method == "lora" else "transformers"
    fields: dict[str, Any] = {"library_name": library}
    if base and not _is_scratch(config):
        fields["base_model"] = base
        fields["base_model_relation"] = "adapter" if method == "lora" else "finetune"
    kind = usage.PIPELINES.get(_auto_class(training))
    if kind:
        fields["pipeline_tag"] = kind
    title = str((evaluation or {}).get("title") or kind or "")
    words = "-".join(re.findall(r"\w+", title.lower()))
    tags = ["tunesmith", words, method if method != "full" else "full-fine-tuning"]
    fields["tags"] = list(dict.fromkeys(filter(None, tags)))
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


def _summary(config: Json, training: Json, environment: Json) -> str:
    task = _section(config, "task")
    name = "LSTM" if task and _section(config, "model").get("name") == "lstm" else _model_name(config)
    made = (
        "trained from scratch"
        if _is_scratch(config)
        else f"fine-tuned by {_METHODS.get(_method(config), _method(config))}"
    )
    purpose = _purpose(_auto_class(training), task)
    text = f"{_plain(name)}, {made} with tunesmith" + (f"; it {purpose}." if purpose else ".")
    labels = task.get("labels")
    if isinstance(labels, list | tuple) and labels:
        shown = ", ".join(f"“{_plain(label)}”" for label in labels[:20])
        text += f" Labels ({len(labels)}): {shown}" + (", …" if len(labels) > 20 else ".")
    if source := _source(environment):
        text += f"\n\nStarting weights: {_plain(source)}."
    return text


def _purpose(auto_class: str, task: Json) -> str:
    """Return what the model does, as a verb with its object."""
    if auto_class == usage.SEQUENCE:
        if usage.predicts_number(auto_class, task):
            return "predicts a number from a text"
        return "gives a text any number of labels" if task.get("multi_label") is True else "gives a text one label"
    if auto_class == usage.CAUSAL:
        return "goes on with a text" if task.get("form") == "text" else "answers in a conversation"
    return {
        usage.TOKENS: "gives every token of a text a tag",
        usage.MASKED: "restores masked words of a text",
    }.get(auto_class, "")


def _usage(config: Json, training: Json, environment: Json) -> str:
    if _is_scratch(config):
        return usage.use_with_tunesmith()
    auto_class, task = _auto_class(training), _section(config, "task")
    if _method(config) == "lora":
        return usage.use_adapter(auto_class, task, _base_model(config, environment))
    return usage.use_full(auto_class, task)


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
    against = _plain(baseline.get("name") or "baseline")
    head = ["Metric", "This model"] + ([against[:1].upper() + against[1:], "Gain"] if has_baseline else [])
    return "\n\n".join(part for part in (_verdict(evaluation), _table(head, rows), _footnote(evaluation)) if part)


def _verdict(evaluation: Json) -> str:
    main, names = evaluation.get("main_metric"), list(evaluation["metrics"])
    name = str(main) if main in names else names[0]
    gap = _estimate((evaluation.get("difference") or {}).get(name))
    if gap is None:
        return ""
    higher = is_higher_better(name, evaluation.get("higher_is_better"))
    rival = str((evaluation.get("baseline") or {}).get("name") or "a simple model")
    against = rival_phrase(rival)
    against += "" if against == rival else f" ({_plain(rival)})"
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
    left_out = training.get("left_out")
    if isinstance(left_out, Mapping) and left_out:
        reasons = ", ".join(f"{count(number_)} {_plain(what)}" for what, number_ in left_out.items())
        lines.append(f"Rows left out: {reasons}.")
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
    for name in ("train", "compute"):
        values = _section(config, name).items()
        facts += [(f"{name}.{key}", _plain(value)) for key, value in values if isinstance(value, int | float | str)]
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


def _limits(config: Json, training: Json, evaluation: Json | None) -> str:
    lines = [
        "The numbers above hold for rows like the tested ones; on other kinds of text they may be worse.",
        "The model repeats what its training rows and starting weights hold, their errors and prejudices included.",
        "The licences of the starting weights and of the data apply to it too.",
    ]
    auto_class, task = _auto_class(training), _section(config, "task")
    length = _section(config, "model").get("max_length")
    if length:
        lines.insert(1, f"Texts longer than {length} tokens are {_FATES.get(auto_class, 'cut')}.")
    if auto_class == usage.SEQUENCE and task.get("labels"):
        lines.insert(1, "Every text gets its answer from the labels above, whether one fits or not.")
    if auto_class == usage.CAUSAL:
        lines.insert(1, "It writes what is likely after its training; that need not be true.")
    if not evaluation:
        lines.insert(0, "It was not evaluated: nothing is known about how good it is.")
    return "\n".join(f"- {line}" for line in lines)
