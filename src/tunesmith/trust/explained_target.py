"""What of a model's answer is explained, as one number of its scores: log-odds of what it chose, or its value.

The log-odds of an answer against all others, log(p / (1 - p)), are what is explained of labels, tags, places and
tokens: unlike probabilities they do not level off where a model is sure, and unlike raw scores they mean the same in
every model (scores may all be moved by one amount without any answer being changed).

Shapes: B copies of a sequence, U places read, K scores.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from tunesmith.data.encoded import Encoded, as_ragged
from tunesmith.tasks import crf
from tunesmith.tasks.base import Columns, Outputs, Task
from tunesmith.tasks.question_answering import QuestionAnswering
from tunesmith.tasks.question_encoding import NO_ANSWER
from tunesmith.tasks.tag_decoding import transitions
from tunesmith.tasks.token_classification import TokenClassification
from tunesmith.types import InputError

Value = Callable[[torch.Tensor], torch.Tensor]
"""From the scores of B copies, [B, K] or [B, U, K], to one number each, [B]."""

EXPLAINED = "labels, numbers, tags of words, answers in a text and answers that are written"


@dataclass(frozen=True)
class Target:
    """What is explained."""

    name: str
    """What people call it: a label, "Berlin: B-LOC", "answer"."""
    value: Value
    is_odds: bool = True
    """Whether the number is a log-odds, rather than a value in the user's units."""
    sequence: int = 0
    """Which sequence of the row it is about."""
    parts: Mapping[str, Value] = field(default_factory=dict)
    """Numbers whose mean it is, each worth a look of its own."""

    def measure(self, values_B: torch.Tensor) -> torch.Tensor:
        """Return what faithfulness is measured in: a probability, or the value itself."""
        return values_B.sigmoid() if self.is_odds else values_B


def log_odds(scores_BK: torch.Tensor, chosen: int) -> torch.Tensor:
    """Return [B]: the score of one answer less the logarithm of the sum of the exponentials of all others."""
    others = torch.ones(scores_BK.shape[-1], dtype=torch.bool, device=scores_BK.device)
    others[chosen] = False
    return scores_BK[..., chosen] - scores_BK[..., others].logsumexp(dim=-1)


def target_of(
    task: Task, outputs: Outputs, data: Encoded, columns: Columns, *, label: str | None, word: str | None
) -> Target:
    """Return what of the answer to a single row is explained.

    Args:
        task: The bound task.
        outputs: What it kept of the row's scores.
        data: The row as it was encoded.
        columns: Its canonical columns.
        label: The label or tag to explain, instead of the one that was predicted.
        word: Of tagged texts, the word whose tag is explained (its text, or its number from 1 on); the one of the
            surest entity when not given.

    Raises:
        InputError: There is nothing of this task to explain, or no such label or word.
    """
    if task.reads == "row" and task.followed in ("classes", "labels"):
        _refuse(word, "--word", "is for texts whose words have tags")
        return _of_label(task, outputs, label)
    if task.reads == "row" and (task.followed == "value" or task.head().num_outputs == 1):
        _refuse(label, "--label", "is for tasks with labels; this one gives a number")
        _refuse(word, "--word", "is for texts whose words have tags")
        if len(data) > 1:
            raise InputError(
                f"The row is {len(data)} sequences, which the task {task.name} scores one by one.",
                "Give a row with a single one, such as one candidate.",
            )
        return _of_number(task)
    if isinstance(task, TokenClassification) and data.reads is not None:
        return _of_tag(task, outputs, data, columns, label=label, word=word)
    if isinstance(task, QuestionAnswering):
        _refuse(label, "--label", "is for tasks with labels")
        _refuse(word, "--word", "is for texts whose words have tags")
        return _of_answer(task.decode(outputs, columns)[0], outputs)
    raise InputError(
        f"Nothing of what the task {task.name} gives can be explained.", f"What can be explained: {EXPLAINED}."
    )


def written_target(answer: list[int], texts: list[str]) -> Target:
    """Return the mean log-odds of the tokens of a written answer, in the places read."""

    def of(place: int) -> Value:
        return lambda scores_BUK: log_odds(scores_BUK[:, place], answer[place])

    values = [of(place) for place in range(len(answer))]
    parts = {f"{place}: {text}": value for place, (text, value) in enumerate(zip(texts, values, strict=True), start=1)}
    return Target("answer", _mean_of(values), parts=parts)


def _refuse(given: str | None, flag: str, why: str) -> None:
    if given is not None:
        raise InputError(f"{flag} {given}: it {why}.", "Leave it out.")


def _mean_of(values: list[Value]) -> Value:
    return lambda scores: torch.stack([value(scores) for value in values]).mean(dim=0)


def _of_label(task: Task, outputs: Outputs, label: str | None) -> Target:
    names = list(task.answer_names)
    chosen = _chosen(names, label, np.asarray(task.answers(outputs))[0])
    if task.followed == "labels":
        return Target(names[chosen], lambda scores_BK: scores_BK[:, chosen])
    return Target(names[chosen], lambda scores_BK: log_odds(scores_BK, chosen))


def _chosen(names: list[str], label: str | None, probabilities_K: Any) -> int:
    """Return which answer is meant: the one named, or the likeliest."""
    if label is None:
        return int(np.argmax(probabilities_K))
    if label not in names:
        shown = ", ".join(names[:20]) + (", …" if len(names) > 20 else "")
        raise InputError(f"--label {label}: the run knows no such label.", f"Choose one of {shown}.")
    return names.index(label)


def _of_number(task: Task) -> Target:
    if task.followed != "value":
        return Target("score", lambda scores_BK: scores_BK[:, 0], is_odds=False)
    zero, one = np.asarray(task.scores_for(np.array([0.0, 1.0])), dtype=np.float64)[:, 0].tolist()
    return Target("value", lambda scores_BK: (scores_BK[:, 0] - zero) / (one - zero), is_odds=False)


def _of_tag(
    task: TokenClassification, outputs: Outputs, data: Encoded, columns: Columns, *, label: str | None, word: str | None
) -> Target:
    assert data.reads is not None
    if task.crf and len(data) > 1:
        raise InputError(
            "The text is read in several parts, and of a chain over all of its words no part answers alone.",
            "Give a shorter text, or a part of it.",
        )
    tokens = list(task.complete(columns)["tokens"][0])
    if not tokens:
        raise InputError("The text has no words whose tags could be explained.", "Give a text with words.")
    answers = task.answers(outputs)
    probabilities_TK, names = np.asarray(as_ragged(answers)[0], dtype=np.float64), list(task.answer_names)
    place = _place_of(tokens, word, probabilities_TK, names)
    chosen = _chosen(names, label or task.decode(outputs)[0]["tags"][place], probabilities_TK[place])
    # Windows follow each other as the words do.
    firsts = np.concatenate([[0], np.cumsum(data.reads.lengths)])
    sequence = int(np.searchsorted(firsts, place, side="right")) - 1
    inside = place - int(firsts[sequence])
    scores_of = _in_chains(names) if task.crf else lambda scores: scores
    return Target(
        f"{tokens[place]}: {names[chosen]}",
        lambda scores_BUK: log_odds(scores_of(scores_BUK)[:, inside], chosen),
        True,
        sequence,
    )


def _in_chains(names: list[str]) -> Value:
    """Return what makes [B, U, K] of a chain's scores: each tag's log-probability, whatever the others are."""
    between_KK, start_K = map(torch.from_numpy, transitions(names))

    def of(scores_BUK: torch.Tensor) -> torch.Tensor:
        flat = crf.potentials(scores_BUK.flatten(0, 1))
        return crf.marginal_scores(flat.view(*scores_BUK.shape[:2], -1), between_KK, start_K)

    return of


def _place_of(tokens: list[str], word: str | None, probabilities_TK: Any, names: list[str]) -> int:
    """Return which word is meant: the one named, or the surest of those that have a tag other than O."""
    if word is not None:
        if word in tokens:
            return tokens.index(word)
        if word.isdecimal() and 1 <= int(word) <= len(tokens):
            return int(word) - 1
        raise InputError(f"--word {word}: the text has no such word.", f"Words: {', '.join(tokens[:40])}.")
    best_T = probabilities_TK.argmax(axis=1)
    sure_T = probabilities_TK.max(axis=1)
    tagged_T = np.array([names[k] != "O" for k in best_T])
    return int(np.where(tagged_T, sure_T, sure_T - 1.0).argmax())


def _of_answer(found: Mapping[str, Any], outputs: Outputs) -> Target:
    """Return the mean of the log-odds of where an answer begins and ends, among all places of its window."""
    places_U3 = np.asarray(as_ragged(outputs["places"])[0])
    if found["start"] is None:
        begin = end = int(np.flatnonzero(places_U3[:, 0] == NO_ANSWER)[0])
    else:
        begins = np.flatnonzero(places_U3[:, 0] == found["start"]).tolist()
        ends = np.flatnonzero(places_U3[:, 1] == found["end"]).tolist()
        pairs = [(b, e) for b in begins for e in ends if b <= e and places_U3[b, 2] == places_U3[e, 2]]
        scores_U2 = np.asarray(as_ragged(outputs["scores"])[0], dtype=np.float64)
        begin, end = max(pairs, key=lambda pair: float(scores_U2[pair[0], 0] + scores_U2[pair[1], 1]))
    window = int(places_U3[begin, 2])
    first = int(np.flatnonzero(places_U3[:, 2] == window)[0])
    inside = {"start": begin - first, "end": end - first}
    parts: dict[str, Value] = {
        "start": lambda scores_BU2: log_odds(scores_BU2[:, :, 0], inside["start"]),
        "end": lambda scores_BU2: log_odds(scores_BU2[:, :, 1], inside["end"]),
    }
    return Target(found["answer"] or "no answer", _mean_of(list(parts.values())), True, window, parts)
