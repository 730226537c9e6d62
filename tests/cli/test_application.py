from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import click
import pytest

from tunesmith import __version__
from tunesmith.cli import application
from tunesmith.cli.application import run
from tunesmith.types import InputError, Problem, RunError

TUNESMITH = [sys.executable, "-m", "tunesmith"]

ERRORS: dict[str, BaseException] = {
    "input": InputError([Problem("error", "first", "mend it"), Problem("error", "second", rows=("a.csv:3",))]),
    "run": RunError("the disk is full"),
    "interrupt": KeyboardInterrupt(),
    "crash": ZeroDivisionError("division by zero"),
    "abort": click.Abort(),
}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("TUNESMITH_DEBUG", raising=False)
    return tmp_path / "cache"


@pytest.fixture(autouse=True)
def _failing_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("failing_commands")
    for name, error in ERRORS.items():

        @click.command(name)
        def command(error: BaseException = error) -> None:
            raise error

        setattr(module, name, command)
        monkeypatch.setitem(application.COMMANDS, name, (f"failing_commands:{name}", "fails"))
    monkeypatch.setitem(sys.modules, "failing_commands", module)


def test_help_is_quick_and_loads_nothing_heavy() -> None:
    program = (
        "import sys, contextlib, io\n"
        "from tunesmith.cli.application import run\n"
        "with contextlib.redirect_stdout(io.StringIO()) as out:\n"
        "    assert run(['--help']) == 0\n"
        "assert 'Fine-tune a model on your data.' in out.getvalue()\n"
        "heavy = {'torch', 'pydantic', 'transformers', 'numpy', 'rich', 'yaml', 'datasets'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_help_takes_less_than_the_blink_of_an_eye() -> None:
    def measure() -> float:
        started = time.perf_counter()
        subprocess.run([*TUNESMITH, "--help"], check=True, capture_output=True)
        return time.perf_counter() - started

    assert min(measure() for _ in range(5)) < 0.4


def test_version_and_no_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"tunesmith {__version__}\n"
    assert run([]) == 0
    assert "Usage: tunesmith" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("command", "status"), [("input", 2), ("run", 1), ("interrupt", 130), ("abort", 130), ("crash", 1), ("nonsense", 2)]
)
def test_every_kind_of_error_has_its_status_and_no_traceback(
    command: str, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([command]) == status
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Traceback" not in captured.err
    assert captured.err


def test_all_problems_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    run(["input"])
    expected = "Error: first\n  → mend it\nError: second [a.csv:3]\n2 problems; nothing was done.\n"
    assert capsys.readouterr().err == expected


def test_a_crash_leaves_its_traceback_in_a_file(
    cache: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run(["crash"])
    (path,) = (cache / "crashes").iterdir()
    error = capsys.readouterr().err
    assert str(path) in error
    assert "ZeroDivisionError: division by zero" in error
    assert "Traceback (most recent call last)" in path.read_text()
    monkeypatch.setenv("TUNESMITH_DEBUG", "1")
    assert run(["crash"]) == 1
    assert "Traceback (most recent call last)" in capsys.readouterr().err


def test_a_crash_is_told_even_when_its_file_cannot_be_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "file" / "x"))
    assert run(["crash"]) == 1
    assert "The traceback could not be written." in capsys.readouterr().err


def test_a_reader_that_goes_away_is_no_error() -> None:
    program = "import sys; sys.argv = ['tunesmith', '--help']; from tunesmith.cli import main; sys.stdin.read(); main()"
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", program], stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdin is not None
        process.stdout.close()
        process.stdin.close()
        assert process.stderr.read() == ""
    assert process.returncode == 1


def test_statuses_of_the_real_program(tmp_path: Path) -> None:
    def status(*arguments: str) -> tuple[int, str]:
        done = subprocess.run([*TUNESMITH, *arguments], capture_output=True, text=True, check=False, cwd=tmp_path)
        assert "Traceback" not in done.stderr
        return done.returncode, done.stderr

    assert status("--version") == (0, "")
    assert status("tarin")[0] == 2
    code, error = status("train", "none.yaml", "--train.epoch", "3")
    assert code == 2
    assert "none.yaml cannot be read" in error
    assert "Did you mean --train.epochs?" in error
