"""Many runs with one question: which method, which settings, how good over other cuts of the rows."""

from tunesmith.study.board import Board, Watcher
from tunesmith.study.contest import run_contest
from tunesmith.study.contest_config import CompareConfig
from tunesmith.study.opened_contest import Study
from tunesmith.study.plan import Plan, make_plan
from tunesmith.study.plan_config import PlanConfig

__all__ = ["Board", "CompareConfig", "Plan", "PlanConfig", "Study", "Watcher", "make_plan", "run_contest"]
