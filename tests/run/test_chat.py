"""Chats learned, judged before and after, answered and talked with; adapters that plain peft and transformers load."""

from __future__ import annotations

import json
import math
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from forked_process import command
from tiny import tiny_folder
from tunesmith.cli.application import tunesmith
from tunesmith.models.quiet import quiet
from tunesmith.run import Run, RunConfig, train
from tunesmith.run.observers import Observer
from tunesmith.run.signals import Stopped
from tunesmith.types import InputError

Configure = Callable[..., RunConfig]

COLOURS = ("red", "green", "blue", "grey")


def conversation(i: int) -> dict[str, Any]:
    """Return a conversation of one or two exchanges; the answer follows from the question."""
    messages = []
    for turn in range(1 + i % 2):
        colour = COLOURS[(i + turn) % 4]
        messages += [
            {"role": "user", "content": f"say {colour} {i}"},
            {"role": "assistant", "content": f"{colour}!"},
        ]
    return {"messages": messages}


def write_chats(path: Path, num_rows: int = 80) -> Path:
    path.write_text("".join(json.dumps(conversation(i)) + "\n" for i in range(num_rows)), encoding="utf-8")
    return path


def chat_config(configured: Configure, llama_folder: Path, folder: Path, **sections: Any) -> RunConfig:
    train_settings = {"epochs": 6, "batch_size": 8, "learning_rate": 2e-2, **sections.pop("train", {})}
    defaults: dict[str, Any] = {"model": str(llama_folder), "data": str(write_chats(folder / "chats.jsonl"))}
    return configured(**{**defaults, "output": str(folder / "run"), **sections}, train=train_settings)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    from tunesmith.config.build import build

    folder = tmp_path_factory.mktemp("chat")
    model = tiny_folder(folder, "llama", head="causal")
    values = {
        "model": str(model),
        "data": str(write_chats(folder / "chats.jsonl", 120)),
        "method": {"name": "full"},
        "train": {"epochs": 12, "batch_size": 8, "learning_rate": 1e-2, "precision": "fp32"},
        "evaluation": {"num_resamples": 50, "answers": 6, "max_new_tokens": 8},
        "output": str(folder / "run"),
    }
    return Run.open(train(build(RunConfig, values)))


def test_a_chat_is_found_learned_and_judged_before_and_after(run: Run) -> None:
    assert run.task.name == "causal_lm"
    evaluation = run.evaluation
    assert evaluation["baseline"]["name"] == "before fine-tuning"
    before, after = evaluation["baseline"]["metrics"], evaluation["metrics"]
    assert after["perplexity"]["value"] < 0.1 * before["perplexity"]["value"]
    assert evaluation["difference"]["perplexity"]["high"] < 0
    assert after["exact_match"]["value"] > before["exact_match"]["value"]
    answers = evaluation["answers"]
    assert len(answers) == 6
    assert all(one["reference"].endswith("!") and one["before"] is not None for one in answers)
    assert "say" in answers[0]["prompt"]
    assert sum(one["after"] == one["reference"] for one in answers) >= 3
    assert not (run.folder / "untuned").exists()
    again = run.evaluate()
    assert again["metrics"]["perplexity"]["value"] == pytest.approx(after["perplexity"]["value"], rel=1e-5)
    assert [one["after"] for one in again["answers"]] == [one["after"] for one in answers]
    assert "exact_match" not in run.evaluate(answers=0)["metrics"]


def test_answers_to_texts_files_and_conversations_agree(run: Run, tmp_path: Path) -> None:
    texts = ["say red 7", "say grey 8"]
    answers = [row["answer"] for row in run.predict(texts)]
    for text, answer in zip(texts, answers, strict=True):
        assert "".join(run.chat([{"role": "user", "content": text}])).strip() == answer
    asked = tmp_path / "asked.jsonl"
    rows = [{"messages": [{"role": "user", "content": text}]} for text in texts]
    rows[1]["messages"].append({"role": "assistant", "content": "the reference"})
    asked.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert [row["answer"] for row in run.predict_file(str(asked))] == answers


def test_the_command_line_predicts_chats_and_shows_masks(run: Run, tmp_path: Path) -> None:
    def call(*arguments: str, given: str | None = None) -> str:
        done = CliRunner().invoke(tunesmith, list(arguments), input=given)
        assert done.exit_code == 0, done.output
        return done.output

    folder = str(run.folder)
    predicted = json.loads(call("predict", folder, "--text", "say red 3", "--max-new-tokens", "8"))
    said = call("chat", folder, "--message", "say red 3", "--max-new-tokens", "8")
    assert said.strip() == predicted["answer"]
    lines = call("chat", folder, "--max-new-tokens", "8", given="say red 3\n\nsay blue 4\n").splitlines()
    assert lines[0].strip() == predicted["answer"]
    assert len(lines) == 2
    data = str(write_chats(tmp_path / "chats.jsonl", 30))
    shown = call("data", "inspect", data, "--model", str(run.config.model.name), "--show-mask", "--rows", "2")
    answer = conversation(0)["messages"][1]["content"]
    assert f"⟦{answer}<|im_end|>" in shown


def test_wrong_uses_are_explained(run: Run, configured: Configure, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="writes no answers"):
        train(configured(evaluation={"answers": 3}))
    other = Run.open(train(configured(train={"max_steps": 1})))
    with pytest.raises(InputError, match="writes no answers"):
        list(other.chat([{"role": "user", "content": "hello"}]))
    with pytest.raises(InputError, match="writes no answers"):
        other.evaluate(answers=2)
    with pytest.raises(InputError, match="--model"):
        CliRunner().invoke(tunesmith, ["data", "inspect", "x.csv", "--show-mask"], catch_exceptions=False)


@pytest.mark.parametrize("method", ["full", "lora"])
def test_saved_models_give_the_same_scores_in_plain_libraries(
    configured: Configure, llama_folder: Path, tmp_path: Path, method: str
) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    run = Run.open(train(chat_config(configured, llama_folder, tmp_path, method=method, train={"max_steps": 6})))
    if method == "full":
        plain = AutoModelForCausalLM.from_pretrained(run.folder)
    else:
        with quiet():
            plain = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(llama_folder), run.folder)
    tokenizer = AutoTokenizer.from_pretrained(run.folder)
    ids = tokenizer.apply_chat_template(conversation(1)["messages"], return_tensors="pt", return_dict=True)["input_ids"]
    network = run.network
    network.model.eval()
    from tunesmith.engine.plain_generation import ready

    with torch.no_grad(), ready(network.model, 0) as whole:
        expected = whole(input_ids=ids).logits
        found = plain.eval()(input_ids=ids).logits
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    if method == "lora":
        merged = plain.merge_and_unload()
        with torch.no_grad():
            torch.testing.assert_close(merged(input_ids=ids).logits, expected, rtol=0, atol=1e-4)


def test_a_resumed_chat_run_ends_in_the_same_bytes_and_figures(
    configured: Configure, llama_folder: Path, tmp_path: Path
) -> None:
    class StopAfter(Observer):
        def stepped(self, info: Any, total_steps: int) -> None:
            if info.step == 5:
                os.kill(os.getpid(), signal.SIGTERM)

    def config(name: str) -> RunConfig:
        return chat_config(
            configured,
            llama_folder,
            tmp_path,
            method="lora",
            output=str(tmp_path / name),
            train={"epochs": 1},
            evaluation={"answers": 2, "max_new_tokens": 4},
        )

    whole = Run.open(train(config("whole")))
    with pytest.raises(Stopped):
        train(config("resumed"), observers=[StopAfter()])
    resumed = Run.open(train(config("resumed"), resume=True))
    weights = [(one.folder / "adapter_model.safetensors").read_bytes() for one in (whole, resumed)]
    assert weights[0] == weights[1]
    drop = lambda evaluation: {**evaluation, "baseline": {**evaluation["baseline"], "seconds": 0}}  # noqa: E731
    assert drop(whole.evaluation) == drop(resumed.evaluation)


def test_another_template_than_that_of_training_is_refused(
    configured: Configure, llama_folder: Path, tmp_path: Path
) -> None:
    import shutil

    base = shutil.copytree(llama_folder, tmp_path / "base")
    run = Run.open(train(chat_config(configured, base, tmp_path, method="lora", train={"max_steps": 1})))
    template = base / "chat_template.jinja"
    template.write_text(template.read_text(encoding="utf-8").replace("<|im_end|>", "<|im_end|> "), encoding="utf-8")
    with pytest.raises(InputError, match="hash differs"):
        _ = run.network


def test_plain_text_goes_on_where_it_was_cut(configured: Configure, llama_folder: Path, tmp_path: Path) -> None:
    text = tmp_path / "tale.txt"
    text.write_text("".join(f"line {i}: once upon a time\n\n" for i in range(600)), encoding="utf-8")
    run = Run.open(
        train(chat_config(configured, llama_folder, tmp_path, data=str(text), task="causal_lm", train={"max_steps": 4}))
    )
    assert run.config.data.passage == 2000
    assert any("passages" in problem["message"] for problem in run.summary["problems"])
    assert run.task.form == "text"
    before, after = (found["metrics"]["perplexity"]["value"] for found in (run.evaluation["baseline"], run.evaluation))
    assert 1 < after < 0.8 * before, "four steps on lines that are all alike"
    assert isinstance(run.predict(["once upon"])[0]["answer"], str)


def test_nothing_left_to_learn_stops_before_training(configured: Configure, llama_folder: Path, tmp_path: Path) -> None:
    rows = [
        {"messages": [{"role": "user", "content": f"q {i}"}, {"role": "assistant", "content": "a", "train": False}]}
        for i in range(40)
    ]
    path = tmp_path / "masked.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    with pytest.raises(InputError, match="to learn"):
        train(chat_config(configured, llama_folder, tmp_path, data=str(path)))


def test_ending_a_chat_with_ctrl_c_leaves_no_traceback(run: Run) -> None:
    done = command("chat", str(run.folder), "--max-new-tokens", "4", stdin="say red 1\n")
    assert done.wait() == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout.strip()


STRICT = (
    "{% for m in messages %}{% if 'refuse' in m['content'] %}{{ raise_exception('not this one') }}{% endif %}"
    "{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def write_strict(path: Path, num_refused: int) -> Path:
    rows = [conversation(i) for i in range(80)]
    for i in range(num_refused):
        rows[7 * i]["messages"][0]["content"] = f"refuse {i}"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize(("num_refused", "bad_rows"), [(2, "auto"), (11, "quarantine")])
def test_conversations_that_the_template_refuses_are_set_aside(
    configured: Configure, llama_folder: Path, tmp_path: Path, num_refused: int, bad_rows: str
) -> None:
    data = {"path": str(write_strict(tmp_path / "strict.jsonl", num_refused)), "bad_rows": bad_rows}
    sections: dict[str, Any] = {
        "data": data,
        "task": {"name": "causal_lm", "template": STRICT},
        "evaluation": {"num_resamples": 20, "answers": 8, "max_new_tokens": 4, "baseline": False},
        "train": {"max_steps": 2},
    }
    run = Run.open(train(chat_config(configured, llama_folder, tmp_path, **sections)))
    refused = [one for one in run.summary["problems"] if "not this one" in one["message"]]
    assert {one["severity"] for one in refused} == {"warning"}
    assert sum(one["count"] for one in refused) == num_refused
    assert "were left out" in refused[0]["message"]
    assert refused[0]["rows"]
    (left_out,) = [count for what, count in run.summary["left_out"].items() if "not this one" in what]
    assert left_out == num_refused
    assert "not this one" in (run.folder / "README.md").read_text(encoding="utf-8")
    assert run.evaluation["metrics"]["perplexity"]["value"] == pytest.approx(math.exp(run.evaluation["loss"]), rel=1e-4)
    assert run.evaluate(split="test")["metrics"] == run.evaluation["metrics"]


def test_many_refused_conversations_stop_before_training(
    configured: Configure, llama_folder: Path, tmp_path: Path
) -> None:
    path = write_strict(tmp_path / "strict.jsonl", 11)
    task = {"name": "causal_lm", "template": STRICT}
    with pytest.raises(InputError, match="not this one") as caught:
        train(chat_config(configured, llama_folder, tmp_path, data=str(path), task=task))
    assert "data.bad_rows quarantine" in caught.value.problems[0].fix
    assert not (tmp_path / "run" / "model.safetensors").exists()


def test_a_role_left_empty_stays_so_when_the_run_is_opened(
    configured: Configure, llama_folder: Path, tmp_path: Path
) -> None:
    rows = [{"prompt": f"say {i}", "completion": f"{i} <|im_end|>!", "label": i % 2 == 0} for i in range(60)]
    path = tmp_path / "marked.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    few = {"task": "causal_lm", "train": {"max_steps": 2}, "evaluation": {"num_resamples": 20, "baseline": False}}
    accepted = Run.open(train(chat_config(configured, llama_folder, tmp_path, data=str(path), **few)))
    assert accepted.config.data.columns["accepted"] == "label"
    data = {"path": str(path), "columns": {"accepted": "none"}}
    every = Run.open(
        train(chat_config(configured, llama_folder, tmp_path, data=data, output=str(tmp_path / "all"), **few))
    )
    assert every.config.data.columns["accepted"] == "none"
    assert every.evaluate(split="test")["metrics"] == every.evaluation["metrics"]
    assert every.predict_file(str(path))[0].keys() == {"answer"}
    notes = [one["message"] for one in every.summary["problems"]]
    assert any("control token" in note and "<|im_end|>" in note for note in notes)
    assert any("Columns that are not used: 'label'" in note for note in notes)
