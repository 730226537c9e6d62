"""Every two of tasks, methods and layouts train together, save, reopen, score the same. New ones add a row."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import proof_tasks
from methods.test_peft_methods import FURTHER, SMALL
from pairwise import pairwise
from tiny_writers import writer_folder
from tunesmith.methods import METHODS
from tunesmith.run import Run, RunConfig, Stopped, train
from tunesmith.run.observers import Observer
from tunesmith.tasks import TASKS
from tunesmith.types import InputError

Configure = Callable[..., RunConfig]
Rows = list[dict[str, Any]]

WORDS = ("great", "boring", "film", "plot")


def tagged(i: int) -> dict[str, Any]:
    tokens = ["this", WORDS[i % 4], WORDS[i // 4 % 4], str(i % 31), "film"][: 3 + i % 3]
    return {"text": None, "tokens": tokens, "tags": ["O", "B-A", "I-A", "O", "B-B"][: len(tokens)]}


def ranked(i: int) -> dict[str, Any]:
    sides = {"first": f"this {WORDS[i % 4]} {i % 31}", "second": f"a {WORDS[(i + i // 4 % 3 + 1) % 4]}"}
    return {"text": None, **sides, "better": ("first", "second")[i % 2]}


def answered(i: int) -> dict[str, Any]:
    words = ["this", WORDS[i % 4], "film", str(i % 31), WORDS[i // 4 % 4]]
    answers = [{"text": " ".join(words[:2]), "answer_start": 0}] if i % 3 else []
    return {"text": None, "question": f"is it {WORDS[i % 4]}", "context": " ".join(words), "answers": answers}


def chosen(i: int) -> dict[str, Any]:
    choices = [f"a {WORDS[(i + k) % 4]} film" for k in range(2 + i % 3)]
    return {"text": None, "question": f"which is {WORDS[i % 4]} {i}", "choices": choices, "label": i % 2}


def searched(i: int) -> dict[str, Any]:
    wrong = [f"a {WORDS[(i + k) % 4]} film" for k in range(1, 2 + i % 2)]
    return {
        "text": None,
        "query": f"which is {WORDS[i % 4]} {i}",
        "positive": f"a {WORDS[i % 4]} film",
        "negative": wrong,
    }


def related(i: int) -> dict[str, Any]:
    """Return two texts of words that the tokenizer knows, so that no two rows are the same to it."""
    words = [WORDS[i // place % 4] for place in (1, 4, 16, 64)]
    return {"text": None, "anchor": " ".join(words), "positive": f"a {words[0]} time, {' and '.join(words[1:])}"}


def rewritten(i: int) -> dict[str, Any]:
    sides = {"source": f"this {WORDS[i % 4]} {WORDS[i // 4 % 4]} {i % 31}", "target": [f"a {WORDS[i % 4]} plot"]}
    return {"text": None, **sides, "target": sides["target"] * (1 + i % 2)}


def seen(i: int) -> dict[str, Any]:
    """Return the name of a picture, which ``write_rows`` draws, with its label."""
    return {"text": None, "image": f"{i}.png", "label": ("high", "low", "wide")[i % 3]}


def asked(i: int) -> dict[str, Any]:
    return {**seen(i), "question": f"is it {WORDS[i % 4]}?"}


def talked(i: int) -> dict[str, Any]:
    return {
        "text": None,
        "image": f"{i}.png",
        "prompt": f"where is {WORDS[i % 4]} {i % 31}?",
        "completion": WORDS[i % 3],
    }


OF_ONE_CLASS = ("classification", "weighted", "focal")
"""Those whose rows are of one class each."""
WRITES_FROM_ENCODER = "texts of texts"
"""The row whose model has an encoder and a decoder."""
SEEING = ("images", "questions about images", "talks about images")
"""The rows whose models look at images."""
PADDED_ALONE = (WRITES_FROM_ENCODER, *SEEING)

TASK_ROWS: dict[str, tuple[str, dict[str, Any], Callable[[int], dict[str, Any]]]] = {
    "classification": ("classification", {}, lambda i: {"label": ("good", "bad", "so-so")[i % 3]}),
    "multi-label": ("classification", {"multi_label": True}, lambda i: {"label": list(WORDS[: i % 3 + 1])}),
    "weighted": ("classification", {"class_weights": "balanced"}, lambda i: {"label": "no" if i % 4 else "yes"}),
    "focal": ("classification", {"focal_gamma": 2.0}, lambda i: {"label": i % 2}),
    "regression": ("regression", {}, lambda i: {"label": i % 9 / 2}),
    "entities": ("token_classification", {"class_weights": "balanced"}, tagged),
    "masked": ("masked_lm", {"probability": 0.3}, lambda i: {}),
    "chat": ("causal_lm", {}, lambda i: {"prompt": f"what {WORDS[i % 4]} {i % 31}?", "completion": WORDS[i % 3]}),
    "texts": ("causal_lm", {}, lambda i: {}),
    "chains": ("token_classification", {"crf": True}, tagged),
    "pairs": ("regression", {"loss": "huber"}, lambda i: {"text_pair": f"a {WORDS[i % 4]}", "label": i % 9 / 2}),
    "near texts": ("embedding", {"hard_negatives": 1}, related),
    "texts of texts": ("seq2seq", {"label_smoothing": 0.1}, rewritten),
    "pair ranking": ("pair_ranking", {}, ranked),
    "preferences": (
        "preference",
        {},
        lambda i: {
            "prompt": f"what {WORDS[i % 4]} {i % 31}?",
            "chosen": WORDS[i % 3],
            "rejected": f"no {WORDS[i % 2]}",
        },
    ),
    "rewards": (
        "reward",
        {},
        lambda i: {"prompt": f"what {WORDS[i % 4]} {i % 31}?", "chosen": WORDS[i % 3], "rejected": "no film"},
    ),
    "thumbs": (
        "preference",
        {},
        lambda i: {"prompt": f"what {WORDS[i % 4]} {i % 31}?", "completion": WORDS[i % 3], "thumb": i % 3 == 1},
    ),
    "reinforced": (
        "grpo",
        {"rewards": [{"by": "length", "most": 2, "margin": 3}, "regex:[a-p ]*"], "max_new_tokens": 6, "group_size": 4},
        lambda i: {"prompt": f"what {WORDS[i % 4]} {i % 31}?", "completion": WORDS[i % 3]},
    ),
    "answers": ("question_answering", {}, answered),
    "choices": ("multiple_choice", {}, chosen),
    "images": ("image_classification", {"mirror": True, "crop": 0.8}, seen),
    "questions about images": ("image_text", {}, asked),
    "candidates": ("reranking", {}, searched),
    "talks about images": ("image_chat", {}, talked),
}
"""Name -> (task, its settings, what row ``i`` adds to its text)."""

WRITING = ("causal_lm", "preference", "grpo")
"""Tasks of models that write."""

METHOD_ROWS: dict[str, dict[str, Any]] = {
    "full": {"name": "full", "layer_decay": 0.9},
    "freeze": {"name": "freeze", "layers": 1, "embeddings": True},
    "probe": {"name": "freeze", "all_but_head": True},
    "gradual": {"name": "freeze", "gradual": True},
    "lora": {"name": "lora", "rank": 4, "lora_plus_ratio": 4.0},
    "dora": {"name": "lora", "rank": 2, "dora": True, "rslora": True},
    "adalora": {"name": "adalora", "initial_rank": 3, "target_rank": 1},
    "bitfit": {"name": "bitfit"},
    "lisa": {"name": "lisa", "layers": 1, "draws": 3},
    "sparse": {"name": "sparse", "share": 0.1, "calibration_rows": 20},
    "pruned": {"name": "compress", "heads": 0.5, "calibration_rows": 20},
    "contrastive": {"name": "contrastive", "passes": 1},
    "prompt tuning": {"name": "prompt_tuning", "length": 3},
    "auto": {"name": "auto"},
}

REFUSED = {
    ("chat", "probe"): "no head",  # a language model has no head of its own
    ("texts", "probe"): "no head",
    ("near texts", "probe"): "no head",
    ("chat", "bitfit"): "has none below its head",
    ("texts", "bitfit"): "has none below its head",
    ("masked", "prompt tuning"): "PEFT has no such place",
    ("preferences", "probe"): "no head",
    ("preferences", "bitfit"): "has none below its head",
    ("reinforced", "probe"): "no head",
    ("reinforced", "bitfit"): "has none below its head",
    ("thumbs", "probe"): "no head",
    ("thumbs", "bitfit"): "has none below its head",
    ("texts of texts", "probe"): "no head",
    ("texts of texts", "prompt tuning"): "PEFT has no such place",
    ("texts of texts", "pruned"): "not of a kind",
    ("answers", "prompt tuning"): "PEFT has no such place",
    ("choices", "prompt tuning"): "PEFT has no such place",
    ("near texts", "prompt tuning"): "PEFT has no such place",
    ("images", "pruned"): "not of a kind",
    ("images", "prompt tuning"): "PEFT has no such place",
    ("questions about images", "pruned"): "not of a kind",
    ("questions about images", "prompt tuning"): "PEFT has no such place",
    ("talks about images", "probe"): "no head",
    ("talks about images", "pruned"): "not of a kind",
    ("talks about images", "prompt tuning"): "PEFT has no such place",
}
"""What a method cannot train -> what is said before any step."""
REFUSED |= {
    (task, "contrastive"): "makes pairs of rows|no vectors of rows|no head"
    for task in TASK_ROWS
    if task not in OF_ONE_CLASS
}

CASES = pairwise(
    tuple(TASK_ROWS),
    tuple(METHOD_ROWS),
    ("flat", "padded"),
    allowed=lambda row: row[2] == "padded" or (row[1] != "prompt tuning" and row[0] not in PADDED_ALONE),
)


WRITTEN_IN_STEPS = "reinforced"
"""The row whose steps write their answers first, which takes time: few methods meet it in every test run."""


def is_quick(task: str, method: str) -> bool:
    """Say whether a task meets a method in every test run: of the rows of one task, each has its turn."""
    if task == WRITTEN_IN_STEPS:
        return method in ("full", "freeze", "prompt tuning")
    rows = [row for row, (name, _, _) in TASK_ROWS.items() if name == TASK_ROWS[task][0]]
    return task == rows[list(METHOD_ROWS).index(method) % len(rows)]


@pytest.fixture(scope="module", autouse=True)
def _with_proof_tasks() -> Iterator[None]:
    with proof_tasks.registered():
        yield


def test_every_task_and_method_has_a_row() -> None:
    assert {name for name, _, _ in TASK_ROWS.values()} == set(TASKS)
    assert {row["name"] for row in METHOD_ROWS.values()} | set(FURTHER) == set(METHODS)


def write_rows(folder: Path, make: Callable[[int], dict[str, Any]]) -> Path:
    path = folder / "rows.jsonl"
    rows = [{"text": f"this {WORDS[i % 4]} {WORDS[i // 4 % 4]} {i % 31}", **make(i)} for i in range(90)]
    if "image" in rows[0]:
        pytest.importorskip("PIL")
        from images import draw

        for i, row in enumerate(rows):
            draw(folder / row["image"], i)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def model_for(configured: Configure, llama_folder: Path, tmp_path: Path) -> Callable[[str], str]:
    """Return what names the model that suits a row of the tasks."""

    def find(task: str) -> str:
        if task == WRITES_FROM_ENCODER:
            return str(writer_folder(tmp_path))
        if task in SEEING:
            pytest.importorskip("PIL")
            from images import seeing_folder
            from seeing import vision_folder

            if TASK_ROWS[task][0] == "image_chat":
                return str(vision_folder(tmp_path))
            return str(seeing_folder(tmp_path, with_texts=TASK_ROWS[task][0] == "image_text"))
        return str(llama_folder) if TASK_ROWS[task][0] in WRITING else str(configured().model.name)

    return find


@pytest.mark.parametrize(
    ("task", "method", "layout"),
    [pytest.param(*case, marks=() if is_quick(*case[:2]) else pytest.mark.slow) for case in CASES],
)
def test_trains_saves_and_reopens(
    configured: Configure, model_for: Callable[[str], str], tmp_path: Path, task: str, method: str, layout: str
) -> None:
    name, settings, make = TASK_ROWS[task]
    config = configured(
        model=model_for(task),
        data=str(write_rows(tmp_path, make)),
        task={"name": name, **settings},
        method=METHOD_ROWS[method],
        train={"epochs": 1.5, "learning_rate": None},
        compute={"layout": layout},
        evaluation={"num_resamples": 20, "baseline": method == "full", "max_new_tokens": 4},
    )
    if (task, method) in REFUSED:
        with pytest.raises(InputError, match=REFUSED[task, method]):
            train(config)
        return
    run = Run.open(train(config))
    assert run.summary["layout"] == layout
    assert 0 < run.summary["num_trained_parameters"] <= run.summary["num_parameters"]
    again = run.evaluate()
    assert again["loss"] == pytest.approx(run.evaluation["loss"], abs=1e-6)
    for metric, interval in run.evaluation["metrics"].items():
        assert again["metrics"][metric]["value"] == pytest.approx(interval["value"], abs=1e-6, nan_ok=True)
    if task in SEEING:
        prediction = run.predict([{**make(1), "image": str(tmp_path / "1.png")}])[0]
    elif name in (
        "pair_ranking",
        "question_answering",
        "multiple_choice",
        "reranking",
    ):  # whose rows are no plain texts
        prediction = run.predict([make(1)])[0]
    else:
        prediction = run.predict(["this film"], ["a film"] if "text_pair" in run.config.data.columns else None)[0]
    json.dumps(prediction)
    assert {"label", "value", "tags", "answer", "text", "embedding", "pseudo_perplexity"} & set(prediction)


class StopAfter(Observer):
    """Asks a training to stop after a few steps, as a shell does."""

    def __init__(self, step: int = 3) -> None:
        self.step = step

    def stepped(self, info: Any, total_steps: int) -> None:
        if info.step == self.step:
            os.kill(os.getpid(), signal.SIGTERM)


SLOW = ("multi-label", "focal", "pairs")
"""Those that differ from others of their task by a loss alone."""


@pytest.mark.parametrize(
    "task", [pytest.param(task, marks=pytest.mark.slow if task in SLOW else ()) for task in TASK_ROWS]
)
def test_resumed_equals_uninterrupted_and_flat_equals_padded(
    configured: Configure, model_for: Callable[[str], str], tmp_path: Path, task: str
) -> None:
    name, settings, make = TASK_ROWS[task]
    model, layout = model_for(task), "padded" if task in PADDED_ALONE else "flat"
    data = str(write_rows(tmp_path, make))

    def config(folder: str, layout: str) -> RunConfig:
        return configured(
            data=data,
            model={"name": model, "dropout": 0.0},
            task={"name": name, **settings},
            method={"name": "lora", "rank": 2},
            train={"epochs": 1.5},
            compute={"layout": layout},
            evaluation={"num_resamples": 0, "baseline": False, "max_new_tokens": 4},
            output=str(tmp_path / folder),
        )

    whole = train(config("whole", layout))
    with pytest.raises(Stopped):
        train(config("resumed", layout), observers=[StopAfter()])
    resumed = train(config("resumed", layout), resume=True)
    weights = [(folder / "adapter_model.safetensors").read_bytes() for folder in (whole, resumed)]
    assert weights[0] == weights[1]
    assert losses(resumed) == losses(whole)
    if layout == "flat":
        assert losses(train(config("padded", "padded"))) == pytest.approx(losses(whole), rel=1e-3, abs=1e-5)


def losses(folder: Path) -> list[float]:
    """Return the loss of every step of a run."""
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [one["loss"] for one in map(json.loads, lines) if one["kind"] == "step"]


BY_TASK = {
    "classification": ("ia3", "lora_ga", "oft", "randlora", "fourierft", "prefix_tuning", "dora", "loha"),
    "entities": ("vera", "corda", "boft", "shira", "peft:NAME", "lora_plus", "miss"),
    "chat": ("eva", "pissa", "road", "c3a", "lora_fa", "trainable_tokens", "ln_tuning"),
    "pairs": ("olora", "hra", "lokr", "rslora", "p_tuning"),
}
"""Each of the other methods once, with one task or another."""


def test_every_other_method_has_a_task() -> None:
    named = [method for methods in BY_TASK.values() for method in methods]
    assert sorted(named) == sorted(set(FURTHER) - {"loftq"})  # which a CPU does not have


@pytest.mark.parametrize(
    ("task", "method"), [(task, method) for task, methods in BY_TASK.items() for method in methods]
)
def test_other_methods_resume_to_the_same_bits_and_reopen(
    configured: Configure, llama_folder: Path, tmp_path: Path, task: str, method: str
) -> None:
    name, settings, make = TASK_ROWS[task]
    data = str(write_rows(tmp_path, make))

    def config(folder: str) -> RunConfig:
        return configured(
            model=str(llama_folder) if name in WRITING else configured().model.name,
            data=data,
            task={"name": name, **settings},
            method={"name": method, **SMALL[method]},
            train={"max_steps": 4, "learning_rate": None},
            evaluation={"num_resamples": 0, "baseline": False},
            output=str(tmp_path / folder),
        )

    whole = train(config("whole"))
    with pytest.raises(Stopped):
        train(config("resumed"), observers=[StopAfter(2)])
    resumed = train(config("resumed"), resume=True)
    weights = [(folder / "adapter_model.safetensors").read_bytes() for folder in (whole, resumed)]
    assert weights[0] == weights[1]
    assert losses(resumed) == losses(whole)
    run = Run.open(whole)
    assert run.summary["layout"] == ("padded" if method in ("prefix_tuning", "p_tuning") else "flat")
    again = run.evaluate()
    assert again["loss"] == pytest.approx(run.evaluation["loss"], abs=1e-6)
