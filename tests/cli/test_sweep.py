"""Several runs from one command: swept values, several files, and what is shown of them."""

from __future__ import annotations

import csv
import gc
import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from tiny import tiny_folder
from tunesmith.cli import collecting
from tunesmith.cli import train as train_module
from tunesmith.cli.application import run
from tunesmith.cli.console import ConsoleObserver
from tunesmith.cli.flags import FlagTree
from tunesmith.cli.sweep import variants
from tunesmith.config.lists import split_values
from tunesmith.run import RunConfig
from tunesmith.run.observers import RunPlan
from tunesmith.types import Problem, StepInfo

pytestmark = pytest.mark.usefixtures("folder")


@pytest.fixture(scope="module")
def flags(folder: Path) -> list[str]:
    with (folder / "reviews.csv").open("w", newline="") as file:
        rows = [(f"{word} film number {n}", word) for n in range(30) for word in ("good", "bad")]
        csv.writer(file).writerows([("text", "label"), *rows])
    flags = ["--model", str(tiny_folder(folder)), "--data", str(folder / "reviews.csv"), "--train.epochs", "1"]
    return [*flags, "--train.precision", "fp32", "--evaluation.num_resamples", "20", "--evaluation.baseline", "false"]


def test_every_combination_is_a_variant() -> None:
    tree = FlagTree(RunConfig)
    made, problems = variants(["train.seed=0,1", "train.learning-rate=1e-4, 3e-4"], tree)
    assert not problems
    assert [one.name for one in made] == [
        "seed-0-learning_rate-1e-4",
        "seed-0-learning_rate-3e-4",
        "seed-1-learning_rate-1e-4",
        "seed-1-learning_rate-3e-4",
    ]
    assert made[1].pairs == (("train.seed", "0"), ("train.learning_rate", "3e-4"))
    same, _ = variants(["model.name=a/b,c", "method.name=lora"], tree)
    assert [one.name for one in same] == ["model.name-a-b-method.name-lora", "model.name-c-method.name-lora"]
    assert [one.pairs for one in variants([], tree)[0]] == [()]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train.seed", "expected KEY=VALUE"),
        ("train.seed=", "expected KEY=VALUE"),
        ("train.sed=1,2", "Did you mean --train.seed"),
        ("output=a,b", "folder of its own"),
    ],
)
def test_sweeps_that_cannot_be_read_say_why(text: str, message: str) -> None:
    assert message in str(variants([text], FlagTree(RunConfig))[1][0])


def test_values_are_split_outside_of_brackets_and_quotes() -> None:
    assert split_values("[query,key], value") == ["[query,key]", "value"]
    assert split_values("{name: cosine, warmup: 3},linear") == ["{name: cosine, warmup: 3}", "linear"]
    assert split_values("'a,b',c") == ["'a,b'", "c"]


def test_a_sweep_leaves_a_folder_and_a_report_for_each_run(
    folder: Path, flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    place = folder / "swept"
    arguments = ["train", *flags, "--method", "lora", "--output", str(place), "--sweep", "train.seed=0,1"]
    assert run([*arguments, "method.rank=2,4"]) == 0
    names = ["seed-0-rank-2", "seed-0-rank-4", "seed-1-rank-2", "seed-1-rank-4"]
    assert sorted(path.name for path in place.iterdir() if path.is_dir()) == names
    output, error = capsys.readouterr()
    for name in names:
        assert (place / name / "manifest.json").is_file()
        assert (place / name / "report.html").is_file()
        assert json.loads((place / name / "adapter_config.json").read_text())["r"] == int(name[-1])
        assert name in output
    assert (place / "report.html").is_file()
    headings = [f"run {number} of 4: {name}" for number, name in enumerate(names, 1)]
    assert [line for line in error.splitlines() if line.startswith("run ") and " of 4: " in line] == headings
    assert error.count("reading the data of all runs") == 1
    assert run([*arguments, "method.rank=2,4", "--resume", "--quiet"]) == 0
    assert run([*arguments, "method.rank=2,4"]) == 2
    assert "already holds a finished run" in capsys.readouterr().err


def test_methods_and_models_are_swept(folder: Path, flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    place = folder / "methods"
    arguments = ["train", *flags, "--output", str(place), "--sweep", "method=full,lora,freeze", "--quiet"]
    assert run(arguments) == 0
    assert (place / "method-full" / "model.safetensors").is_file()
    assert (place / "method-lora" / "adapter_model.safetensors").is_file()
    assert (place / "method-freeze" / "report.html").is_file()
    headings = [line for line in capsys.readouterr().err.splitlines() if " of 3: " in line]
    assert headings == [
        f"run {number} of 3: method-{name}" for number, name in enumerate(("full", "lora", "freeze"), 1)
    ]


def test_runs_of_other_tasks_are_shown_in_tables_of_their_own(
    folder: Path, flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["train", *flags, "--output", str(folder / "tasks"), "--sweep", "task=classification,masked_lm"]
    assert run(arguments) == 0
    output, _ = capsys.readouterr()
    assert [output.count(name) for name in ("Accuracy", "Pseudo-perplexity")] == [1, 1], output
    assert (folder / "tasks" / "report.html").is_file()


def test_several_files_are_several_runs(folder: Path, flags: list[str]) -> None:
    for name, rank in (("small", 2), ("large", 4)):
        (folder / f"{name}.yaml").write_text(f"method: {{name: lora, rank: {rank}}}\n")
    files = [str(folder / "small.yaml"), str(folder / "large.yaml")]
    assert run(["train", *files, *flags, "--output", str(folder / "files"), "--quiet"]) == 0
    assert sorted(path.name for path in (folder / "files").iterdir() if path.is_dir()) == ["large", "small"]
    for name in ("small", "large"):
        (folder / f"{name}.yaml").write_text(f"method: {{name: lora}}\noutput: {folder / 'own' / name}\n")
    assert run(["train", *files, *flags, "--sweep", "train.seed=7", "--quiet"]) == 0
    assert (folder / "own" / "large" / "seed-7" / "manifest.json").is_file()


def configure(*arguments: str) -> list[train_module._Plan]:
    """Return the runs that a command would train."""
    parameters = ("--model", "lstm", "--data", "reviews.csv", *arguments)
    context = train_module.train_command.make_context("train", list(parameters))
    given = context.params
    plans, _ = train_module._configure(context, given["configs"], given["sweep"], resume=False, base={})
    return plans


def write(path: Path, text: str = "train: {epochs: 1}\n") -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return str(path)


def test_files_of_one_name_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    def names(*files: str) -> list[str]:
        return [plan.name for plan in configure("--output", "out", *[write(Path(file)) for file in files])]

    assert names("one.yaml", "two.yaml") == ["one", "two"]
    assert names("a/config.yaml", "b/config.yaml", "two.yaml") == ["a-config", "b-config", "two"]
    assert names("a/x/config.yaml", "b/x/config.yaml", "b/config.yaml") == ["a-x-config", "b-x-config", "b-config"]
    assert names("config.yaml", "config.yml") == ["config.yaml", "config.yml"]
    assert names("config.yaml", "a/../a/config.yaml")[1] == "a-config"
    plans = configure("--output", "out", "a/config.yaml", "b/config.yaml", "--sweep", "train.seed=0")
    assert [plan.name for plan in plans] == ["a-config-seed-0", "b-config-seed-0"]
    assert [plan.config.output for plan in plans] == ["out/a-config/seed-0", "out/b-config/seed-0"]


def test_a_common_report_is_written_only_where_it_replaces_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "here"
    place.mkdir()
    monkeypatch.chdir(place)

    def place_for(*arguments: str) -> Path | None:
        return train_module._place_of_all(configure(*arguments))

    def files(*outputs: str) -> list[str]:
        return [write(Path(f"{index}.yaml"), f"output: {output}\n") for index, output in enumerate(outputs)]

    swept = ("--sweep", "train.seed=0,1")
    assert place_for("--output", "out", *swept) == Path("out")
    assert place_for("--output", "out", *files("x", "y"), *swept) == Path("out")
    assert place_for(*swept) == Path("runs/reviews-lstm-full")
    assert place_for(*files("runs/x", "runs/y")) == Path("runs")
    assert place_for(*files("x", "y")) is None  # would be ./report.html
    assert place_for("--output", ".", *swept) is None
    assert place_for(*files("../x", "../y")) is None
    assert place_for(*files("x/1", "y/1")) is None
    write(Path("out/config.yaml"))  # a run, which has a report
    assert place_for("--output", "out", *swept) is None


def test_runs_that_cannot_be_trained_are_refused(
    folder: Path, flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["train", *flags, "--output", str(folder / "refused")]
    assert run([*arguments, "--method", "lora", "--sweep", "model=sample:minilm,lstm"]) == 2
    assert "the model 'lstm' is trained from scratch" in capsys.readouterr().err
    assert run([*arguments, "--method", "lora", "--sweep", "train.sed=0,1", "--train.epochs", "x"]) == 2
    error = capsys.readouterr().err
    assert "train.sed" in error
    assert "train.epochs" in error
    assert not (folder / "refused").exists()


def test_a_run_that_gives_up_leaves_the_reports_of_the_others(
    folder: Path, flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    place = folder / "failing"
    arguments = ["train", *flags, "--method", "lora", "--output", str(place), "--train.batch_size", "4"]
    assert run([*arguments, "--train.clip_norm", "null", "--sweep", "train.learning_rate=1e-3,1e38"]) == 1
    assert "1 of 2 runs could not go on" in capsys.readouterr().err
    assert (place / "learning_rate-1e-3" / "report.html").is_file()
    assert not (place / "learning_rate-1e38" / "report.html").exists()


def plan(steps: int) -> RunPlan:
    return RunPlan(
        task="classification",
        model="m",
        method="lora",
        layout="flat",
        precision="fp32",
        device="cpu",
        num_parameters=100,
        num_trained_parameters=10,
        num_rows={"train": 5},
        total_steps=steps,
        first_step=0,
        folder=Path("x"),
    )


def test_garbage_is_collected_as_usual_once_training_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    frozen: list[int] = []
    monkeypatch.setattr(gc, "freeze", lambda: frozen.append(1))
    usual = gc.get_threshold()
    collecting.start()
    try:
        assert gc.get_threshold() != usual
        for name in "ab":
            ConsoleObserver(quiet=True, heading=name).started(plan(10))
            assert gc.get_threshold() == usual
        assert len(frozen) == 1
    finally:
        gc.set_threshold(*usual)


def test_each_run_is_shown_below_its_heading() -> None:
    stream = io.StringIO()
    console = Console(file=stream, width=120, color_system=None)
    first, second = (ConsoleObserver(console=console, heading=f"run {number} of 2") for number in (1, 2))
    for observer in (first, second):
        observer.working("reading the data")
        observer.started(plan(2))
        for step in (1, 2):
            observer.stepped(StepInfo(step, step / 10, 1.0, 1e-3, 1.0, 4, 50, 0.1), 2)
        observer.finished({"status": "finished", "steps": 2, "seconds": 3.0})
        observer.close()
    lines = stream.getvalue().splitlines()
    assert [lines.index(f"run {number} of 2") for number in (1, 2)] == [0, len(lines) // 2]
    assert lines[1] == "reading the data …"


def test_a_quiet_command_says_of_which_run_a_warning_is() -> None:
    stream = io.StringIO()
    console = Console(file=stream, width=120, color_system=None)
    for number in (1, 2):
        observer = ConsoleObserver(quiet=True, console=console, heading=f"run {number} of 2")
        observer.working("reading the data")
        observer.noted(Problem("note", "nothing much"))
        if number == 2:
            observer.noted(Problem("warning", "beware"))
        observer.finished({})
    assert stream.getvalue().splitlines() == ["run 2 of 2", "Warning: beware"]
