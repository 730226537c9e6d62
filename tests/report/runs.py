"""Writes realistic run directories for the tests of the report, with numpy and nothing of tunesmith.

``python tests/report/runs.py FOLDER`` writes all of them, to look at the page by eye.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import yaml

HOSTILE = '<script>alert("x")</script><img src=x onerror=alert(1)> </textarea></style>'
TEXTS = [
    "An utterly compelling film that never once lets go of its audience; the last half hour alone is worth the price.",
    "这部电影的节奏太慢了，但是演员的表演让人难忘。结尾出乎意料，值得一看。",
    HOSTILE,
    "Not bad — but not good either.\nTwo hours that feel like four, and a soundtrack that will not leave one alone.",
    "服务态度很好, but the food arrived cold & the bill was wrong.",
]
EMOTIONS = ["anger", "fear", "joy", "love", "sadness", "surprise"]


def _estimate(value: float, half: float) -> dict[str, float]:
    return {"value": round(value, 6), "low": round(value - half, 6), "high": round(value + half * 0.94, 6)}


def _confusion(labels: int, rows: int, accuracy: float, generator: np.random.Generator) -> np.ndarray:
    support = generator.multinomial(rows, generator.dirichlet(np.full(labels, 8.0)))
    matrix = np.zeros((labels, labels), dtype=int)
    for i in range(labels):
        wrong = generator.dirichlet(np.full(labels - 1, 0.35)) * (1 - accuracy)
        matrix[i] = generator.multinomial(support[i], np.insert(wrong, i, accuracy))
    return matrix


def _curves(names: list[str], generator: np.random.Generator, strength: float) -> dict[str, Any]:
    roc, precision_recall = [], []
    for name in names:
        power = strength + generator.uniform(-1.5, 3)
        rate = np.linspace(0, 1, 120) ** 2
        recall = np.linspace(0, 1, 120)
        roc.append(
            {
                "label": name,
                "points": np.stack([rate, rate ** (1 / power)], 1).round(4).tolist(),
                "area": power / (power + 1),
            }
        )
        precision = 1 - 0.55 * recall ** (power * 1.5)
        precision_recall.append(
            {
                "label": name,
                "points": np.stack([recall, precision], 1).round(4).tolist(),
                "area": float(precision.mean()),
            }
        )
    bins = [
        {
            "low": low / 10,
            "high": (low + 1) / 10,
            "confidence": low / 10 + 0.055,
            "accuracy": min(1.0, max(0.0, low / 10 + 0.02 - 0.05 * (low > 6))),
            "count": int(4 * 2 ** (low - 4) + 3),
        }
        for low in range(4, 10)
    ]
    return {"roc": roc, "precision_recall": precision_recall, "calibration": bins}


def _mistakes(labels: list[str], multi: bool = False) -> list[dict[str, Any]]:
    return [
        {
            "row": f"reviews.csv:{17 + 31 * i}",
            "text": TEXTS[i % len(TEXTS)],
            "text_pair": "Is it good?" if i == 3 else None,
            "label": [labels[0], labels[-1]] if multi else labels[i % len(labels)],
            "prediction": [] if multi else labels[(i + 1) % len(labels)],
            "score": 0.991 - 0.013 * i,
        }
        for i in range(8)
    ]


def evaluation_of(
    labels: list[str],
    *,
    accuracy: float = 0.853,
    rows: int = 1280,
    seed: int = 0,
    gain: float = 0.081,
    half_gain: float = 0.019,
    multi: bool = False,
) -> dict[str, Any]:
    """Return an ``evaluation.json`` of a classification."""
    generator = np.random.default_rng(seed)
    matrix = _confusion(len(labels), rows, accuracy, generator)
    half = 1.96 * (accuracy * (1 - accuracy) / rows) ** 0.5
    names = (
        {"micro_f1": 0.0, "macro_f1": -0.03, "accuracy": -0.2}
        if multi
        else {"accuracy": 0.0, "macro_f1": -0.004, "macro_precision": -0.002, "macro_recall": -0.006, "roc_auc": 0.075}
    )
    metrics = {name: _estimate(accuracy + shift, half) for name, shift in names.items()}
    metrics |= {"log_loss": _estimate(0.347, 0.025), "expected_calibration_error": _estimate(0.031, 0.009)}
    better = {"log_loss": 0.11, "expected_calibration_error": -0.012}
    per_label = []
    for i, label in enumerate(labels):
        f1 = min(0.99, max(0.05, accuracy + generator.normal(0, 0.07)))
        per_label.append(
            {
                "label": label,
                "precision": _estimate(f1 + 0.01, 0.04),
                "recall": _estimate(f1 - 0.01, 0.05),
                "f1": _estimate(f1, min(0.045, f1)),
                "support": int(matrix[i].sum()),
            }
        )
    drawn = [labels[1]] if len(labels) == 2 else [*labels, "micro-average"] if len(labels) <= 12 else ["micro-average"]
    result: dict[str, Any] = {
        "task": "classification",
        "title": "Text classification",
        "split": "test",
        "num_rows": rows,
        "confidence": 0.95,
        "num_resamples": 1000,
        "metrics": metrics,
        "labels": labels,
        "confusion_matrix": matrix.tolist(),
        "per_label": per_label,
        "curves": _curves(drawn, generator, 7),
        "mistakes": _mistakes(labels, multi),
        "baseline": {
            "name": "TF-IDF + logistic regression",
            "seconds": 1.24,
            "num_parameters": 20480,
            "metrics": {
                name: _estimate(e["value"] - gain if name not in better else e["value"] + better[name], half)
                for name, e in metrics.items()
            },
        },
        "difference": {name: _estimate(gain if name not in better else -better[name], half_gain) for name in metrics},
    }
    if multi:
        del result["confusion_matrix"]
    return result


def regression_evaluation(rows: int = 1379) -> dict[str, Any]:
    """Return an ``evaluation.json`` of a regression."""
    generator = np.random.default_rng(3)
    truth = generator.choice(np.arange(0, 5.01, 0.2), rows)
    predicted = np.clip(truth + generator.normal(0.08, 0.55, rows), -0.3, 5.4)
    residuals = predicted - truth
    counts, edges = np.histogram(residuals, bins=40)
    metrics = {
        "rmse": _estimate(0.561, 0.022),
        "mae": _estimate(0.438, 0.018),
        "r2": _estimate(0.86, 0.012),
        "pearson": _estimate(0.929, 0.006),
        "spearman": _estimate(0.921, 0.008),
    }
    shift = {"rmse": 0.61, "mae": 0.5, "r2": -0.5, "pearson": -0.4, "spearman": -0.38}
    worst = np.argsort(-np.abs(residuals))[:6]
    return {
        "task": "regression",
        "title": "Text regression",
        "split": "test",
        "num_rows": rows,
        "confidence": 0.95,
        "num_resamples": 1000,
        "metrics": metrics,
        "scatter": np.stack([truth, predicted], 1).tolist(),
        "residuals": {"edges": edges.tolist(), "counts": counts.tolist()},
        "mistakes": [
            {
                "row": f"sts.tsv:{i}",
                "text": TEXTS[n % len(TEXTS)],
                "text_pair": "A man is playing a guitar.",
                "label": float(truth[i]),
                "prediction": float(predicted[i]),
                "error": float(residuals[i]),
            }
            for n, i in enumerate(worst)
        ],
        "baseline": {
            "name": "TF-IDF + ridge regression",
            "seconds": 0.4,
            "num_parameters": 9000,
            "metrics": {n: _estimate(e["value"] + shift[n], 0.03) for n, e in metrics.items()},
        },
        "difference": {n: _estimate(-shift[n], 0.03) for n in metrics},
    }


def _span(text: str, piece: str, label: str) -> dict[str, Any]:
    start = text.index(piece)
    return {"text": piece, "label": label, "start": start, "end": start + len(piece)}


def _tag_mistakes() -> list[dict[str, Any]]:
    one = "Empire State Building lit up for Beyoncé tonight, says @nypost <b>"
    two = "昨天在北京大学见到了李明和他的同事"
    three = "Alice met Bob, Carl, Dora, Emil, Fay, Gus and Heidi in Rome"
    people = [_span(three, name, "person") for name in ("Alice", "Bob", "Carl", "Dora", "Emil", "Fay", "Gus")]
    return [
        {
            "row": "test.conll:17",
            "text": one,
            "text_pair": None,
            "label": [_span(one, "Empire State Building", "location"), _span(one, "Beyoncé", "person")],
            "prediction": [_span(one, "Empire State", "location"), _span(one, "Beyoncé", "person")],
            "score": 0.98,
        },
        {
            "row": "test.conll:88",
            "text": two,
            "text_pair": None,
            "label": [_span(two, "北京大学", "group"), _span(two, "李明", "person")],
            "prediction": [_span(two, "北京", "location"), _span(two, "李明", "product")],
            "score": 0.91,
        },
        {
            "row": "test.conll:121",
            "text": three,
            "text_pair": None,
            "label": [*people, _span(three, "Heidi", "person"), _span(three, "Rome", "location")],
            "prediction": [*people, _span(three, "Rome", "location")],
            "score": 0.86,
        },
        {"row": "test.conll:140", "text": "so tired", "label": [], "prediction": [_span("so tired", "so", "group")]},
    ]


def entity_evaluation(kinds: int = 6, rows: int = 1287) -> dict[str, Any]:
    """Return an ``evaluation.json`` of a token classification with named entities."""
    labels = ["corporation", "creative-work", "group", "location", "person", "product"][:kinds]
    labels += [f"type {i}" for i in range(len(labels), kinds)]
    generator = np.random.default_rng(8)
    matrix = np.zeros((kinds + 1, kinds + 1), dtype=int)
    matrix[:kinds, :kinds] = generator.poisson(3, (kinds, kinds)) + np.diag(generator.poisson(60, kinds))
    matrix[:kinds, kinds] = generator.poisson(55, kinds)
    matrix[kinds, :kinds] = generator.poisson(18, kinds)
    metrics = {"micro_f1": 0.466, "micro_precision": 0.575, "micro_recall": 0.392, "macro_f1": 0.36, "accuracy": 0.953}
    return {
        "task": "token_classification",
        "title": "Token classification",
        "split": "test",
        "num_rows": rows,
        "confidence": 0.95,
        "num_resamples": 1000,
        "main_metric": "micro_f1",
        "metrics": {name: _estimate(value, 0.03) for name, value in metrics.items()},
        "counted": "entities",
        "unmatched": "no entity",
        "labels": [*labels, "no entity"],
        "confusion_matrix": matrix.tolist(),
        "per_label": [
            {
                "label": label,
                "support": int(matrix[i].sum()),
                **{name: _estimate(0.3 + 0.04 * (i % 6), 0.05) for name in ("precision", "recall", "f1")},
            }
            for i, label in enumerate(labels)
        ],
        "mistakes": _tag_mistakes(),
    }


def word_evaluation() -> dict[str, Any]:
    """Return an ``evaluation.json`` of a token classification with parts of speech."""
    labels = ["ADJ", "NOUN", "VERB"]
    text = "The quick brown fox jumps over it"
    tags = ["ADJ", "ADJ", "ADJ", "NOUN", "VERB", "ADJ", "NOUN"]
    words = [_span(text, word, tag) for word, tag in zip(text.split(), tags, strict=True)]
    wrong = [*words[:3], words[3] | {"label": "VERB"}, *words[4:]]
    found = entity_evaluation(3) | {"counted": "tokens", "labels": labels}
    found["confusion_matrix"] = [row[:3] for row in found["confusion_matrix"][:3]]
    found["per_label"] = [row | {"label": label} for row, label in zip(found["per_label"], labels, strict=True)]
    found["mistakes"] = [{"row": "pos.conll:4", "text": text, "label": words, "prediction": wrong, "score": 0.7}]
    del found["unmatched"]
    return found


CODE = """Use a dictionary that remembers the order:

```python
def unique(items):
    return list(dict.fromkeys(items))  # "<b>" & 'x'
```

It keeps the first of equal items."""


def _answers() -> list[dict[str, Any]]:
    long = "\n".join(f"{i}. 第{i}步：把数据分成训练、验证和测试三部分，然后检查有没有重复。" for i in range(1, 60))
    return [
        {
            "row": "chat.jsonl:3",
            "prompt": "How do I remove duplicates from a list and keep its order?",
            "reference": CODE,
            "before": "You can remove duplicates. You can remove duplicates. You can remove duplicates.",
            "after": CODE,
        },
        {
            "row": "chat.jsonl:9",
            "prompt": "请用中文说明如何准备微调的数据。",
            "reference": "先去重，再划分。",
            "before": "",
            "after": long,
        },
        {"row": "chat.jsonl:12", "prompt": HOSTILE, "reference": "```", "before": HOSTILE, "after": f"```\n{HOSTILE}"},
        {"row": "chat.jsonl:15", "prompt": "مرحبا، كيف حالك؟", "reference": "", "before": None, "after": "بخير"},
    ]


def _language_evaluation(task: str, title: str, metrics: dict[str, float], before: dict[str, float]) -> dict[str, Any]:
    widths = {name: 0.03 * value for name, value in metrics.items()}
    return {
        "task": task,
        "title": title,
        "split": "test",
        "num_rows": 500,
        "confidence": 0.95,
        "num_resamples": 1000,
        "main_metric": next(iter(metrics)),
        "metrics": {name: _estimate(value, widths[name]) for name, value in metrics.items()},
        "higher_is_better": {
            name: name not in ("perplexity", "pseudo_perplexity", "bits_per_byte") for name in metrics
        },
        "mistakes": [
            {
                "row": f"chat.jsonl:{40 + i}",
                "text": text,
                "text_pair": None,
                "perplexity": 164.0 / (i + 1),
                **({"label": "A reference.", "prediction": "An answer."} if i == 1 else {}),
            }
            for i, text in enumerate(TEXTS)
        ],
        "baseline": {
            "name": "before fine-tuning",
            "metrics": {name: _estimate(value, 0.03 * value) for name, value in before.items()},
            "seconds": None,
            "num_parameters": None,
            "num_rows": None,
        },
        "difference": {name: _estimate(metrics[name] - before[name], widths[name]) for name in before},
    }


def chat_evaluation() -> dict[str, Any]:
    """Return an ``evaluation.json`` of a chat model, judged against itself before fine-tuning."""
    metrics = {"perplexity": 4.37, "token_accuracy": 0.681, "bits_per_byte": 0.612}
    metrics |= {"exact_match": 0.12, "rouge_l": 0.412, "chrf": 43.1, "bleu": 21.7}
    before = {"perplexity": 11.83, "token_accuracy": 0.522, "bits_per_byte": 1.02}
    before |= {"exact_match": 0.004, "rouge_l": 0.281, "chrf": 30.2, "bleu": 9.9}
    return _language_evaluation("causal_lm", "Language modelling", metrics, before) | {"answers": _answers()}


def passage_evaluation() -> dict[str, Any]:
    """Return an ``evaluation.json`` of a masked language model."""
    metrics, before = (
        {"pseudo_perplexity": 7.2, "token_accuracy": 0.61},
        {"pseudo_perplexity": 7.3, "token_accuracy": 0.6},
    )
    return _language_evaluation("masked_lm", "Masked language modelling", metrics, before)


def perplexity_lines() -> list[dict[str, Any]]:
    """Return the lines of a ``metrics.jsonl`` whose validation has a perplexity."""
    lines = metrics_lines()
    for line in lines:
        if line["kind"] == "evaluation":
            line["metrics"] = {
                "perplexity": 4 + 9 * np.exp(-line["step"] / 90),
                "token_accuracy": 0.6,
                "bits_per_byte": 0.7,
            }
    return lines


def training_of(method: str = "lora", seconds: float = 92.4, status: str = "finished") -> dict[str, Any]:
    """Return a ``training.json``."""
    trained = {"lora": 737_858, "full": 22_713_986, "freeze": 148_610}[method]
    return {
        "status": status,
        "steps": 360,
        "epochs": 3.0,
        "best_step": 240,
        "best_metric": {"name": "accuracy", "value": 0.861},
        "num_parameters": 22_713_986 + (trained if method == "lora" else 0),
        "num_trained_parameters": trained,
        "seconds": seconds,
        "tokens": 1_204_344,
        "tokens_per_second": 13034.2,
        "rows_per_second": 332.7,
        "peak_memory_bytes": 1_234_567_890 if method != "full" else 2_469_135_780,
        "predicted": {"seconds": 88.0, "peak_memory": 1_300_000_000, "steps": 1_600, "how": "after step 9"},
        "saved_bytes": trained * 4,
        "layout": "flat",
        "precision": "bf16",
        "rows": {"train": 10_240, "validation": 1_280, "test": 1_280},
        "problems": [
            {
                "severity": "warning",
                "message": "12 rows occur in both train and test.",
                "count": 12,
                "fix": "Set data.clean.leaks to drop, or remove the rows.",
                "rows": [f"reviews.csv:{i}" for i in (4, 9, 77, 80, 91)],
            },
            {
                "severity": "note",
                "message": "3 duplicate rows were dropped.",
                "fix": "",
                "count": 3,
                "rows": ["reviews.csv:2"],
            },
        ],
        "columns": [
            {"role": "text", "column": "review_body", "reason": "the only column of free text (23 words a row)"},
            {"role": "label", "column": "评价<b>", "reason": "2 distinct values; its name is a usual one for labels"},
        ],
    }


def environment_of(test_hash: str = "3f" * 32) -> dict[str, Any]:
    """Return an ``environment.json``."""
    return {
        "versions": {"tunesmith": "0.1.0", "python": "3.11.9", "torch": "2.13.0+cpu", "transformers": "5.23.0"},
        "machine": {
            "processor": "AMD EPYC 7763 64-Core Processor",
            "num_cores": 2,
            "memory_bytes": 16_700_000_000,
            "accelerator": None,
            "instructions": ["avx2", "avx512f"],
        },
        "seed": 0,
        "data": {"source": "reviews.csv", "hashes": {"train": "ab" * 32, "test": test_hash}},
        "model": {"source": "sample:minilm (package mini==1.0, sha256 " + "cd" * 32 + ")"},
        "git": {"commit": "0123456789abcdef0123456789abcdef01234567", "dirty": True},
        "started": "2026-01-05T10:00:00+00:00",
        "finished": "2026-01-05T10:01:38+00:00",
    }


def config_of(method: str = "lora", task: str = "classification", **more: Any) -> dict[str, Any]:
    """Return the mapping of a ``config.yaml``."""
    methods = {
        "lora": {"name": "lora", "rank": 16, "alpha": 32},
        "full": {"name": "full"},
        "freeze": {"name": "freeze"},
    }
    return {
        "model": {"name": "sample:minilm", "max_length": 256},
        "data": {"path": "data/reviews.csv", "split_seed": 0},
        "task": {"name": task, **more},
        "method": methods[method],
        "output": "runs/reviews",
        "train": {"epochs": 3, "learning_rate": 0.0004 if method == "lora" else 0.00002, "batch_rows": 32},
    }


def metrics_lines(
    num_steps: int = 360, *, level: float = 0.34, checks: bool = True, seed: int = 1
) -> list[dict[str, Any]]:
    """Return the lines of a ``metrics.jsonl``."""
    generator = np.random.default_rng(seed)
    lines: list[dict[str, Any]] = []
    for step in range(1, num_steps + 1):
        loss = level + 0.35 * np.exp(-step / 60) + generator.normal(0, 0.045)
        rate = 4e-4 * min(step / 36, (num_steps - step) / max(num_steps - 36, 1))
        skipped = "loss is nan" if step == 150 else ""
        lines.append(
            {
                "kind": "step",
                "step": step,
                "epoch": step / 120,
                "loss": None if skipped else float(loss),
                "learning_rate": rate,
                "gradient_norm": float(1.2 + generator.gamma(2, 0.4)),
                "num_rows": 32,
                "num_tokens": 870,
                "seconds": 0.21,
                "skipped": skipped,
            }
        )
        if checks and step % 60 == 0:
            quality = 0.853 - 0.2 * np.exp(-step / 70)
            lines.append(
                {
                    "kind": "evaluation",
                    "step": step,
                    "epoch": step / 120,
                    "split": "validation",
                    "loss": float(level + 0.03 + 0.2 * np.exp(-step / 60)),
                    "metrics": {
                        "accuracy": quality,
                        "macro_f1": quality - 0.01,
                        "roc_auc": quality + 0.07,
                        "log_loss": float(level + 0.03 + 0.2 * np.exp(-step / 60)),
                    },
                }
            )
    return lines


def write_run(
    folder: Path,
    *,
    config: dict[str, Any] | None = None,
    training: dict[str, Any] | None = None,
    environment: dict[str, Any] | None = None,
    evaluation: dict[str, Any] | None = None,
    lines: list[dict[str, Any]] | None = None,
) -> Path:
    """Write a run directory; parts that are not given are left out."""
    folder.mkdir(parents=True, exist_ok=True)
    if config is not None:
        (folder / "config.yaml").write_text(
            yaml.safe_dump(config, sort_keys=False, allow_unicode=True), encoding="utf-8"
        )
    for name, part in (("training", training), ("environment", environment), ("evaluation", evaluation)):
        if part is not None:
            (folder / f"{name}.json").write_text(json.dumps(part, ensure_ascii=False), encoding="utf-8")
    if lines is not None:
        (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return folder


INTENTS = [
    f"{verb}_{noun}"
    for verb in ("card", "transfer", "top_up", "cash", "refund", "pin", "exchange")
    for noun in (
        "arrival",
        "declined",
        "fee",
        "limit",
        "lost",
        "pending",
        "not_recognised",
        "rate",
        "verify",
        "wrong_amount",
        "country_support",
    )
]
KINDS = ("two", "six", "many", "multi", "regression", "entities", "words", "chat", "passages", "partial", "failed")


def write_kind(kind: str, folder: Path) -> Path:
    """Write one of ``KINDS``."""
    environment = environment_of()
    if kind == "two":
        return write_run(
            folder,
            config=config_of(),
            training=training_of(),
            environment=environment,
            evaluation=evaluation_of(["fresh", "rotten"]),
            lines=metrics_lines(),
        )
    if kind == "six":
        return write_run(
            folder,
            config=config_of("full"),
            training=training_of("full", 412.0),
            environment=environment,
            evaluation=evaluation_of(EMOTIONS, accuracy=0.62, gain=0.006, half_gain=0.014, seed=5),
            lines=metrics_lines(2400, level=0.9, seed=4),
        )
    if kind == "many":
        return write_run(
            folder,
            config=config_of("freeze"),
            training=training_of("freeze", 31.0),
            environment=environment,
            evaluation=evaluation_of(INTENTS, accuracy=0.78, rows=3080, gain=-0.034, half_gain=0.012, seed=6),
            lines=metrics_lines(10),
        )
    if kind == "multi":
        return write_run(
            folder,
            config=config_of(multi_label=True),
            training=training_of(status="stopped early"),
            environment=environment,
            evaluation=evaluation_of(EMOTIONS, accuracy=0.7, multi=True, seed=7),
            lines=metrics_lines(),
        )
    if kind == "regression":
        return write_run(
            folder,
            config=config_of(task="regression"),
            training=training_of(),
            environment=environment,
            evaluation=regression_evaluation(),
            lines=metrics_lines(checks=False),
        )
    if kind in ("entities", "words"):
        return write_run(
            folder,
            config=config_of(task="token_classification", crf=kind == "entities"),
            training=training_of() | {"best_metric": {"name": "micro_f1", "value": 0.561}},
            environment=environment,
            evaluation=entity_evaluation() if kind == "entities" else word_evaluation(),
            lines=metrics_lines(checks=False),
        )
    if kind in ("chat", "passages"):
        return write_run(
            folder,
            config=config_of(task="causal_lm" if kind == "chat" else "masked_lm"),
            training=training_of() | {"best_metric": {"name": "perplexity", "value": 4.21}},
            environment=environment,
            evaluation=chat_evaluation() if kind == "chat" else passage_evaluation(),
            lines=perplexity_lines(),
        )
    if kind == "partial":
        return write_run(folder, config=config_of(), lines=metrics_lines(57))
    assert kind == "failed"
    return write_run(
        folder,
        config=config_of(),
        training=training_of(status="failed") | {"best_metric": None},
        environment=environment,
        lines=[],
    )


if __name__ == "__main__":
    for each in KINDS:
        write_kind(each, Path(sys.argv[1]) / each)
