"""Texts that two models write to the same prompts, always taking the likeliest token: whether they are the same.

Shapes: L tokens of a prompt, V entries of the vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from tunesmith.export.target import Writes
from tunesmith.models.anatomy import Anatomy
from tunesmith.models.wrapping import inner, writes_from_encoder
from tunesmith.run import Run
from tunesmith.run.written_answers import Writing, encode_prompts, sampling_for
from tunesmith.tasks.base import Columns, Task

NUM_PROMPTS = 4
NUM_TOKENS = 24
"""Of an answer, at most: the first tokens go through every part of a cache."""


@torch.inference_mode()
def share_of_same_texts(run: Run, model: nn.Module, columns: Columns, writes: Writes) -> float | None:
    """Return the share of prompts, the first of the rows, to which ``writes`` gives the tokens that ``model`` does.

    ``model`` is the run's, as ``transformers`` has it. None where the run's task writes nothing.
    """
    if run.task.writer is None:
        return None
    whole = inner(model)
    few = {name: values[:NUM_PROMPTS] for name, values in columns.items()}
    prompts, _ = encode_prompts(run.network, run.task, few, NUM_TOKENS)
    stops = sampling_for(run.network, run.task, Writing(NUM_TOKENS)).stops(whole)
    ours = greedy_writer(whole, run.task)
    given = [[int(token) for token in prompts[row]] for row in range(len(prompts))]

    def is_same(ids: Sequence[int]) -> bool:
        most = _room(whole, ids)
        return ours(ids, most, stops) == writes(ids, most, stops)

    same = [is_same(ids) for ids in given if ids]
    return sum(same) / len(same) if same else None


def _room(whole: Any, ids: Sequence[int]) -> int:
    """Return how many tokens are written: no more than the model has places for."""
    anatomy = Anatomy.of(whole)
    if anatomy.max_positions is None:
        return NUM_TOKENS
    taken = 2 if writes_from_encoder(whole) else len(ids)  # a decoder behind an encoder reads its own tokens alone
    return max(min(NUM_TOKENS, anatomy.max_positions - anatomy.position_offset - taken), 1)


def first_tokens(model: nn.Module, task: Task) -> list[int]:
    """Return what a decoder behind an encoder begins with: its own start, and the token that is always the next."""
    whole: Any = inner(model)
    own: Any = whole.generation_config
    said = {} if task.writer is None else {k: v for k, v in task.writer.search().items() if v is not None}
    start = said.get("decoder_start_token_id", own.decoder_start_token_id)
    start = whole.config.decoder_start_token_id if start is None else start
    forced = said.get("forced_bos_token_id", own.forced_bos_token_id)
    return [int(start), *([] if forced is None else [int(forced)])]


def greedy_writer(model: nn.Module, task: Task) -> Writes:
    """Return what writes with a model of ``transformers``, with its own cache."""
    whole: Any = model

    def after_prompt(ids: Sequence[int]) -> Callable[[Sequence[int]], torch.Tensor]:
        options: dict[str, Any] = {"use_cache": True}
        if writes_from_encoder(model):
            source = torch.tensor([list(ids)])
            mask = torch.ones_like(source)
            options["encoder_outputs"] = whole.get_encoder()(input_ids=source, attention_mask=mask)
            options["attention_mask"] = mask
        name = "decoder_input_ids" if writes_from_encoder(model) else "input_ids"

        def last_scores(tokens: Sequence[int]) -> torch.Tensor:
            output = whole(**{name: torch.tensor([list(tokens)])}, **options)
            options["past_key_values"] = output.past_key_values
            last: torch.Tensor = output.logits[0, -1]
            return last

        return last_scores

    def write(ids: Sequence[int], most: int, stops: frozenset[int]) -> list[int]:
        begins = first_tokens(model, task) if writes_from_encoder(model) else ids
        return written_greedily(after_prompt(ids), begins, most, stops)

    return write


def written_greedily(
    last_scores: Callable[[Sequence[int]], torch.Tensor], begins: Sequence[int], most: int, stops: frozenset[int]
) -> list[int]:
    """Return the likeliest token after the other.

    ``last_scores`` gives the scores [V] of the token that comes next, and remembers all that it was given before.
    """
    written: list[int] = []
    given = begins
    while len(written) < most:
        token = int(last_scores(given).argmax())
        if token in stops:
            break
        written.append(token)
        given = [token]
    return written
