"""Many runs with one question: which method, which settings, how good over other cuts of the rows."""

from tunesmith.study.board import Board, Watcher
from tunesmith.study.contest import run_contest
from tunesmith.study.contest_config import CompareConfig
from tunesmith.study.opened_contest import Study

__all__ = ["Board", "CompareConfig", "Study", "Watcher", "run_contest"]
