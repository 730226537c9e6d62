"""Runs written for other programs: loaded by these, equal on rows, and refused where they are not."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

import proof_tasks
from run.test_contract import SEEING, TASK_ROWS, WRITES_FROM_ENCODER, WRITING, write_rows
from tiny import tiny_folder
from tiny_writers import FAMILIES, writer_folder
from tunesmith.cli.application import run as command
from tunesmith.export import TARGETS, check, check_folder, export, merge
from tunesmith.export.equality import reference_model
from tunesmith.export.gguf_file import _tensors
from tunesmith.export.greedy_texts import greedy_writer
from tunesmith.export.plain_model import plain_model
from tunesmith.export.target import Form
from tunesmith.export.transformers_folder import TransformersFolder
from tunesmith.models.wrapping import inner
from tunesmith.run import Run, RunConfig, train
from tunesmith.types import InputError

Configure = Callable[..., RunConfig]


@pytest.fixture(scope="module", autouse=True)
def _with_proof_tasks() -> Iterator[None]:
    with proof_tasks.registered():
        yield


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return where runs are kept that several tests ask for, each trained by the first of them."""
    return tmp_path_factory.mktemp("shared")


@pytest.fixture
def adapted(configured: Configure, llama_folder: Path, shared: Path, tmp_path: Path) -> Callable[..., Path]:
    """Return what trains an adapter for a row of the contract's tasks and gives its folder: the test's own copy."""

    def make(row: str = "classification", **sections: Any) -> Path:
        if sections:
            return train_row(tmp_path, row, **sections)
        if not (shared / row / row).exists():
            train_row(shared / row, row)
        return Path(shutil.copytree(shared / row / row, tmp_path / row))

    def train_row(place: Path, row: str, **sections: Any) -> Path:
        name, settings, example = TASK_ROWS[row]
        place.mkdir(exist_ok=True)
        model = {"model": str(llama_folder)} if name in WRITING else {}
        model = {"model": str(writer_folder(place))} if row == WRITES_FROM_ENCODER else model
        config = configured(
            **{
                **model,
                "data": str(write_rows(place, example)),
                "task": {"name": name, **settings},
                "method": {"name": "lora", "rank": 2},
                "train": {"epochs": 1},
                "evaluation": {"num_resamples": 20, "baseline": False, "answers": 0},
                "output": str(place / row),
                **sections,
            }
        )
        return train(config)

    return make


MERGED = [row for row in TASK_ROWS if row not in ("pair ranking", *SEEING)]
EVERY_TIME = ("classification", "chat", "chains", "near texts", "texts of texts", "answers", "choices")


@pytest.mark.parametrize(
    "row", [pytest.param(row, marks=() if row in EVERY_TIME else pytest.mark.slow) for row in MERGED]
)
def test_a_merged_run_gives_the_scores_of_the_run_whatever_its_task(
    adapted: Callable[..., Path], tmp_path: Path, row: str
) -> None:
    found = merge(Run.open(adapted(row)), tmp_path / "merged")
    record = json.loads((tmp_path / "merged" / "export.json").read_text())
    assert record["target"] == "safetensors"
    assert 0 <= record["max_difference"] < 1e-4
    assert record["same_answers"] == 1
    assert record["metric_before"] == pytest.approx(record["metric_after"], abs=1e-5)
    assert found.size > 0
    assert not list((tmp_path / "merged").glob("adapter*"))


def test_a_merged_run_is_a_model_to_train_and_to_load(adapted: Callable[..., Path], tmp_path: Path) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    run = Run.open(adapted())
    merge(run, tmp_path / "merged")
    model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "merged").eval()
    tokens = AutoTokenizer.from_pretrained(tmp_path / "merged")("a great film", return_tensors="pt")
    with torch.no_grad():
        share = model(**tokens).logits.softmax(-1)[0]
    expected = Run.open(tmp_path / "classification").predict(["a great film"])[0]
    assert model.config.id2label[int(share.argmax())] == expected["label"]
    assert float(share.max()) == pytest.approx(expected["score"], abs=1e-5)


def test_numbers_of_16_bits_are_written_and_compared(adapted: Callable[..., Path], tmp_path: Path) -> None:
    from safetensors import safe_open

    found = merge(Run.open(adapted()), tmp_path / "merged", form="bf16")
    with safe_open(tmp_path / "merged" / "model.safetensors", framework="pt") as file:
        types = {file.get_tensor(name).dtype for name in file.keys()}  # noqa: SIM118
    assert types == {torch.bfloat16}
    assert 1e-6 < found.max_difference < 0.05


def test_what_gives_other_scores_is_kept_aside(
    adapted: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = TransformersFolder.write

    def write(self: Any, run: Any, plain: Any, *rest: Any) -> Any:
        with torch.no_grad():
            plain.model.classifier.weight[0, 0] += 1.0
        return written(self, run, plain, *rest)

    monkeypatch.setattr(TransformersFolder, "write", write)
    with pytest.raises(InputError, match="other scores than the run on") as caught:
        merge(Run.open(adapted()), tmp_path / "merged")
    assert not (tmp_path / "merged").exists()
    assert "merged.refused" in str(caught.value)
    assert (tmp_path / "merged.refused" / "export.json").is_file()


def test_a_folder_that_is_no_export_is_never_replaced(adapted: Callable[..., Path], tmp_path: Path) -> None:
    folder = adapted()
    merge(Run.open(folder), tmp_path / "merged")
    with pytest.raises(InputError, match="is there already"):
        merge(Run.open(folder), tmp_path / "merged")
    merge(Run.open(folder), tmp_path / "merged", overwrite=True)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match="is there already"):
        merge(Run.open(folder), tmp_path / "mine", overwrite=True)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"


def test_what_cannot_be_written_is_refused_with_what_can(
    adapted: Callable[..., Path], configured: Configure, tmp_path: Path
) -> None:
    run = Run.open(adapted())
    possible = ", ".join(name for name in TARGETS if name not in ("sentence-transformers", "gguf"))
    with pytest.raises(InputError, match=rf"Choose one of {possible}\."):
        export(run, "pdf", tmp_path / "out")
    assert command(["export", str(run.folder), "--to", "pdf"]) == 2
    with pytest.raises(InputError, match="Choose one of fp32, bf16, fp16"):
        export(run, "safetensors", tmp_path / "out", form="int3")
    with pytest.raises(InputError, match=rf"(?s)give a text a vector.*can be written for {possible}\."):
        export(run, "sentence-transformers", tmp_path / "out")
    whole = train(configured(train={"epochs": 1}, output=str(tmp_path / "whole")))
    with pytest.raises(InputError, match="whole model already"):
        merge(Run.open(whole), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_without_the_rows_of_the_run_others_are_asked_for(adapted: Callable[..., Path], tmp_path: Path) -> None:
    run = Run.open(adapted(train={"epochs": 1}))  # on rows of its own
    (tmp_path / "rows.jsonl").rename(tmp_path / "elsewhere.jsonl")
    with pytest.raises(InputError, match="--data FILE"):
        merge(run, tmp_path / "merged")
    assert merge(run, tmp_path / "merged", data=str(tmp_path / "elsewhere.jsonl")).rows == 90


def test_vectors_are_those_that_sentence_transformers_gives(adapted: Callable[..., Path], tmp_path: Path) -> None:
    library = pytest.importorskip("sentence_transformers")
    run = Run.open(adapted("near texts"))
    found = export(run, "sentence-transformers", tmp_path / "vectors")
    assert found.max_difference < 1e-4
    again = library.SentenceTransformer(str(tmp_path / "vectors"), device="cpu").encode(["a great film"])
    expected = Run.open(tmp_path / "near texts").embed(["a great film"])
    assert again == pytest.approx(expected, abs=1e-5)


ONNX_ROWS = ["classification", "multi-label", "pairs", "entities", "near texts", "answers", "choices", "rewards"]


@pytest.mark.slow
@pytest.mark.parametrize("row", ONNX_ROWS)
@pytest.mark.filterwarnings("ignore")  # exporting calls what torch itself has deprecated
def test_graphs_give_the_same_scores_in_onnx_runtime(adapted: Callable[..., Path], tmp_path: Path, row: str) -> None:
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    found = export(Run.open(adapted(row)), "onnx", tmp_path / "graph")
    assert found.max_difference < 1e-3
    assert found.same_answers == 1
    session = runtime.InferenceSession(str(tmp_path / "graph" / "model.onnx"))
    assert {"input_ids", "attention_mask"} <= {one.name for one in session.get_inputs()}
    assert all(not isinstance(size, int) for one in session.get_inputs() for size in one.shape)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_graphs_of_8_bits_are_smaller_and_judged_by_rows(adapted: Callable[..., Path], tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    folder = adapted()
    whole = export(Run.open(folder), "onnx", tmp_path / "whole")
    small = export(Run.open(folder), "onnx", tmp_path / "small", form="int8")
    assert small.size < whole.size
    assert small.max_difference > whole.max_difference
    assert set(small.metric_change) == {"value", "low", "high"}


WRITERS = ["chat", "texts of texts", "texts", "preferences"]


@pytest.mark.slow
@pytest.mark.parametrize("row", WRITERS)
@pytest.mark.filterwarnings("ignore")
def test_graphs_that_write_keep_what_they_read_and_write_what_the_run_writes(
    adapted: Callable[..., Path], tmp_path: Path, row: str
) -> None:
    runtime = pytest.importorskip("onnxruntime", reason="tunesmith[onnx] is not installed")
    pytest.importorskip("onnxscript", reason="tunesmith[onnx] is not installed")
    found = export(Run.open(adapted(row)), "onnx", tmp_path / "graph")  # compared in two parts: the second by its cache
    assert found.max_difference < 1e-3
    assert found.same_answers == 1
    assert found.same_texts == 1
    name = "decoder_model.onnx" if row == WRITES_FROM_ENCODER else "model.onnx"
    session = runtime.InferenceSession(str(tmp_path / "graph" / name))
    past = [one for one in session.get_inputs() if one.name.startswith("past_key_values.")]
    assert len(past) == 2 * 2  # keys and values of two layers
    assert all(isinstance(one.shape[2], str) for one in past)
    assert [one.name.replace("present", "past_key_values") for one in session.get_outputs()[1:]] == [
        one.name for one in past
    ]


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.filterwarnings("ignore")
def test_every_family_of_encoder_decoders_has_graphs(adapted: Callable[..., Path], tmp_path: Path, family: str) -> None:
    pytest.importorskip("onnxruntime", reason="tunesmith[onnx] is not installed")
    folder = adapted(WRITES_FROM_ENCODER, model=str(writer_folder(tmp_path, family)))
    (found,) = [one.found for one in check(Run.open(folder), "onnx", ["fp32"])]
    assert found.max_difference < 1e-3
    assert found.same_texts == 1


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_loops_of_the_docs_write_what_the_run_writes(adapted: Callable[..., Path], tmp_path: Path) -> None:
    """Run as they stand there: they use ONNX Runtime, tokenizers and numpy alone."""
    pytest.importorskip("onnxruntime", reason="tunesmith[onnx] is not installed")
    page = (Path(__file__).parents[2] / "docs" / "export.md").read_text(encoding="utf-8")
    loops = [block for block in re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL) if "past" in block]
    for row, loop in zip(("chat", WRITES_FROM_ENCODER), loops, strict=True):
        run = Run.open(adapted(row))
        export(run, "onnx", tmp_path / f"graph of {row}")
        prompt = {"chat": "what film 3?", WRITES_FROM_ENCODER: "this film great 3"}[row]
        names = {"folder": str(tmp_path / f"graph of {row}"), "prompt": prompt, "most": 12}
        code = re.sub(r"^(folder|prompt|most) = .*$", "", loop, flags=re.MULTILINE)
        exec(compile(code, "docs/export.md", "exec"), names)
        network = run.network
        ids = network.tokenizer(prompt, add_special_tokens=row != "chat")["input_ids"]
        stops = frozenset(json.loads((tmp_path / f"graph of {row}" / "model.json").read_text())["stops"])
        written = greedy_writer(inner(reference_model(network)), run.task)(ids, 12, stops)
        assert names["written"] == written


@pytest.mark.slow
@pytest.mark.parametrize("row", ["classification", "chat"])
@pytest.mark.filterwarnings("ignore")
def test_graphs_and_folders_of_8_and_4_bits_are_compared_with_the_run(
    adapted: Callable[..., Path], tmp_path: Path, row: str
) -> None:
    from transformers import AutoConfig

    pytest.importorskip("torchao", reason="tunesmith[torchao] is not installed")
    wide = {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4}
    kind = ("llama", {"head": "causal", "head_dim": 16}) if row == "chat" else ("bert", {})
    run = Run.open(adapted(row, model=str(tiny_folder(tmp_path, kind[0], **wide, **kind[1]))))
    whole = export(run, "safetensors", tmp_path / "whole")
    eight, four = (export(run, "torchao", tmp_path / form, form=form) for form in ("int8", "int4"))
    assert whole.max_difference < eight.max_difference < four.max_difference < 0.6
    assert eight.size < whole.size
    assert AutoConfig.from_pretrained(tmp_path / "int8").quantization_config["quant_method"] == "torchao"
    assert any("take a byte each" in note for note in four.notes)
    again = check_folder(Run.open(run.folder), tmp_path / "int8")
    assert again.found.max_difference == pytest.approx(eight.max_difference, rel=1e-3)  # saved and loaded as it was


@pytest.mark.slow
@pytest.mark.parametrize("form", ["f32", "f16", "bf16", "q8_0"])
def test_files_for_llama_cpp_hold_the_model_and_its_tokenizer(
    adapted: Callable[..., Path], tmp_path: Path, form: str
) -> None:
    import gguf

    found = export(Run.open(adapted("chat")), "gguf", tmp_path / "f", form=form)
    assert found.max_difference < {"f32": 1e-5, "f16": 0.01, "bf16": 0.05, "q8_0": 0.1}[form]
    fields = gguf.GGUFReader(tmp_path / "f" / "model.gguf").fields
    assert fields["general.architecture"].contents() == "llama"
    assert fields["tokenizer.ggml.pre"].contents() == "gpt-2"
    assert "messages" in fields["tokenizer.chat_template"].contents()


@pytest.mark.parametrize("to", ["safetensors", "onnx"])
def test_networks_of_our_own_are_no_models_of_other_programs(configured: Configure, tmp_path: Path, to: str) -> None:
    if to == "onnx":
        pytest.importorskip("onnxruntime")
    model = {"name": "lstm", "embedding_size": 8, "hidden_size": 8}
    run = Run.open(train(configured(model=model, train={"max_steps": 1, "evaluate_steps": 1})))
    with pytest.raises(InputError, match="tunesmith's own"):
        export(run, to, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "out.refused").exists()


def test_runs_that_look_at_images_are_refused(adapted: Callable[..., Path], tmp_path: Path) -> None:
    pytest.importorskip("PIL")
    from images import seeing_folder

    run = Run.open(adapted("images", model=str(seeing_folder(tmp_path))))
    with pytest.raises(InputError, match="looks at images"):
        merge(run, tmp_path / "merged")


def test_a_model_that_llama_cpp_does_not_read_is_refused(adapted: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="language models of the kinds llama"):
        export(Run.open(adapted()), "gguf", tmp_path / "file")


def test_the_commands_from_end_to_end(
    adapted: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(adapted())
    assert command(["merge", folder, "--output", str(tmp_path / "merged")]) == 0
    shown = capsys.readouterr().out
    assert "same answers" in shown
    assert "100" in shown
    given = ["export", folder, "--to", "safetensors", "--form", "fp16", "--output", str(tmp_path / "half"), "--json"]
    assert command(given) == 0
    record: Mapping[str, Any] = json.loads(capsys.readouterr().out)
    assert record["form"] == "fp16"
    assert record["size"] < record["size_before"] * 40  # the adapter alone was small
    assert command(given) == 2


@pytest.mark.slow
def test_k_quants_are_mixed_as_llama_cpp_mixes_them_and_read_back(
    adapted: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import gguf

    pytest.importorskip("libgguf", reason="tunesmith[gguf] is not installed")
    sizes = {"hidden_size": 256, "intermediate_size": 512, "num_attention_heads": 4, "head_dim": 64}
    model = tiny_folder(tmp_path, "llama", head="causal", num_hidden_layers=8, **sizes)
    folder = adapted("chat", model=str(model))
    assert command(["export", str(folder), "--to", "gguf", "--quantize", "Q4_K_M"]) == 0
    place = folder.with_name(f"{folder.name}-gguf-q4_k_m")
    assert f"was written to {place} (gguf, q4_k_m)" in capsys.readouterr().out.replace("\n", " ")
    record = json.loads((place / "export.json").read_text())
    assert record["notes"] == []
    assert record["same_answers"] > 0.5
    assert 0 < record["max_difference"] < 0.5
    reader = gguf.GGUFReader(place / "model.gguf")
    kinds = {tensor.name: tensor.tensor_type.name for tensor in reader.tensors}
    assert [kinds[f"blk.{layer}.attn_v.weight"] for layer in range(8)] == [
        *("Q6_K", "Q4_K", "Q4_K", "Q6_K", "Q4_K", "Q4_K", "Q6_K", "Q6_K")
    ]
    assert kinds["output.weight"] == "Q6_K"
    assert kinds["blk.0.attn_norm.weight"] == "F32"
    whole = {name: tensor.numpy() for name, tensor in _tensors(plain_model(Run.open(folder)))}
    read = gguf.dequantize(
        next(one for one in reader.tensors if one.name == "blk.1.ffn_up.weight").data, gguf.GGMLQuantizationType.Q4_K
    )
    weight = whole["model.layers.1.mlp.up_proj.weight"]
    assert abs(read - weight).max() < abs(weight).max() / 15 * 2  # sixteen steps from end to end of a block


def test_rows_that_do_not_divide_are_named(adapted: Callable[..., Path], tmp_path: Path) -> None:
    pytest.importorskip("libgguf", reason="tunesmith[gguf] is not installed")
    found = export(Run.open(adapted("chat")), "gguf", tmp_path / "file", form="q4_k")
    assert found.form == "q4_k_m"
    assert any("kept in F16 instead of Q4_K" in note and "attn_q.weight (rows of 16)" in note for note in found.notes)


@pytest.mark.slow
def test_a_check_shows_every_form_and_keeps_nothing(
    adapted: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = str(adapted())
    before = sorted(tmp_path.rglob("*"))
    given = ["export", folder, "--to", "safetensors", "--form", "fp32,bf16", "--check"]
    assert command(given) == 0
    shown = capsys.readouterr().out
    assert shown.count("equal") >= 2
    assert "bf16" in shown
    assert sorted(tmp_path.rglob("*")) == before
    monkeypatch.setitem(TransformersFolder.forms, "bf16", Form("bf16", 1e-9))  # type: ignore[index]
    assert command([*given, "--json"]) == 1
    fp32, bf16 = json.loads(capsys.readouterr().out)
    assert fp32["refused"] == ""
    assert "bf16 explains 1e-09" in bf16["refused"]
    assert command(["export", folder, "--check"]) == 2
    assert "Give --to" in capsys.readouterr().err
    assert command([*given, "--quantize", "int8"]) == 2


@pytest.mark.slow
def test_an_export_is_compared_again_and_stands_in_the_report(
    adapted: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = adapted()
    for form in ("fp32", "bf16", "bf16"):
        export(Run.open(folder), "safetensors", tmp_path / form, form=form, overwrite=True)
    assert command(["export", str(folder), "--check", "--output", str(tmp_path / "bf16"), "--json"]) == 0
    record = json.loads((tmp_path / "bf16" / "export.json").read_text())
    again = json.loads(capsys.readouterr().out)
    assert again["max_difference"] == record["max_difference"]
    assert again["metric_after"] == record["metric_after"]
    assert record["latency"]["row"]["rows"] == 1 < record["latency"]["batch"]["rows"]
    assert min(record["latency"]["batch"][when] for when in ("before", "after")) > 0
    kept = [json.loads(line) for line in (folder / "exports.jsonl").read_text().splitlines()]
    assert [one["folder"] for one in kept] == ["../fp32", "../bf16"]
    assert command(["report", str(folder)]) == 0
    page = (folder / "report.html").read_text()
    assert "Exports</h2>" in page
    assert "../bf16" in page
    (tmp_path / "bf16" / "model.safetensors").write_bytes((tmp_path / "fp32" / "model.safetensors").read_bytes())
    assert check_folder(Run.open(folder), tmp_path / "bf16").refused == ""  # what is there counts, not its record
    with pytest.raises(InputError, match="is no export"):
        check_folder(Run.open(folder), folder)
