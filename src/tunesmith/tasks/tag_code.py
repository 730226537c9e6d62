"""The code on the model card that gives words their tags as ``tag_decoding`` does, with nothing but torch."""

from __future__ import annotations

from collections.abc import Sequence

from tunesmith.tasks.tag_schemes import is_bio

_EACH = ("print(list(zip(words, [labels[k] for k in scores.argmax(-1).tolist()])))",)
_BY_PAIR = (
    "n = len(labels)  # the head scores each tag, and each tag after each tag (the last n: at the beginning)",
    "pairs = scores[:, None, :n] + scores[:, n:].view(-1, n + 1, n)",
)
_BY_TAG = (
    "n = len(labels)",
    "pairs = scores[:, None, :].repeat(1, n + 1, 1)  # each tag after each tag (the last: at the beginning)",
)
_SCHEME = (
    "for k, tag in enumerate(labels):",
    '    for j, before in enumerate([*labels, "the beginning"]):',
    '        if tag.startswith("I-") and before not in (tag, f"B-{tag[2:]}"):',
    '            pairs[:, j, k] = float("-inf")  # an entity goes on only where it began',
)
_VITERBI = (
    "best, came_from = pairs[0, n], []",
    "for step in pairs[1:, :n]:",
    "    best, before = (best[:, None] + step).max(0)",
    "    came_from.append(before)",
    "tags = [int(best.argmax())]",
    "for before in reversed(came_from):",
    "    tags.append(int(before[tags[-1]]))",
    "print(list(zip(words, [labels[k] for k in reversed(tags)])))",
)


def tagging_code(labels: Sequence[str], words: Sequence[str], *, crf: bool) -> tuple[str, ...]:
    """Return the lines that print ``words`` with their tags: the likeliest sequence that keeps to the scheme."""
    has_scheme = is_bio(labels)
    if crf or has_scheme:
        choosing = (*(_BY_PAIR if crf else _BY_TAG), *(_SCHEME if has_scheme else ()), *_VITERBI)
    else:
        choosing = _EACH
    return (
        f"labels = {list(labels)!r}",
        f"words = {list(words)!r}",
        'inputs = tokenizer(words, is_split_into_words=True, return_tensors="pt", truncation=True)',
        "places = inputs.word_ids()",
        "first = [places.index(k) for k in range(len(words)) if k in places]  # the first piece of each word",
        "with torch.no_grad():",
        "    scores = model(**inputs).logits[0, first]",
        *choosing,
    )
