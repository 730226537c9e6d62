"""Which part of a conversation's text is trained: what the model itself would write.

Templates with ``{% generation %}`` marks say so themselves. For all others the text of an answer is what
a conversation's text gains by it: with ``before`` the text up to the answer as the model would get it (with
the generation prompt) and ``after`` the text with the answer, it is what follows ``before`` in ``after``.
Nothing is searched for, so that no answer is ever cut at a text that looks like a mark.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from tunesmith.tasks.chat.calls import check_calls
from tunesmith.tasks.chat.controls import Span
from tunesmith.tasks.chat.sandbox import RefusedError, Rendered
from tunesmith.tasks.chat.template import ChatFormat, Message

TrainOn = Literal["assistant", "last", "all"]


@dataclass(frozen=True, slots=True)
class TextRow:
    """One row to train on, as text."""

    text: str
    spans: tuple[Span, ...]
    """What is trained, ascending and apart."""
    num_messages: int
    """The messages written: the first ones of the conversation."""
    trained: tuple[int, ...]
    """The messages that the spans belong to."""
    ends_with_answer: bool
    """Whether nothing comes after the last answer, and that is trained: it must end with an end token."""
    pictures: tuple[int, ...] = ()
    """The numbers of the images that the text shows, in their order."""


def trained_messages(messages: Sequence[Message], train_on: TrainOn) -> tuple[int, ...]:
    """Return which messages are trained: ``train_on`` says so, and a message's own mark ``train`` goes before it."""
    answers = [index for index, message in enumerate(messages) if message["role"] == "assistant"]
    chosen = {"assistant": answers, "last": answers[-1:], "all": range(len(messages))}[train_on]
    marks = [message.get("train") for message in messages]
    return tuple(index for index, mark in enumerate(marks) if mark or (mark is None and index in chosen and index >= 0))


def texts_needed(
    chat_format: ChatFormat, messages: Sequence[Message], tools: Sequence[Any] | None, train_on: TrainOn
) -> Iterator[tuple[Sequence[Message], Sequence[Any] | None, bool]]:
    """Yield what ``training_rows`` renders where nothing is out of the ordinary, for ``ChatFormat.prepare``."""
    trained = trained_messages(messages, train_on)
    if not trained:
        return
    yield messages, tools, False
    template = chat_format.template if tools is None else chat_format.tool_template
    if train_on == "all" or template.has_marks:
        return
    for index in trained:
        if index < len(messages) - 1:
            yield messages[: index + 1], tools, False
        yield messages[:index], tools, messages[index]["role"] == "assistant"


def training_rows(
    chat_format: ChatFormat, messages: Sequence[Message], tools: Sequence[Any] | None, train_on: TrainOn
) -> list[TextRow]:
    """Return a conversation as rows to train on.

    It is one row wherever the text up to each trained answer is how the whole text begins. A template that
    writes earlier turns differently once there are later ones (it leaves out earlier thoughts, moves the tools)
    makes several: each answer is then in the row whose text is what the model gets when it is to write it.
    ``train_on: all`` and templates with marks always make one. Nothing to train makes none.

    An opening message of the assistant, which answers nothing, is trained only where the template can write the
    text before it.

    Raises ``RefusedError`` where the template refuses the conversation, leaves out its tool calls, or writes a
    beginning that the answer's text does not continue.
    """
    trained = trained_messages(messages, train_on)
    if not trained:
        return []
    whole = chat_format.render(messages, tools)
    check_calls(chat_format, messages, tools, by_turn=train_on != "all" and whole.marks is None)
    if train_on == "all":
        spans = _without(whole.text, _spans_left_out(chat_format, messages, tools, whole, trained))
        return [_row(whole.text, spans, messages, trained)] if spans else []
    if whole.marks is not None:
        spans = _marked_spans(chat_format, messages, tools, whole, trained)
        return [_row(whole.text, spans, messages, trained)] if spans else []
    return _unmarked_rows(chat_format, messages, tools, whole, trained)


def _row(
    text: str, spans: Sequence[Span], messages: Sequence[Message], trained: Sequence[int], num_messages: int = 0
) -> TextRow:
    num_messages = num_messages or len(messages)
    ends = trained[-1] == num_messages - 1 and messages[num_messages - 1]["role"] == "assistant"
    return TextRow(text, tuple(spans), num_messages, tuple(trained), ends)


def _unmarked_rows(
    chat_format: ChatFormat,
    messages: Sequence[Message],
    tools: Sequence[Any] | None,
    whole: Rendered,
    trained: Sequence[int],
) -> list[TextRow]:
    rows: list[TextRow] = []
    for index in trained:
        is_last = index == len(messages) - 1
        after = whole.text if is_last else chat_format.render(messages[: index + 1], tools).text
        try:
            span = _span(chat_format, messages, tools, index, after)
        except RefusedError:
            moved = _beside_a_moved_system(chat_format, messages, tools, index)
            if moved is None:
                raise
            after, span = moved
        if span is None:
            continue
        spans, indices = [span], [index]
        if rows and after.startswith(rows[-1].text):
            earlier = rows.pop()
            spans, indices = [*earlier.spans, span], [*earlier.trained, index]
        rows.append(_row(after, spans, messages, indices, index + 1))
    if rows and whole.text.startswith(rows[-1].text):
        last = rows.pop()
        rows.append(_row(whole.text, last.spans, messages, last.trained))
    return rows


def _span(
    chat_format: ChatFormat, messages: Sequence[Message], tools: Sequence[Any] | None, index: int, after: str
) -> Span | None:
    """Return what ``after`` (the text of the messages up to and with ``index``) gains by its last message."""
    base = messages[:index]
    if messages[index]["role"] != "assistant":
        before = chat_format.render(base, tools).text if base else ""
        return _continued(before, after, index)
    try:
        before = chat_format.render(base, tools, add_generation_prompt=True).text
    except RefusedError:
        if index:
            raise
        return None
    if after.startswith(before):
        return len(before), len(after)
    if index == 0:
        return None
    # The prompt ends with something that the answer's text leaves out (an opening mark of thoughts):
    # what the two have in common is the prompt, if it holds the messages before.
    common = _common_length(before, after)
    _continued(chat_format.render(base, tools).text, after[:common], index)
    return common, len(after)


def _beside_a_moved_system(
    chat_format: ChatFormat, messages: Sequence[Message], tools: Sequence[Any] | None, index: int
) -> tuple[str, Span] | None:
    """Return text and span of an answer whose template writes the system message only while no answer follows.

    Mistral's formats put it into the last message of the user and leave it out once that is answered. The model
    is asked with it: the row is the prompt as it is asked, and what the template writes for the answer where
    there is no system message. None where that does not explain the text either.
    """
    others = [message for message in messages[: index + 1] if message["role"] != "system"]
    if messages[index]["role"] != "assistant" or len(others) in (1, index + 1):
        return None
    prompt = chat_format.render(messages[:index], tools, add_generation_prompt=True).text
    before = chat_format.render(others[:-1], tools, add_generation_prompt=True).text
    after = chat_format.render(others, tools).text
    if not after.startswith(before):
        return None
    text = prompt + after[len(before) :]
    return text, (len(prompt), len(text))


def _continued(before: str, after: str, index: int) -> Span:
    if not after.startswith(before):
        raise RefusedError(
            f"it writes what stands before message {index + 1} in another way once that message follows, so that "
            "no text is certain to be what the model gets"
        )
    return len(before), len(after)


def _common_length(first: str, second: str) -> int:
    limit = min(len(first), len(second))
    if first[:limit] == second[:limit]:
        return limit
    low, high = 0, limit
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if first[:middle] == second[:middle] else (low, middle)
    return low


def _marked_spans(
    chat_format: ChatFormat,
    messages: Sequence[Message],
    tools: Sequence[Any] | None,
    whole: Rendered,
    trained: Sequence[int],
) -> list[Span]:
    """Return the marked spans that belong to the trained messages."""
    assert whole.marks is not None
    answers = [index for index, message in enumerate(messages) if message["role"] == "assistant"]
    if list(trained) == answers:
        return [span for span in whole.marks if span[0] < span[1]]
    spans = []
    for index in trained:
        if messages[index]["role"] != "assistant":
            before = chat_format.render(messages[:index], tools).text if index else ""
            after = chat_format.render(messages[: index + 1], tools).text
            _continued(after, whole.text, index)
            spans.append(_continued(before, after, index))
    if len(whole.marks) == len(answers):
        by_answer = {index: [span] for index, span in zip(answers, whole.marks, strict=True)}
    else:
        by_answer = _marks_by_answer(chat_format, messages, tools, whole, answers)
    spans += [span for index in trained for span in by_answer.get(index, [])]
    return sorted(span for span in spans if span[0] < span[1])


def _marks_by_answer(
    chat_format: ChatFormat,
    messages: Sequence[Message],
    tools: Sequence[Any] | None,
    whole: Rendered,
    answers: Sequence[int],
) -> dict[int, list[Span]]:
    """Return the marks of each answer where they are not one each: those that its beginning of the text gains by it."""
    assert whole.marks is not None
    found: dict[int, list[Span]] = {}
    for index in answers:
        after = chat_format.render(messages[: index + 1], tools)
        _continued(after.text, whole.text, index)
        before = chat_format.render(messages[:index], tools) if index else Rendered("", ())
        found[index] = list((after.marks or ())[len(before.marks or ()) :])
    return found


def _spans_left_out(
    chat_format: ChatFormat,
    messages: Sequence[Message],
    tools: Sequence[Any] | None,
    whole: Rendered,
    trained: Sequence[int],
) -> list[Span]:
    """Return the spans of the messages that are not trained although all is."""
    spans = []
    for index in range(len(messages)):
        if index not in trained:
            after = chat_format.render(messages[: index + 1], tools).text
            _continued(after, whole.text, index)
            span = _span(chat_format, messages, tools, index, after)
            if span is None:
                raise RefusedError(f"it does not tell what of the text is message {index + 1}")
            spans.append(span)
    return spans


def _without(text: str, spans: Sequence[Span]) -> list[Span]:
    """Return what is left of the whole text."""
    left, position = [], 0
    for start, end in spans:
        left.append((position, start))
        position = end
    left.append((position, len(text)))
    return [span for span in left if span[0] < span[1]]
