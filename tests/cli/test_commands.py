"""The commands from end to end, in one process, on a model so small that only the plumbing counts."""

from __future__ import annotations

import csv
import io
import json
import os
import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tunesmith.cli import doctor
from tunesmith.cli.application import run
from tunesmith.cli.columns import parse_columns
from tunesmith.types import InputError

GOOD = ["a joy from start to finish", "warm and funny and wise", "a delight to watch", "brilliant and moving work"]
BAD = ["a bore from start to finish", "cold and flat and dull", "a chore to watch", "clumsy and empty work"]


pytestmark = pytest.mark.usefixtures("folder")


@pytest.fixture(scope="module")
def data(folder: Path) -> Path:
    path = folder / "reviews.csv"
    rows = [
        (f"{text}, part {n}", label)
        for n in range(12)
        for texts, label in ((GOOD, "fresh"), (BAD, "rotten"))
        for text in texts
    ]
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *rows])
    return path


@pytest.fixture(scope="module")
def trained(folder: Path, data: Path) -> Path:
    config = folder / "config.yaml"
    config.write_text(
        "model: {name: lstm, embedding_size: 8, hidden_size: 8}\n"
        "method: {name: lora, rank: 4}\n"
        "train: {epochs: 9, batch_size: 16}\n"
        "evaluation: {num_resamples: 50}\n"
    )
    arguments = ["--data", str(data), "--method", "full", "--train.epochs", "1", "--output", str(folder / "run")]
    assert run(["train", str(config), *arguments, "--quiet"]) == 0
    return folder / "run"


def test_train_leaves_a_run_and_a_report(trained: Path) -> None:
    for name in ("config.yaml", "evaluation.json", "training.json", "metrics.jsonl", "report.html", "README.md"):
        assert (trained / name).stat().st_size > 0
    config = (trained / "config.yaml").read_text()
    assert "name: full" in config, "the flag goes before the file"
    assert "  rank:" not in config


def test_train_refuses_to_write_over_a_run(trained: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["train", "--model", "lstm", "--data", str(data), "--output", str(trained)]) == 2
    assert "already holds a finished run" in capsys.readouterr().err


def test_resume_reads_the_runs_own_configuration(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["train", "--resume", "--output", str(trained)]) == 0
    assert "Accuracy" in capsys.readouterr().out


def test_train_shows_all_problems(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = folder / "wrong.yaml"
    path.write_text("model: lstm\ntrain:\n  epochs: -1\n  batchsize: 3\n")
    assert run(["train", str(path), "--method", "lorra", "--method.rank", "x", "--data.pth", "y"]) == 2
    error = capsys.readouterr().err
    for part in (
        "train.epochs is -1",
        "'train.batch_size'",
        "no method 'lorra'",
        "no option --data.pth",
        "data.path is miss",
    ):
        assert part in error


def test_evaluate(trained: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["evaluate", str(trained), "--data", str(data), "--json"]) == 0
    evaluation = json.loads(capsys.readouterr().out)
    assert evaluation["num_rows"] == 96
    assert {"value", "low", "high"} <= evaluation["metrics"]["accuracy"].keys()
    assert run(["evaluate", str(trained)]) == 0
    assert "95% interval" in capsys.readouterr().out
    assert run(["evaluate", str(trained), "--split", "nonsense"]) == 2


def test_predict_texts(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["predict", str(trained), "--text", "a joy", "--text", '汉字, "quoted"', "--probabilities"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["text"] for row in rows] == ["a joy", '汉字, "quoted"']
    assert all(row["label"] in {"fresh", "rotten"} for row in rows)
    assert all(sum(row["probabilities"].values()) == pytest.approx(1, abs=1e-4) for row in rows)


def test_predict_lines_of_stdin(
    trained: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("one\ntwo\n"))
    assert run(["predict", str(trained), "--data", "-"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["text"] for row in rows] == ["one", "two"]
    assert "probabilities" not in rows[0]


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_predict_a_file(trained: Path, data: Path, folder: Path, suffix: str) -> None:
    output = folder / f"predictions.{suffix}"
    assert run(["predict", str(trained), "--data", str(data), "--output", str(output), "--probabilities"]) == 0
    if suffix == "jsonl":
        rows = [json.loads(line) for line in output.read_text().splitlines()]
    elif suffix == "csv":
        rows = list(csv.DictReader(io.StringIO(output.read_text())))
    else:
        rows = pq.read_table(output).to_pylist()
    assert len(rows) == 96
    assert [int(row["row"]) for row in rows] == list(range(1, 97))
    assert ("probabilities" if suffix == "jsonl" else "p:fresh") in rows[0]


@pytest.mark.parametrize("spelling", ["itself", "symlink", "hard link", "relative", "in the folder", "of a symlink"])
@pytest.mark.parametrize("flags", [[], ["--overwrite"]])
def test_an_input_is_never_an_output(
    trained: Path,
    data: Path,
    tmp_path: Path,
    spelling: str,
    flags: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    own = tmp_path / "own"
    own.mkdir()
    given = output = own / "rows.csv"
    given.write_bytes(data.read_bytes())
    if spelling == "symlink":
        output = tmp_path / "link.csv"
        output.symlink_to(given)
    elif spelling == "of a symlink":
        given = tmp_path / "link.csv"
        given.symlink_to(output)
    elif spelling == "hard link":
        output = tmp_path / "other.csv"
        output.hardlink_to(given)
    elif spelling == "relative":
        monkeypatch.chdir(tmp_path)
        output = Path("own/../own/rows.csv")
    elif spelling == "in the folder":
        given = own
    assert run(["predict", str(trained), "--data", str(given), "--output", str(output), *flags]) == 2
    assert "it would be lost" in capsys.readouterr().err
    assert (own / "rows.csv").read_bytes() == data.read_bytes()


def test_results_replace_other_files_only_when_told_to(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    notes = tmp_path / "notes.csv"
    notes.write_text("mine", encoding="utf-8")
    for command in (["predict", str(trained), "--text", "a"], ["report", str(trained)]):
        assert run([*command, "--output", str(notes)]) == 2
        assert "exists already" in capsys.readouterr().err
        assert notes.read_text(encoding="utf-8") == "mine"
    for name in ("predictions.parquet", "metrics.jsonl"):
        before = (trained / name).read_bytes()
        for flags in ([], ["--overwrite"]):
            suffixed = ["predict", str(trained), "--text", "a"] if name.endswith(".parquet") else None
            command = suffixed or ["report", str(trained)]
            assert run([*command, "--output", str(trained / name), *flags]) == 2
            assert "is a file of the run" in capsys.readouterr().err
        assert (trained / name).read_bytes() == before
    assert run(["predict", str(trained), "--text", "a", "--output", str(notes), "--overwrite"]) == 0
    assert "label" in notes.read_text(encoding="utf-8")
    page = tmp_path / "page.html"
    assert run(["report", str(trained), "--output", str(page)]) == 0
    assert run(["report", str(trained), str(trained), "--output", str(page)]) == 0, "an earlier report is ours"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "There is nothing to predict."),
        (["--text", "a", "--data", "b"], "Give either --text or --data."),
        (["--text", "a", "--output", "a.xlsx"], "the suffix '.xlsx' is not known"),
        (["--text", "a", "--text", "b", "--text-pair", "c"], "There are 2 --text and 1 --text-pair."),
        (["--text", "a", "--text-pair", "c"], "was trained on single texts"),
        (["--data", "nowhere.csv"], "nowhere.csv"),
    ],
)
def test_predict_says_what_is_wrong(
    trained: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["predict", str(trained), *arguments]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("command", ["evaluate", "predict", "report"])
def test_a_folder_that_is_no_run(command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--text", "a"] if command == "predict" else []
    assert run([command, str(tmp_path), *arguments]) == 2
    assert str(tmp_path) in capsys.readouterr().err


def test_report(trained: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = folder / "two.html"
    assert run(["report", str(trained), str(trained), "--output", str(output)]) == 0
    assert capsys.readouterr().out.strip() == str(output)
    assert "<html" in output.read_text()


def test_inspect(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["data", "inspect", str(data)]) == 0
    text = capsys.readouterr().out
    for part in (
        "reviews.csv",
        "utf-8",
        "Task: classification",
        "fresh",
        "50%",
        "train",
        "validation",
        "reviews.csv:2",
    ):
        assert part in text
    assert run(["data", "inspect", str(data), "--task", "regression"]) == 2
    assert run(["data", "inspect", str(data), "--data.columns.label", "nothing"]) == 2
    assert "nothing" in capsys.readouterr().err


def test_inspect_as_json(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = folder / "ratings.csv"
    rows = [
        f"{text}, part {n};{label}" for n in range(9) for text, label in ((GOOD[n % 4], "ja"), (BAD[n % 4], "nein"))
    ]
    path.write_text("\n".join(["text;label", *rows, rows[0]]) + "\n")
    assert run(["data", "inspect", str(path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["task"], found["columns"]) == ("classification", {"text": "text", "label": "label"})
    assert sum(found["rows"].values()) == 18
    assert (found["labels"], found["left_out"]) == (["ja", "nein"], {"duplicate": 1})
    assert found["guesses"]["delimiter"]["chosen"] == "semicolon"
    assert found["guesses"]["delimiter"]["alternatives"] == {"comma": 19}
    assert [(one["role"], one["column"]) for one in found["roles"]] == [("text", "text"), ("label", "label")]
    assert found["label_counts"].keys() == {"ja", "nein"}
    assert {one["column"]: one["kind"] for one in found["profiles"]} == {"text": "text", "label": "category"}
    assert len(found["examples"]) == 3
    assert found["examples"][0]["label"] in ("ja", "nein")
    assert found["lengths"]["text"][-1] == max(len(row.partition(";")[0]) for row in rows)
    assert run(["data", "inspect", str(path)]) == 0
    assert "comma (19)" in capsys.readouterr().out


def test_columns_are_told_of_data_that_cannot_be_used(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = folder / "unclear.csv"
    path.write_text("a,b\n" + "".join(f"{n},{n * 7}\n" for n in range(20)))
    assert run(["data", "inspect", str(path), "--json"]) == 2
    output = capsys.readouterr()
    found = json.loads(output.out)
    assert [one["column"] for one in found["profiles"]] == ["a", "b"]
    assert found["problems"][0]["severity"] == "error"
    assert found["problems"][0]["message"] in output.err


def test_notes_are_shown_beside_errors(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = folder / "latin.csv"
    lines = [f"café number {n},{n % 2}" for n in range(30)] + ["a row without a label"] * 5
    path.write_bytes("\n".join(["text,label", *lines]).encode("latin-1"))
    for arguments in ([], ["--json"], ["--data.bad_rows", "quarantine", "--task", "token_classification"]):
        assert run(["data", "inspect", str(path), *arguments]) == 2
        output = capsys.readouterr()
        assert "is not UTF-8" in output.err
        assert "Error" in output.err
    assert run(["data", "inspect", str(path), "--data.bad_rows", "quarantine", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["left_out"]["unreadable"] == 5


@pytest.fixture
def _small_products(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure products that take no time: how quick this machine is is nothing to test."""
    monkeypatch.setattr(doctor, "MATRIX_SIZES", {"cpu": 64})
    monkeypatch.setattr(doctor, "MEASURE_SECONDS", 0.01)


@pytest.mark.usefixtures("_small_products")
def test_doctor(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor", "--json"]) == 0
    findings = json.loads(capsys.readouterr().out)
    assert findings["problems"] == []
    assert findings["versions"]["tunesmith"]
    assert findings["machine"]["num_cores"] >= 1
    assert findings["precision"]["auto"] in {"fp32", "bf16"}
    assert findings["precision"]["fp32_tflops"] > 0
    assert findings["cache"]["folder"] == os.environ["TUNESMITH_CACHE"]
    assert run(["doctor"]) == 0
    assert "Everything is in order." in capsys.readouterr().out


def test_a_file_of_the_cache_may_go_while_it_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "kept").write_bytes(b"123")
    gone = tmp_path / "gone"
    listed = [tmp_path / "kept", gone]
    monkeypatch.setattr(Path, "rglob", lambda *_: iter(listed))
    monkeypatch.setattr(Path, "is_file", lambda _: True)
    assert doctor._examine_cache(tmp_path)["bytes"] == 3


def renamed(data: Path, folder: Path, name: str) -> Path:
    with data.open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    path = folder / name
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("id", "review", "verdict"), *((n, *row) for n, row in enumerate(rows[1:9]))])
    return path


def test_columns_of_other_files_can_be_named(
    trained: Path, data: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = str(renamed(data, folder, "other.csv"))
    assert run(["predict", str(trained), "--data", other]) == 2
    assert "Say which one it is: --columns text=COLUMN." in capsys.readouterr().err
    assert run(["predict", str(trained), "--data", other, "--columns", "text=review"]) == 0
    mapped = [json.loads(line)["label"] for line in capsys.readouterr().out.splitlines()]
    assert run(["predict", str(trained), "--data", str(data)]) == 0
    assert mapped == [json.loads(line)["label"] for line in capsys.readouterr().out.splitlines()][:8]
    assert run(["evaluate", str(trained), "--data", other, "--columns", "text=review,label=verdict", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["num_rows"] == 8
    assert run(["evaluate", str(trained), "--data", other, "--columns", "text=review"]) == 2
    assert "--columns label=COLUMN" in capsys.readouterr().err
    for columns, message in (("text=none", "has no column 'none'"), ("txt=review", "has no column for txt")):
        assert run(["predict", str(trained), "--data", other, "--columns", columns]) == 2
        assert message in capsys.readouterr().err
    assert run(["evaluate", str(trained), "--columns", "text=review"]) == 2
    assert "there is no such file" in capsys.readouterr().err


def test_columns_are_pairs() -> None:
    assert parse_columns(["text=a b", "label=toxic,obscene", "x=1,y=2"]) == {
        "text": "a b",
        "label": "toxic,obscene",
        "x": "1",
        "y": "2",
    }
    for text in ("review", "=review", "text=", ",text=a"):
        with pytest.raises(InputError, match="expected ROLE=COLUMN"):
            parse_columns([text])


def test_chat_with_a_classifier_says_what_to_use(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([], ["--message", "hello"]):
        assert run(["chat", str(trained), *arguments]) == 2
        assert f"tunesmith predict {trained} --text" in capsys.readouterr().err


def test_resume_says_what_it_needs(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["train", "--resume"]) == 2
    error = capsys.readouterr().err
    assert "give its folder as --output" in error
    assert "model" not in error.lower().replace("--model", ""), "what the run has is not asked for"
    for name, is_finished in (("a", False), ("b/seed-1", False), ("c", True)):
        place = tmp_path / "runs" / name
        place.mkdir(parents=True)
        (place / "config.yaml").write_text("model: lstm\ndata: x.csv\n")
        if is_finished:
            (place / "manifest.json").write_text("{}")
    for arguments in (["train", "--resume"], ["train", "--resume", "--output", "runs/nix"]):
        assert run(arguments) == 2
        error = capsys.readouterr().err
        assert "tunesmith train --resume --output runs/a\n" in error
        assert "tunesmith train --resume --output runs/b/seed-1\n" in error
        assert "runs/c" not in error


@pytest.fixture
def sample(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the sample be a small file: its package is not to be fetched in a test."""
    from tunesmith.data import samples

    path = folder / "sample.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = [(f'a "quoted"\nfilm, {n}', "fresh", "x") for n in range(5)]
        csv.writer(file, lineterminator="\n").writerows([("text", "label", "film"), *rows])
    monkeypatch.setattr(samples, "prepare", lambda _: path)


@pytest.mark.usefixtures("sample")
def test_a_sample_becomes_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "reviews.csv"
    assert run(["data", "export", "sample:rotten-tomatoes", str(target), "--rows", "3"]) == 0
    assert f"{target}: 3 rows with the columns text, label, film" in capsys.readouterr().out
    rows = list(csv.DictReader(io.StringIO(target.read_text(encoding="utf-8"), newline="")))
    assert [row["text"] for row in rows] == [f'a "quoted"\nfilm, {n}' for n in range(3)]
    assert run(["data", "export", "rotten-tomatoes", str(target)]) == 2
    assert "is there already" in capsys.readouterr().err
    assert run(["data", "export", "rotten-tomatoes", str(target), "--overwrite"]) == 0
    assert "--data.group film" in capsys.readouterr().out
    for arguments, message in (
        (["sample:rotten-tomato", "x.csv"], "Did you mean 'rotten-tomatoes'?"),
        (["rotten-tomatoes", str(tmp_path / "x.json")], "samples are written as CSV"),
        (["rotten-tomatoes", str(tmp_path / "none" / "x.csv")], "none"),
    ):
        status = run(["data", "export", *arguments])
        assert (status == 0) == (message == "none")
        assert message in "".join(capsys.readouterr())


@pytest.mark.usefixtures("_small_products")
def test_doctor_names_each_package_once_and_how_it_is_installed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "_is_installed", lambda package: package == "gguf")
    assert run(["doctor"]) == 0
    text = capsys.readouterr().out
    for line in (
        "bitsandbytes +missing: pip install 'tunesmith[quantize]'",
        "sacrebleu +missing: pip install 'tunesmith[generation]'",
        r"gguf +installed \(gguf\)",
        "tensorboard +missing; .*pip install tensorboard",
    ):
        assert len(re.findall(line.replace("[", r"\["), text)) == 1, line
    assert text.count("sacrebleu") == 1
    assert "[all]" not in text
    assert "[everything]" not in text


def test_notes_of_an_inspection_that_fails_are_shown(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = folder / "one.csv"
    path.write_text("text,label\n" + "".join(f"  a film {n} ,same\n" for n in range(40)))
    assert run(["data", "inspect", str(path), "--task", "classification"]) == 2
    error = capsys.readouterr().err
    assert "Error: " in error
    assert "Note: White space around texts or labels removed" in error


@pytest.mark.parametrize("columns", ["80", "120"])
def test_train_help_fits_the_terminal(
    columns: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    assert run(["train", "--help"]) == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= int(columns)
    for part in ("--train.epochs", "--method.rank", "method, only for freeze:", "--data.clean.duplicates", "--resume"):
        assert part in text
