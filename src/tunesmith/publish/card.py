"""The model card: ``README.md`` of a run directory, in the Hugging Face form."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import yaml

from tunesmith.methods.base import Method
from tunesmith.publish.usage import Parts, usage, use_with_tunesmith
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
from tunesmith.tasks.card import TaskCard
from tunesmith.types import Interval

Json = Mapping[str, Any]

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def model_card(
    parts: Parts,
    config: Json,
    training: Json,
    evaluation: Json | None,
    environment: Json,
    *,
    loaded_as: Method | None = None,
) -> str:
    """Return the text of ``README.md`` for a finished run.

    The last four are the contents of ``config.yaml``, ``training.json``, ``evaluation.json``
    (None when nothing was evaluated) and ``environment.json``. Keys may be missing: what is
    not known is left out. Nothing is read from disk. ``loaded_as`` is the method whose result the folder holds
    instead, where what was trained was made into it: an adapter that was added to its base is a whole model.
    """
    base = _base_model(config, environment)
    loaded = parts if loaded_as is None else replace(parts, method=loaded_as)
    paragraphs = [
        _front_matter(parts, base, evaluation, loaded.method),
        f"# {_title(config)}",
        _summary(parts, config, environment),
        _made_of(training),
        _taught_by(config, environment),
        "" if loaded_as is None else "What was trained was added to the starting weights: this is the whole model.",
        "## How to use\n\n" + usage(loaded, base),
        "## Results\n\n" + _results(evaluation),
        "## Training data\n\n" + _data(config, training, environment),
        "## Training\n\n" + _settings(parts.method, config, training, environment),
        _privacy(training),
        "## Limits\n\n" + _limits(parts.task, config, evaluation),
    ]
    return "\n\n".join(paragraph.strip() for paragraph in paragraphs if paragraph) + "\n"


def ensemble_card(task: TaskCard, config: Json, training: Json, evaluation: Json | None, environment: Json) -> str:
    """Return the text of ``README.md`` for several runs that answer together; the arguments are as for a run."""
    made = training.get("made_of") or {}
    members = made.get("members") or []
    data = _data_name(config)
    fields = {"library_name": "tunesmith", "tags": ["tunesmith", "ensemble"]}
    text = f"{len(members)} runs that answer together" + (f"; the whole {task.purpose}." if task.purpose else ".")
    paragraphs = [
        "---\n" + yaml.safe_dump(fields, sort_keys=False) + "---",
        f"# An ensemble of {len(members)} runs" + (f" on {_plain(data)}" if data else ""),
        text,
        _made_of(training),
        "## How to use\n\n" + use_with_tunesmith(),
        "## Results\n\n" + _results(evaluation),
        "## Training data\n\n" + _data(config, training, environment),
        "## Limits\n\n" + _limits(task, config, evaluation),
    ]
    return "\n\n".join(paragraph.strip() for paragraph in paragraphs if paragraph) + "\n"


# ---- reading the dicts ---------------------------------------------------------------------------


def _section(config: Json, name: str) -> Json:
    """Return a section of the configuration; a bare name is short for ``{"name": ...}``."""
    value = config.get(name)
    if isinstance(value, Mapping):
        return value
    return {"name": value} if isinstance(value, str) else {}


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


def _front_matter(parts: Parts, base: str | None, evaluation: Json | None, loaded: Method) -> str:
    method, tag = parts.method, parts.task.pipeline_tag
    loading = loaded.loading_code(parts.head.auto_class, parts.head.num_outputs)
    library = "tunesmith" if not parts.model.is_plain or loading is None else loading.library
    fields: dict[str, Any] = {"library_name": library}
    if base and not parts.model.from_scratch:
        fields["base_model"] = base
        fields["base_model_relation"] = "adapter" if loaded.needs_base else "finetune"
    if tag:
        fields["pipeline_tag"] = tag
    words = "-".join(re.findall(r"\w+", str((evaluation or {}).get("title") or tag).lower()))
    tags = ["tunesmith", words, "full-fine-tuning" if method.trains_everything else method.name]
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


def _summary(parts: Parts, config: Json, environment: Json) -> str:
    task, method = parts.task, parts.method
    made = "trained from scratch" if parts.model.from_scratch else f"fine-tuned by {method.title or method.name}"
    text = f"{_plain(parts.model.title or _model_name(config))}, {made} with tunesmith"
    text += f"; it {task.purpose}." if task.purpose else "."
    if labels := task.labels:
        shown = ", ".join(f"“{_plain(label)}”" for label in labels[:20])
        text += f" Labels ({len(labels)}): {shown}" + (", …" if len(labels) > 20 else ".")
    if source := _source(environment):
        text += f"\n\nStarting weights: {_plain(source)}."
    return text


_COMBINED = {
    "average": "what they answer, averaged",
    "stack": "what they answer, weighed by a small model on top",
    "soup": "the mean of their weights",
    "linear": "the mean of what they changed",
    "ties": "what they changed, where they agree (TIES)",
    "dare": "a random part of what they changed (DARE)",
}


def _made_of(training: Json) -> str:
    """Say which runs something was made of; nothing of a run that was trained."""
    made = training.get("made_of")
    if not isinstance(made, Mapping):
        return ""
    how = _COMBINED.get(str(made.get("how")), str(made.get("how")))
    weights = made.get("weights") or []
    rows = [
        [_plain(member.get("name")), f"{weight:.3f}", f"`{str(member.get('sha256'))[:12]}`"]
        for member, weight in zip(made.get("members") or [], weights, strict=False)
    ]
    return f"Made of {len(rows)} runs: {how} (weights: {_plain(made.get('weighted_by'))}).\n\n" + _table(
        ["Run", "Weight", "SHA-256 of its manifest"], rows
    )


def _taught_by(config: Json, environment: Json) -> str:
    """Say whom the model learned from besides the labels."""
    settings, teacher = _section(config, "teacher"), environment.get("teacher")
    if not isinstance(teacher, Mapping) or not settings:
        return ""
    return (
        f"It learned from a teacher besides the labels: {_plain(teacher.get('title'))} (the SHA-256 of its manifest "
        f"begins with `{str(teacher.get('sha256'))[:12]}`), which had {float(settings.get('mix') or 0):.0%} of the "
        f"loss, at temperature {settings.get('temperature')}."
    )


def _beside(evaluation: Json) -> str:
    """Return a table of others on the same rows: a teacher, the members of an ensemble."""
    others, name = evaluation.get("beside") or [], str(evaluation.get("main_metric"))
    if not others or name not in evaluation["metrics"]:
        return ""
    higher = is_higher_better(name, evaluation.get("higher_is_better"))
    rows = []
    for other in others:
        gap = _estimate((other.get("difference") or {}).get(name))
        gain = judge(name, gap, higher_is_better=higher).gain if gap else ""
        rows.append([_plain(other.get("name")), interval_text(_estimate((other.get("metrics") or {}).get(name))), gain])
    return _table(["Beside it", metric_title(name), "Gain of this model"], rows)


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
    return "\n\n".join(
        part for part in (_verdict(evaluation), _table(head, rows), _beside(evaluation), _footnote(evaluation)) if part
    )


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


def _settings(method: Method, config: Json, training: Json, environment: Json) -> str:
    detail = f" ({method.detail})" if method.detail else ""
    facts: list[tuple[str, str]] = [("Method", (method.title or method.name) + detail)]
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


def _privacy(training: Json) -> str:
    """Say what was promised to those whose rows were trained on, and what was planted; nothing where neither was."""
    found = training.get("privacy")
    if not isinstance(found, Mapping):
        return ""
    said = []
    if found.get("epsilon") is not None:
        said.append(
            f"Trained with differential privacy (DP-SGD): every {_unit(found)} of the training data is "
            f"protected by epsilon = {float(found['epsilon']):.3g} at delta = {float(found.get('delta') or 0):.2g}, "
            f"counted by the {_plain(found.get('accountant'))} accountant over {count(found.get('steps'))} steps. "
            "What the promise covers are the weights; not the names of labels, nor the figures above."
        )
    if found.get("canaries"):
        said.append(
            f"{count(found['canaries'])} made-up rows with secrets are among the training rows, to measure what is "
            "learned by heart: the model is not for use."
        )
    return "## Privacy\n\n" + " ".join(said)


def _unit(found: Json) -> str:
    if found.get("unit") != "group":
        return _plain(found.get("unit"))
    return f"group of rows ({count(found.get('groups'))} by the column {_plain(found.get('group'))})"


def _limits(task: TaskCard, config: Json, evaluation: Json | None) -> str:
    lines = [
        "The numbers above hold for rows like the tested ones; on other kinds of text they may be worse.",
        "The model repeats what its training rows and starting weights hold, their errors and prejudices included.",
        "The licences of the starting weights and of the data apply to it too.",
    ]
    length = _section(config, "model").get("max_length")
    if length:
        lines.insert(1, f"Texts longer than {length} tokens are {task.too_long}.")
    lines[1:1] = task.limits
    if not evaluation:
        lines.insert(0, "It was not evaluated: nothing is known about how good it is.")
    return "\n".join(f"- {line}" for line in lines)
