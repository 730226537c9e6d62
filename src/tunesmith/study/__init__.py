"""Many runs with one question: which method, which settings, how good over other cuts of the rows."""

from tunesmith.study.board import Board, Watcher
from tunesmith.study.contest import run_contest
from tunesmith.study.contest_config import CompareConfig
from tunesmith.study.cross_validation import run_cross_validation
from tunesmith.study.cross_validation_config import CrossValidationConfig
from tunesmith.study.opened_contest import Study
from tunesmith.study.opened_studies import CrossValidation, Search
from tunesmith.study.plan import Plan, make_plan
from tunesmith.study.plan_config import PlanConfig
from tunesmith.study.search import run_search
from tunesmith.study.search_config import SearchConfig

__all__ = [
    "Board",
    "CompareConfig",
    "CrossValidation",
    "CrossValidationConfig",
    "Plan",
    "PlanConfig",
    "Search",
    "SearchConfig",
    "Study",
    "Watcher",
    "make_plan",
    "run_contest",
    "run_cross_validation",
    "run_search",
]
