"""Runs of vision-language models: what is seen is learned, goes on to the same bits, and loads in plain libraries."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

pytest.importorskip("PIL")

from seeing import asked, draw_shape, vision_folder, write_rows
from tunesmith.cli.application import tunesmith
from tunesmith.cli.chat import Conversation, converse
from tunesmith.config.build import build
from tunesmith.models.quiet import quiet
from tunesmith.run import Run, RunConfig, Stopped, Writing, train
from tunesmith.run.observers import Observer
from tunesmith.types import InputError

Configure = Callable[..., RunConfig]


class StopAfter(Observer):
    """Asks a training to stop after a few steps, as a shell does."""

    def stepped(self, info: Any, total_steps: int) -> None:
        if info.step == 4:
            os.kill(os.getpid(), signal.SIGTERM)


def config_of(folder: Path, num: int = 60, *, family: str = "llava", **sections: Any) -> RunConfig:
    values: dict[str, Any] = {
        "model": str(vision_folder(folder, family)),
        "data": str(write_rows(folder / "rows.jsonl", asked(folder, num))),
        "evaluation": {"num_resamples": 0, "answers": 0, **sections.pop("evaluation", {})},
        "output": str(folder / "run"),
        **sections,
    }
    settings = {"epochs": 2, "batch_size": 8, "learning_rate": 5e-3, "precision": "fp32", **values.pop("train", {})}
    return build(RunConfig, {"method": {"name": "full"}, **values, "train": settings})


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("seeing")
    settings = {"epochs": 30, "batch_size": 16, "learning_rate": 1e-2, "evaluate_steps": 120}
    judged = {"answers": 24, "max_new_tokens": 8, "num_resamples": 50}
    return Run.open(train(config_of(folder, 180, train=settings, evaluation=judged)))


def question(path: Path, words: str) -> list[dict[str, Any]]:
    parts = [{"type": "image", "image": str(path)}, {"type": "text", "text": words}]
    return [{"role": "user", "content": parts}]


def test_what_is_seen_is_learned_and_judged_before_and_after(run: Run) -> None:
    assert run.task.name == "image_chat"
    assert run.summary["layout"] == "padded"
    exact = run.evaluation["metrics"]["exact_match"]["value"]
    # Whoever does not look knows a third of the colours and half of the shapes.
    assert exact > 0.8 > 5 / 12
    assert run.evaluation["baseline"]["name"] == "before fine-tuning"
    assert run.evaluation["baseline"]["metrics"]["exact_match"]["value"] < 0.5
    answered = run.evaluation["answers"]
    assert "[image]" in json.dumps(answered)
    again = run.evaluate(answers=0)
    assert again["loss"] == pytest.approx(run.evaluation["loss"], abs=1e-6)


def test_answers_follow_from_the_image_and_plain_transformers_gives_the_same(run: Run, tmp_path: Path) -> None:
    from PIL import Image
    from transformers import AutoModelForImageTextToText, AutoProcessor

    model = AutoModelForImageTextToText.from_pretrained(run.folder).eval()
    processor = AutoProcessor.from_pretrained(run.folder, backend="pil")
    rows, expected, plain = [], [], []
    for number in (40, 41, 45):
        path, colour, shape = draw_shape(tmp_path / f"{number}.png", number)
        for words, answer in (("Which colour?", colour), ("Which shape?", shape)):
            rows.append({"messages": question(path, words)})
            expected.append(answer)
            parts = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": words}]}]
            text = processor.apply_chat_template(parts, add_generation_prompt=True)
            image = Image.open(path).convert("RGB")
            inputs = processor(text=[text], images=[image], add_special_tokens=False, return_tensors="pt")
            with torch.no_grad():
                written = model.generate(**inputs, max_new_tokens=8, do_sample=False)
            plain.append(processor.decode(written[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))
    writing = Writing(max_new_tokens=8)
    answers = [row["answer"] for row in run.predict(rows, writing=writing)]
    assert answers == plain
    assert sum(one == other for one, other in zip(answers, expected, strict=True)) >= 5
    (tmp_path / "ask").mkdir()
    file = write_rows(tmp_path / "ask" / "rows.jsonl", [{"messages": question(tmp_path / "40.png", "Which colour?")}])
    with pytest.raises(InputError, match="lead out of the folder"):
        run.predict_file(file, writing)
    file = write_rows(tmp_path / "rows.jsonl", [{"messages": question(Path("40.png"), "Which colour?")}])
    assert run.predict_file(file, writing) == [{"answer": answers[0]}]
    assert "".join(run.chat(question(tmp_path / "40.png", "Which colour?"), writing)).strip() == answers[0]


def test_the_command_line_shows_images(run: Run, tmp_path: Path) -> None:
    path, colour, _ = draw_shape(tmp_path / "one.png", 40)
    ask = ["chat", str(run.folder), "--image", str(path), "--message", "Which colour?", "--max-new-tokens", "8"]
    found = CliRunner().invoke(tunesmith, ask)
    assert found.exit_code == 0, found.output
    assert colour in found.output
    missing = CliRunner().invoke(tunesmith, ["chat", str(run.folder), "--image", "nowhere.png", "--message", "Which?"])
    assert missing.exit_code != 0
    assert "nowhere.png" in missing.output + str(missing.exception)


def test_an_image_that_cannot_be_opened_does_not_end_a_conversation(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path, colour, _ = draw_shape(tmp_path / "one.png", 40)
    typed = iter(["/image nowhere.png", f"/image {path}", "Which colour?", "/quit"])
    monkeypatch.setattr("builtins.input", lambda _: next(typed))
    converse(Conversation(run, Writing(max_new_tokens=8), None))
    said = capsys.readouterr()
    assert "nowhere.png is not there" in said.err
    assert said.out.count(colour) == 1


def test_what_is_trained_can_be_looked_at_before(run: Run) -> None:
    ask = ["data", "inspect", run.config.data.path, "--model", run.config.model.name, "--show-mask"]
    found = CliRunner().invoke(tunesmith, ask)
    assert found.exit_code == 0, found.output
    assert "<image><image><image><image>Which colour?" in found.output.replace("\n", "")
    assert "⟦red</s>⟧" in found.output.replace("\n", "")


def test_the_card_shows_how_to_ask_about_an_image(run: Run) -> None:
    card = (run.folder / "README.md").read_text(encoding="utf-8")
    assert "image-text-to-text" in card
    assert "AutoModelForImageTextToText" in card
    assert "processor.apply_chat_template" in card


@pytest.mark.parametrize(
    "method", [{"name": "full"}, pytest.param({"name": "lora", "rank": 2}, marks=pytest.mark.slow)]
)
def test_a_stopped_run_goes_on_to_the_same_bits(tmp_path: Path, method: dict[str, Any]) -> None:
    config = config_of(tmp_path, 24, method=method, evaluation={"baseline": False}, train={"batch_size": 4})
    whole = train(config.changed(output=str(tmp_path / "whole")))
    stopped = config.changed(output=str(tmp_path / "resumed"))
    with pytest.raises(Stopped):
        train(stopped, observers=[StopAfter()])
    resumed = train(stopped, resume=True)
    name = "model.safetensors" if method["name"] == "full" else "adapter_model.safetensors"
    assert (whole / name).read_bytes() == (resumed / name).read_bytes()
    run = Run.open(whole)
    assert run.evaluate(answers=0)["loss"] == pytest.approx(run.evaluation["loss"], abs=1e-6)


def test_micro_batches_make_no_difference(tmp_path: Path) -> None:
    losses = []
    for tokens in (16384, 64):
        config = config_of(tmp_path, 24, train={"max_steps": 3}, evaluation={"baseline": False})
        config = config.changed(
            compute=config.compute.changed(micro_batch_tokens=tokens), output=str(tmp_path / str(tokens))
        )
        folder = train(config)
        lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        losses.append([one["loss"] for one in map(json.loads, lines) if one["kind"] == "step"])
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)


@pytest.mark.parametrize("family", ["qwen2_vl", "idefics3"])
@pytest.mark.parametrize("method", [{"name": "lora", "rank": 2}, {"name": "freeze", "layers": 2}])
def test_other_families_are_trained_and_opened_again(tmp_path: Path, family: str, method: dict[str, Any]) -> None:
    settings = {"max_steps": 3}
    config = config_of(
        tmp_path, 24, family=family, method=method, train=settings, evaluation={"answers": 2, "max_new_tokens": 4}
    )
    run = Run.open(train(config))
    assert run.summary["num_trained_parameters"] < run.summary["num_parameters"]
    assert run.evaluate(answers=0)["loss"] == pytest.approx(run.evaluation["loss"], abs=1e-6)
    path, _, _ = draw_shape(tmp_path / "one.png", 3)
    (found,) = run.predict([{"messages": question(path, "Which colour?")}], writing=Writing(max_new_tokens=4))
    assert isinstance(found["answer"], str)


def test_adapters_load_in_plain_peft(tmp_path: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForImageTextToText

    config = config_of(
        tmp_path, 24, method={"name": "lora", "rank": 2}, train={"max_steps": 3}, evaluation={"baseline": False}
    )
    run = Run.open(train(config))
    base = AutoModelForImageTextToText.from_pretrained(config.model.name)
    with quiet():
        model = PeftModel.from_pretrained(base, run.folder).eval()
    inputs = run.network.tokenizer.probe_inputs()
    with torch.no_grad():
        theirs, ours = model(**inputs).logits, run.network.model(**inputs).logits
    assert torch.allclose(theirs, ours, atol=1e-6)


def test_a_run_begins_where_the_adapter_of_another_ended(tmp_path: Path) -> None:
    settings = {"max_steps": 4, "learning_rate": 1e-2}
    config = config_of(tmp_path, 24, method={"name": "lora", "rank": 2}, train=settings, evaluation={"baseline": False})
    first = Run.open(train(config))
    config = build(
        RunConfig, {**config.model_dump(mode="json"), "model": str(first.folder), "output": str(tmp_path / "b")}
    )
    config = config.changed(train=config.train.changed(learning_rate=1e-12))
    second = Run.open(train(config))
    assert second.evaluation["loss"] == pytest.approx(first.evaluation["loss"], abs=1e-5)


def test_a_column_of_images_with_questions_is_learned_when_asked_for(tmp_path: Path) -> None:
    rows = []
    for number in range(24):
        path, colour, _ = draw_shape(tmp_path / "images" / f"{number}.png", number)
        rows.append({"image": f"images/{path.name}", "question": "Which colour?", "answer": colour})
    data = str(write_rows(tmp_path / "asked.jsonl", rows))
    config = config_of(
        tmp_path, 4, data=data, task="image_chat", train={"max_steps": 2}, evaluation={"baseline": False}
    )
    run = Run.open(train(config))
    assert run.config.data.columns["images"] == "image"
    (found,) = run.predict([{"image": str(tmp_path / "images" / "1.png"), "question": "Which colour?"}])
    assert "answer" in found


@pytest.mark.parametrize(("model", "words"), [("llama", "no head for this task"), ("vit", "writes none")])
def test_models_that_do_not_see_or_do_not_write_are_refused(tmp_path: Path, model: str, words: str) -> None:
    from tiny import tiny_folder

    name = model if model == "vit" else str(tiny_folder(tmp_path / "text", model, head="causal"))
    with pytest.raises(InputError, match=words) as raised:
        train(config_of(tmp_path, 12, model=name))
    assert "such as llava-hf" in str(raised.value)
