"""The worked examples: every command of their pages is run, with tiny models, or as it stands where there is time."""

from __future__ import annotations

import re
import runpy
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tiny import tiny_folder
from tunesmith.cli.application import run as tunesmith
from tunesmith.run import Run

ROOT = Path(__file__).resolve().parents[2]
FENCE = re.compile(r"^```bash\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FEW_STEPS = ["--train.max_steps", "2", "--evaluation.num_resamples", "0", "--evaluation.max_new_tokens", "4"]
NOT_RUN = ("pip", "chat")
"""What a test does not do: install, and talk."""


def commands(example: str) -> Iterator[list[str]]:
    """Yield the words of every command of a page."""
    page = (ROOT / "examples" / example / "README.md").read_text(encoding="utf-8")
    for block in FENCE.findall(page):
        for line in block.splitlines():
            words = shlex.split(line, comments=True)
            if words and words[0] not in NOT_RUN and words[1] not in NOT_RUN:
                yield words


class Shell:
    """Runs the commands of a page in a folder of its own, in this process."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, models: dict[str, str]) -> None:
        self._monkeypatch = monkeypatch
        self._models = models
        shutil.copytree(ROOT / "examples", folder / "examples", ignore=shutil.ignore_patterns("__pycache__"))
        monkeypatch.chdir(folder)

    def run(self, words: list[str]) -> None:
        if words[0] == "mkdir":
            Path(words[-1]).mkdir(parents=True)
        elif words[0] == "cp":
            for path in Path(words[1]).parent.glob(Path(words[1]).name):
                shutil.copy(path, words[2])
        elif words[0] == "python":
            self._monkeypatch.setattr(sys, "argv", words[1:])
            self._monkeypatch.syspath_prepend(str(Path(words[1]).parent.resolve()))
            runpy.run_path(words[1], run_name="__main__")
        else:
            assert words[0] == "tunesmith", words
            assert tunesmith([*self._with_models(words[1:])]) == 0, shlex.join(words)

    def _with_models(self, words: list[str]) -> list[str]:
        """Return a command with other models in the places of those that it names, or that its configuration does."""
        words = [self._models.get(word, word) for word in words]
        if words[0] != "train" or not self._models:
            return words
        text = Path(words[1]).read_text(encoding="utf-8")
        model = next(model for name, model in self._models.items() if name in text)
        return [*words, "--model", model, *FEW_STEPS]


@pytest.fixture
def tiny_shell(bert_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shell:
    writer = tiny_folder(tmp_path, "llama", head="causal", max_position_embeddings=1536)  # a byte is a token to it
    models = {"sample:minilm": str(bert_folder), "sample:smollm2-135m-instruct": str(writer)}
    return Shell(tmp_path / "place", monkeypatch, models)


@pytest.mark.parametrize("example", ["customer_service", "moderation"])
def test_the_commands_of_an_example_run(tiny_shell: Shell, example: str) -> None:
    for words in commands(example):
        tiny_shell.run(words)


def test_documents_are_asked_and_name_their_sources(tiny_shell: Shell, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("pypdf", reason="the extra 'documents' is not installed")
    pytest.importorskip("docx", reason="the extra 'documents' is not installed")
    for words in commands("knowledge_base"):
        tiny_shell.run(words)
    out = capsys.readouterr().out
    sources = re.findall(r"^\[\d\] (\S+\.(?:md|html|txt|pdf|docx))", out, re.MULTILINE)
    assert len(sources) == 2


@pytest.mark.slow
def test_questions_find_their_passages_and_are_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("pypdf", reason="the extra 'documents' is not installed")
    pytest.importorskip("docx", reason="the extra 'documents' is not installed")
    shell = Shell(tmp_path / "place", monkeypatch, {})
    for words in commands("knowledge_base"):
        shell.run(words)
    found = Run.open("runs/knowledge_base/search").evaluation["metrics"]
    assert found["recall_at_1"]["value"] > 0.5
    assert "[1] opening.html" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("example", ["customer_service", "moderation"])
def test_an_example_learns_what_it_is_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, example: str) -> None:
    shell = Shell(tmp_path / "place", monkeypatch, {})
    for words in commands(example):
        shell.run(words)
    run = Run.open(f"runs/{example}")
    if example == "moderation":
        assert run.config.task is not None
        assert set(run.task.thresholds or ()) == {"insult", "threat", "spam", "personal_data"}
        assert run.evaluation["metrics"]["micro_f1"]["value"] > 0.6
    else:
        after, before = (
            found["metrics"]["perplexity"]["value"] for found in (run.evaluation, run.evaluation["baseline"])
        )
        assert after < 0.7 * before
