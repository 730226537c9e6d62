"""What others wrote is shown, never obeyed: escapes, C1 controls, overrides of direction, in every command's output."""

from __future__ import annotations

import csv
import io
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith.cli import terminal
from tunesmith.cli.application import run
from tunesmith.cli.console import ConsoleObserver
from tunesmith.cli.tables import evaluation_table, new_table
from tunesmith.types import Problem

pytestmark = pytest.mark.usefixtures("folder")

ORDERS = {
    "title": "\x1b]0;owned\x07",
    "clipboard": "\x1b]52;c;cm0gLXJm\x1b\\",
    "link": "\x1b]8;;http://a.b\x1b\\text\x1b]8;;\x1b\\",
    "clear": "\x1b[2J\x1b[H",
    "C1": "\x9b31mred\x9d0;owned\x9c",
    "back": "good\x08\x08\x08\x08evil",
    "return": "good\revil",
    "override": "\u202egpj.exe\u202c",
    "isolate": "\u2066x\u2069",
    "delete": "a\x7fb",
    "tags": "a\U000e0041b",
    "half": "a\udc9bb",
    "line": "a\u2028b",
}
DANGEROUS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u2028\u2029\U000e0000-\U000e007f\ud800-\udfff]"
)
OWN_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


def is_harmless(text: str) -> bool:
    return DANGEROUS.search(text) is None


@given(st.text(st.characters(), max_size=30))
def test_any_text_becomes_visible_and_plain_text_stays(text: str) -> None:
    shown = terminal.visible(text)
    assert is_harmless(shown)
    assert terminal.visible(shown) == shown
    plain = re.sub(DANGEROUS, "", text)
    assert terminal.visible(plain).replace("\\ufeff", "\ufeff").startswith(plain[:1])


def test_scripts_keep_their_marks() -> None:
    for text in ("שלום\u200f world", "می\u200cخواهم", "👩\u200d💻", "tab\tand\nline", "[bold]no markup[/bold] :smile:"):
        assert terminal.visible(text) == text


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
def test_messages_tables_and_notes_show_orders(order: str, capsys: pytest.CaptureFixture[str]) -> None:
    terminal.say(f"a {order} b", err=True, fg="red")
    console = terminal.console(io.StringIO(), force_terminal=True, width=200)
    table = new_table(f"[title] {order}", [f"[head] {order}"])
    table.add_row(f"[/cell] {order}")
    console.print(table)
    console.print(f"[text] {order}", style="bold")
    observer = ConsoleObserver(console=console)
    observer.noted(Problem("warning", f"[note] {order}", f"[fix] {order}", rows=(f"[row] {order}",)))
    observer.working(f"[stage] {order}")
    observer.close()
    printed = console.file.getvalue()  # type: ignore[attr-defined]
    error = capsys.readouterr().err
    for part in ("[title]", "[head]", "[/cell]", "[text]", "[note]", "[fix]", "[row]", "[stage]"):
        assert part in printed
    assert is_harmless(OWN_COLOURS.sub("", error))
    for control in ("\x1b[2K", "\x1b[1A", "\x1b[?25l", "\x1b[?25h", "\r"):  # of the progress line's own
        printed = printed.replace(control, "")
    assert is_harmless(OWN_COLOURS.sub("", printed))


def test_what_programs_read_keeps_its_data() -> None:
    value = {f"key {order}": [order, 0.5, None] for order in ORDERS.values()}
    text = terminal.to_json(value)
    assert json.loads(text) == value
    assert is_harmless(text)
    assert json.loads(terminal.to_json({"a": [float("nan"), 1.0]})) == {"a": [None, 1.0]}


def test_a_narrow_terminal_gets_what_it_can_show() -> None:
    program = (
        "from tunesmith.cli import terminal; terminal.allow_any_text(); terminal.say('→ 汉字 é'); "
        "terminal.say_json({'a': '→ 汉字 é'}); terminal.console().print('→ 汉字 é')"
    )
    environment = {"PYTHONIOENCODING": "ascii", "PATH": "", "PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, env=environment)
    lines = done.stdout.decode("ascii").splitlines()
    assert json.loads(lines[1]) == {"a": "→ 汉字 é"}
    assert lines[0] == lines[2].strip() == "\\u2192 \\u6c49\\u5b57 \\xe9"


def test_warnings_of_libraries_are_a_line_each() -> None:
    program = (
        "import sys, warnings; from tunesmith.cli import main, application\n"
        "def noisy(arguments):\n"
        "    for n in range(99): warnings.warn_explicit('mind\\x1b]0;x\\x07\\nthe gap', UserWarning, f'f{n}', n + 1)\n"
        "    return 0\n"
        "application.run = noisy; main()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stderr == "UserWarning of a library: mind\\x1b]0;x\\x07 the gap\n"


def test_undefined_metrics_are_called_so() -> None:
    nothing = {"value": None, "low": None, "high": None}
    metrics = {"accuracy": {"value": 1.0, "low": 1.0, "high": 1.0}, "roc_auc": nothing}
    evaluation = {"split": "test", "num_rows": 4, "confidence": 0.95, "metrics": metrics, "main_metric": "accuracy"}
    console = terminal.console(io.StringIO(), width=100)
    console.print(evaluation_table(evaluation, 100))
    assert re.search(r"ROC AUC\s+undefined", console.file.getvalue())  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def hostile(folder: Path) -> Path:
    """Rows, labels and a column whose names and texts are orders, and an lstm trained on them."""
    place = folder / "hostile"
    place.mkdir()
    orders = [order for name, order in ORDERS.items() if name not in ("half", "line", "return")]
    rows = [
        (f"[red]{word}[/red] {orders[n % len(orders)]} {n}", f"[{word}] \x1b]0;{word}\x07\u202e", "x")
        for n in range(60)
        for word in ("good", "bad")
    ]
    with (place / "a.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("text", "label", "other \x1b[31m[bold]"), *rows])
    return place


def check(arguments: list[str], capsys: pytest.CaptureFixture[str], status: int = 0) -> str:
    assert run(arguments) == status
    captured = capsys.readouterr()
    both = captured.out + captured.err
    assert is_harmless(OWN_COLOURS.sub("", both)), arguments
    return both


def test_no_command_obeys_the_data(hostile: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = str(hostile / "a.csv")
    shown = check(["data", "inspect", data, "--data.header", "--data.clean.control_characters", "false"], capsys)
    assert "[bold]" in shown
    assert "[red]good[/red]" in shown
    assert "\\x1b" in shown
    out = hostile / "run"
    flags = ["--model.embedding_size", "8", "--model.hidden_size", "8", "--train.epochs", "1"]
    flags += [
        "--evaluation.num_resamples",
        "20",
        "--task",
        "classification",
        "--data.header",
        "true",
        "--data.clean.control_characters",
        "false",
    ]
    check(["train", "--model", "lstm", "--data", data, "--output", str(out), *flags], capsys)
    shown = check(["predict", str(out), "--text", "a \x9b31m \x1b]0;b\x07", "--probabilities"], capsys)
    row = json.loads(shown)
    assert row["text"] == "a \x9b31m \x1b]0;b\x07"
    assert any("\x1b]0;good\x07" in label for label in row["probabilities"])
    check(["evaluate", str(out), "--data", data], capsys)
    found = json.loads(check(["evaluate", str(out), "--data", data, "--json"], capsys))
    assert any("\x1b]0;good\x07" in label for label in found["labels"])


Command = Callable[[Path, str], list[str]]
ERRORS: dict[str, Command] = {
    "command": lambda place, order: [f"tra{order}in"],
    "option": lambda place, order: ["train", f"--{order}", "x"],
    "value": lambda place, order: ["train", "--model", "lstm", "--data", "x", "--method", order],
    "number": lambda place, order: ["data", "inspect", "x", "--rows", order],
    "file": lambda place, order: ["data", "inspect", str(place / f"none{order}.csv")],
    "run": lambda place, order: ["evaluate", str(place / f"none{order}")],
    "configuration": lambda place, order: ["train", str(place / f"none{order}.yaml")],
    "argument": lambda place, order: ["doctor", order],
    "sample": lambda place, order: ["data", "export", f"sample:{order}", "x.csv"],
}


@pytest.mark.parametrize("order", [ORDERS["title"], ORDERS["C1"], ORDERS["override"], ORDERS["half"], ORDERS["return"]])
@pytest.mark.parametrize("command", ERRORS.values(), ids=ERRORS)
def test_errors_do_not_obey_the_command_line(
    tmp_path: Path, command: Command, order: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "Error: " in check(command(tmp_path, order), capsys, status=2)


def test_a_crash_does_not_obey_its_message(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def crash() -> None:
        raise ZeroDivisionError(ORDERS["title"])

    monkeypatch.setattr("tunesmith.cli.doctor.examine", crash)
    check(["doctor"], capsys, status=1)


def test_markup_is_imported_nowhere() -> None:
    """Text goes through the door as it is; whoever reads markup again brings the lost brackets back."""
    package = Path(terminal.__file__).parent
    for path in package.glob("*.py"):
        source = path.read_text(encoding="utf-8")
        assert "rich.markup" not in source, path.name
        assert "from_markup" not in source, path.name
        assert not re.search(r"\"[^\"\n]*\[/?(bold|red|green|dim|cyan|yellow)", source), path.name
        if path.name != "terminal.py":
            assert not re.search(r"click\.(s?echo|secho)\(|(?<![\w.])print\(|(?<![\w.])Console\(", source), path.name
