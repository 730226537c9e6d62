"""What the page says about a contest between methods, in finished words: templates only lay it out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from tunesmith import readable
from tunesmith.report.facts import Fact
from tunesmith.report.studies.differences import Forest, UncertaintyRow, augmentation_of, forest_of, uncertainty_of
from tunesmith.report.studies.forgetting import ForgettingTable, forgetting_of
from tunesmith.report.studies.learning import LearningView, learning_of
from tunesmith.report.studies.methods import DONE, MethodTable, RunTable, method_table, ranked, run_table
from tunesmith.report.studies.pareto import ParetoFigure, pareto_figures
from tunesmith.report.studies.records import Budget, Contest, Sharing
from tunesmith.report.studies.study import Masthead, facts_of_study, masthead, rests_on, status_notice, took
from tunesmith.report.studies.table import Link, RunLink
from tunesmith.report.studies.tuning import TuningView, tuning_of
from tunesmith.report.studies.words import MetricWords, plural, tuned_words_of, when, words_of


@dataclass(frozen=True, slots=True)
class SharedRow:
    """One thing that runs shared."""

    what: str
    made: str
    reused: str
    saved: str


@dataclass(frozen=True, slots=True)
class SharingView:
    """What sharing saved."""

    saved: str
    rows: Sequence[SharedRow]


@dataclass(frozen=True, slots=True)
class BudgetView:
    """The time given and spent."""

    sentence: str
    share: float
    """Spent of what was given, at most 1."""
    cuts: Sequence[str]


@dataclass(frozen=True, slots=True)
class ContestView:
    """All that the page says about a contest."""

    masthead: Masthead
    notices: Sequence[str]
    verdict: str
    advice: str
    """What to take."""
    basis: str
    tiles: Sequence[Fact]
    metric: str
    tuned: str
    """The validation metric that rates are chosen by."""
    metric_title: str
    interval_name: str
    has_one_seed: bool
    pareto: Sequence[ParetoFigure]
    methods: MethodTable
    forest: Forest | None
    augmentation: Forest | None
    tuning: TuningView | None
    learning: LearningView | None
    uncertainty: Sequence[UncertaintyRow]
    forgetting: ForgettingTable | None
    runs: RunTable | None
    sharing: SharingView | None
    budget: BudgetView | None
    openings: Sequence[tuple[str, RunLink]]
    num_openings: str
    notes: Sequence[str]
    facts: Sequence[Fact]
    sections: dict[str, str] = field(default_factory=dict)
    """Anchor -> heading, of those that there is something to show in."""


def contest_view(contest: Contest, link: Link) -> ContestView:
    """Put a contest into words and drawings; ``link`` finds the pages of its runs."""
    words, tuned = words_of(contest), tuned_words_of(contest)
    parts = {
        "pareto": pareto_figures(contest, words),
        "methods": method_table(contest, words),
        "forest": forest_of(contest, words),
        "augmentation": augmentation_of(contest, words),
        "tuning": tuning_of(contest, tuned, link),
        "learning": learning_of(contest, tuned),
        "uncertainty": uncertainty_of(contest, words),
        "forgetting": forgetting_of(contest),
        "runs": run_table(contest, words, link),
    }
    titles = {
        "pareto": "Quality and cost",
        "methods": "Methods",
        "forest": "Differences",
        "augmentation": "Augmentation",
        "uncertainty": "Uncertainty",
        "forgetting": "Forgetting",
        "tuning": "Tuning",
        "learning": "Learning",
        "runs": "Runs",
        "study": "The study",
    }
    return ContestView(
        masthead=masthead(contest, _title(contest)),
        notices=status_notice(contest, *_progress(contest)),
        verdict=contest.verdict or _no_verdict(contest),
        advice=contest.recommended.reason if contest.recommended else "",
        basis=_basis(contest, words),
        tiles=_tiles(contest, words),
        metric=words.axis,
        tuned=tuned.axis,
        metric_title=words.title,
        interval_name=f"{readable.percent(contest.confidence)} interval",
        has_one_seed=_most_seeds(contest) == 1,
        sharing=_sharing(contest.sharing),
        budget=_budget(contest.budget),
        openings=[(when(o.time), RunLink(o.run, link(o.run))) for o in contest.openings],
        num_openings=readable.count(contest.test_openings),
        notes=contest.notes,
        facts=facts_of_study(contest),
        sections={anchor: title for anchor, title in titles.items() if parts.get(anchor, True)},
        **parts,  # type: ignore[arg-type]  # each of the kind of its field
    )


def _most_seeds(contest: Contest) -> int:
    return max((len(method.runs) for method in contest.methods), default=len(contest.seeds))


def _title(contest: Contest) -> str:
    number = len(contest.methods)
    if number == 1:
        return contest.methods[0].shown
    return plural(number, "method")


def _progress(contest: Contest) -> tuple[int, int]:
    """Return how many of the final runs are done, and how many there are to be."""
    runs = [run for method in contest.methods for run in method.runs]
    return sum(run.state == DONE for run in runs), len(runs)


def _no_verdict(contest: Contest) -> str:
    return "There is no verdict yet." if contest.status == "running" else "No verdict is recorded."


def _basis(contest: Contest, words: MetricWords) -> str:
    """Say what the verdict rests on: rows, seeds, interval, margin, correction."""
    parts = []
    test = contest.rows.get("test", math.nan)
    if math.isfinite(test):
        parts.append(f"{words.title} on {plural(test, 'test row')}")
    seeds = _most_seeds(contest)
    if seeds:
        each = "one seed a method: it is about these models, not about the methods" if seeds == 1 else ""
        parts.append(each or f"{seeds} seeds a method, the same for all")
    over = "rows" if seeds == 1 else "rows and seeds"
    parts.append(f"{readable.percent(contest.confidence)} intervals over {over}")
    if math.isfinite(contest.margin) and contest.comparisons:
        parts.append(f"a margin of {words.margin(contest.margin)} for “equivalent”")
    if len(contest.comparisons) > 1:
        reference = contest.shown(contest.reference)
        parts.append(f"Holm’s correction over {len(contest.comparisons)} comparisons with {reference}")
    if contest.recommended:
        parts.append(
            f"those that may be best hold the truly best one in {readable.percent(contest.confidence)} of contests"
        )
    return f"{rests_on(contest)} " + "; ".join(parts) + "."


def _tiles(contest: Contest, words: MetricWords) -> list[Fact]:
    """Return the best method, and who is cheapest among the methods that are no worse than the reference."""
    judged = [method for method in ranked(contest, words) if math.isfinite(method.mean)]
    tiles = []
    if judged:
        best = judged[0]
        title = "Highest" if words.is_higher_better else "Lowest"
        tiles.append(
            Fact(
                f"{title} {readable.metric_phrase(contest.metric)}",
                words.value(best.mean),
                f"{best.shown} {words.bounds(best.interval)}".strip(),
            )
        )
    timed = [method for method in judged if math.isfinite(method.seconds)]
    if len(timed) > 1:
        quickest = min(timed, key=lambda method: method.seconds)
        tiles.append(Fact("Shortest training", readable.duration(quickest.seconds), quickest.shown))
    weighed = [method for method in judged if math.isfinite(method.peak_memory)]
    if len(weighed) > 1:
        lightest = min(weighed, key=lambda method: method.peak_memory)
        tiles.append(Fact("Least memory", readable.size(lightest.peak_memory), lightest.shown))
    done, total = _progress(contest)
    trials = f"{plural(len(contest.tuning), 'trial')} of tuning" if contest.tuning else ""
    if time := took(contest.began, contest.finished):
        tiles.append(Fact("The study took", time, ", ".join(filter(None, (plural(done, "run"), trials)))))
    else:
        tiles.append(Fact("Runs done", f"{done} of {total}", trials))
    return tiles


def _sharing(sharing: Sharing | None) -> SharingView | None:
    if sharing is None or not (sharing.parts or math.isfinite(sharing.saved_seconds)):
        return None
    rows = [
        SharedRow(p.what, readable.count(p.made), readable.count(p.reused), readable.duration(p.seconds))
        for p in sharing.parts
    ]
    return SharingView(readable.duration(sharing.saved_seconds), rows)


def _budget(budget: Budget | None) -> BudgetView | None:
    if budget is None:
        return None
    given, spent = budget.seconds, budget.spent
    share = spent / given if given > 0 and spent >= 0 else math.nan
    sentence = f"{readable.duration(spent)} of {readable.duration(given)} spent"
    if share < 100:
        sentence += f" ({readable.percent(share, decimals=0)})"
    return BudgetView(sentence, min(share, 1.0) if math.isfinite(share) else 0.0, budget.cuts)
