"""A GGUF file in llama.cpp itself: the same tokens of texts of many kinds, and the same greedy continuation."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from small_runs import small_config
from tunesmith.data.encoded import Ragged
from tunesmith.engine.generate import generate
from tunesmith.engine.sampling import Sampling
from tunesmith.export import export
from tunesmith.export.gguf_file import TEXTS
from tunesmith.run import Run, train

MODULES = os.environ.get("TUNESMITH_NODE", "")
PROMPT = "The capital of France is"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (MODULES and shutil.which("node")), reason="TUNESMITH_NODE names no folder with node-llama-cpp"
    ),
]


@pytest.mark.parametrize("form", ["f16", "q8_0"])
def test_llama_cpp_reads_what_the_run_reads_and_writes_what_it_writes(tmp_path: Path, form: str) -> None:
    rows = tmp_path / "chats.jsonl"
    chats = ({"prompt": f"What is {i} plus {i + 1}?", "completion": f"{2 * i + 1}."} for i in range(40))
    rows.write_text("".join(json.dumps(row) + "\n" for row in chats))
    config = small_config(
        rows,
        Path("sample:smollm2-135m-instruct"),
        tmp_path / "run",
        method={"name": "lora", "rank": 4},
        train={"max_steps": 2, "evaluate_steps": 2, "batch_size": 4, "learning_rate": 1e-4},
        evaluation={"baseline": False, "answers": 0, "general_text": "none"},
    )
    run = Run.open(train(config.changed(model=config.model.changed(name="sample:smollm2-135m-instruct"))))
    tokenizer = run.network.tokenizer
    ids = np.array(tokenizer(PROMPT)["input_ids"])
    written = generate(run.network.model, Ragged(ids, np.array([0, len(ids)])), Sampling(12, frozenset(), 0))[0]
    expected = tokenizer.decode(written)
    export(run, "gguf", tmp_path / "file", form=form, num_rows=4)
    script = Path(__file__).with_name("llama_cpp.mjs")
    arguments = [MODULES, str(tmp_path / "file" / "model.gguf"), json.dumps(TEXTS), PROMPT]
    done = subprocess.run(["node", str(script), *arguments], capture_output=True, text=True, check=True, timeout=300)
    found = json.loads(done.stdout.strip().splitlines()[-1])
    assert found["tokens"] == [tokenizer(text, add_special_tokens=False)["input_ids"] for text in TEXTS]
    assert found["text"].strip() == expected.strip()
