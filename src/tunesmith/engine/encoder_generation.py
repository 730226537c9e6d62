"""Writing with an encoder-decoder: batches of sources, searched by ``transformers``, by one token or several beams.

Shapes: B sources of at most L tokens.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from tunesmith.data.encoded import Ragged
from tunesmith.engine.plain_generation import batches, ready, until
from tunesmith.engine.sampling import Sampling
from tunesmith.models.anatomy import Anatomy
from tunesmith.models.wrapping import inner

if TYPE_CHECKING:
    from transformers import GenerationConfig


@torch.inference_mode()
def generate_from_encoder(
    model: nn.Module, sources: Ragged, sampling: Sampling, *, check: Callable[[int], None] = lambda _: None
) -> list[list[int]]:
    """Return what is written for every source as token ids, in their order, without what the decoder began with.

    ``check`` is called with the number of sources that are done, between batches, and may raise. What is written for
    a source depends on the others of its batch no more than padding does: by its rounding.
    """
    answers: list[list[int]] = [[] for _ in range(len(sources))]
    device = next(model.parameters()).device
    sampling = _within_places(model, sampling)
    config = search_settings(inner(model), sampling)
    stops = sampling.stops(inner(model))
    beams = int(config.num_beams or 1)
    done = 0
    with ready(model, sampling.seed) as door:
        for rows in batches(sources.lengths, sampling.max_new_tokens, padded=True, copies=beams):
            check(done)
            ids_BL, mask_BL = _padded([sources[row] for row in rows], sampling.pad_token_id)
            found = door.generate(
                input_ids=ids_BL.to(device), attention_mask=mask_BL.to(device), generation_config=config
            )
            for row, tokens in zip(rows, found[:, 1:].tolist(), strict=True):
                answers[row] = until(tokens, stops, keeps_end=sampling.keeps_end)
            done += len(rows)
    return answers


def _within_places(model: nn.Module, sampling: Sampling) -> Sampling:
    """Return ``sampling`` with answers no longer than the decoder has places for, the token that it begins with one."""
    places = Anatomy.of(model).max_positions
    if places is None:
        return sampling
    return replace(sampling, max_new_tokens=max(min(sampling.max_new_tokens, places - 1), 1))


def search_settings(whole: Any, sampling: Sampling) -> GenerationConfig:
    """Return the model's own settings of generation with those of ``sampling`` in their place."""
    config: GenerationConfig = copy.deepcopy(whole.generation_config)
    wanted = {name: value for name, value in sampling.config(whole).to_diff_dict().items() if name[0] != "_"}
    wanted |= {"do_sample": sampling.temperature > 0, "max_length": None, "min_length": None}
    wanted.pop("transformers_version", None)
    config.update(**wanted)  # type: ignore[no-untyped-call]
    return config


def _padded(sources: list[Any], pad_token_id: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return ids and mask [B, L], padded at the end."""
    lengths = np.array([len(source) for source in sources])
    mask_BL = np.arange(lengths.max()) < lengths[:, None]
    ids_BL = np.full(mask_BL.shape, pad_token_id, dtype=np.int64)
    ids_BL[mask_BL] = np.concatenate(sources)
    return torch.from_numpy(ids_BL), torch.from_numpy(mask_BL.astype(np.int64))
