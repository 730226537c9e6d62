"""A GGUF file in llama.cpp itself: tokens of texts of many kinds, greedy continuations, and every byte of K-quants."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from small_runs import small_config
from tiny import tiny_folder
from tunesmith.data.encoded import Ragged
from tunesmith.engine.generate import generate
from tunesmith.engine.sampling import Sampling
from tunesmith.export import export
from tunesmith.export.gguf_file import TEXTS, GgufFile
from tunesmith.export.gguf_mixture import BASE
from tunesmith.export.plain_model import plain_model
from tunesmith.run import Run, train

MODULES = os.environ.get("TUNESMITH_NODE", "")
PROMPT = "The capital of France is"
LIBRARIES = Path(MODULES) / "node_modules/@node-llama-cpp/linux-x64/bins/linux-x64"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(
        not (MODULES and shutil.which("node")), reason="TUNESMITH_NODE names no folder with node-llama-cpp"
    ),
]


@pytest.fixture
def trained(tmp_path: Path) -> Callable[..., Run]:
    """Return what trains a chat model in two steps."""

    def make(model: str) -> Run:
        rows = tmp_path / "chats.jsonl"
        chats = ({"prompt": f"What is {i} plus {i + 1}?", "completion": f"{2 * i + 1}."} for i in range(40))
        rows.write_text("".join(json.dumps(row) + "\n" for row in chats))
        config = small_config(
            rows,
            Path(model),
            tmp_path / "run",
            method={"name": "lora", "rank": 4},
            train={"max_steps": 2, "evaluate_steps": 2, "batch_size": 4, "learning_rate": 1e-4},
            evaluation={"baseline": False, "answers": 0, "general_text": "none"},
        )
        return Run.open(train(config.changed(model=config.model.changed(name=model))))

    return make


def said_by_llama_cpp(file: Path, prompt: str = PROMPT) -> dict[str, Any]:
    """Return ``tokens`` of ``TEXTS`` and ``text``, the greedy continuation of a prompt."""
    script = Path(__file__).with_name("llama_cpp.mjs")
    arguments = [MODULES, str(file), json.dumps(TEXTS), prompt]
    done = subprocess.run(["node", str(script), *arguments], capture_output=True, text=True, check=True, timeout=300)
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def test_llama_cpp_reads_what_the_run_reads_and_writes_what_it_writes(
    trained: Callable[..., Run], tmp_path: Path
) -> None:
    """In 16 bits; rounded to 8, greedy answers part at near ties."""
    run = trained("sample:smollm2-135m-instruct")
    tokenizer = run.network.tokenizer
    ids = np.array(tokenizer(PROMPT)["input_ids"])
    written = generate(run.network.model, Ragged(ids, np.array([0, len(ids)])), Sampling(12, frozenset(), 0))[0]
    expected = tokenizer.decode(written)
    export(run, "gguf", tmp_path / "file", form="f16", num_rows=4)
    found = said_by_llama_cpp(tmp_path / "file" / "model.gguf")
    assert found["tokens"] == [tokenizer(text, add_special_tokens=False)["input_ids"] for text in TEXTS]
    assert found["text"].strip() == expected.strip()
    small = export(run, "gguf", tmp_path / "small", form="q4_k_m", num_rows=4)
    assert any("kept in Q5_0 instead of Q4_K" in note for note in small.notes)  # rows of 576
    again = said_by_llama_cpp(tmp_path / "small" / "model.gguf")
    assert again["tokens"] == found["tokens"]
    assert again["text"].split()[:1] == found["text"].split()[:1]


@pytest.mark.parametrize("arch", ["llama", "qwen3"])
def test_llama_cpp_loads_every_kind_of_model(trained: Callable[..., Run], tmp_path: Path, arch: str) -> None:
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 2, "head_dim": 128}
    run = trained(str(tiny_folder(tmp_path, arch, head="causal", **sizes)))
    found = export(run, "gguf", tmp_path / "file", form="f32")
    assert found.max_difference < 1e-4
    ids = run.network.tokenizer(PROMPT)["input_ids"]
    said = said_by_llama_cpp(tmp_path / "file" / "model.gguf")
    assert said["tokens"] == [run.network.tokenizer(text, add_special_tokens=False)["input_ids"] for text in TEXTS]
    written = generate(run.network.model, Ragged(np.array(ids), np.array([0, len(ids)])), Sampling(12, frozenset(), 0))[
        0
    ]
    assert said["text"].strip() == run.network.tokenizer.decode(written).strip()


@pytest.mark.parametrize("width", [256, 96])
@pytest.mark.parametrize("is_tied", [True, False])
def test_every_byte_of_every_form_is_llama_cpps(
    trained: Callable[..., Run], tmp_path: Path, width: int, is_tied: bool
) -> None:
    """Written in 32 bits and quantised by ``llama_model_quantize``, or written quantised: the same tensors."""
    import gguf

    sizes = {"hidden_size": width, "intermediate_size": 2 * width, "num_attention_heads": 4, "head_dim": width // 4}
    model = tiny_folder(
        tmp_path, "llama", head="causal", num_hidden_layers=9, tie_word_embeddings=is_tied, vocab_size=320, **sizes
    )
    run = trained(str(model))
    target, plain = GgufFile(), plain_model(run)
    for form in ("f32", *BASE):
        (tmp_path / form).mkdir()
        target.write(run, plain, target.forms[form], tmp_path / form, ())
    for form in BASE:
        number = int(getattr(gguf.LlamaFileType, f"MOSTLY_{form.upper()}"))
        script, small = Path(__file__).with_name("llama_quantize.py"), tmp_path / f"{form}.gguf"
        arguments = [str(LIBRARIES), str(tmp_path / "f32" / "model.gguf"), str(small), str(number)]
        subprocess.run([sys.executable, str(script), *arguments], capture_output=True, check=True, timeout=300)
        theirs = {one.name: one for one in gguf.GGUFReader(small).tensors}
        ours = {one.name: one for one in gguf.GGUFReader(tmp_path / form / "model.gguf").tensors}
        assert {name: one.tensor_type.name for name, one in ours.items()} == {
            name: one.tensor_type.name for name, one in theirs.items()
        }, form
        different = [name for name, one in ours.items() if not np.array_equal(one.data, theirs[name].data)]
        assert not different, form
