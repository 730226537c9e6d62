"""An encoder-decoder from scratch: learned, written with, and loaded by plain ``transformers``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tunesmith.models import Transformer
from tunesmith.models.scratch_tokenizer import learn_tokenizer
from tunesmith.run import Run, RunConfig, train
from tunesmith.types import HeadSettings, InputError

SMALL = {"embedding_size": 16, "num_layers": 1, "num_heads": 2, "feedforward_size": 32, "vocabulary_size": 300}
WORDS = ("red", "blue", "green", "black")
WORTE = ("rot", "blau", "grün", "schwarz")


def test_a_vocabulary_of_bytes_gives_every_text_back() -> None:
    tokenizer = learn_tokenizer(["a film", "ein Film"] * 3, "bytes", vocabulary_size=300, lowercase=False, writes=True)
    for text in ("Ein Film, 电影 \U0001f600!", "  two  spaces "):
        ids = tokenizer(text)["input_ids"]
        assert ids[-1] == tokenizer.eos_token_id
        assert tokenizer.unk_token_id not in ids
        assert tokenizer.decode(ids, skip_special_tokens=True) == text


def test_it_writes_and_does_nothing_else() -> None:
    for auto_class in ("AutoModelForSequenceClassification", "AutoModelForCausalLM"):
        with pytest.raises(InputError, match="The model 'transformer' has no head for this task"):
            Transformer(**SMALL).load(HeadSettings(auto_class, None), ["some text"] * 9, 0)
    with pytest.raises(InputError, match="which 3 heads cannot share evenly"):
        Transformer(embedding_size=16, num_heads=3).load(
            HeadSettings("AutoModelForSeq2SeqLM", None), ["some text"] * 9, 0
        )


def test_what_is_saved_is_plain(configured: Callable[..., RunConfig], tmp_path: Path) -> None:
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    rows = [
        {"en": f"the {WORDS[i % 4]} car of number {i}", "de": f"das {WORTE[i % 4]} Auto steht hier"} for i in range(120)
    ]
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    config = configured(
        model={"name": "transformer", **SMALL},
        data={"path": str(data), "columns": {"source": "en", "target": "de"}},
        task={"name": "seq2seq"},
        train={"epochs": 25, "learning_rate": 1e-2, "evaluate_steps": 150},
        evaluation={"num_resamples": 20, "max_new_tokens": 12},
    )
    run = Run.open(train(config))
    bleu = run.evaluation["metrics"]["bleu"]["value"]
    assert bleu > 50 > run.evaluation["baseline"]["metrics"]["bleu"]["value"]
    asked = "the green car of number 7"
    answer = run.predict(asked)[0]["text"]
    assert answer.startswith("das ")
    tokenizer = AutoTokenizer.from_pretrained(run.folder)
    model = AutoModelForSeq2SeqLM.from_pretrained(run.folder)
    written = model.generate(**tokenizer(asked, return_tensors="pt"), max_new_tokens=20)
    assert tokenizer.decode(written[0], skip_special_tokens=True) == answer
    assert "AutoModelForSeq2SeqLM" in (run.folder / "README.md").read_text(encoding="utf-8")


def test_a_decoder_learns_targets_as_answers_to_a_prompt(
    configured: Callable[..., RunConfig], llama_folder: Path, tmp_path: Path
) -> None:
    rows = [
        {
            "document": f"the {WORDS[i % 4]} car of number {i} is here, and more is said of it",
            "summary": [f"{WORDS[i % 4]} car"],
        }
        for i in range(60)
    ]
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    config = configured(
        model=str(llama_folder),
        data=str(data),
        method={"name": "lora", "rank": 2},
        train={"epochs": 2, "evaluate_steps": 4},
        evaluation={"num_resamples": 20, "max_new_tokens": 4, "answers": 3},
    )
    run = Run.open(train(config))
    assert run.summary["layout"] == "flat"
    assert run.config.task is not None
    assert (run.config.task.name, run.evaluation["main_metric"]) == ("seq2seq", "rouge_l")
    assert run.evaluation["baseline"]["name"] == "before fine-tuning"
    assert run.evaluation["num_answers"] == 3
    assert run.evaluate(answers=2)["num_answers"] == 2
    assert set(run.predict("the red car is here")[0]) == {"text"}
