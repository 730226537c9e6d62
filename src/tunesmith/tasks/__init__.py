"""Tasks: what is learned. Adding one takes a file, an entry of ``TASKS`` and a row in the contract tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from tunesmith.config.base import nearest
from tunesmith.data.forms import Form
from tunesmith.tasks.base import Task, Writer
from tunesmith.tasks.causal_lm import CausalLM
from tunesmith.tasks.classification import Classification
from tunesmith.tasks.columns import TEXT
from tunesmith.tasks.embedding import Embedding
from tunesmith.tasks.grpo import GRPO
from tunesmith.tasks.image_chat import ImageChat
from tunesmith.tasks.image_classification import ImageClassification
from tunesmith.tasks.image_text import ImageText
from tunesmith.tasks.masked_lm import MaskedLM
from tunesmith.tasks.multiple_choice import MultipleChoice
from tunesmith.tasks.preference import Preference
from tunesmith.tasks.question_answering import QuestionAnswering
from tunesmith.tasks.regression import Regression
from tunesmith.tasks.reranking import Reranking
from tunesmith.tasks.reward import Reward
from tunesmith.tasks.seq2seq import Seq2Seq
from tunesmith.tasks.token_classification import TokenClassification
from tunesmith.types import ColumnChoice, ColumnProfile, InputError, Problem

TASKS: dict[str, type[Task]] = {
    "classification": Classification,
    "regression": Regression,
    "token_classification": TokenClassification,
    "causal_lm": CausalLM,
    "masked_lm": MaskedLM,
    "seq2seq": Seq2Seq,
    "question_answering": QuestionAnswering,
    "multiple_choice": MultipleChoice,
    "embedding": Embedding,
    "preference": Preference,
    "reward": Reward,
    "grpo": GRPO,
    "image_classification": ImageClassification,
    "image_text": ImageText,
    "image_chat": ImageChat,
    "reranking": Reranking,
}


def chatting() -> str:
    """Return the names of the tasks whose models answer in conversations, as they follow on "the task"."""
    return " or ".join(name for name, task in TASKS.items() if task.chats)


def writing() -> str:
    """Return the names of the tasks whose models write answers, as they follow on "the task"."""
    return " or ".join(name for name, task in TASKS.items() if issubclass(task, Writer))


ONLY_ASKED_FOR = 0.1
"""A task that suits columns less than this is not chosen unasked where another one is nearly right."""
HARDLY_MEANT = 0.4
"""Up to this, labels that could not be chosen between are asked for first: numbers that are more likely labels."""


@dataclass(frozen=True, slots=True)
class Detection:
    """The task that suits some columns best, with the columns for its roles."""

    task: type[Task]
    choices: tuple[ColumnChoice, ...]
    reasons: tuple[str, ...]
    """Why, in words: the chosen task's reason first, then those against the others."""

    @property
    def form(self) -> type[Form]:
        """What the rows are for the task."""
        return self.task.form_for([choice.role for choice in self.choices])


def detect(profiles: Mapping[str, ColumnProfile], overrides: Mapping[str, str] | None = None) -> Detection:
    """Pick the task and the columns for its roles from what the columns hold.

    ``profiles`` are by column name; ``overrides`` (role to column) are the user's own
    choices. Raises ``InputError`` when none suits: with what is wrong with the overrides, with the
    problems of the task that they speak of, or, without any, with every task's problems.
    """
    from tunesmith.data import assign_roles

    overrides = overrides or {}
    tasks = _tasks_of(profiles, overrides)
    found: list[tuple[float, str, type[Task], tuple[ColumnChoice, ...]]] = []
    refused: dict[str, list[Problem]] = {}
    for name, task in tasks.items():
        choices, problems = assign_roles(profiles, task.roles_for(profiles, overrides), overrides)
        errors = [problem for problem in problems if problem.severity == "error"]
        if errors:
            if overrides or not task.found_by_name:
                refused[name] = errors
            continue
        score, reason = task.fit_score(_by_role(profiles, choices))
        if task.found_by_name and score <= 0:
            continue
        found.append((score, f"{name}: {reason}", task, tuple(choices)))
    found.sort(key=lambda one: -one[0])
    if "causal_lm" in refused and found and found[0][0] < ONLY_ASKED_FOR:
        # Columns of chats that lack something: what is missing is the matter, not what else texts can be used for.
        raise InputError(_no_task({"causal_lm": refused["causal_lm"]}, []))
    if not found or found[0][0] <= 0:
        if overrides and refused:
            refused = dict([min(refused.items(), key=lambda pair: len(pair[1]))])
        raise InputError(_no_task(refused, [reason for _, reason, _, _ in found]))
    if not overrides and found[0][0] <= HARDLY_MEANT:
        _ask_for_labels(profiles, refused)
    if not overrides and found[0][0] <= ONLY_ASKED_FOR:
        _ask_for_texts(profiles, found[0][3])
    _, _, task, choices = found[0]
    return Detection(task, choices, tuple(reason for _, reason, _, _ in found))


def _ask_for_labels(profiles: Mapping[str, ColumnProfile], refused: Mapping[str, list[Problem]]) -> None:
    """Raise where learning to write texts is what is left, though there are labels that could not be chosen or read."""
    from tunesmith.data.column_words import DOUBTFUL
    from tunesmith.data.label_columns import unreadable_label

    asked = [
        problem for name in ("classification", "regression") for problem in refused.get(name, ())
        if problem.message.startswith(f"{DOUBTFUL} 'label'")
    ][:1]  # fmt: skip
    unreadable = unreadable_label(profiles)
    found = ([unreadable] if unreadable is not None else []) + asked
    if found:
        way_out = "To learn to write the texts themselves: --task causal_lm."
        raise InputError([replace(problem, fix=f"{problem.fix} {way_out}") for problem in found])


_BESIDE_OTHERS = frozenset(
    ["title", "input", "description", "query", "question", "question1", "premise", "utterance", "sentence1"]
)
"""Names of texts that are read for the sake of others."""


def _ask_for_texts(profiles: Mapping[str, ColumnProfile], choices: Sequence[ColumnChoice]) -> None:
    """Raise where one of several texts would be learned, and the others left, though no name says which is meant."""
    from tunesmith.data.columns import is_plain_text, matching_name

    taken = next((choice.column for choice in choices if choice.role == TEXT.name), None)
    if taken is None:
        return
    name = matching_name(taken, TEXT.names, exact=True)
    texts = [column for column in profiles.values() if is_plain_text(column)]
    if len(texts) < 2 or (name is not None and name not in _BESIDE_OTHERS):
        return
    shown = "; ".join(f"'{column.name}' ({column.examples[0]})" for column in texts[:4] if column.examples)
    first, second = texts[0].name, texts[1].name
    message = f"Several columns hold texts, and nothing says which is to be learned from which: {shown}."
    fix = f"To learn to write one from another, as in translation: data.columns.prompt {first} and "
    fix += f"data.columns.completion {second}. To learn to write on in one of them: data.columns.text {first}."
    raise InputError(message, fix)


def _tasks_of(profiles: Mapping[str, ColumnProfile], overrides: Mapping[str, str]) -> dict[str, type[Task]]:
    """Return the tasks that have all roles of the overrides.

    Raises ``InputError`` for roles that none has, and for columns that are not there: each once, whatever the tasks.
    """
    from tunesmith.data.columns import missing_column
    from tunesmith.data.conversations import ROLES
    from tunesmith.data.marks import ACCEPTED

    roles = {name: {role.name for role in task.roles_for(profiles, overrides)} for name, task in TASKS.items()}
    roles["causal_lm"] |= set(ROLES)
    known = [*dict.fromkeys(role for names in roles.values() for role in sorted(names)), ACCEPTED.name]
    problems = []
    for role, given in overrides.items():
        if role not in known:
            message = f"data.columns: there is no role '{role}'. {nearest(role, known)}".rstrip()
            problems.append(Problem("error", message, f"Roles: {', '.join(known)}."))
        elif (problem := missing_column(role, given, list(profiles))) is not None:
            problems.append(problem)
    if problems:
        raise InputError(problems)
    asked = set(overrides) - {ACCEPTED.name}
    fitting = {name: task for name, task in TASKS.items() if asked <= roles[name]}
    return fitting or TASKS


def _by_role(profiles: Mapping[str, ColumnProfile], choices: Sequence[ColumnChoice]) -> dict[str, ColumnProfile]:
    """Return the profile of each role's column; several columns for one role make a list in every row."""
    found: dict[str, ColumnProfile] = {}
    for choice in choices:
        profile = profiles[choice.column]
        if choice.role in found:
            profile = replace(profile, name=f"{found[choice.role].name}, {choice.column}", kind="list")
        found[choice.role] = profile
    return found


def _no_task(refused: Mapping[str, list[Problem]], reasons: list[str]) -> list[Problem]:
    """Return each distinct problem once, and say for which tasks it was found."""
    tasks_by_problem: dict[Problem, list[str]] = {}
    for name, problems in refused.items():
        for problem in problems:
            tasks_by_problem.setdefault(problem, []).append(name)
    listed = [
        Problem(one.severity, f"{'/'.join(names)}: {one.message}", one.fix, one.count, one.rows)
        for one, names in tasks_by_problem.items()
    ]
    fix = "Name the columns with data.columns, such as data.columns.text and data.columns.label."
    return listed + [Problem("error", f"No task suits the columns ({reason}).", fix) for reason in reasons]


__all__ = [
    "GRPO",
    "TASKS",
    "CausalLM",
    "Classification",
    "Detection",
    "Embedding",
    "ImageChat",
    "ImageClassification",
    "ImageText",
    "MaskedLM",
    "MultipleChoice",
    "Preference",
    "QuestionAnswering",
    "Regression",
    "Reranking",
    "Reward",
    "Seq2Seq",
    "Task",
    "TokenClassification",
    "chatting",
    "detect",
    "writing",
]
