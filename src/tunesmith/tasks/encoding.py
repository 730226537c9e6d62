"""Texts to token ids, shared by the tasks."""

from __future__ import annotations

from collections.abc import Sequence, Sized
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tunesmith.data.encoded import Ragged, RaggedBuilder
from tunesmith.types import InputError

if TYPE_CHECKING:
    from tokenizers import Encoding
    from transformers import PreTrainedTokenizerBase

BATCH_ROWS = 1000


def encode_texts(
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str | None],
    text_pairs: Sequence[str | None] | None,
    max_length: int,
) -> tuple[dict[str, Ragged], int]:
    """Tokenise rows and return the model inputs with the number of rows that lost tokens.

    Special tokens are added and count towards ``max_length``. Too long single texts lose
    their end; of pairs, the longer text loses tokens first. ``token_type_ids`` are kept only
    when the tokenizer makes them and some are not 0. A row never comes out empty, because a
    model cannot pool nothing: it gets one unknown (or end) token.
    """
    ids, types = RaggedBuilder(), RaggedBuilder()
    has_types = False
    num_truncated = 0
    encode = _encode_plain if is_plain(tokenizer) else _encode_other
    for start in range(0, len(texts), BATCH_ROWS):
        stop = start + BATCH_ROWS
        batch_texts = [text or "" for text in texts[start:stop]]
        batch_pairs = None if text_pairs is None else [text or "" for text in text_pairs[start:stop]]
        batch = encode(tokenizer, batch_texts, batch_pairs, max_length)
        num_truncated += batch.num_truncated
        rows = [row or [filler_token(tokenizer)] for row in batch.ids]
        lengths = lengths_of(rows)
        ids.add(flat(rows), lengths)
        if batch.types is not None and any(map(any, batch.types)):
            has_types = True
            types.add(flat([row or [0] for row in batch.types]), lengths)
        else:
            types.add(np.broadcast_to(np.int32(0), int(lengths.sum())), lengths)  # takes no memory
    inputs = {"input_ids": ids.finish()}
    if has_types:
        inputs["token_type_ids"] = types.finish()
    return inputs, num_truncated


def flat(rows: Sequence[Sequence[int]]) -> npt.NDArray[np.int32]:
    """Return all values of some rows as one array, int32 [T]."""
    return np.fromiter(chain.from_iterable(rows), dtype=np.int32, count=sum(map(len, rows)))


def lengths_of(rows: Sequence[Sized]) -> npt.NDArray[np.int64]:
    """Return [N]: the length of each row."""
    return np.fromiter(map(len, rows), dtype=np.int64, count=len(rows))


# ---- calling the tokenizer -----------------------------------------------------------------------


def is_plain(tokenizer: Any) -> bool:
    """Say whether calling the tokenizer is calling its Rust half, which is then called directly.

    ``transformers`` wraps what comes back in several objects a row, which takes longer than many a row's text.
    """
    from transformers import PreTrainedTokenizerFast

    kind = type(tokenizer)
    return isinstance(tokenizer, PreTrainedTokenizerFast) and all(
        getattr(kind, name) is getattr(PreTrainedTokenizerFast, name) for name in ("__call__", "_encode_plus")
    )


def encode_batch(
    tokenizer: Any,
    batch: Sequence[Any],
    *,
    add_special_tokens: bool = True,
    is_pretokenized: bool = False,
    aligned: bool = False,
) -> list[Encoding]:
    """Encode texts, pairs of texts, or lists of words, with the Rust half of a fast tokenizer.

    Nothing is cut off. Only when ``aligned`` do encodings tell the words and characters of their tokens, which takes
    longer.
    """
    backend = tokenizer.backend_tokenizer
    # What other callers have set on the tokenizer stays in it.
    if backend.truncation is not None:
        backend.no_truncation()
    if backend.padding is not None:
        backend.no_padding()
    if backend.encode_special_tokens != tokenizer.split_special_tokens:
        backend.encode_special_tokens = tokenizer.split_special_tokens
    encode = backend.encode_batch if aligned else backend.encode_batch_fast
    try:
        found: list[Encoding] = encode(batch, is_pretokenized=is_pretokenized, add_special_tokens=add_special_tokens)
    except BaseException as error:
        # What goes wrong in Rust comes as a bare Exception, a panic as one that is no Exception.
        if type(error) is not Exception and type(error).__name__ != "PanicException":
            raise
        reason = (str(error).splitlines() or ["no reason given"])[0][:300]
        message = f"The model's tokenizer cannot read a text of the data: {reason}."
        raise InputError(message, "Use another model, or another version of its tokenizer.") from error
    return found


@dataclass(frozen=True, slots=True)
class _Batch:
    ids: list[list[int]]
    types: list[list[int]] | None
    num_truncated: int


def _encode_plain(tokenizer: Any, texts: list[str], pairs: list[str] | None, max_length: int) -> _Batch:
    """Encode a batch in Rust and cut the rows that are too long.

    The tokenizer is not asked to cut: it would make all the pieces cut off too, for pairs in all their combinations.
    """
    encodings = encode_batch(tokenizer, texts if pairs is None else list(zip(texts, pairs, strict=True)))
    ids = [encoding.ids for encoding in encodings]
    types = [encoding.type_ids for encoding in encodings] if "token_type_ids" in tokenizer.model_input_names else None
    too_long = [row for row, found in enumerate(ids) if len(found) > max_length]
    for row in too_long:
        kept = _kept(encodings[row].sequence_ids, max_length, tokenizer.truncation_side)
        ids[row] = [ids[row][i] for i in kept]
        if types is not None:
            types[row] = [types[row][i] for i in kept]
    return _Batch(ids, types, len(too_long))


def _kept(sequence_ids: list[int | None], max_length: int, side: str) -> list[int]:
    """Return the positions that stay of a row with more than ``max_length`` tokens.

    ``sequence_ids`` say of each whether it is of the first text (0), of the second (1) or added (None). Texts lose
    tokens as in the strategy ``longest_first`` of the tokenizers library: a shorter one stays as it is while the
    longer one has at least as many left; else both keep half.
    """
    places = [[i for i, text in enumerate(sequence_ids) if text == number] for number in (0, 1)]
    room = max(max_length - (len(sequence_ids) - len(places[0]) - len(places[1])), 0)
    short = min(*map(len, places), room // 2)
    sizes = [short, room - short] if len(places[0]) <= len(places[1]) else [room - short, short]
    cut = {
        i
        for texts, size in zip(places, sizes, strict=True)
        for i in (texts[size:] if side == "right" else texts[: max(len(texts) - size, 0)])
    }
    return [i for i in range(len(sequence_ids)) if i not in cut]


def _encode_other(
    tokenizer: PreTrainedTokenizerBase, texts: list[str], pairs: list[str] | None, max_length: int
) -> _Batch:
    """Encode a batch with a tokenizer that has ways of its own (such as one written in Python)."""
    batch = tokenizer(
        texts, pairs, truncation="longest_first", max_length=max_length, padding=False, return_attention_mask=False
    )
    types = list(batch["token_type_ids"]) if "token_type_ids" in batch else None
    return _Batch(list(batch["input_ids"]), types, _count_truncated(tokenizer, batch, texts, pairs, max_length))


def _count_truncated(
    tokenizer: PreTrainedTokenizerBase, batch: Any, texts: list[str], pairs: list[str] | None, max_length: int
) -> int:
    """Count the rows of a batch that lost tokens."""
    if batch.encodings is not None:  # a tokenizer in Rust keeps what it cut off
        return sum(1 for encoding in batch.encodings if encoding.overflowing)
    full = [i for i, row in enumerate(batch["input_ids"]) if len(row) == max_length]
    if not full:
        return 0
    whole = tokenizer(
        [texts[i] for i in full],
        None if pairs is None else [pairs[i] for i in full],
        truncation=False,
        return_attention_mask=False,
        verbose=False,
    )
    return sum(1 for row in whole["input_ids"] if len(row) > max_length)


# ---- special tokens ------------------------------------------------------------------------------


def filler_token(tokenizer: PreTrainedTokenizerBase) -> int:
    """Return what stands for a text of no tokens: the unknown token, or the nearest thing to it."""
    candidates = (tokenizer.unk_token_id, tokenizer.eos_token_id, tokenizer.bos_token_id, tokenizer.pad_token_id, 0)
    return next(token for token in candidates if isinstance(token, int))


def special_tokens(tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    """Return the ids that a fast tokenizer puts before and after a text."""
    backend: Any = tokenizer.backend_tokenizer
    plain, whole = (backend.encode("a", add_special_tokens=special).ids for special in (False, True))
    num_special = len(whole) - len(plain)
    first = next((i for i in range(num_special + 1) if whole[i : i + len(plain)] == plain), 0)
    return whole[:first], whole[first + len(plain) :]
