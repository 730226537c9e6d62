"""Which of the user's columns is what: found by name and by content, with a stated reason."""

from __future__ import annotations

import re
from collections.abc import Container, Mapping, Sequence

from tunesmith.config.base import nearest
from tunesmith.data import marks
from tunesmith.data.column_words import describe, doubtful
from tunesmith.data.label_columns import are_stars, has_few_values, is_about, words_of
from tunesmith.types import ColumnChoice, ColumnKind, ColumnProfile, Problem, Role

_ID_NAMES = frozenset({"id", "idx", "index", "qid", "uid", "guid", "uuid", "rowid", "row", "unnamed: 0", "#"})
_PAIRS = "query question question1 premise anchor utterance sentence1 sentence_1 text1 text_1 text_a"
_PAIRED_NAMES = frozenset(_PAIRS.split())
"""Names of texts that seldom stand alone: another text column beside one makes a pair."""

_OF_TITLES = frozenset({"title", "input", "description"})
"""Names of texts that often stand above another one."""
_SIDES = re.compile(r"(?P<stem>.*?)[ _-]?(?:[ab]|[12])", re.IGNORECASE)
"""Names of two texts that belong together: sentence_A and sentence_B."""

_LABEL = "label"
_SECOND_TEXT = "text_pair"
"""The one role that may stay empty and is still looked for by content."""

_KIND_TIERS: tuple[tuple[ColumnKind, ...], ...] = (
    ("category", "boolean", "list"),
    ("integer",),
    ("float",),
    ("text",),
    ("object",),
)
"""What labels are, the likeliest first; few whole numbers, such as stars, are as likely as names."""

_ANSWER = "response answer completion output message messages text reply"
_REJECTED = "rejected reject dispreferred unchosen nonpreferred loser losing worse"
REJECTED_NAMES = (
    *_REJECTED.split(),
    *(form for name in _REJECTED.split() for what in _ANSWER.split() for form in (f"{name}_{what}", f"{what}_{name}")),
)
"""What columns of answers that somebody rejected are called."""
_REJECTED_NAMES = frozenset(REJECTED_NAMES)
REJECTED = "rejected"
"""The role of answers that somebody rejected, of tasks that learn from them, too."""
NOTHING = "none"
"""What the user says for the column of a role that is to stay empty."""
_CHAT_ROLES = frozenset({"messages", "prompt", "completion"})
_NAMED_ROLES = frozenset({"chosen", REJECTED, "answers", "thumb"})
"""Roles of which nothing but a column's whole name tells that it is meant."""
_NEVER_GUESSED = _CHAT_ROLES | {"source", "target"}
"""Roles of texts for which the longest of several need not be the right one."""


def is_id_like(column: ColumnProfile) -> bool:
    """Say whether a column only numbers, names or dates the rows: many distinct values and no words, or stamps."""
    if column.is_stamp:
        return True
    num_present = column.num_rows - column.num_missing
    is_named_so = column.name.lower() in _ID_NAMES or re.search(r"(?:^|[_\s-])id$|[a-z]I[dD]$", column.name) is not None
    is_distinct = column.num_distinct >= 0.95 * num_present
    if column.kind == "integer":
        return column.name.lower() in _ID_NAMES or (is_distinct and (is_named_so or num_present >= 20))
    if column.kind not in ("text", "category"):
        return False
    if is_named_so and column.mean_words <= 3 and is_distinct:
        return True
    with_digits = sum(any(letter.isdigit() for letter in example) for example in column.examples)
    is_code = column.mean_words <= 2 and with_digits >= 0.8 * len(column.examples) and _has_no_spaces(column)
    return is_code and num_present >= 20 and (column.kind == "text" or column.num_distinct >= 0.5 * num_present)


def is_rejected_answer(column: ColumnProfile) -> bool:
    """Say whether a column holds answers that somebody rejected: nothing is ever learned of them unasked."""
    name = re.sub(r"[^\w]+", "_", column.name.strip().lower())
    return name in _REJECTED_NAMES and column.kind in ("text", "object", "list", "category", "empty")


def is_plain_text(column: ColumnProfile) -> bool:
    """Say whether a column holds texts that something may be learned from."""
    return column.kind == "text" and not is_id_like(column) and not is_rejected_answer(column)


def unused_columns(
    profiles: Mapping[str, ColumnProfile], choices: Sequence[ColumnChoice], group: str | None = None
) -> tuple[ColumnChoice, ...]:
    """Return the columns that fill no role, each with the reason; their role is empty."""
    used = {choice.column for choice in choices} | {group}
    return tuple(
        ColumnChoice("", name, _reason_unused(column)) for name, column in profiles.items() if name not in used
    )


def _reason_unused(column: ColumnProfile) -> str:
    if column.kind == "empty":
        return "it is empty"
    if is_rejected_answer(column):
        return "answers that were rejected are not learned from"
    if column.is_decorated:
        return f"its amounts are not plain numbers: {', '.join(column.examples[:3])}"
    if column.is_stamp:
        return "it only says when or where"
    if is_id_like(column):
        return "it only numbers or names the rows"
    return f"no role needs it; {describe(column)}"


def _has_no_spaces(column: ColumnProfile) -> bool:
    return not any(" " in example for example in column.examples)


# Roles


def assign_roles(
    profiles: Mapping[str, ColumnProfile], roles: Sequence[Role], overrides: Mapping[str, str]
) -> tuple[tuple[ColumnChoice, ...], list[Problem]]:
    """Choose a column for every role: the user's word first, then usual names, then content.

    A label may be spread over several 0/1 columns: it then has several choices. A column that
    marks rows as accepted or rejected fills the role ``accepted``, which every task has. An
    override of ``none`` leaves a role empty that may be. Returns the choices and problems
    (severity ``error`` where a required role stays empty, is doubtful, or an override names nothing).
    """
    return _Assignment(profiles, roles).run(overrides)


def missing_column(role: str, given: str, columns: Sequence[str]) -> Problem | None:
    """Return what is wrong with the column that the user gives a role, or None."""
    missing = [name for name in columns_named(given, columns) if name not in columns]
    if not missing or given.strip().lower() == NOTHING:
        return None
    message = f"data.columns.{role}: the data has no column '{missing[0]}'. {nearest(missing[0], list(columns))}"
    return Problem("error", message.rstrip(), f"Columns: {', '.join(columns)}.")


def columns_named(given: str, columns: Container[str]) -> list[str]:
    """Return the columns that the user's word for a role names: one, whatever its name, or several after commas."""
    return [given] if given in columns else [part.strip() for part in given.split(",")]


class _Assignment:
    def __init__(self, profiles: Mapping[str, ColumnProfile], roles: Sequence[Role]) -> None:
        self._profiles = profiles
        self._roles = roles
        self._chosen: dict[str, list[ColumnChoice]] = {}
        self._matched_names: dict[str, str] = {}
        self._problems: list[Problem] = []
        self._left_empty: set[str] = set()

    def run(self, overrides: Mapping[str, str]) -> tuple[tuple[ColumnChoice, ...], list[Problem]]:
        failed = {role for role, given in overrides.items() if not self._override(role, given)}
        open_roles = [
            role
            for role in self._roles
            if role.name not in self._chosen and role.name not in failed and role.name not in self._left_empty
        ]
        self._take_reviews(open_roles)
        for role in open_roles:
            if role.columns and role.name not in self._chosen:
                self._choose(role.name, role.columns, role.reason or "by their names, one of several columns")
        for exact in (True, False):
            for role in open_roles:
                if role.name not in self._chosen and (exact or role.name not in _NAMED_ROLES):
                    self._by_name(role, exact=exact)
        # Numbers and categories first: what they leave is text. A pair needs its first text.
        for role in sorted(open_roles, key=lambda role: (not _is_text_role(role), not role.required)):
            if role.name not in self._chosen and role.name not in _NAMED_ROLES:
                self._by_content(role)
        for role in open_roles:
            if role.required and role.name not in self._chosen and not self._is_reported(role):
                self._problems.append(self._nothing_found(role))
        if not failed & {marks.ACCEPTED.name}:
            self._mark()
        choices = [choice for role in (*self._roles, marks.ACCEPTED) for choice in self._chosen.get(role.name, [])]
        return tuple(choices), self._problems

    # The user's word

    def _override(self, role_name: str, given: str) -> bool:
        known = {role.name: role for role in (*self._roles, marks.ACCEPTED)}
        if role_name not in known:
            listed = ", ".join(known)
            hint = nearest(role_name, list(known))
            self._problems.append(
                Problem(
                    "error",
                    f"data.columns: there is no role '{role_name}'. {hint}".rstrip(),
                    f"Roles of this task: {listed}.",
                )
            )
            return False
        if given.strip().lower() == NOTHING and given not in self._profiles and not known[role_name].required:
            self._left_empty.add(role_name)
            return True
        problem = missing_column(role_name, given, list(self._profiles))
        if problem is not None:
            self._problems.append(problem)
            return False
        self._choose(role_name, columns_named(given, self._profiles), "given by data.columns")
        return True

    def _choose(self, role_name: str, columns: Sequence[str], reason: str) -> None:
        is_number = any(role.holds_numbers for role in self._roles if role.name == role_name)
        self._chosen[role_name] = [ColumnChoice(role_name, column, reason, is_number) for column in columns]

    def _free(self, role_name: str = "") -> list[ColumnProfile]:
        """Return the columns that fill no role yet; what was rejected is free for the role of that name alone."""
        taken = {choice.column for choices in self._chosen.values() for choice in choices}
        return [
            column
            for name, column in self._profiles.items()
            if name not in taken and (role_name == REJECTED or not is_rejected_answer(column))
        ]

    def _mark(self) -> None:
        """Choose the column that says which rows are to be learned from, where there is one."""
        role = marks.ACCEPTED.name
        if role in self._chosen or role in self._left_empty:
            return
        of_chat = bool((_CHAT_ROLES | _NAMED_ROLES) & self._chosen.keys())
        found = [column for column in self._free() if marks.is_mark(column, of_chat=of_chat)]
        if found:
            why = f"it says which rows are accepted; {describe(found[0])}"
            self._choose(role, [found[0].name], why)

    def _take_reviews(self, roles: Sequence[Role]) -> None:
        """Learn what reviewers say where they were asked of every text whether one and the same label holds."""
        label = next((role for role in roles if role.name == _LABEL and "category" in role.kinds), None)
        asked = [one for one in self._free() if one.name.strip().lower() == _LABEL and one.num_distinct == 1]
        said = [one for one in self._free() if marks.is_mark(one, of_chat=False) and one.num_distinct > 1]
        if label is not None and asked and len(said) == 1:
            shown = asked[0].examples[0]
            self._choose(label.name, [said[0].name], f"it says whether texts are '{shown}'; {describe(said[0])}")

    # Usual names

    def _by_name(self, role: Role, *, exact: bool) -> None:
        if not exact and not role.required and role.name != _SECOND_TEXT:
            # What need not be there must not be found by half a name.
            return
        best: tuple[tuple[int, float], str, str] | None = None
        num_found = 0
        for column in self._free(role.name):
            # Answers to sums are whole numbers, no two the same, and yet no numbers of rows.
            counts_rows = is_id_like(column) and not (exact and (_is_text_role(role) or column.is_stamp))
            if column.kind not in role.kinds or counts_rows:
                continue
            if not exact and _is_text_role(role) and column.kind != "text":
                continue
            if not exact and not _is_text_role(role) and column.num_distinct < 2:
                continue  # of a name that only speaks of it, a column with one value is hardly meant
            found = matching_name(column.name, role.names, exact=exact)
            num_found += found is not None
            if found is None:
                continue
            # Of review_title and review_body, which both speak of a review, the longer one is the text.
            length = column.mean_length if _is_text_role(role) and not exact else 0.0
            if best is None or (role.names.index(found), -length) < best[0]:
                best = ((role.names.index(found), -length), column.name, found)
        if not exact and role.name in _NEVER_GUESSED and num_found > 1:
            return  # of answer_1 and answer_2 nobody knows which is the better one
        if best is not None and exact and role.name == "text" and self._has_fuller(best[1], best[2], role):
            return
        if best is not None:
            _, column_name, found = best
            self._matched_names[role.name] = found
            reason = role.reason or ("by its name" if exact else f"its name speaks of '{found}'")
            self._choose(role.name, [column_name], f"{reason}; {describe(self._profiles[column_name])}")

    def _has_fuller(self, column: str, name: str, role: Role) -> bool:
        """Say whether a title is all that was found by its whole name, beside a longer text with a better one in it."""
        if name not in _OF_TITLES:
            return False
        names = tuple(each for each in role.names if each not in _OF_TITLES)
        length = self._profiles[column].mean_length
        return any(one.mean_length > length and matching_name(one.name, names, exact=False) for one in self._texts())

    # Content

    def _by_content(self, role: Role) -> None:
        if role.kinds == ("image",):
            self._image_by_content(role)
        elif not role.required:
            self._pair_by_content(role)
        elif _is_text_role(role):
            self._text_by_content(role)
        else:
            self._label_by_content(role)

    def _image_by_content(self, role: Role) -> None:
        images = [column for column in self._free() if column.kind == "image"]
        if len(images) > 1:
            self._problems.append(doubtful(role, images))
        elif images:
            self._choose(role.name, [images[0].name], f"the only images; {describe(images[0])}")

    def _texts(self) -> list[ColumnProfile]:
        return [column for column in self._free() if is_plain_text(column)]

    def _text_by_content(self, role: Role) -> None:
        texts = self._texts()
        if not texts:
            # Short or much repeated texts look like categories; beside objects, the texts are within these.
            has_objects = any(column.kind == "object" for column in self._free())
            texts = [
                column
                for column in self._free()
                if column.kind == "category" and not is_id_like(column) and not (has_objects and has_few_values(column))
            ]
            texts = sorted(texts, key=lambda column: column.num_distinct)[-1:]
        if not texts:
            return
        if role.name in _NEVER_GUESSED and len(texts) > 1:
            # Of several answers the longest may be the worst.
            self._problems.append(doubtful(role, texts))
            return
        is_pair = len(texts) == 2 and any(each.name == _SECOND_TEXT for each in self._roles)
        column = texts[0] if is_pair else max(texts, key=lambda each: each.mean_length)
        why = "the only text" if len(texts) == 1 else "the first of two texts" if is_pair else "the longest text"
        self._choose(role.name, [column.name], f"{why}; {describe(column)}")

    def _pair_by_content(self, role: Role) -> None:
        if role.name != _SECOND_TEXT or not self._chosen.get("text"):
            return
        matched = self._matched_names.get("text")
        is_given = "text" not in self._matched_names and self._chosen["text"][0].reason.startswith("given")
        texts = self._texts()
        first, second = self._chosen["text"][0].column, texts[0].name if texts else ""
        sides = [_SIDES.fullmatch(name) for name in (first, second)]
        are_sides = sides[0] is not None and sides[1] is not None and sides[0]["stem"] == sides[1]["stem"]
        if len(texts) == 1 and not is_given and (matched is None or matched in _PAIRED_NAMES or are_sides):
            self._choose(role.name, [texts[0].name], f"the second of two texts; {describe(texts[0])}")

    def _label_by_content(self, role: Role) -> None:
        candidates = [
            column
            for column in self._free()
            if column.kind in role.kinds and column.num_distinct >= 2 and not is_id_like(column)
        ]
        texts = [each for each in self._roles if _is_text_role(each)]
        is_open = any(each.required for each in texts) and not any(each.name in self._chosen for each in texts)
        if is_open and not self._texts():
            # One of the categories must stay for the text.
            strings = [column for column in candidates if column.kind == "category"]
            if strings:
                longest = max(strings, key=lambda column: column.num_distinct)
                candidates = [column for column in candidates if column is not longest]
        # What reviewers say of rows, and what is said about texts, is learned where nothing else is.
        candidates = [column for column in candidates if not marks.is_mark(column, of_chat=False)] or candidates
        candidates = [column for column in candidates if not is_about(column)] or candidates
        binary = [column for column in candidates if _is_binary(column)]
        if len(binary) > 1 and len(binary) == len(candidates) and "list" in role.kinds:
            self._choose(role.name, [column.name for column in binary], "one of several columns of 0 and 1")
            return
        for tier in _KIND_TIERS:
            fitting = [column for column in candidates if column.kind in tier]
            if tier == _KIND_TIERS[0] and "integer" in role.kinds:
                fitting += [column for column in candidates if are_stars(column)]
            if len(fitting) == 1:
                self._choose(role.name, [fitting[0].name], f"by its content; {describe(fitting[0])}")
            elif fitting:
                self._problems.append(doubtful(role, fitting, [each for each in binary if each.kind == "integer"]))
            if fitting:
                return

    # What could not be decided

    def _is_reported(self, role: Role) -> bool:
        return any(f"role '{role.name}'" in problem.message for problem in self._problems)

    def _nothing_found(self, role: Role) -> Problem:
        columns = "; ".join(describe(column, named=True) for column in self._profiles.values())
        purpose = f" ({role.purpose})" if role.purpose else ""
        unfit = [
            column
            for column in self._profiles.values()
            if matching_name(column.name, role.names, exact=True) and column.kind not in role.kinds
        ]
        but = f" '{unfit[0].name}' holds {unfit[0].kind}, not {' or '.join(role.kinds)}." if unfit else ""
        objects = [column.name for column in self._profiles.values() if column.kind == "object"]
        inside = (
            f" What stands within objects ({', '.join(objects[:4])}) is not looked at: make it a column of its own."
        )
        return Problem(
            "error",
            f"No column was found for the role '{role.name}'{purpose}.{but} The data has {columns or 'no columns'}.",
            f"Give it: data.columns.{role.name} followed by the column's name.{inside if objects else ''}",
        )


def _is_text_role(role: Role) -> bool:
    return "text" in role.kinds


def _is_binary(column: ColumnProfile) -> bool:
    return column.kind == "boolean" or (column.kind == "integer" and column.low == 0 and column.high == 1)


def matching_name(column: str, names: Sequence[str], *, exact: bool) -> str | None:
    """Return the usual name that a column's name is (``exact``), or has among its words."""
    lowered = column.strip().lower()
    if exact:
        plain = re.sub(r"[^\w]+", "_", lowered)
        return next((name for name in names if name in (lowered, plain)), None)
    words = words_of(column)
    return next((name for name in names if name in words and len(name) > 1), None)
