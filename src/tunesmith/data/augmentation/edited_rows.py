"""Rows in a task's canonical columns with their texts changed, and the labels that are places in them moved along."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from random import Random
from typing import Any

from tunesmith.data.augmentation.config import AugmentConfig
from tunesmith.data.augmentation.edits import Edit, Place, Way, applied, moved
from tunesmith.data.augmentation.lexicon import load_lexicon
from tunesmith.data.augmentation.noise import Noise
from tunesmith.data.augmentation.synonyms import Synonyms
from tunesmith.types import InputError

TOKENS, TAGS, STARTS, ANSWERS, CONTEXT = "tokens", "tags", "starts", "answers", "context"
_TRIES = 3
"""How often a change is drawn again for a row that the first draw left as it was."""

Row = Mapping[str, Any]


def ways_of(config: AugmentConfig, columns: Collection[str]) -> dict[str, Way]:
    """Return the ways of a configuration by their names, for rows with these canonical columns."""
    ways: dict[str, Way] = {}
    if "noise" in config.by:
        ways["noise"] = Noise(config.share)
    if "synonyms" in config.by:
        ways["synonyms"] = Synonyms(load_lexicon(config.lexicon), config.share, single_words=TOKENS in columns)
    return {name: ways[name] for name in config.by if name in ways}


def require_editable(columns: Collection[str], what: str) -> None:
    """Raise ``InputError`` where rows with these canonical columns have texts that are more than texts."""
    kind = next((kind for name, kind in _OTHERS.items() if name in columns), "")
    if kind:
        raise InputError(
            f"{what}: the rows hold {kind}, which a change of words would break or teach wrongly.",
            "It is for texts with labels or numbers, pairs, tagged tokens, questions on a text, and sources of texts.",
        )


_OTHERS = {"messages": "conversations", "chosen": "preferences", "image": "images", "pixels": "images"}


def edited_row(row: Row, texts: Sequence[str], way: Way, random: Random) -> dict[str, Any] | None:
    """Return a row with its texts changed, or None where nothing changes.

    Args:
        row: Its canonical columns.
        texts: Those that hold texts.
        way: How texts are changed.
        random: What is drawn.
    """
    for _ in range(_TRIES):
        if TOKENS in row:
            changed = _edited_tokens(row, way, random)
        elif row.get(ANSWERS) is not None and CONTEXT in row:
            changed = _edited_question(row, texts, way, random)
        else:
            changed = {**row, **{name: _edited(row[name], (), way, random) for name in texts}}
        if any(changed[name] != row[name] for name in texts):
            return changed
    return None


def _edited(text: str | None, kept: Sequence[Place], way: Way, random: Random) -> str | None:
    return text if not text else applied(text, way(text, kept, random))


def _edited_question(row: Row, texts: Sequence[str], way: Way, random: Random) -> dict[str, Any]:
    """Return a question on a text whose answers stay word by word, and are found where they stand afterwards."""
    changed = {**row, **{name: _edited(row[name], (), way, random) for name in texts if name != CONTEXT}}
    context = row[CONTEXT] or ""
    kept = [(answer["start"], answer["start"] + len(answer["text"])) for answer in row[ANSWERS]]
    edits = way(context, kept, random)
    changed[CONTEXT] = applied(context, edits)
    changed[ANSWERS] = [{**answer, "start": moved(answer["start"], edits)} for answer in row[ANSWERS]]
    return changed


def _edited_tokens(row: Row, way: Way, random: Random) -> dict[str, Any]:
    """Return tagged tokens of which those outside of entities are changed: as many tokens, the same tags."""
    tokens, starts, tags = list(row[TOKENS]), row[STARTS], row.get(TAGS) or []
    places = [(start, start + len(token)) for start, token in zip(starts, tokens, strict=True)]
    kept = [place for place, tag in zip(places, tags, strict=False) if tag != "O"]
    edits: list[Edit] = []
    for edit in way(row["text"], kept, random):
        number = next(
            (number for number, (start, end) in enumerate(places) if start <= edit.start and edit.end <= end), None
        )
        if number is None or any(edit.start < other.end and other.start < edit.end for other in edits):
            continue
        start, _ = places[number]
        inside = [one for one in edits if places[number][0] <= one.start and one.end <= places[number][1]]
        new = applied(row[TOKENS][number], [_shifted(one, -start) for one in [*inside, edit]])
        if new.strip() and not any(letter.isspace() for letter in new):
            tokens[number] = new
            edits.append(edit)
    return {
        **row,
        "text": applied(row["text"], edits),
        TOKENS: tokens,
        STARTS: [moved(start, edits) for start in starts],
    }


def _shifted(edit: Edit, by: int) -> Edit:
    return Edit(edit.start + by, edit.end + by, edit.text)
