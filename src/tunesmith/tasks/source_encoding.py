"""Sources and targets to token ids, for models with an encoder that reads and a decoder that writes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from tunesmith.config.base import nearest
from tunesmith.data.encoded import DECODER, Encoded, Ragged
from tunesmith.tasks.encoding import encode_texts, filler_token
from tunesmith.types import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_PROBES = ("a", "the end of it")
"""Texts that tell what every target begins and ends with."""


@dataclass(frozen=True)
class SourceEncoder:
    """A tokenizer whose languages are set."""

    tokenizer: PreTrainedTokenizerBase

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase, source: str | None, target: str | None) -> SourceEncoder:
        """Set the languages of ``tokenizer``; ``InputError`` for those that it does not know."""
        for key, name, wanted in (("source_language", "src_lang", source), ("target_language", "tgt_lang", target)):
            if wanted is None:
                continue
            known = known_languages(tokenizer)
            if wanted not in known:
                listed = ", ".join(sorted(known)[:12]) + (", …" if len(known) > 12 else "")
                message = f"task.{key}: the model does not know the language '{wanted}'."
                fix = f"Choose one of: {listed}." if known else f"Leave out task.{key}: the model knows none by a code."
                raise InputError(f"{message} {nearest(wanted, list(known))}".rstrip(), fix)
            setattr(tokenizer, name, wanted)
        return cls(tokenizer)

    def encode_sources(self, sources: Sequence[str], max_length: int) -> Encoded:
        """Return what the encoder reads of every source."""
        inputs, num_truncated = encode_texts(self.tokenizer, sources, None, max_length)
        return Encoded({"input_ids": inputs["input_ids"]}, {}, num_truncated)

    def encode_targets(self, targets: Sequence[str], max_length: int) -> tuple[Ragged, int]:
        """Return the tokens that a decoder is to write of every target, and how many targets lost tokens."""
        with _writing(self.tokenizer):
            inputs, num_truncated = encode_texts(self.tokenizer, targets, None, max_length)
        return inputs["input_ids"], num_truncated

    def encode(
        self,
        sources: Sequence[str],
        targets: Sequence[Sequence[str]] | None,
        start: int | Literal["last"] | None,
        *,
        max_length: int,
        max_target_length: int,
    ) -> Encoded:
        """Return a sequence for every target of every source; one for each source where there are no ``targets``.

        The decoder reads ``start`` and then the target without its last token, and is to say the target.
        """
        read = self.encode_sources(sources, max_length)
        counts = np.array([1] * len(sources) if targets is None else [len(texts) for texts in targets], dtype=np.int64)
        of_source = np.repeat(np.arange(len(sources)), counts)
        inputs = read.inputs["input_ids"]
        assert isinstance(inputs, Ragged)
        first = start if isinstance(start, int) else filler_token(self.tokenizer)
        if targets is None:
            labels, num_truncated = Ragged(np.zeros(0, np.int32), np.zeros(len(sources) + 1, np.int64)), 0
            shifted = Ragged.from_rows([[first]] * len(sources), np.int32)
        else:
            labels, num_truncated = self.encode_targets(
                [text for texts in targets for text in texts], max_target_length
            )
            shifted = _shifted(labels, start)
        positions = np.arange(len(labels.values)) - np.repeat(labels.offsets[:-1], labels.lengths)
        is_one_each = bool((counts == 1).all())
        return Encoded(
            {"input_ids": inputs if is_one_each else inputs.select(of_source), f"{DECODER}input_ids": shifted},
            {"labels": Ragged(labels.values.astype(np.int64), labels.offsets)},
            read.num_truncated + num_truncated,
            Ragged(positions.astype(np.int32), labels.offsets),
            None if is_one_each else np.concatenate([[0], np.cumsum(counts)]),
        )

    def first_token(self) -> int | None:
        """Return the special token that every target begins with; None where targets begin with their own tokens."""
        ids, _ = self.encode_targets(_PROBES, 64)
        firsts = {int(ids[row][0]) for row in range(len(ids))}
        special = set(self.tokenizer.all_special_ids) | set(getattr(self.tokenizer, "added_tokens_decoder", {}))
        (first,) = firsts if len(firsts) == 1 else (None,)
        return first if first in special and first != self.tokenizer.eos_token_id else None

    def ends(self) -> frozenset[int]:
        """Return the ids that end a target."""
        tokenizer = self.tokenizer
        end = tokenizer.eos_token_id if tokenizer.eos_token_id is not None else tokenizer.sep_token_id
        return frozenset() if end is None else frozenset([int(end)])


def known_languages(tokenizer: Any) -> frozenset[str]:
    """Return the codes of the languages that a tokenizer can be set to; empty where it has no such choice."""
    if not hasattr(tokenizer, "src_lang"):
        return frozenset()
    for name in ("lang_code_to_id", "lang_code_to_token"):
        if found := getattr(tokenizer, name, None):
            return frozenset(found)
    special = {*tokenizer.all_special_tokens, *(str(token) for token in tokenizer.added_tokens_decoder.values())}
    return frozenset(token for token in special if "_" in token and "<" not in token)


@contextmanager
def _writing(tokenizer: Any) -> Iterator[None]:
    """Let a tokenizer read texts as targets: some (mBART, Marian) have another way for these."""
    if not hasattr(tokenizer, "_switch_to_target_mode"):
        yield
        return
    tokenizer._switch_to_target_mode()
    before = tokenizer._in_target_context_manager
    tokenizer._in_target_context_manager = True  # else a call switches back by itself
    try:
        yield
    finally:
        tokenizer._in_target_context_manager = before
        tokenizer._switch_to_input_mode()


def _shifted(labels: Ragged, start: int | Literal["last"] | None) -> Ragged:
    """Return what a decoder reads to write ``labels``: each row begins with ``start`` and lacks its own last token."""
    assert start is not None, "the task has been suited to its model"
    values = np.empty_like(labels.values)
    values[1:] = labels.values[:-1]
    has_any = labels.lengths > 0
    firsts = labels.offsets[:-1][has_any]
    values[firsts] = labels.values[labels.offsets[1:][has_any] - 1] if start == "last" else start
    return Ragged(values, labels.offsets)
