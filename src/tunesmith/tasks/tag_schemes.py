"""What tags stand for: the whole scheme that some tags belong to, the entities that tags mark, how tokens were cut."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from tunesmith.data.rows import item_counts
from tunesmith.data.schemes import OUTSIDE
from tunesmith.tasks.base import Columns
from tunesmith.tasks.labels import sorted_labels

Split = Literal["space", "word", "character"]


def complete_scheme(counts: Mapping[str, int]) -> tuple[str, ...]:
    """Return the tags seen, in order; of BIO tags both of every type, so that every entity can be predicted."""
    if not is_bio(counts):
        return sorted_labels(counts)
    kinds = sorted_labels({tag[2:] for tag in counts if tag != OUTSIDE})
    return (OUTSIDE, *(f"{prefix}-{kind}" for kind in kinds for prefix in "BI"))


def is_bio(tags: Iterable[str]) -> bool:
    """Say whether tags mark entities: some do, and there are none of another kind beside them and O."""
    found = {tag for tag in tags if tag != OUTSIDE}
    return bool(found) and all(tag[:2] in ("B-", "I-") and len(tag) > 2 for tag in found)


def how_split(tokens_N: Sequence[Sequence[str]]) -> Split:
    """Say how texts have to be cut to give tokens like these."""
    counts = item_counts(tokens_N)
    total = sum(counts.values())
    if 2 * sum(count for token, count in counts.items() if len(token) == 1 and not token.isascii()) > total:
        return "character"
    alone = sum(counts[mark] for mark in ",.!?;:")
    attached = sum(count for token, count in counts.items() if len(token) > 1 and token[-1] in ",!?;:")
    return "word" if alone > 2 * attached else "space"


def entities_of(
    tags: Sequence[str], columns: Columns, row: int, scores: Sequence[float] | None = None
) -> list[dict[str, Any]]:
    """Return the entities of a row's BIO tags, with their places in its text."""
    tokens, starts, text = columns["tokens"][row], columns["starts"][row], columns["text"][row]
    found: list[dict[str, Any]] = []
    kind = ""
    for index, tag in enumerate(tags):
        is_inside = tag[:2] in ("B-", "I-")
        if is_inside:
            end = int(starts[index]) + len(tokens[index])
            if tag[:2] == "B-" or tag[2:] != kind:
                found.append({"text": "", "label": tag[2:], "start": int(starts[index]), "end": end})
                if scores is not None:
                    found[-1]["score"] = scores[index]
            else:
                found[-1]["end"] = end
                if scores is not None:
                    found[-1]["score"] = min(found[-1]["score"], scores[index])
        kind = tag[2:] if is_inside else ""
    for entity in found:
        entity["text"] = text[entity["start"] : entity["end"]]
    return found
