"""Plain texts as rows of numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tunesmith.data.encoded import Encoded, Ragged
from tunesmith.tasks.chat.encoding import BATCH_ROWS, MAX_TOKENS, Rows, filled, listed
from tunesmith.tasks.chat.tokens import TextTokenizer


def encode_documents(
    texts: Sequence[str | None], tokenizer: TextTokenizer, max_length: int, *, keeps_text: bool = False
) -> Encoded:
    """Encode plain texts, every token of which is trained.

    Control tokens that are written in them are read as such, unless ``keeps_text``: whole conversations and
    several documents are often given as one text.

    Texts longer than ``max_length`` become several rows, each of which begins with the last token of the one
    before: every token but a text's first is predicted exactly once.
    """
    rows, length = Rows(), max(max_length, 2)
    controls, found, num_found = tokenizer.controls, set[str](), 0
    for first in range(0, len(texts), BATCH_ROWS):
        batch = [text or "" for text in texts[first : first + BATCH_ROWS]]
        if controls is not None:
            holding = [text for text in batch if controls.pattern.search(text)]
            num_found += len(holding)
            found.update(*(controls.found_in(text) for text in holding[:MAX_TOKENS]))
            batch = controls.marked(batch) if keeps_text else batch
        tokens = tokenizer.documents(batch)
        # Of a text of one token, which follows nothing, there is no row.
        counts = -(-(tokens.lengths - 1).clip(min=0) // (length - 1))
        number = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
        firsts = np.repeat(tokens.offsets[:-1], counts) + number * (length - 1)
        lasts = np.minimum(firsts + length, np.repeat(tokens.offsets[1:], counts))
        rows.add(tokens.parts(firsts, lasts), counts)
    if num_found:
        how = (
            "text, as task.special_tokens says" if keeps_text else "tokens. task.special_tokens text keeps them as text"
        )
        rows.remarks[f"have control tokens in their text ({listed(found)}), which are read as {how}."] = num_found
    return rows.encoded()


def encode_beginnings(
    texts: Sequence[str | None], tokenizer: TextTokenizer, max_length: int, *, keeps_text: bool = False
) -> Encoded:
    """Encode plain texts for the model to go on from; too long ones lose their beginning."""
    given = [text or "" for text in texts]
    if keeps_text and tokenizer.controls is not None:
        given = tokenizer.controls.marked(given)
    tokens = [
        one
        for first in range(0, len(given), BATCH_ROWS)
        for one in tokenizer.documents(given[first : first + BATCH_ROWS], ended=False)
    ]
    ids = [filled(one.part(max(len(one) - max_length, 0), len(one)), tokenizer) for one in tokens]
    return Encoded({"input_ids": Ragged.from_rows(ids, np.int32)}, {}, sum(len(one) > max_length for one in tokens))
