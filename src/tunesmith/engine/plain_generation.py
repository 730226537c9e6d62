"""Writing answers with the search of ``transformers`` (its cache, its sampling), for models that need it.

What is added is the order, the bounds on memory, and the way back to the attention that training uses.

Shapes: B prompts of at most L tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from queue import SimpleQueue
from threading import Event, Thread
from typing import Any

import numpy as np
import torch
from torch import nn

from tunesmith.data.encoded import Ragged
from tunesmith.engine.sampling import Sampling
from tunesmith.engine.stand_ins import as_written
from tunesmith.models.modes import evaluating
from tunesmith.models.quiet import quiet
from tunesmith.models.wrapping import has_virtual_tokens, inner

MAX_CACHED_TOKENS = 16_384
"""Tokens, prompts and answers together, that the cache of texts written at once may hold."""
MAX_ROWS = 32


@torch.inference_mode()
def generate_plain(
    model: nn.Module,
    prompts: Ragged,
    sampling: Sampling,
    *,
    check: Callable[[int], None] = lambda _: None,
    beside: Mapping[str, Any] | None = None,
) -> list[list[int]]:
    """Return the answer to every prompt as token ids, in the order of the prompts.

    ``beside`` are further inputs of the prompts, as ``Encoded.inputs`` has them: what is told of their tokens, and
    images.

    ``check`` is called with the number of answers that are done, between batches, and may raise.
    Equal prompts, weights and seeds give equal answers.
    """
    answers: list[list[int]] = [[] for _ in range(len(prompts))]
    device = next(model.parameters()).device
    done = 0
    with ready(model, sampling.seed) as door:
        config = sampling.config(inner(model))
        stops = sampling.stops(inner(model))
        padded, copies = not has_virtual_tokens(model), int(sampling.search.get("num_beams") or 1)
        for rows in batches(prompts.lengths, sampling.max_new_tokens, padded=padded, copies=copies):
            check(done)
            ids_BL, mask_BL = _left_padded([prompts[row] for row in rows], sampling.pad_token_id)
            others = inputs_beside(inner(model), beside or {}, rows)
            found = door.generate(
                input_ids=ids_BL.to(device),
                attention_mask=mask_BL.to(device),
                generation_config=config,
                **{name: values.to(device) for name, values in others.items()},
            )
            for row, tokens in zip(rows, found[:, ids_BL.shape[1] :].tolist(), strict=True):
                answers[row] = until(tokens, stops, keeps_end=sampling.keeps_end)
            done += len(rows)
    return answers


def stream_plain(
    model: nn.Module, prompt: Sequence[int], sampling: Sampling, beside: Mapping[str, Any] | None = None
) -> Generator[int, None, None]:
    """Yield the answer to one prompt token by token; closing the iterator ends the work.

    ``beside`` are further inputs, as ``generate_plain`` takes them, of which the first row is the prompt's.
    """
    from transformers import StoppingCriteriaList
    from transformers.generation.streamers import BaseStreamer

    tokens: SimpleQueue[int | BaseException | None] = SimpleQueue()
    is_closed = Event()

    class Streamer(BaseStreamer):
        is_prompt = True

        def put(self, value: torch.Tensor) -> None:
            if self.is_prompt:
                self.is_prompt = False
                return
            for token in value.reshape(-1).tolist():
                tokens.put(token)

        def end(self) -> None:
            tokens.put(None)

    @torch.inference_mode()
    def work() -> None:
        try:
            with ready(model, sampling.seed) as door:
                ids = torch.tensor([list(prompt)], device=next(model.parameters()).device)
                others = inputs_beside(inner(model), beside or {}, [0])
                door.generate(
                    input_ids=ids,
                    attention_mask=torch.ones_like(ids),
                    generation_config=sampling.config(inner(model)),
                    streamer=Streamer(),
                    **{name: values.to(ids.device) for name, values in others.items()},
                    stopping_criteria=StoppingCriteriaList([lambda *_, **__: is_closed.is_set()]),
                )
        except BaseException as error:  # handed to the thread that reads
            tokens.put(error)

    stops = sampling.stops(inner(model))
    thread = Thread(target=work, daemon=True)
    thread.start()
    try:
        while (token := tokens.get()) is not None:
            if isinstance(token, BaseException):
                raise token
            if token in stops:
                break
            yield token
    finally:
        is_closed.set()
        thread.join()


@contextmanager
def ready(model: nn.Module, seed: int) -> Iterator[Any]:
    """Yield what is to be called of a model as its authors wrote it: no dropout, random numbers of its own."""
    with torch.random.fork_rng(), as_written(model), evaluating(model):
        torch.manual_seed(seed)
        if not has_virtual_tokens(model):
            yield inner(model)
            return
        with quiet():  # PEFT says that it leaves positions to the model, which counts right where nothing is padded
            yield model


def batches(
    lengths: np.typing.NDArray[np.int64], max_new_tokens: int, *, padded: bool, copies: int = 1
) -> Iterator[list[int]]:
    """Yield rows of similar length, or of one length, longest first, so that what does not fit shows at once.

    Each is in the cache so many times as ``copies`` says (beams).
    """
    rows: list[int] = []
    longest = 0
    for row in np.argsort(-lengths, kind="stable").tolist():
        longest = longest or int(lengths[row])
        tokens = (len(rows) + 1) * copies * (longest + max_new_tokens)
        is_full = len(rows) == MAX_ROWS or tokens > MAX_CACHED_TOKENS
        if rows and (is_full or not (padded or lengths[row] == longest)):
            yield rows
            rows, longest = [], int(lengths[row])
        rows.append(row)
    if rows:
        yield rows


def inputs_beside(whole: nn.Module, beside: Mapping[str, Any], rows: Sequence[int]) -> dict[str, torch.Tensor]:
    """Return further inputs of some prompts: of their tokens [B, L] padded on the left, of images as they are.

    Fractions come in the number format of the weights; images that none of the prompts shows do not come.
    """
    found: dict[str, torch.Tensor] = {}
    for name, values in beside.items():
        if isinstance(values, Ragged):
            found[name] = _left_padded([values[row] for row in rows], 0)[0]
        elif (given := values[np.asarray(rows, dtype=np.int64)]) is not None:
            tensor = torch.from_numpy(np.ascontiguousarray(given))
            found[name] = tensor.to(next(whole.parameters()).dtype) if tensor.is_floating_point() else tensor
    return found


def _left_padded(prompts: Sequence[Any], pad_token_id: int) -> tuple[torch.Tensor, torch.Tensor]:
    length = max(len(prompt) for prompt in prompts)
    ids_BL = np.full((len(prompts), length), pad_token_id, dtype=np.int64)
    mask_BL = np.zeros((len(prompts), length), dtype=np.int64)
    for row, prompt in enumerate(prompts):
        ids_BL[row, length - len(prompt) :] = prompt
        mask_BL[row, length - len(prompt) :] = 1
    return torch.from_numpy(ids_BL), torch.from_numpy(mask_BL)


def until(tokens: Sequence[int], stops: Collection[int], *, keeps_end: bool = False) -> list[int]:
    """Return what stands before the first of the tokens that end an answer, and that one with ``keeps_end``."""
    end = next((index + keeps_end for index, token in enumerate(tokens) if token in stops), len(tokens))
    return list(tokens[:end])
