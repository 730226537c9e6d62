"""The commands from end to end, in one process, on a model so small that only the plumbing counts."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tunesmith.cli.application import run

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
    assert "rank" not in config


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
    assert run(["data", "inspect", str(path)]) == 0
    assert "comma (19)" in capsys.readouterr().out


def test_notes_are_shown_beside_errors(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = folder / "latin.csv"
    lines = [f"café number {n},{n % 2}" for n in range(30)] + ["a row, with, commas,1"] * 5
    path.write_bytes("\n".join(["text,label", *lines]).encode("latin-1"))
    for arguments in ([], ["--json"], ["--data.bad_rows", "quarantine", "--task", "token_classification"]):
        assert run(["data", "inspect", str(path), *arguments]) == 2
        output = capsys.readouterr()
        assert "is not UTF-8" in output.err
        assert "Error" in output.err
    assert run(["data", "inspect", str(path), "--data.bad_rows", "quarantine", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["left_out"]["unreadable"] == 5


def test_doctor(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    assert run(["doctor", "--json"]) == 0
    findings = json.loads(capsys.readouterr().out)
    assert findings["problems"] == []
    assert findings["versions"]["tunesmith"]
    assert findings["machine"]["num_cores"] >= 1
    assert findings["precision"]["auto"] in {"fp32", "bf16"}
    assert findings["precision"]["fp32_tflops"] > 0
    assert findings["cache"]["folder"] == str(folder / "cache")
    assert run(["doctor"]) == 0
    assert "Everything is in order." in capsys.readouterr().out


@pytest.mark.parametrize("columns", ["80", "120"])
def test_train_help_fits_the_terminal(
    columns: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    assert run(["train", "--help"]) == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= int(columns)
    for part in ("--train.epochs", "--method.rank", "method, only for lora:", "--data.clean.duplicates", "--resume"):
        assert part in text
