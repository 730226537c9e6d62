"""A base of twice the memory that a process may take, trained in it, equal to the bit to one that has all of it.

Slow: python -m pytest -m slow tests/run/test_larger_than_memory.py -s
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from run.test_offload import curve, weights
from small_runs import small_config
from tiny import tiny_folder
from tunesmith.config.load import dump_yaml

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(
        sys.platform != "linux", reason="limits of a process, and what it takes, are read as Linux has them"
    ),
]

HIDDEN, NUM_LAYERS = 768, 12

TRAIN = """
import json, resource, sys
from pathlib import Path
import peft, torch, transformers
from tunesmith.config.build import build
from tunesmith.config.load import load_yaml
from tunesmith.run import RunConfig, train

def taken(key):
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith(key)))

config, limit = build(RunConfig, load_yaml(Path(sys.argv[1]))), int(sys.argv[2])
resident, data = taken("VmRSS"), taken("VmData")
if limit:
    resource.setrlimit(resource.RLIMIT_DATA, (data + limit, data + limit))
train(config)
print(json.dumps(taken("VmHWM") - resident))
"""
"""Trains under a limit of memory of its own beyond what the libraries take; says what more was resident."""


def train_within(limit: int, data: Path, model: Path, output: Path, offload: str) -> subprocess.CompletedProcess[str]:
    sections: dict[str, Any] = {
        "task": "causal_lm",
        "method": "lora",
        "train": {"max_steps": 3, "batch_size": 4},
        "evaluation": {"num_resamples": 0, "baseline": False},
        "compute": {"offload": offload, "checkpointing": "always", "micro_batch_tokens": 256},
    }
    path = output.with_suffix(".yaml")
    path.write_text(dump_yaml(small_config(data, model, output, **sections)), encoding="utf-8")
    command = [sys.executable, "-c", TRAIN, str(path), str(limit)]
    return subprocess.run(command, capture_output=True, text=True, timeout=1800, check=False)


def test_a_base_of_twice_the_memory_is_trained_to_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "cache"))
    data = tmp_path / "texts.csv"
    data.write_text("text\n" + "".join(f"film {k} was {['warm', 'dull'][k % 2]}\n" for k in range(24)))
    sizes = {"hidden_size": HIDDEN, "num_hidden_layers": NUM_LAYERS, "intermediate_size": 4 * HIDDEN}
    heads = {"num_attention_heads": HIDDEN // 64, "num_key_value_heads": HIDDEN // 64, "head_dim": 64}
    model = tiny_folder(tmp_path, "llama", head="causal", **sizes, **heads)
    num_bytes = sum(path.stat().st_size for path in model.glob("*.safetensors"))
    limit = num_bytes // 2

    def run(name: str, within: int, offload: str) -> tuple[subprocess.CompletedProcess[str], Path]:
        return train_within(within, data, model, tmp_path / name, offload), tmp_path / name

    refused, _ = run("refused", limit, "none")
    assert refused.returncode != 0
    assert "--compute.offload cpu" in refused.stderr

    plain, whole = run("plain", 0, "none")
    assert plain.returncode == 0, plain.stderr
    streamed, folder = run("streamed", limit, "cpu")
    assert streamed.returncode == 0, streamed.stderr
    assert curve(folder) == curve(whole)
    assert weights(folder) == weights(whole)
    taken = {name: int(done.stdout.splitlines()[-1]) for name, done in (("plain", plain), ("streamed", streamed))}
    for name, place in (("plain", whole), ("streamed", folder)):
        found = json.loads((place / "training.json").read_text(encoding="utf-8"))
        print(  # noqa: T201
            f"{name}: base {num_bytes / 1e6:.0f} MB, {taken[name] / 1e6:.0f} MB taken, of steps predicted "
            f"{found['predicted_memory_bytes'] / 1e6:.0f} and {found['peak_memory_bytes'] / 1e6:.0f} MB at the peak, "
            f"{found['step_seconds'] / found['steps']:.2f} s a step"
        )
    at_once = json.loads((folder / "training.json").read_text(encoding="utf-8"))["streamed_bytes"]
    assert taken["streamed"] < limit + at_once, "parts of files that are mapped count as resident, and not as taken"
    assert taken["plain"] > num_bytes
