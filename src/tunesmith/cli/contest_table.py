"""The live table of a contest: every method and seed, what is tried, the best so far, the time there is."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith.cli import terminal
from tunesmith.cli.console import PLAIN_SECONDS
from tunesmith.cli.tables import new_table
from tunesmith.files.append import GrowingFile
from tunesmith.readable import duration, metric_title, number
from tunesmith.study.board import Board, Cell, Line, Watcher
from tunesmith.types import Problem

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.live import Live
    from rich.table import Table

REFRESHES = 4
"""A second."""
_STYLES = {"waiting": "dim", "tuning": "cyan", "training": "cyan", "done": "", "failed": "red", "cut": "dim"}
_PROBLEM_STYLES = {"error": "bold red", "warning": "yellow", "note": "cyan"}


class LiveTable(Watcher):
    """Shows a contest while it goes on: a table that changes in place, in a terminal or a notebook; else lines."""

    def __init__(self, console: Console | None = None, *, quiet: bool = False) -> None:
        self.console = console or terminal.console(stderr=True)
        self.quiet = quiet
        self._live: Live | None = None
        self._last_line, self._last_time = "", 0.0

    def changed(self, board: Board) -> None:
        if self.quiet:
            return
        if not (self.console.is_terminal or self.console.is_jupyter):
            self._write_line(board)
            return
        if self._live is None:
            from rich.live import Live

            self._live = Live(console=self.console, auto_refresh=False)
            self._live.start()
        now = time.monotonic()
        if now - self._last_time >= 1 / REFRESHES or board.progress is None:
            self._last_time = now
            self._live.update(render(board), refresh=True)

    def noted(self, problem: Problem) -> None:
        if self.quiet and problem.severity == "note":
            return
        from rich.text import Text

        text = Text(f"{problem.severity.capitalize()}: ", style=_PROBLEM_STYLES[problem.severity])
        text.append(terminal.visible(str(problem)), style="default")
        self.console.print(text, soft_wrap=True)

    def close(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _write_line(self, board: Board) -> None:
        """Write a line when something else is worked on, and now and then while it goes on."""
        now = time.monotonic()
        if board.working and (board.working != self._last_line or now - self._last_time >= PLAIN_SECONDS):
            self._last_line, self._last_time = board.working, now
            self.console.print(terminal.visible(status(board)), soft_wrap=True)


class ContestLog(Watcher):
    """Adds a line to ``contest.log`` whenever another training begins, and every note: for whoever looks in later."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: GrowingFile | None = None
        self._last = ""

    def changed(self, board: Board) -> None:
        if board.working and board.working != self._last:
            self._last = board.working
            self._add(status(board))

    def noted(self, problem: Problem) -> None:
        self._add(f"{problem.severity}: {problem}")

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _add(self, text: str) -> None:
        if self._file is None:
            self._file = GrowingFile(self._path)
        self._file.append(f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {text}\n".encode())


def render(board: Board) -> RenderableType:
    """Return the table with the line below it."""
    from rich.console import Group
    from rich.text import Text

    return Group(table(board), Text(terminal.visible(status(board)), no_wrap=True, overflow="ellipsis"))


def table(board: Board) -> Table:
    """Return a row a method: what is tried for its rate, a cell for each seed, the mean."""
    from rich.text import Text

    found = new_table()
    found.add_column("method", no_wrap=True)
    found.add_column("learning rate", no_wrap=True)
    seeds = list(dict.fromkeys(seed for line in board.lines.values() for seed in line.cells))
    for seed in seeds:
        found.add_column(f"seed {seed}", justify="right", no_wrap=True)
    found.add_column(f"mean {metric_title(board.metric)}", justify="right", no_wrap=True)
    best = board.best
    for line in board.lines.values():
        if not line.cells:  # nothing is trained for it
            continue
        style = "bold green" if line is best else ""
        mean = Text(number(line.mean) if line.mean is not None else "", style=style)
        cells = [_cell(line.cells[seed], board) for seed in seeds]
        found.add_row(Text(line.name, style=style), Text(_rate(line), style=_STYLES[line.state]), *cells, mean)
    return found


def status(board: Board) -> str:
    """Return what is worked on, how far it is, and the time spent and left."""
    parts = [board.working]
    if board.progress is not None:
        parts.append(f"step {board.progress[0]}/{board.progress[1]}")
    if (best := board.best) is not None:
        parts.append(f"best so far: {best.name} {number(best.mean)}")
    spent = duration(board.spent)
    parts.append(f"{spent} of {duration(board.budget)}" if board.budget is not None else f"{spent} so far")
    if board.left:
        parts.append(f"about {duration(board.left)} to come")
    return "  ".join(filter(None, parts))


def _rate(line: Line) -> str:
    if line.chosen_rate is not None:
        return f"{line.chosen_rate:g}"
    if line.state == "tuning":
        return f"trying ({len(line.rates)} so far)"
    return line.reason or ("default" if line.state in ("training", "done") else line.state)


def _cell(cell: Cell, board: Board) -> Any:
    from rich.text import Text

    if cell.state == "training" and board.progress is not None:
        step, total = board.progress
        return Text(f"{step / max(total, 1):.0%}", style=_STYLES["training"])
    return Text(number(cell.value) if cell.value is not None else cell.state, style=_STYLES[cell.state])
