"""Writes realistic ``study.json`` files for the tests of the report, with numpy and nothing of tunesmith.

``python tests/report/studies.py FOLDER`` writes all of them, to look at the pages by eye.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

HOSTILE = '<script>alert("x")</script><img src=x onerror=alert(1)>'
LONG = "peft:a_very_long_name_of_a_method_that_somebody_registered_with_many_words_in_it"
RATES = {"full": 2e-5, "lora": 4e-4, "ia3": 5e-3}
TITLES = {"full": "Full fine-tuning", "lora": "LoRA", "ia3": "IA3", "tfidf": "TF-IDF + logistic regression"}
MANY = [
    "full",
    "lora",
    "rslora",
    "dora",
    "lora_plus",
    "lora_fa",
    "pissa",
    "olora",
    "eva",
    "adalora",
    "ia3",
    "prefix_tuning",
    "prompt_tuning",
    "p_tuning",
    "vera",
    "loha",
    "lokr",
    "oft",
    "boft",
    "hra",
    "fourierft",
    "miss",
    "bitfit",
    "sparse",
    "tfidf",
]
Study = dict[str, Any]


def contest(
    names: list[str],
    seeds: int = 3,
    *,
    metric: str = "accuracy",
    reference: str = "full",
    random: int = 0,
    language: bool = False,
    steps: int = 190,
) -> Study:
    """Return a finished contest between methods; ``language`` for perplexity, with forgetting."""
    generator = np.random.default_rng(random)
    study: Study = {
        "version": 1,
        "kind": "contest",
        "status": "finished",
        "metric": metric,
        "higher_is_better": not language,
        "is_share": not language,
        "confidence": 0.95,
        "margin": 0.05 if language else 0.01,
        "reference": reference,
        "task": "causal_lm" if language else "classification",
        "model": "HuggingFaceTB/SmolLM2-135M" if language else "sample:minilm",
        "data": "gsm8k.jsonl" if language else "reviews.csv",
        "rows": {"train": 6000, "validation": 1280, "test": 1066},
        "seeds": list(range(seeds)),
        "machine": {"processor": "AMD EPYC 7763", "num_cores": 2, "memory_bytes": 25e9, "accelerator": None},
        "began": "2026-11-05T10:00:00+00:00",
        "finished": "2026-11-05T10:24:13+00:00",
        "tuned_by": metric,
        "methods": [_method(name, seeds, generator, language, steps) for name in names],
        "tuning": [],
        "expected_maximum": {},
        "curves": [],
        "sharing": {
            "saved_seconds": 412.6,
            "parts": [
                {"what": "the base model, read", "made": 1, "reused": 23, "seconds": 61.3},
                {"what": "tokens", "made": 1, "reused": 23, "seconds": 14.9},
                {"what": "states of frozen layers", "made": 1, "reused": 5, "seconds": 336.4},
            ],
        },
        "budget": {"seconds": 1800, "spent": 1453.2, "cuts": ["2 of 5 rates were left out for every method"]},
        "openings": [
            {"time": "2026-11-05T10:21:02+00:00", "run": f"runs/{name}/seed-{seed}"}
            for name in names[:3]
            for seed in range(seeds)
        ],
        "test_openings": 3 * seeds,
        "notes": ["12 rows occur in both train and test."],
        "verdict": "LoRA is equivalent to full fine-tuning within 1 point, at a third of its training time.",
        "recommended": {"method": "lora", "candidates": ["full", "lora"], "reason": "Take lora: as good as full."},
    }
    study["comparisons"] = [
        _comparison(method, study, generator) for method in study["methods"] if method["name"] != reference
    ]
    for name in names:
        if name != "tfidf":
            _tune(study, name, generator)
            study["curves"] += [_curve(study, name, seed, generator, steps) for seed in range(seeds)]
    return study


def _method(name: str, seeds: int, generator: np.random.Generator, language: bool, steps: int) -> Study:
    quality = {"full": 0.861, "lora": 0.858, "ia3": 0.842, "tfidf": 0.771}.get(name, 0.85 + generator.normal(0, 0.012))
    mean = 3.2 + (0.87 - quality) * 30 if language else quality
    half = 0.11 if language else 0.014 + abs(generator.normal(0, 0.003))
    spread = 0.05 if language else 0.006
    seconds = {"full": 131.0, "lora": 48.2, "ia3": 39.9, "tfidf": 1.2}.get(name, float(35 + generator.gamma(3, 18)))
    trained = {"full": 22_713_986, "lora": 737_858, "ia3": 56_450, "tfidf": 20_480}.get(
        name, int(10 ** generator.uniform(3.4, 6.4))
    )
    values = mean + generator.normal(0, spread, seeds)
    is_rival = name == "tfidf"
    forgetting = None
    if language:
        gap = 0.31 if name == "full" else float(abs(generator.normal(0.05, 0.04)))
        forgetting = {"before": 3.412, "after": 3.412 + gap, "difference": gap, "low": gap - 0.04, "high": gap + 0.05}
    return {
        "name": name,
        "title": TITLES.get(name, name.replace("_", " ")),
        "state": "done",
        "reason": "",
        "mean": float(values.mean()),
        "low": float(values.mean() - half),
        "high": float(values.mean() + half),
        "seeds": seeds,
        "learning_rate": None if is_rival else RATES.get(name, float(10 ** generator.uniform(-4, -2))),
        "seconds": seconds,
        "peak_memory": None if is_rival else 600e6 + trained * 40 + float(generator.uniform(0, 2e8)),
        "trained_parameters": trained,
        "size": trained * 4 + 3000,
        "latency": 0.0009 if is_rival else 0.0112 + float(abs(generator.normal(0, 0.002))),
        "throughput": 9000.0 if is_rival else 333.0,
        "variance_rows": (half / 2.4) ** 2,
        "variance_seeds": (half / 3.9) ** 2,
        "tuning_seconds": 0.0 if is_rival else seconds * 2.1,
        "forgetting": forgetting,
        "runs": [
            {
                "seed": seed,
                "folder": f"runs/{name}/seed-{seed}",
                "state": "done",
                "value": float(value),
                "metrics": {"log_loss": 0.34 + 0.01 * seed, "macro_f1": float(value) - 0.004} if not language else {},
                "seconds": seconds * (1 + 0.03 * (seed - 1)),
                "peak_memory": None if is_rival else 640e6 + trained * 40,
                "best_step": None if is_rival else int(steps * 0.7) + 3 * seed,
                "steps": None if is_rival else steps,
                "reason": "",
            }
            for seed, value in enumerate(values)
        ],
    }


def _comparison(method: Study, study: Study, generator: np.random.Generator) -> Study:
    other = next(one for one in study["methods"] if one["name"] == study["reference"])
    difference = method["mean"] - other["mean"]
    unit = 0.08 if not study["is_share"] else 0.0042
    rows, seeds = (unit * generator.uniform(0.5, 1.1)) ** 2, (unit * generator.uniform(0.3, 1.4)) ** 2
    half = 2.1 * (rows + seeds) ** 0.5
    low, high = difference - half, difference + half
    gain = (low, high) if study["higher_is_better"] else (-high, -low)
    inside = low > -study["margin"] and high < study["margin"]
    verdict = "better" if gain[0] > 0 else "worse" if gain[1] < 0 else "equivalent" if inside else "undecided"
    return {
        "method": method["name"],
        "reference": study["reference"],
        "difference": difference,
        "low": low,
        "high": high,
        "p": float(min(1.0, 2 * np.exp(-abs(difference / half) * 3))),
        "verdict": verdict,
        "variance_rows": rows,
        "variance_seeds": seeds,
        "degrees_of_freedom": 11.3,
        "advice": "about 4 more seeds would decide" if verdict == "undecided" else "",
        "rows_to_resolve": 16000 if verdict == "undecided" else None,
    }


def _tune(study: Study, name: str, generator: np.random.Generator) -> None:
    method = next(one for one in study["methods"] if one["name"] == name)
    best, top = method["learning_rate"], method["mean"]
    sign = 1 if study["higher_is_better"] else -1
    scale = 0.03 if study["is_share"] else 1.0
    values = []
    for place in range(-2, 3):
        loss = scale * (0.25 * place**2 + 0.1 * max(place, 0)) + abs(generator.normal(0, scale / 12))
        rate = float(f"{best * 3.0**place:.4g}") if place else best
        third, whole = top - sign * (loss * 1.1 + scale * 0.6), top - sign * loss
        common = {"method": name, "learning_rate": rate, "state": "done"}
        folder = f"tuning/{name}/rate-{rate:g}"
        study["tuning"].append(common | {"stage": "third", "value": third, "steps": 63, "folder": folder})
        if abs(place) <= 1:
            study["tuning"].append(common | {"stage": "whole", "value": whole, "steps": 190, "folder": folder})
        values.append(whole if abs(place) <= 1 else third)
    ordered = np.sort(sign * np.array(values))
    study["expected_maximum"][name] = [
        float(sign * (np.diff(np.r_[0, (np.arange(1, 6) / 5) ** n]) * ordered).sum()) for n in range(1, 6)
    ]


def _curve(study: Study, name: str, seed: int, generator: np.random.Generator, steps: int) -> Study:
    method = next(one for one in study["methods"] if one["name"] == name)
    end, sign = method["runs"][seed]["value"], 1 if study["higher_is_better"] else -1
    reach = 0.25 if study["is_share"] else 6.0
    points = []
    for step in range(19, steps + 1, 19):
        gap = reach * np.exp(-step / (steps / 5)) + generator.normal(0, reach / 90)
        points.append([step, method["seconds"] * step / steps, float(end - sign * gap)])
    return {"method": name, "seed": seed, "points": points}


def running() -> Study:
    """Return a contest that is half done: one method done, one training, one waiting."""
    study = contest(["full", "lora", "ia3"], 3, random=4)
    study |= {"status": "running", "finished": None, "comparisons": [], "verdict": "", "budget": None}
    study |= {"openings": [], "test_openings": 0, "sharing": None, "notes": []}
    _, second, third = study["methods"]
    for method, states in ((second, ["done", "running", "waiting"]), (third, ["waiting"] * 3)):
        method |= {"state": states[1], "mean": None, "low": None, "high": None, "size": None, "latency": None}
        for run, state in zip(method["runs"], states, strict=True):
            run["state"] = state
            if state != "done":
                run |= {"value": None, "seconds": None, "peak_memory": None, "best_step": None, "metrics": {}}
    third |= {"seconds": None, "peak_memory": None, "trained_parameters": None, "learning_rate": None}
    study["curves"] = [c for c in study["curves"] if c["method"] == "full" or (c["method"], c["seed"]) == ("lora", 0)]
    study["tuning"] = [trial for trial in study["tuning"] if trial["method"] != "ia3"]
    del study["expected_maximum"]["ia3"]
    return study


def failed() -> Study:
    """Return a contest with a method that failed, one that was cut, and numbers that are not known."""
    study = contest(["full", "lora", "ia3", "vera", "tfidf"], 3, random=2)
    by_name = {method["name"]: method for method in study["methods"]}
    nothing = dict.fromkeys(("mean", "low", "high", "seconds", "peak_memory", "size", "latency", "throughput"))
    by_name["vera"] |= nothing | {"state": "failed", "reason": "The loss was nan at step 12, in all 3 seeds."}
    by_name["vera"]["runs"] = [
        run | {"state": "failed", "value": float("nan"), "metrics": {}, "reason": "loss is nan at step 12"}
        for run in by_name["vera"]["runs"]
    ]
    by_name["ia3"] |= nothing | {
        "state": "cut",
        "reason": "Cut for the budget: it was the least likely to win.",
        "runs": [],
    }
    study["comparisons"] = [one for one in study["comparisons"] if one["method"] in ("lora", "tfidf")]
    study["curves"] = [curve for curve in study["curves"] if curve["method"] != "ia3"]
    for trial in study["tuning"]:
        if trial["method"] == "vera" and trial["learning_rate"] > by_name["vera"]["learning_rate"]:
            trial |= {"value": None, "state": "failed"}
    return study


def hostile() -> Study:
    """Return a contest in which every text is an attack or far too long."""
    study = contest(["full", "lora"], 2, random=5)
    for key in ("task", "model", "data", "machine", "verdict", "began"):
        study[key] = f"{key} {HOSTILE}"
    study["notes"] = [HOSTILE + "\x00\x1b\ud800\u202e"]
    study["budget"]["cuts"] = [HOSTILE]
    study["sharing"]["parts"][0]["what"] = HOSTILE
    first, second = study["methods"]
    first |= {"title": "方法" * 30, "reason": HOSTILE}
    second |= {"title": f"{HOSTILE} {'x' * 200}"}
    second["runs"][0] |= {"folder": f'javascript:alert(1)//"{HOSTILE}', "metrics": {HOSTILE: 0.5}}
    second["runs"][1] |= {"folder": "../../etc"}
    study["comparisons"][0] |= {"advice": HOSTILE, "verdict": HOSTILE}
    return study


def one_seed() -> Study:
    """Return a contest of two models: one seed, no variance over seeds."""
    study = contest(["full", "lora"], 1, random=6)
    study["verdict"] = "Of these two models, neither is shown to be better."
    study["comparisons"][0] |= {"variance_seeds": None, "verdict": "undecided", "degrees_of_freedom": None}
    return study


def single() -> Study:
    """Return a contest with the reference alone."""
    study = contest(["full"], 3)
    return study | {
        "comparisons": [],
        "verdict": "Full fine-tuning reaches 86.1 points; there is nothing to compare it with.",
    }


def crowded() -> Study:
    """Return a contest of 25 methods, one of them with a long name."""
    study = contest(MANY, 5, random=1)
    study["methods"][7]["title"] = LONG
    study["verdict"] = (
        "No method is better than full fine-tuning; 9 are equivalent to it within 1 point, LoRA the cheapest."
    )
    return study


def chat() -> Study:
    """Return a contest of chat models, judged by perplexity."""
    study = contest(["full", "lora", "rslora", "dora", "ia3", "oft"], 3, metric="perplexity", language=True, random=3)
    return study | {"verdict": "Full fine-tuning has the lowest perplexity; OFT forgets least."}


def folds() -> Study:
    """Return a cross-validation, five folds twice."""
    generator = np.random.default_rng(7)
    done: list[Study] = [
        {
            "repeat": repeat,
            "fold": fold,
            "metrics": {
                "accuracy": float(0.853 + generator.normal(0, 0.012)),
                "log_loss": float(0.35 + generator.normal(0, 0.02)),
            },
            "rows": {"train": 5000, "validation": 600, "test": 1280 + fold % 2},
            "folder": f"runs/repeat-{repeat}/fold-{fold}",
            "seconds": 47.0 + fold,
            "state": "done",
        }
        for repeat in range(2)
        for fold in range(5)
    ]
    means = {name: float(np.mean([fold["metrics"][name] for fold in done])) for name in ("accuracy", "log_loss")}
    return {
        "version": 1,
        "kind": "cross-validation",
        "status": "finished",
        "metric": "accuracy",
        "higher_is_better": True,
        "is_share": True,
        "confidence": 0.95,
        "task": "classification",
        "method": "lora",
        "model": "sample:minilm",
        "data": "reviews.csv",
        "machine": "AMD EPYC 7763 64-Core Processor, 2 cores",
        "began": "2026-11-05T10:00:00+00:00",
        "finished": "2026-11-05T10:09:13+00:00",
        "folds": done,
        "metrics": {
            name: {"value": mean, "low": mean - 0.013, "high": mean + 0.013, "degrees_of_freedom": 9}
            for name, mean in means.items()
        },
        "notes": ["Rows of one author stay in one fold."],
        "verdict": "Accuracy 85.3 points, with a corrected 95% interval of 84.0 to 86.6.",
    }


def trials(number: int = 40) -> Study:
    """Return a search over four keys."""
    generator = np.random.default_rng(8)
    found: list[Study] = []
    for index in range(number):
        rate, rank = float(10 ** generator.uniform(-5, -2)), int(2 ** generator.integers(1, 7))
        values = {
            "train.learning_rate": rate,
            "method.rank": rank,
            "method.dropout": float(generator.uniform(0, 0.2)),
            "train.schedule": str(generator.choice(["cosine", "linear", "constant"])),
        }
        state = "failed" if index == 11 else "pruned" if index % 5 == 4 else "done"
        value = 0.86 - 0.02 * np.log10(rate / 4e-4) ** 2 + 0.002 * np.log2(rank) + generator.normal(0, 0.004)
        found.append(
            {
                "number": index,
                "state": state,
                "values": values,
                "value": None if state == "failed" else float(value),
                "seconds": 20.0 + index,
                "folder": f"runs/trial-{index}",
                "reason": "loss is nan at step 3" if state == "failed" else "",
            }
        )
    best = max((trial for trial in found if trial["state"] == "done"), key=lambda trial: trial["value"])
    return {
        "version": 1,
        "kind": "search",
        "status": "finished",
        "metric": "accuracy",
        "higher_is_better": True,
        "is_share": True,
        "task": "classification",
        "model": "sample:minilm",
        "data": "reviews.csv",
        "machine": "AMD EPYC 7763 64-Core Processor, 2 cores",
        "trials": found,
        "best": best,
        "importance": {"train.learning_rate": 0.71, "method.rank": 0.2, "train.schedule": 0.06, "method.dropout": 0.03},
        "verdict": f"Trial {best['number']} is the best of {number}: accuracy {100 * best['value']:.1f} points.",
    }


KINDS: dict[str, Callable[[], Study]] = {
    "three": lambda: contest(["full", "lora", "ia3", "tfidf"], 3),
    "crowded": crowded,
    "chat": chat,
    "running": running,
    "failed": failed,
    "hostile": hostile,
    "one_seed": one_seed,
    "single": single,
    "folds": folds,
    "search": trials,
}


def write_study(folder: Path, study: Study) -> Path:
    """Write a study's folder: its ``study.json``, and a report in the folder of the first run."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "study.json").write_text(json.dumps(study), encoding="utf-8")
    runs = [run["folder"] for method in study.get("methods", []) for run in method["runs"]]
    runs += [part["folder"] for part in study.get("folds", []) + study.get("trials", [])]
    if runs:
        run = folder / runs[0]
        run.mkdir(parents=True, exist_ok=True)
        (run / "report.html").write_text("<!doctype html><title>A run</title>", encoding="utf-8")
    return folder


if __name__ == "__main__":
    for kind, make in KINDS.items():
        write_study(Path(sys.argv[1]) / kind, make())
