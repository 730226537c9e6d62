"""Writing answers: many prompts at once, or one, token by token.

Prompts wait, longest first, for a slot of the cache to become free; answers that have ended leave theirs. A model that
cannot be run that way is written with by ``transformers`` itself (``engine.plain_generation``), batch by batch, and so
is one whose prompts an encoder reads (``engine.encoder_generation``).

Shapes: B texts at work, V entries of the vocabulary.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from tunesmith.data.encoded import Ragged
from tunesmith.engine.choice import Chooser
from tunesmith.engine.decoding.decoder import Decoder
from tunesmith.engine.decoding.ready import find_way, ready
from tunesmith.engine.encoder_generation import generate_from_encoder
from tunesmith.engine.plain_generation import MAX_CACHED_TOKENS, generate_plain, stream_plain
from tunesmith.engine.sampling import Sampling
from tunesmith.models.wrapping import inner, takes_images, writes_from_encoder

if TYPE_CHECKING:
    from torch import nn

__all__ = ["Sampling", "generate", "stream"]

MAX_ROWS = 64
PROMPT_TOKENS = 4096
"""Tokens of prompts that are read at once."""


def generate(
    model: nn.Module,
    prompts: Ragged,
    sampling: Sampling,
    *,
    check: Callable[[int], None] = lambda _: None,
    beside: Mapping[str, Any] | None = None,
) -> list[list[int]]:
    """Return the answer to every prompt as token ids, in the order of the prompts.

    ``beside`` are further inputs of the prompts, as ``Encoded.inputs`` has them, of models that see.
    ``check`` is called with the number of answers that are done, whenever there are more, and may raise.
    Equal prompts, weights and seeds give equal answers.
    """
    if not len(prompts):
        return []
    if writes_from_encoder(model):
        return generate_from_encoder(model, prompts, sampling, check=check)
    way = find_way(model) if is_simple(model) and not sampling.search and not takes_images(model) else None
    if way is None:
        return generate_plain(model, prompts, sampling, check=check, beside=beside)
    answers: list[list[int]] = [[] for _ in range(len(prompts))]
    done = 0
    check(done)
    with ready(model, way):
        for rows in _shifts(prompts.lengths, sampling.max_new_tokens):
            longest = int(prompts.lengths[rows].max()) + sampling.max_new_tokens
            decoder = Decoder(model, min(_num_slots(longest), len(rows)), longest)
            chooser = Chooser(sampling, inner(model))
            for row, answer in _write(decoder, chooser, [(row, prompts[row]) for row in rows], sampling):
                answers[row] = answer
                done += 1
                check(done)
    return answers


def stream(
    model: nn.Module,
    prompt: Sequence[int],
    sampling: Sampling,
    *,
    keep: bool = False,
    beside: Mapping[str, Any] | None = None,
) -> Generator[int, None, None]:
    """Yield the answer to one prompt token by token; closing the iterator ends the work.

    With ``keep``, what was prepared of the model stays for the next answer: for one that is not trained any more.
    ``beside`` are further inputs, as ``generate`` takes them, of the one prompt.
    """
    way = find_way(model) if is_simple(model) and not takes_images(model) else None
    if way is None:
        yield from stream_plain(model, prompt, sampling, beside)
        return
    chooser = Chooser(sampling, inner(model))
    ids = np.asarray(prompt, dtype=np.int64)
    with ExitStack() as stack:
        stack.enter_context(ready(model, way, keep=keep))
        decoder = Decoder(model, 1, len(ids) + sampling.max_new_tokens)
        scores_BV = decoder.fill([0], [ids])
        chooser.begin(0, ids)
        for number in range(sampling.max_new_tokens):
            token = int(chooser.choose(scores_BV, [0])[0])
            if token in chooser.stops:
                return
            yield token
            if number + 1 < sampling.max_new_tokens:
                scores_BV = decoder.step(np.array([token]))


@dataclass(slots=True)
class _Text:
    """One answer being written."""

    row: int
    answer: list[int] = field(default_factory=list)


def _write(
    decoder: Decoder, chooser: Chooser, waiting: Sequence[tuple[int, Any]], sampling: Sampling
) -> Iterator[tuple[int, list[int]]]:
    """Yield every row with its answer as it ends. The text in the first slots are those at work."""
    queue = deque(waiting)
    texts: list[_Text] = []
    tokens: list[int] = []
    while queue or texts:
        if queue and _is_worth_reading(len(texts), len(queue), decoder.num_slots):
            first = len(texts)
            taken = _take(queue, decoder.num_slots - first)
            for row, prompt in taken:
                chooser.begin(row, prompt)
                texts.append(_Text(row))
            scores_BV = decoder.fill(range(first, len(texts)), [prompt for _, prompt in taken])
            tokens += chooser.choose(scores_BV, [text.row for text in texts[first:]]).tolist()
        else:
            scores_BV = decoder.step(np.array(tokens))
            tokens = chooser.choose(scores_BV, [text.row for text in texts]).tolist()
            first = 0
        for slot in range(len(texts) - 1, first - 1, -1):
            text, token = texts[slot], tokens[slot]
            ends = token in chooser.stops
            if not ends or sampling.keeps_end:
                text.answer.append(token)
            if not ends and len(text.answer) < sampling.max_new_tokens:
                continue
            yield text.row, text.answer
            last = len(texts) - 1
            if slot != last:
                decoder.move(last, slot)
                texts[slot], tokens[slot] = texts[last], tokens[last]
            texts.pop()
            tokens.pop()


def _is_worth_reading(num_texts: int, num_waiting: int, num_slots: int) -> bool:
    """Say whether to read prompts now: few at a time take almost as long as a step of many."""
    free = num_slots - num_texts
    return free > 0 and (num_texts == 0 or free >= min(num_waiting, max(num_slots // 8, 1)))


def _take(queue: deque[tuple[int, Any]], most: int) -> list[tuple[int, Any]]:
    """Take prompts that are read at once: at most so many, and so many tokens."""
    taken = [queue.popleft()]
    num_tokens = len(taken[0][1])
    while queue and len(taken) < most and num_tokens + len(queue[0][1]) <= PROMPT_TOKENS:
        taken.append(queue.popleft())
        num_tokens += len(taken[-1][1])
    return taken


def _num_slots(longest: int) -> int:
    """Return how many texts of ``longest`` tokens are written at once."""
    return max(min(MAX_ROWS, MAX_CACHED_TOKENS // longest), 1)


def _shifts(lengths: np.typing.NDArray[np.int64], max_new_tokens: int) -> Iterator[np.typing.NDArray[np.int64]]:
    """Yield rows that share a cache, longest first, so that what does not fit shows at once.

    Every slot has room for the longest of them: where others are much shorter, they get a cache of more slots.
    """
    order = np.argsort(-lengths, kind="stable")
    while len(order):
        longest = int(lengths[order[0]]) + max_new_tokens
        num_slots = _num_slots(longest)
        fits = [_num_slots(int(length) + max_new_tokens) < 2 * num_slots for length in lengths[order]]
        end = max(fits.index(False) if False in fits else len(order), min(num_slots, len(order)))
        yield order[:end]
        order = order[end:]


SIMPLE = {
    "bos_token_id",
    "cache_implementation",
    "do_sample",
    "eos_token_id",
    "max_length",
    "max_new_tokens",
    "pad_token_id",
    "repetition_penalty",
    "temperature",
    "top_k",
    "top_p",
    "transformers_version",
    "use_cache",
}
"""What a model may say about writing with it; anything else is left to ``transformers``."""


def is_simple(model: nn.Module) -> bool:
    """Say whether the next token is chosen in a way that ``Chooser`` knows."""
    own: Any = getattr(inner(model), "generation_config", None)
    if own is None:
        return True
    said = {name for name, value in own.to_diff_dict().items() if value not in (None, False) and name[0] != "_"}
    return said <= SIMPLE
