"""Conversations that are longer than the model reads, made to fit.

First the oldest exchanges go (a system message stays), then the longest messages that no model wrote are
cut in their middle, and what is still too long loses the end of its answer. Each try is rendered anew, so that what
is left is always a whole conversation in the model's own format.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tunesmith.tasks.chat.image_places import STAND_INS
from tunesmith.tasks.chat.template import Message
from tunesmith.tasks.chat.tokens import Tokens

MIN_PROMPT_SHARE = 0.5
"""Messages are not cut to make room for an answer that is too long itself once the prompt is this share of the row."""


def fitted(
    measure: Callable[[list[Message]], Tokens | None],
    messages: Sequence[Message],
    max_length: int,
) -> Tokens | None:
    """Return the tokens of a conversation shortened until they fit, or come as near to it as they can.

    Args:
        measure: Renders and tokenises messages; None where nothing is left to train.
        messages: The conversation, up to the last answer to train or to the last message to answer.
        max_length: The most tokens.
    """
    head = next((i for i, message in enumerate(messages) if message["role"] != "system"), len(messages))
    starts = [i for i in range(head, len(messages)) if messages[i]["role"] == "user" or i == head]
    tails = [[*messages[:head], *messages[start:]] for start in starts] or [list(messages)]
    chosen = _first(len(tails), lambda index: num_tokens(measure(tails[index])) <= max_length)
    kept = tails[min(chosen, len(tails) - 1)]
    tokens = measure(kept)
    for roles in (("system", "assistant"), ("assistant",)):
        if _fits(tokens, max_length):
            break
        kept, tokens = _cut(measure, kept, roles, max_length)
    return tokens


def _cut(
    measure: Callable[[list[Message]], Tokens | None],
    messages: Sequence[Message],
    roles_kept: Sequence[str],
    max_length: int,
) -> tuple[list[Message], Tokens | None]:
    """Cut the contents of the roles that are not kept to one length, the longest that fits, or the shortest."""
    lengths = [len(message["content"]) for message in messages if message["role"] not in roles_kept]
    longest = max(lengths, default=1)

    def cut(length: int) -> list[Message]:
        return [
            message if message["role"] in roles_kept else {**message, "content": middle_out(message["content"], length)}
            for message in messages
        ]

    # From not cut at all (0) to one character (longest - 1).
    step = _first(longest, lambda index: _fits(measure(cut(longest - index)), max_length))
    kept = cut(longest - min(step, longest - 1))
    return kept, measure(kept)


def middle_out(text: str, length: int) -> str:
    """Return a text's beginning and end, ``length`` characters in all, and the images of what is left out."""
    if len(text) <= length:
        return text
    first, last = length // 2, len(text) - (length - length // 2)
    return text[:first] + "".join(STAND_INS.findall(text[first:last])) + text[last:]


def num_tokens(tokens: Tokens | None) -> int:
    """Return the number of tokens; 0 for none."""
    return 0 if tokens is None else len(tokens)


def _fits(tokens: Tokens | None, max_length: int) -> bool:
    """Say whether no message has to be cut: all fits, or the prompt is short and it is the answer that does not."""
    if tokens is None or len(tokens) <= max_length:
        return True
    return bool(tokens.is_trained.any()) and num_before_last_answer(tokens) <= MIN_PROMPT_SHARE * max_length


def num_before_last_answer(tokens: Tokens) -> int:
    """Return how many tokens stand before the last run of trained ones."""
    is_trained_T = tokens.is_trained
    last = len(is_trained_T) - int(is_trained_T[::-1].argmax())
    untrained = (~is_trained_T[:last])[::-1]
    return last - int(untrained.argmax()) if untrained.any() else 0


def _first(count: int, holds: Callable[[int], bool]) -> int:
    """Return the first of ``count`` indices where a condition holds that stays true once it is; ``count`` if none."""
    low, high = 0, count
    while low < high:
        middle = (low + high) // 2
        if holds(middle):
            high = middle
        else:
            low = middle + 1
    return low
