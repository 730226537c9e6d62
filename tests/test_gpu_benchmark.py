"""The benchmark for GPUs runs from end to end, on a CPU and with tiny models."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "gpu.py"


@pytest.fixture(scope="module")
def gpu() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gpu_benchmark", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def smoke(gpu: ModuleType, path: Path, *flags: str) -> list[dict[str, Any]]:
    assert gpu.main(["--smoke", "--in-process", "--steps", "1", "--json", str(path), *flags]) == 0
    records: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    return records


def test_every_case_runs_and_is_recorded(gpu: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    records = smoke(gpu, tmp_path / "found.json", "--variants", "tunesmith", "tunesmith-liger")
    assert {record["case"] for record in records} == {case.name for case in gpu.CASES}
    for record in records:
        assert {"case", "tunesmith", "peer", "ratio"} <= set(record)
        if record["variant"] != "tunesmith":
            continue
        details = record["details"]["tunesmith"]
        assert record["tunesmith"] == details["tokens_per_second"] > 0
        assert 0 < details["mfu"] < 1
        assert details["peak_memory_bytes"] > 0
        assert details["predicted_memory_bytes"] > 0
        assert details["mean_loss"] > 0
    shown = capsys.readouterr().out
    assert "| 8b-lora | tunesmith: " in shown


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_peers_run_too(gpu: ModuleType, tmp_path: Path) -> None:
    pytest.importorskip("trl")
    pytest.importorskip("accelerate")
    records = smoke(gpu, tmp_path / "found.json", "--only", "1b-full", "--variants", "tunesmith", "trl")
    assert records[0]["ratio"] > 0
    both = records[0]["details"]
    assert both["tunesmith"]["num_trained"] == both["peer"]["num_trained"]
    assert both["peer"]["mean_loss"] == pytest.approx(both["tunesmith"]["mean_loss"], rel=0.01)


def test_a_tool_that_fails_is_told_and_the_others_go_on(
    gpu: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def failing(*_: Any) -> dict[str, Any]:
        raise RuntimeError("CUDA out of memory")

    monkeypatch.setitem(gpu.MEASURES, "trl", failing)
    path = tmp_path / "found.json"
    flags = ["--smoke", "--in-process", "--steps", "1", "--json", str(path), "--only", "1b-lora"]
    assert gpu.main([*flags, "--variants", "tunesmith", "trl"]) == 1
    (record,) = json.loads(path.read_text(encoding="utf-8"))
    assert record["tunesmith"] > 0
    assert record["ratio"] is None
    assert "out of memory" in record["error"]
    assert "out of memory" in capsys.readouterr().out


def test_operations_are_counted_as_published(gpu: ModuleType) -> None:
    case = next(case for case in gpu.CASES if case.name == "8b-lora")
    rows = [range(1000)]
    assert case.shape.num_weights == pytest.approx(6.98e9, rel=0.01)  # Llama 3.1 8B without embeddings and head
    attention = 12 * 32 * 500 * 4096
    head = 0.5 * 128_256 * 4096
    expected = 4 * case.shape.num_weights + attention + 4 * head + 6 * 40e6
    assert gpu.flops_per_token(case, rows, 40_000_000) == pytest.approx(expected)
    full = next(case for case in gpu.CASES if case.name == "1b-full")
    assert gpu.flops_per_token(full, rows, 0) > 6 * full.shape.num_weights


@pytest.mark.parametrize("name", ["1b-lora", "8b-lora"])
def test_peers_learn_the_same_tokens_in_micro_batches_of_like_size(gpu: ModuleType, name: str) -> None:
    case = next(case for case in gpu.CASES if case.name == name)
    rows = gpu.make_rows(case, gpu.num_rows_of(case, 2))
    learned = sum(len(row) - 1 - len(row) // 2 for row in rows)
    given = [label for row in gpu._ordered(case, 2) for label in row["labels"][1:]]
    assert sum(label != -100 for label in given) == learned
    for padded in (True, False):
        size = gpu.rows_at_once(case, padded=padded)
        assert case.rows_per_step % size == 0
        assert 0.4 < size * case.mean_length * (2 if padded else 1) / case.micro_batch_tokens <= 1


def test_rows_are_spread_about_their_mean(gpu: ModuleType) -> None:
    for case in gpu.CASES:
        lengths = [len(row) for row in gpu.make_rows(case, 2000)]
        assert sum(lengths) / 2000 == pytest.approx(case.mean_length, rel=0.1)
        assert max(lengths) <= case.longest
        assert min(lengths) >= 8
