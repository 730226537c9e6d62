"""Which columns hold queries with candidates, in one of the three ways that files have them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from tunesmith.data.candidate_rows import CANDIDATE_NAMES, CANDIDATES, DOCUMENT, GRADE, GRADES, QUERY
from tunesmith.data.columns import matching_name
from tunesmith.data.related_texts import FURTHER_NEGATIVES, NEGATIVE, POSITIVE
from tunesmith.tasks import embedding_columns
from tunesmith.types import ColumnKind, ColumnProfile, Role

_QUERIES = ("query", "question", "anchor", "queries", "search_query", "查询", "问题", "检索词")
_DOCUMENTS = (
    *("document", "passage", "candidate", "doc", "context", "text", "answer"),
    *("sentence2", "text_pair", "文档", "段落"),
)
_GRADES = ("grades", "labels", "relevances", "relevance", "scores", "gains", "相关度")
_SURE_GRADES = ("grades", "relevances", "relevance", "gains", "相关度")
"""Names that mean how relevant something is, rather than how well an answer was liked."""
_GRADE = ("grade", "label", "relevance", "score", "gain", "relevant", "is_relevant", "相关")
_TEXT: tuple[ColumnKind, ...] = ("text", "category")

_QUERY = Role(QUERY, _QUERIES, _TEXT, purpose="what is searched by")
_LISTS = (
    _QUERY,
    Role(CANDIDATES, CANDIDATE_NAMES, ("list",), purpose="the texts to put in order: a list"),
    Role(GRADES, _GRADES, ("list",), purpose="how well each of them answers the query: a list of numbers"),
)
_PAIRS = (
    _QUERY,
    Role(DOCUMENT, _DOCUMENTS, _TEXT, purpose="a candidate"),
    Role(GRADE, _GRADE, ("integer", "float", "boolean", "category"), purpose="how well it answers the query"),
)
_POSITIVE = Role(
    POSITIVE,
    embedding_columns.ROLES[1].names,
    (*_TEXT, "list"),
    purpose="one or several candidates that answer the query",
)
ROLES = (*_LISTS, *_PAIRS[1:], _POSITIVE, embedding_columns.ROLES[2])
"""All roles that there are; ``roles_for`` says which ones a file fills."""


def roles_for(profiles: Mapping[str, ColumnProfile], overrides: Mapping[str, str]) -> tuple[Role, ...]:
    """Return the roles to fill: lists where there is a column of them, positives where one is named so, else pairs."""
    asked = set(overrides)
    if asked & {CANDIDATES, GRADES}:
        return _LISTS
    if asked & {DOCUMENT, GRADE}:
        return _PAIRS
    if asked & {POSITIVE, NEGATIVE, *FURTHER_NEGATIVES}:
        return _with_negatives(profiles, overrides)
    if any(one.kind == "list" and matching_name(name, CANDIDATE_NAMES, exact=True) for name, one in profiles.items()):
        return _LISTS
    if any(matching_name(name, embedding_columns.SURE, exact=True) for name in profiles):
        return _with_negatives(profiles, overrides)
    return _PAIRS


def _with_negatives(profiles: Mapping[str, ColumnProfile], overrides: Mapping[str, str]) -> tuple[Role, ...]:
    found = embedding_columns.roles_for(profiles, {**overrides, POSITIVE: overrides.get(POSITIVE, "")})
    negatives = [role for role in found if role.name in (NEGATIVE, *FURTHER_NEGATIVES)]
    is_needed = [replace(negatives[0], required=True), *negatives[1:]]
    return (_QUERY, _POSITIVE, *is_needed)


def fit_score(profiles: Mapping[str, ColumnProfile]) -> tuple[float, str]:
    """Say how well columns (by role) suit: well where lists of candidates have lists of grades beside them."""
    if CANDIDATES in profiles and GRADES in profiles:
        candidates, grades = profiles[CANDIDATES].name, profiles[GRADES].name
        is_sure = matching_name(grades, _SURE_GRADES, exact=True) is not None
        return 0.985 if is_sure else 0.975, f"column '{grades}' holds a grade for each of the '{candidates}'"
    return 0.0, "only when asked for by name, or where columns of lists are named candidates and grades"
