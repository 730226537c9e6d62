"""Keys by their former names, on the command line and in files: they work, and it is said where they are now."""

from __future__ import annotations

import csv
from pathlib import Path

import click
import pytest

from tunesmith.cli.application import run
from tunesmith.cli.flags import FlagTree, split_flags, write_help
from tunesmith.cli.sweep import variants
from tunesmith.config.migrate import VERSION
from tunesmith.run import RunConfig

pytestmark = pytest.mark.usefixtures("folder")

TREE = FlagTree(RunConfig)


def test_former_flags_stand_for_the_present_keys() -> None:
    flags = ["--train.layout", "flat", "--train.micro-batch-tokens=64", "--train.deterministic", "--train.epochs", "2"]
    parsed = split_flags(flags, TREE, {})
    assert not parsed.problems
    assert parsed.pairs == (
        ("compute.layout", "flat"),
        ("compute.micro_batch_tokens", "64"),
        ("compute.deterministic", "true"),
        ("train.epochs", "2"),
    )
    (note,) = parsed.notes
    assert note.severity == "note"
    assert note.message == (
        "--train.layout is --compute.layout now, --train.micro_batch_tokens is --compute.micro_batch_tokens now, "
        "--train.deterministic is --compute.deterministic now."
    )
    assert split_flags(["--compute.layout", "flat"], TREE, {}).notes == ()


def test_both_names_of_a_flag_are_refused() -> None:
    parsed = split_flags(["--train.layout", "flat", "--compute.layout", "padded"], TREE, {})
    (problem,) = parsed.problems
    assert problem.message.startswith("--train.layout and --compute.layout are both given")


def test_other_flags_name_the_nearest_as_ever() -> None:
    (problem,) = split_flags(["--train.layot", "flat"], TREE, {}).problems
    assert "--compute.layout" in problem.fix


def test_a_former_name_is_swept() -> None:
    made, problems = variants(["train.layout=flat,padded"], TREE)
    assert not problems
    assert [one.pairs for one in made] == [(("compute.layout", "flat"),), (("compute.layout", "padded"),)]


def test_the_version_is_no_flag() -> None:
    formatter = click.HelpFormatter()
    write_help(formatter, TREE)
    assert "--version" not in formatter.getvalue()
    assert "--compute.device" in formatter.getvalue()
    (problem,) = split_flags(["--version", "1"], TREE, {}).problems
    assert problem.message == "There is no option --version."


@pytest.fixture(scope="module")
def data(folder: Path) -> Path:
    with (folder / "reviews.csv").open("w", newline="") as file:
        rows = [(f"{word} film number {n}", word) for n in range(20) for word in ("good", "bad")]
        csv.writer(file).writerows([("text", "label"), *rows])
    return folder / "reviews.csv"


OLD = "model: {name: lstm, embedding_size: 8, hidden_size: 8}\ntrain: {epochs: 1, device: cpu, keep_checkpoints: 2}\n"


@pytest.mark.parametrize("quiet", [False, True])
def test_an_old_file_and_old_flags_run_and_say_what_moved(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], quiet: bool
) -> None:
    path = tmp_path / "old.yaml"
    path.write_text(OLD, encoding="utf-8")
    flags = ["--data", str(data), "--output", str(tmp_path / "run"), "--evaluation.num_resamples", "0"]
    assert run(["train", str(path), *flags, "--train.checkpoint_steps", "2", *(["--quiet"] if quiet else [])]) == 0
    told = " ".join(capsys.readouterr().err.split())
    for part in (
        "old.yaml: train.device is compute.device now, train.keep_checkpoints is compute.keep_checkpoints now.",
        "--train.checkpoint_steps is --compute.checkpoint_steps now.",
    ):
        assert (part in told) is not quiet
    saved = (tmp_path / "run" / "config.yaml").read_text(encoding="utf-8")
    assert saved.startswith(f"version: {VERSION}\nmodel:\n")
    assert "\ncompute:\n  device: cpu\n" in saved
    assert "checkpoint_steps: 2\n  keep_checkpoints: 2\n" in saved


def test_a_flag_goes_before_a_file_whichever_names_they_use(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "old.yaml"
    path.write_text(OLD, encoding="utf-8")
    flags = ["--data", str(data), "--output", str(tmp_path / "run"), "--evaluation.num_resamples", "0", "--quiet"]
    assert run(["train", str(path), *flags, "--compute.keep_checkpoints", "4"]) == 0
    assert "keep_checkpoints: 4\n" in (tmp_path / "run" / "config.yaml").read_text(encoding="utf-8")


def test_wrong_values_of_former_keys_are_told_with_what_moved(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "old.yaml"
    path.write_text(OLD.replace("cpu", "abacus"), encoding="utf-8")
    assert run(["train", str(path), "--data", str(data), "--output", str(tmp_path / "run")]) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert "compute.device: expected auto, cpu" in told
    assert "train.device is compute.device now" in told


def test_what_a_newer_tunesmith_has_written_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "new.yaml"
    path.write_text(f"version: {VERSION + 1}\nmodel: lstm\n", encoding="utf-8")
    assert run(["train", str(path), "--data", "x.csv"]) == 2
    assert f"reads configurations up to version {VERSION}" in " ".join(capsys.readouterr().err.split())
