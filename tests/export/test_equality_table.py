"""Every task in every form that other programs read, compared with its run; the table of docs/export.md.

With TUNESMITH_EXPORT_TABLE=FILE a line for each task is added to that file, as Markdown.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import proof_tasks
from run.test_contract import SEEING, TASK_ROWS, WRITES_FROM_ENCODER, WRITING, write_rows
from small_runs import small_config
from tiny import tiny_folder
from tiny_writers import writer_folder
from tunesmith.export import TARGETS, Checked, check
from tunesmith.run import Run, RunConfig, train
from tunesmith.types import InputError

FORMS = {
    "safetensors": ("fp32", "bf16"),
    "sentence-transformers": ("fp32",),
    "onnx": ("fp32", "int8"),
    "gguf": ("f16", "q8_0", "q4_k_m"),
    "torchao": ("int8", "int4"),
}
TABLE = os.environ.get("TUNESMITH_EXPORT_TABLE", "")
REFUSED = "–"
VARIANTS = ("weighted", "focal", "pairs", "texts", "thumbs")
"""Further rows of tasks that have one: their graphs are the same."""
ROWS = [row for row in TASK_ROWS if row not in ("pair ranking", *SEEING, *VARIANTS)]
_WIDE = {"hidden_size": 256, "intermediate_size": 512, "num_attention_heads": 4}

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(900)]


@pytest.fixture(scope="module", autouse=True)
def _with_proof_tasks() -> Iterator[None]:
    with proof_tasks.registered():
        yield


def test_the_forms_are_those_that_there_are() -> None:
    assert list(FORMS) == list(TARGETS)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Run]:
    """Return what trains an adapter for a row of the contract's tasks, on a model that K-quants fit."""

    def make(row: str) -> Run:
        name, settings, example = TASK_ROWS[row]
        folder = tmp_path_factory.mktemp("row")
        if row == WRITES_FROM_ENCODER:
            model = writer_folder(folder)
        elif name in WRITING:
            model = tiny_folder(folder, "llama", head="causal", head_dim=64, **_WIDE)
        else:
            model = tiny_folder(folder, **_WIDE)
        config: RunConfig = small_config(
            write_rows(folder, example),
            model,
            folder / "run",
            task={"name": name, **settings},
            method={"name": "lora", "rank": 2},
            train={"epochs": 6 if row == "candidates" else 1},  # of scores near zero, rounding is a large part
            evaluation={"num_resamples": 20, "baseline": False, "answers": 0},
        )
        return Run.open(train(config))

    return make


@pytest.mark.parametrize("row", ROWS)
def test_every_task_in_every_form_is_its_run(trained: Callable[[str], Run], row: str) -> None:
    for package in ("onnxruntime", "onnxscript", "libgguf", "torchao", "sentence_transformers"):
        pytest.importorskip(package, reason="the extras onnx, gguf and torchao are not all installed")
    run = trained(row)
    cells = {f"{target} {form}": _cell(run, target, form) for target, forms in FORMS.items() for form in forms}
    if TABLE:
        _add_line(Path(TABLE), [f"{TASK_ROWS[row][0]} ({row})", *cells.values()], ["task", *cells])
    assert cells["safetensors fp32"] != REFUSED
    assert cells["onnx fp32"] != REFUSED
    assert (cells["gguf f16"] == REFUSED) == (TASK_ROWS[row][0] not in WRITING)
    assert (cells["sentence-transformers fp32"] == REFUSED) == (TASK_ROWS[row][0] != "embedding")
    assert row == WRITES_FROM_ENCODER or cells["torchao int8"] != REFUSED


def _add_line(file: Path, cells: list[str], titles: list[str]) -> None:
    lines = [cells] if file.exists() else [titles, ["---"] * len(titles), cells]
    with file.open("a", encoding="utf-8") as table:
        table.writelines("| " + " | ".join(line) + " |\n" for line in lines)


def _cell(run: Run, target: str, form: str) -> str:
    """Return the largest difference and the share of same answers; a dash where the run cannot be written so."""
    try:
        (one,) = check(run, target, [form])
    except InputError:
        return REFUSED
    _require_explained(one)
    return f"{one.found.max_difference:.0e}, {100 * one.found.same_answers:.1f}%"


def _require_explained(one: Checked) -> None:
    """Few bits may move a model of random weights as far as they like; numbers of 16 bits and more may not."""
    if one.found.form not in ("int8", "int4", "q8_0", "q4_k_m"):
        assert one.refused == "", one
