"""What the pages of all kinds of studies have in common: title, state, and the facts at the end."""

from __future__ import annotations

import datetime
from dataclasses import dataclass

from tunesmith import readable
from tunesmith.report.facts import Fact
from tunesmith.report.studies.records import Study
from tunesmith.report.studies.words import plural, when
from tunesmith.report.titles import short_name

KIND_TITLES = {"contest": "Contest", "cross-validation": "Cross-validation", "search": "Search"}


@dataclass(frozen=True, slots=True)
class Masthead:
    """What stands at the top."""

    eyebrow: str
    title: str
    subtitle: str


def masthead(study: Study, title: str) -> Masthead:
    """Return kind and task, the title with what it was learned from, and the model below it."""
    task = study.task.replace("_", " ").capitalize().replace(" lm", " LM")
    eyebrow = " · ".join(part for part in (KIND_TITLES.get(study.kind, study.kind), task) if part)
    on = f" on {short_name(study.data)}" if study.data else ""
    return Masthead(eyebrow, title + on, short_name(study.model) if study.model else "")


def rests_on(study: Study) -> str:
    """Return the beginning of the sentence that says what the verdict rests on, or will."""
    return "It will rest on:" if study.status == "running" else "Rests on:"


def status_notice(study: Study, done: int, total: int) -> list[str]:
    """Say, of a study that is not finished, how far it is."""
    if study.status == "finished":
        return []
    so_far = f" {done} of {plural(total, 'run')} done." if total else ""
    if study.status == "running":
        return [f"This study is still running:{so_far or ' nothing is done yet.'} The page shows what is there so far."]
    return [
        f"This study did not finish: its status is “{study.status}”.{so_far} The same command goes on where it was."
    ]


def facts_of_study(study: Study) -> list[Fact]:
    """Return when, where and on what the study was made."""
    facts = [
        Fact("Model", study.model),
        Fact("Data", study.data),
        *(Fact(f"{split.capitalize()} rows", readable.count(number)) for split, number in study.rows.items()),
        Fact("Machine", study.machine),
        Fact("Began", when(study.began)),
        Fact("Finished", when(study.finished)),
        Fact("Took", took(study.began, study.finished)),
        Fact("Status", study.status),
    ]
    return [fact for fact in facts if fact.value not in ("", readable.MISSING)]


def took(began: str, finished: str) -> str:
    """Return the time between two times; empty where that cannot be told."""
    try:
        span = datetime.datetime.fromisoformat(finished) - datetime.datetime.fromisoformat(began)
    except (ValueError, TypeError):  # no times, or one with a time zone and one without
        return ""
    return readable.duration(span.total_seconds())
