"""The code on a run's model card, executed as it stands, gives what the run itself predicts."""

from __future__ import annotations

import ast
import json
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tiny import tiny_folder
from tiny_writers import writer_folder
from tunesmith.run import Run, RunConfig, train

Configure = Callable[..., RunConfig]

WORDS = ("great", "boring", "film", "plot")


def tagged(tags: list[str], tokens: list[str]) -> Callable[[int], dict[str, Any]]:
    def row(i: int) -> dict[str, Any]:
        length = 3 + i % 3
        turned = [tokens[(k + i) % len(tokens)] for k in range(length)]
        return {"tokens": turned, "tags": tags[:length]}

    return row


def text(i: int) -> str:
    return f"this {WORDS[i % 4]} {WORDS[i // 4 % 4]} {i % 31}"


ENTITIES, SPEECH = ["O", "B-A", "I-A", "O", "B-B"], ["DET", "NOUN", "VERB", "NOUN", "ADV"]
CASES: dict[str, tuple[dict[str, Any], Callable[[int], dict[str, Any]]]] = {
    "labels": ({"name": "classification"}, lambda i: {"text": text(i), "label": ("good", "bad", "so-so")[i % 3]}),
    "pairs": (
        {"name": "classification"},
        lambda i: {"text": text(i), "text_pair": f"a {WORDS[i % 4]}", "label": ("same", "other")[i % 2]},
    ),
    "several": (
        {"name": "classification", "multi_label": True, "threshold": 0.4},
        lambda i: {"text": text(i), "label": list(WORDS[: i % 3 + 1])},
    ),
    "numbers": ({"name": "regression", "standardize": True}, lambda i: {"text": text(i), "label": i % 9 / 2 + 20}),
    "entities": ({"name": "token_classification"}, tagged(ENTITIES, ["this", "great", "film", "7"])),
    "speech": ({"name": "token_classification"}, tagged(SPEECH, ["this", "great", "film", "7"])),
    "characters": ({"name": "token_classification", "crf": True}, tagged(ENTITIES, list("一段文字很长"))),
    "answers": (
        {"name": "question_answering", "stride": 8, "no_answer_threshold": 30.0},
        lambda i: {
            "question": f"is it {WORDS[i % 4]}",
            "context": text(i),
            "answers": [{"text": WORDS[i % 4], "answer_start": 5}] if i % 3 else [],
        },
    ),
    "choices": (
        {"name": "multiple_choice"},
        lambda i: {"question": text(i), "choices": [f"a {word}" for word in WORDS[: 2 + i % 3]], "label": i % 2},
    ),
    "images": (
        {"name": "image_classification"},
        lambda i: {"image": f"{i}.png", "label": ("high", "low", "wide")[i % 3]},
    ),
    "questions about images": (
        {"name": "image_text"},
        lambda i: {"image": f"{i}.png", "question": text(i), "label": ("high", "low", "wide")[i % 3]},
    ),
    "talks about images": (
        {"name": "image_chat"},
        lambda i: {"image": f"{i}.png", "prompt": text(i), "completion": WORDS[i % 3]},
    ),
    "candidates": (
        {"name": "reranking"},
        lambda i: {"query": text(i), "positive": f"a {WORDS[i % 4]}", "negative": [f"a {WORDS[(i + 1) % 4]}"]},
    ),
    "masked": ({"name": "masked_lm", "num_fillers": 3}, lambda i: {"text": text(i)}),
    "chat": (
        {"name": "causal_lm", "system": "Be brief."},
        lambda i: {"prompt": f"what {WORDS[i % 4]} {i % 31}?", "completion": WORDS[i % 3]},
    ),
    "texts": ({"name": "causal_lm"}, lambda i: {"text": text(i)}),
    "vectors": (
        {"name": "embedding", "query_prefix": "film: "},
        lambda i: {"anchor": text(i), "positive": f"a {WORDS[i % 4]} of {i % 31}"},
    ),
    "rewards": (
        {"name": "reward"},
        lambda i: {"prompt": f"what {WORDS[i % 4]} {i % 31}?", "chosen": WORDS[i % 3], "rejected": "no film"},
    ),
    "preferences": (
        {"name": "preference"},
        lambda i: {"prompt": f"what {WORDS[i % 4]} {i % 31}?", "chosen": WORDS[i % 3], "rejected": "no film"},
    ),
    "reinforced": (
        {"name": "grpo", "rewards": ["length:3"], "max_new_tokens": 6, "group_size": 2},
        lambda i: {"prompt": f"what {WORDS[i % 4]} {i % 31}?"},
    ),
    "translations": (
        {"name": "seq2seq", "prefix": "turn: ", "num_beams": 2, "length_penalty": 0.5},
        lambda i: {"source": text(i), "target": f"a {WORDS[i % 4]}"},
    ),
}
"""Kind of run -> its task, and the rows that it learns from."""
WRITING = ("chat", "texts", "preferences", "reinforced")
"""Kinds of runs that write answers."""
SEEING = ("images", "questions about images", "talks about images")
"""Those whose models look at images."""


def trained(configured: Configure, folder: Path, kind: str, method: str, model: Path | None = None) -> Run:
    task, make = CASES[kind]
    data = folder / "rows.jsonl"
    data.write_text("".join(json.dumps(make(i)) + "\n" for i in range(90)), encoding="utf-8")
    if kind in SEEING:
        from images import draw

        for i in range(90):
            draw(folder / f"{i}.png", i)
    config = configured(
        **({} if model is None else {"model": str(model)}),
        data=str(data),
        task=task,
        method={"name": "lora", "rank": 2} if method == "lora" else {"name": method},
        train={"max_steps": 12, "evaluate_steps": 12},
        evaluation={"num_resamples": 0, "baseline": False, "max_new_tokens": 4},
    )
    return Run.open(train(config))


def printed(run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    """Execute the code of the card in the run's folder, and return what it prints."""
    card = (run.folder / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", card, flags=re.DOTALL)
    assert "tunesmith" not in code
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.chdir(run.folder)
    capsys.readouterr()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exec(compile(code, "card", "exec"), {})
    return capsys.readouterr().out


def close(value: float) -> Any:
    return pytest.approx(value, abs=2e-5)


@pytest.mark.parametrize("method", ["full", "lora"])
@pytest.mark.parametrize("kind", CASES)
def test_the_code_of_the_card_gives_the_runs_own_predictions(
    configured: Configure,
    llama_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    kind: str,
    method: str,
) -> None:
    model = llama_folder if kind in WRITING else None
    if kind == "translations":
        model = writer_folder(tmp_path, max_position_embeddings=300)  # the card asks for answers of 256 tokens
    if kind in SEEING:
        pytest.importorskip("PIL")
        from images import draw, seeing_folder
        from seeing import vision_folder

        folder_of = vision_folder if kind == "talks about images" else seeing_folder
        model = folder_of(tmp_path, **({"with_texts": True} if kind == "questions about images" else {}))
    run = trained(configured, tmp_path, kind, method, model)
    if kind in SEEING:
        image = str(draw(run.folder / "image.png", 100))
    out = printed(run, monkeypatch, capsys)
    if kind in WRITING:
        asked = "The beginning of a text" if kind == "texts" else "Your question."
        assert out.strip() == run.predict(asked)[0]["answer"]
        return
    if kind == "translations":
        assert out.strip() == run.predict("Your text.")[0]["text"]
        return
    if kind == "talks about images":
        parts = [{"type": "image", "image": image}, {"type": "text", "text": "Your question."}]
        assert out.strip() == run.predict([{"messages": [{"role": "user", "content": parts}]}])[0]["answer"]
        return
    found = ast.literal_eval(out)
    if kind in ("entities", "speech", "characters"):
        (own,) = run.predict("一段文字" if kind == "characters" else "Your text .")
        assert [tag for _, tag in found] == own["tags"]
        assert [word.strip() for word, _ in found] == own["tokens"]
        return
    if kind in SEEING:
        (own,) = run.predict([image if kind == "images" else (image, "What is this?")])
        assert found == {label: close(p) for label, p in own["probabilities"].items()}
        return
    if kind == "answers":
        (own,) = run.predict([("Who wrote it?", "It was written by Ada Lovelace in 1843.")])
        assert found == {name: close(own[name]) if name == "score" else own[name] for name in found}
        assert own["answer"]
        return
    if kind == "choices":
        (own,) = run.predict([("What is warm?", ["Ice.", "The sun.", "Snow."])])
        assert found == [close(chance) for chance in own["scores"]]
        return
    if kind == "candidates":
        (own,) = run.predict([("What is warm?", ["Ice.", "The sun.", "Snow."])])
        assert sorted(found, reverse=True) == [close(score) for score in own["scores"]]
        return
    if kind == "masked":
        (own,) = run.predict("Your [MASK] text.")
        fillers = [one["token"] for one in own["fillers"][0]]
        assert ([one["token_str"].strip() for one in found] if method == "full" else found) == fillers
        return
    if kind == "vectors":
        assert found == pytest.approx(run.predict("Your text.")[0]["embedding"], abs=2e-6)
        return
    pair = "text_pair" in run.config.data.columns
    (own,) = run.predict([("Your text.", "Its second text.")] if pair else "Your text.")
    if "value" in own:
        value = found[0]["score"] if method == "full" else found
        task: Any = run.task
        if kind == "rewards":
            assert value == close(own["value"])
            return
        assert value * (task.std or 1) + (task.mean or 0) == close(own["value"])
        if task.std:
            assert f"multiply its output by {task.std} and add {task.mean}" in (run.folder / "README.md").read_text()
    elif kind == "several" and method == "lora":
        assert found == own["label"]
    elif method == "lora":
        assert found == {label: close(p) for label, p in own["probabilities"].items()}
    elif kind == "several":
        several = found[0] if isinstance(found[0], list) else found
        assert {one["label"]: one["score"] for one in several} == {
            label: close(p) for label, p in own["probabilities"].items()
        }
    else:
        one = found[0] if isinstance(found, list) else found
        assert (one["label"], one["score"]) == (own["label"], close(own["score"]))


@pytest.mark.parametrize("method", ["full", "lora"])
def test_words_are_given_with_their_spaces_where_the_tokenizer_counts_them_in(
    configured: Configure,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    method: str,
) -> None:
    model = tiny_folder(tmp_path / "model", "gpt2", head="causal")
    run = trained(configured, tmp_path, "entities", method, model)
    found = ast.literal_eval(printed(run, monkeypatch, capsys))
    assert [word for word, _ in found] == ["Your", " text", " ."]
    assert [tag for _, tag in found] == run.predict("Your text .")[0]["tags"]


@pytest.mark.parametrize("method", ["full", "lora"])
def test_answers_end_where_the_template_ends_them_though_the_base_model_does_not(
    configured: Configure,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    method: str,
) -> None:
    model = tiny_folder(tmp_path / "model", "llama", head="causal", eos_token_id=7)
    run = trained(configured, tmp_path, "chat", method, model)
    assert printed(run, monkeypatch, capsys).strip() == run.predict("Your question.")[0]["answer"]
