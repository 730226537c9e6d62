"""What the benchmark for GPUs measures, on a CPU and with tiny models: rows, operations, ours, peers, the table."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gpu.cases import CASES, Case, flops_per_token, make_rows
from benchmarks.gpu.jobs import Job, do
from benchmarks.gpu.peers import ordered_rows, rows_at_once
from benchmarks.gpu.step_profile import NUM_KERNELS, profile_text
from benchmarks.gpu.table import compare, markdown

ROOT = Path(__file__).parents[2]


def case_of(name: str) -> Case:
    return next(case for case in CASES if case.name == name)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_case_is_trained_by_tunesmith(case: Case) -> None:
    found = do(Job("tunesmith", case.small()), num_steps=1)
    for name in ("tokens_per_second", "peak_memory_bytes", "predicted_memory_bytes", "mean_loss", "flops_per_token"):
        assert found[name] > 0


def test_a_variant_that_needs_a_gpu_says_so() -> None:
    if do(Job("gemm"), num_steps=1)["device"] != "cpu":
        pytest.skip("there is a GPU")
    assert do(Job("tunesmith-graphs", case_of("minilm-full").small()), num_steps=1) == {"unavailable": "needs CUDA"}


def test_a_profile_says_where_a_step_goes() -> None:
    found = do(Job("profile", case_of("1b-lora").small()), num_steps=1)
    parts = found["host_ms"]
    assert list(parts) == ["laying out", "queueing passes", "waiting", "queueing the update"]
    assert all(number > 0 for number in parts.values())
    assert sum(parts.values()) < found["step_ms"]
    assert len(found["kernels"]) == NUM_KERNELS
    times = [one["ms"] for one in found["kernels"]]
    assert times == sorted(times, reverse=True)
    assert sum(times) <= found["device_busy_ms"]
    text = profile_text("1b-lora", found)
    assert f"{found['launches']:,} launches" in text
    assert found["kernels"][0]["name"] in text


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_peers_learn_what_tunesmith_learns() -> None:
    pytest.importorskip("trl")
    pytest.importorskip("accelerate")
    case = case_of("1b-full").small()
    ours, peer = do(Job("tunesmith", case), num_steps=1), do(Job("trl", case), num_steps=1)
    assert ours["num_trained"] == peer["num_trained"]
    assert peer["mean_loss"] == pytest.approx(ours["mean_loss"], rel=0.01)


@pytest.mark.slow
def test_the_command_measures_in_forked_processes(tmp_path: Path) -> None:
    path = tmp_path / "found.json"
    command = [sys.executable, "-m", "benchmarks.gpu", "--smoke", "--only", "minilm-full", "--profile"]
    command += ["--variants", "tunesmith", "--json", str(path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "cannot be forked" not in done.stderr
    assert "| minilm-full | tunesmith: " in done.stdout
    assert "minilm-full: a step takes " in done.stdout
    found = json.loads(path.read_text(encoding="utf-8"))
    assert [one["variant"] for one in found["measurements"]] == ["tunesmith", "profile"]
    assert 0 < found["measurements"][0]["mfu"] < 1


def test_operations_are_counted_as_published() -> None:
    case = case_of("8b-lora")
    rows = [range(1000)]
    assert case.shape.num_weights == pytest.approx(6.98e9, rel=0.01)  # Llama 3.1 8B without embeddings and head
    attention = 12 * 32 * 500 * 4096
    head = 0.5 * 128_256 * 4096
    expected = 4 * case.shape.num_weights + attention + 4 * head + 6 * 40e6
    assert flops_per_token(case, rows, 40_000_000) == pytest.approx(expected)
    full = case_of("1b-full")
    assert flops_per_token(full, rows, 0) > 6 * full.shape.num_weights


@pytest.mark.parametrize("name", ["1b-lora", "8b-lora"])
def test_peers_learn_the_same_tokens_in_micro_batches_of_like_size(name: str) -> None:
    case = case_of(name)
    rows = make_rows(case, case.num_rows(2))
    learned = sum(len(row) - 1 - len(row) // 2 for row in rows)
    given = [label for row in ordered_rows(case, 2) for label in row["labels"][1:]]
    assert sum(label != -100 for label in given) == learned
    for padded in (True, False):
        size = rows_at_once(case, padded=padded)
        assert case.rows_per_step % size == 0
        assert 0.4 < size * case.mean_length * (2 if padded else 1) / case.micro_batch_tokens <= 1


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_rows_are_spread_about_their_mean(case: Case) -> None:
    lengths = [len(row) for row in make_rows(case, 2000)]
    assert sum(lengths) / 2000 == pytest.approx(case.mean_length, rel=0.1)
    assert max(lengths) <= case.longest
    assert min(lengths) >= 8


# ---- the table ---------------------------------------------------------------------------------------


def measured(variant: str, speed: float | None = None, **more: Any) -> dict[str, Any]:
    return {"case": "1b-lora", "variant": variant, **({"tokens_per_second": speed} if speed else {}), **more}


def test_our_fastest_stands_beside_every_peer() -> None:
    found = compare([measured("tunesmith", 100.0), measured("trl", 80.0), measured("tunesmith-liger", 120.0)])
    sides = [(one["variant"], one["peer_name"], one["ratio"]) for one in found]
    assert sides == [("tunesmith-liger", "trl", pytest.approx(1.5)), ("tunesmith", "", None)]


def test_a_peer_alone_and_ours_alone_are_shown_too() -> None:
    assert [one["peer"] for one in compare([measured("trl", 80.0)])] == [80.0]
    (alone,) = compare([measured("tunesmith", 100.0), measured("profile", kernels=[])])
    assert (alone["tunesmith"], alone["peer_name"], alone["ratio"]) == (100.0, "", None)


def test_the_table_says_what_was_not_measured_and_why() -> None:
    text = markdown(
        [
            measured("tunesmith", 1234.0, mfu=0.5, peak_memory_bytes=2e9, predicted_memory_bytes=1e9),
            measured("trl-liger", not_started="12 s left"),
            measured("trl", error="OutOfMemoryError: too much\nand more"),
            measured("unsloth", unavailable="pip install unsloth"),
        ]
    )
    ours = "| 1b-lora | tunesmith: 1,234 |"
    assert f"{ours} trl-liger: not started, 12 s left | – | 50.0% / – | 2.00 GB (1.00 GB) | – |" in text
    assert f"{ours} trl: failed |" in text
    assert "- 1b-lora, trl: OutOfMemoryError: too much\n" in text
    assert "- 1b-lora, unsloth: pip install unsloth" in text


def test_the_table_says_where_a_peer_computes_again() -> None:
    text = markdown([measured("trl", 80.0, recomputes=True, attention="sdpa, padded")])
    assert "- 1b-lora, trl: attention: sdpa, padded; activations are computed again" in text


def test_a_small_case_keeps_what_it_is() -> None:
    for case in CASES:
        small = case.small()
        assert replace(small, shape=case.shape, mean_length=case.mean_length, longest=case.longest) == replace(
            case, rows_per_step=small.rows_per_step, micro_batch_tokens=small.micro_batch_tokens
        )
        assert small.shape.is_encoder == case.shape.is_encoder
