"""Making a model ready to write: an attention that knows the cache, layers that are quick with few tokens.

Whether a model can be run that way is not taken from a list: the scores of a few random texts, read and then written
token by token, are compared with those of the model as ``transformers`` wrote it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Literal
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import nn

from tunesmith.engine.blocks.install import blocks_of
from tunesmith.engine.decoding.decoder import Decoder
from tunesmith.engine.decoding.layer import DecodingLayer
from tunesmith.engine.decoding.linear import Linear, StandIn
from tunesmith.engine.decoding.work import CACHED_ATTENTION, register
from tunesmith.engine.free_memory import memory_of
from tunesmith.engine.stand_ins import as_written, attending_by, standing_in
from tunesmith.models.anatomy import Anatomy
from tunesmith.models.modes import evaluating
from tunesmith.models.streaming import stream_of
from tunesmith.models.wrapping import has_virtual_tokens, inner

Way = Literal["fused", "own"]
"""With fused layers, or with the layers as their authors wrote them."""

MAX_PACKED_SHARE = 1 / 3
"""Share of the free memory that packed weights, which are a copy, may take; larger models are used as they are."""

PROBE_LENGTHS = (3, 9, 5)
PROBE_STEPS = 2
PROBE_TOLERANCES = {torch.float64: 1e-6, torch.float32: 1e-3}
"""Largest difference of scores, relative to their size, for two ways to count as equal."""
COARSE_TOLERANCE = 0.08
"""The same for formats of few digits; a mistake makes differences of about 1."""

StandIns = tuple[tuple[nn.Module, Callable[..., Any]], ...]


@dataclass(frozen=True, slots=True)
class _Found:
    versions: int
    way: Way | None
    stand_ins: StandIns = ()
    stays: bool = False
    """Whether what stands in was asked to be kept; else it is dropped once it has been used."""


_found: WeakKeyDictionary[nn.Module, _Found] = WeakKeyDictionary()


def find_way(model: nn.Module) -> Way | None:
    """Return the quickest way in which this model can write with a ``Decoder``; None where none is proven equal."""
    found = _found.get(model)
    if found is None or found.versions != _versions(model):
        found = _Found(_versions(model), None)
        for way in _ways(model):
            if (stand_ins := _proven(model, way)) is not None:
                found = _Found(found.versions, way, stand_ins)
                break
        _found[model] = found
    return found.way


@contextmanager
def ready(model: nn.Module, way: Way, *, keep: bool = False) -> Iterator[None]:
    """Make ``model`` one that a ``Decoder`` can use inside the ``with`` block.

    What ``find_way`` has packed is used. With ``keep``, packed weights stay for the next time: for models that are not
    trained any more.
    """
    found, versions = _found.get(model), _versions(model)
    if found is None or found.way != way or found.versions != versions:
        found = _Found(versions, way)
    stand_ins, stays = found.stand_ins or _stand_ins(model, way), keep or found.stays
    _found[model] = _Found(versions, way, stand_ins if stays else (), stays)
    with _standing_in(model, stand_ins):
        yield


@contextmanager
def _standing_in(model: nn.Module, stand_ins: StandIns) -> Iterator[None]:
    register()
    with attending_by(model, CACHED_ATTENTION), evaluating(model), ExitStack() as stack:
        for module, forward in stand_ins:
            stack.enter_context(standing_in(module, forward))
        yield


def _versions(model: nn.Module) -> int:
    """Return a number that changes when weights do."""
    return hash(tuple((parameter.data_ptr(), parameter._version) for parameter in model.parameters()))


def _ways(model: nn.Module) -> tuple[Way, ...]:
    if has_virtual_tokens(model) or not Anatomy.of(model).tells_windows:
        return ()  # what is before every text is not known here, nor a window that attention is not told
    return ("fused", "own") if any(True for _ in blocks_of(model)) else ("own",)


def _stand_ins(model: nn.Module, way: Way) -> StandIns:
    """Return what stands in for which module's ``forward``: first layers, then the linear modules of others."""
    device = next(model.parameters()).device
    if device.type != "cpu" or stream_of(model) is not None:
        return ()  # packed weights are a copy of all of them
    _, available = memory_of(device)
    if sum(parameter.nbytes for parameter in model.parameters()) > MAX_PACKED_SHARE * available:
        return ()
    found: list[tuple[nn.Module, Callable[..., Any]]] = []
    done: set[nn.Module] = set()
    if way == "fused":
        for layer, block in blocks_of(model):
            if (stand_in := DecodingLayer.of(block)) is not None:
                found.append((layer, stand_in.forward))
                done.update(layer.modules())
    heads = (Anatomy.of(model).output_embeddings,)
    for module in (*inner(model).modules(), *heads):
        if module is None or module in done or not (type(module) is nn.Linear or hasattr(module, "lora_A")):
            continue
        done.update(module.modules())
        if (linear := Linear.of(module)) is not None and linear.packed:
            found.append((module, StandIn(linear).forward))
    return tuple(found)


def _proven(model: nn.Module, way: Way) -> StandIns | None:
    """Return what stands in, if texts written token by token get the scores that the model itself gives them."""
    try:
        stand_ins = _stand_ins(model, way)
        difference = _difference(model, stand_ins)
    except Exception:
        return None
    tolerance = PROBE_TOLERANCES.get(next(model.parameters()).dtype, COARSE_TOLERANCE)
    return stand_ins if difference <= tolerance else None


@torch.inference_mode()
def _difference(model: nn.Module, stand_ins: StandIns) -> float:
    whole: Any = inner(model)
    device = next(model.parameters()).device
    random = np.random.default_rng(0)
    vocabulary = int(whole.get_input_embeddings().weight.shape[0])
    texts = [random.integers(1, vocabulary, length + PROBE_STEPS) for length in PROBE_LENGTHS]
    longest = max(map(len, texts))
    ids = np.stack([np.pad(text, (0, longest - len(text))) for text in texts])
    mask = np.stack([np.arange(longest) < len(text) for text in texts]).astype(np.int64)
    with as_written(model), evaluating(model):
        scores = whole(
            input_ids=torch.from_numpy(ids).to(device), attention_mask=torch.from_numpy(mask).to(device)
        ).logits.double()
    expected = [torch.stack([scores[row, n + k - 1] for row, n in enumerate(PROBE_LENGTHS)]) for k in range(3)]
    with _standing_in(model, stand_ins):
        decoder = Decoder(model, len(texts), longest)
        found = [decoder.fill(range(len(texts)), [text[:-PROBE_STEPS] for text in texts])]
        found += [decoder.step(np.array([text[k - PROBE_STEPS] for text in texts])) for k in range(PROBE_STEPS)]
    size = max(float(one.abs().max()) for one in expected)
    return max(float((one - two.double()).abs().max()) for one, two in zip(expected, found, strict=True)) / size
