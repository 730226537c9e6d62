"""Graphs of models that write: what was computed of earlier tokens goes in and comes out, so that none is read twice.

A decoder is one graph. An encoder-decoder is two: the first makes of a source the keys and values of every layer of the
decoder, the second writes, given these. Inputs and outputs are named as other exporters name them
(``past_key_values.0.key`` in, ``present.0.key`` out).

Shapes: B texts, L new tokens, P tokens before them, S tokens of a source, H heads, D numbers of each, V entries of the
vocabulary; keys and values are [B, H, P, D].
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from tunesmith.export.greedy_texts import first_tokens, written_greedily
from tunesmith.export.onnx_files import open_session, quantize_graph, write_graph
from tunesmith.export.plain_model import PlainModel
from tunesmith.export.target import Opened
from tunesmith.models.wrapping import writes_from_encoder
from tunesmith.tasks.base import Task
from tunesmith.types import InputError

DECODER = "model.onnx"
SOURCE, BEHIND_SOURCE = "encoder_model.onnx", "decoder_model.onnx"
PAST, PRESENT, CROSS = "past_key_values", "present", "cross_key_values"

IntArray = npt.NDArray[np.int64]
States = Mapping[str, npt.NDArray[np.float32]]

_ROWS, _NEW, _SEEN, _SOURCE = 2, 3, 4, 5
"""Sizes that graphs are shown on, all different, and none of 1, which stands for itself alone."""


def write_writer(plain: PlainModel, task: Task, folder: Path, *, in_8_bits: bool) -> list[str]:
    """Write the graphs of a model that writes; return the names of their files.

    Raises ``InputError`` where the model keeps something else of earlier tokens than keys and values.
    """
    model: Any = plain.model
    model.set_attn_implementation("eager")
    if writes_from_encoder(model):
        _write_source(model, first_tokens(model, task)[0], folder / SOURCE)
        _write_behind_source(model, folder / BEHIND_SOURCE)
        names = [SOURCE, BEHIND_SOURCE]
    else:
        _write_decoder(model, folder / DECODER)
        names = [DECODER]
    if in_8_bits:
        for name in names:
            quantize_graph(folder / name)
    return names


def _write_decoder(model: Any, path: Path) -> None:
    past = _example_states(PAST, _sizes(model(input_ids=_ids(2), use_cache=True).past_key_values), _SEEN)
    given = {"input_ids": _ids(_NEW), "attention_mask": torch.ones(_ROWS, _SEEN + _NEW, dtype=torch.long)}
    axes: dict[str, Any] = {
        "input_ids": {0: "rows", 1: "tokens"},
        "attention_mask": {0: "rows", 1: "tokens_so_far"},
        "position_ids": {0: "rows", 1: "tokens"},
        **{name: {0: "rows", 2: "tokens_before"} for name in past},
    }
    if "position_ids" in inspect.signature(model.forward).parameters:
        given["position_ids"] = torch.arange(_SEEN, _SEEN + _NEW).repeat(_ROWS, 1)
    write_graph(path, _Decoder(model), {**given, **past}, axes, ["logits", *_renamed(past, PRESENT)])


def _write_source(model: Any, start: int, path: Path) -> None:
    given = {"input_ids": _ids(_SOURCE), "attention_mask": torch.ones(_ROWS, _SOURCE, dtype=torch.long)}
    axes = {name: {0: "rows", 1: "source_tokens"} for name in given}
    graph = _Source(model, start)
    with torch.no_grad():
        num_outputs = len(graph(given))
    write_graph(path, graph, given, axes, _names(CROSS, num_outputs // 2))


def _write_behind_source(model: Any, path: Path) -> None:
    source = torch.ones(_ROWS, _SOURCE, dtype=torch.long)
    cache = model(input_ids=source, attention_mask=source, decoder_input_ids=_ids(1), use_cache=True).past_key_values
    past = _example_states(PAST, _sizes(cache.self_attention_cache), _SEEN)
    cross = _example_states(CROSS, _sizes(cache.cross_attention_cache), _SOURCE)
    given = {"input_ids": _ids(_NEW), "encoder_attention_mask": source, **cross, **past}
    axes: dict[str, Any] = {
        "input_ids": {0: "rows", 1: "tokens"},
        "encoder_attention_mask": {0: "rows", 1: "source_tokens"},
        **{name: {0: "rows", 2: "source_tokens"} for name in cross},
        **{name: {0: "rows", 2: "tokens_before"} for name in past},
    }
    write_graph(path, _BehindSource(model), given, axes, ["logits", *_renamed(past, PRESENT)])


class _Decoder(nn.Module):
    """A decoder from tokens, and the states of those before them, to scores and the states of all."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: dict[str, torch.Tensor]) -> tuple[torch.Tensor, ...]:
        given = {name: value for name, value in inputs.items() if not name.startswith(PAST)}
        output = self.model(**given, past_key_values=_cache(_pairs(inputs, PAST)), use_cache=True)
        return (output.logits, *_states(output.past_key_values))


class _Source(nn.Module):
    """An encoder from a source to the keys and values that the decoder's layers find in it."""

    def __init__(self, model: nn.Module, start: int) -> None:
        super().__init__()
        self.model = model
        self.start = start

    def forward(self, inputs: dict[str, torch.Tensor]) -> tuple[torch.Tensor, ...]:
        from transformers import EncoderDecoderCache

        whole: Any = self.model
        start = inputs["input_ids"][:, :1] * 0 + self.start
        num_layers = int(whole.config.get_text_config(decoder=True).num_hidden_layers)
        cache = EncoderDecoderCache(_cache([], num_layers), _cache([], num_layers))
        output = whole(**inputs, decoder_input_ids=start, past_key_values=cache, use_cache=True)
        return _states(output.past_key_values.cross_attention_cache)


class _BehindSource(nn.Module):
    """A decoder behind an encoder, given what ``_Source`` made of the source."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: dict[str, torch.Tensor]) -> tuple[torch.Tensor, ...]:
        from transformers import EncoderDecoderCache
        from transformers.modeling_outputs import BaseModelOutput

        whole: Any = self.model
        cross = _pairs(inputs, CROSS)
        cache = EncoderDecoderCache(_cache(_pairs(inputs, PAST)), _cache(cross))
        key = cross[0][0]
        # Nobody reads what the encoder gave once there are keys and values of it; only its size is asked for.
        nothing = key.new_zeros(key.shape[0], key.shape[2], whole.get_input_embeddings().weight.shape[1])
        output = whole(
            encoder_outputs=BaseModelOutput(last_hidden_state=nothing),
            attention_mask=inputs["encoder_attention_mask"],
            decoder_input_ids=inputs["input_ids"],
            past_key_values=cache,
            use_cache=True,
        )
        return (output.logits, *_states(output.past_key_values.self_attention_cache))


def _cache(pairs: Sequence[tuple[torch.Tensor, torch.Tensor]], num_empty: int = 0) -> Any:
    """Return a cache that holds keys and values, or one of layers that hold none yet."""
    from transformers.cache_utils import DynamicCache, DynamicLayer

    class Layer(DynamicLayer):  # type: ignore[no-untyped-call]
        """A layer that takes its first keys as they are: joined to nothing, they have no form in a graph."""

        def update(self, key_states: Any, value_states: Any, *args: Any, **kwargs: Any) -> Any:
            if self.is_initialized:
                return super().update(key_states, value_states, *args, **kwargs)
            self.lazy_initialization(key_states, value_states)
            self.keys, self.values = key_states, value_states
            return key_states, value_states

    cache: Any = DynamicCache()
    kind: Any = Layer
    cache.layers = [kind() for _ in range(len(pairs) or num_empty)]
    for layer, (key, value) in zip(cache.layers, pairs, strict=False):
        layer.update(key, value)
    return cache


def _states(cache: Any) -> tuple[torch.Tensor, ...]:
    return tuple(state for layer in cache.layers for state in (layer.keys, layer.values))


def _pairs(inputs: Mapping[str, torch.Tensor], prefix: str) -> list[tuple[torch.Tensor, torch.Tensor]]:
    states = [value for name, value in inputs.items() if name.startswith(prefix)]
    return list(zip(states[::2], states[1::2], strict=True))


def _names(prefix: str, num_layers: int) -> list[str]:
    return [f"{prefix}.{layer}.{what}" for layer in range(num_layers) for what in ("key", "value")]


def _renamed(past: Mapping[str, Any], prefix: str) -> list[str]:
    return [f"{prefix}{name.removeprefix(PAST)}" for name in past]


def _sizes(cache: Any) -> list[tuple[int, int]]:
    """Return heads and their size, of keys and values of each layer; ``InputError`` where a cache holds others."""
    found = [
        None if getattr(layer, what, None) is None or getattr(layer, what).ndim != 4 else getattr(layer, what).shape
        for layer in getattr(cache, "layers", [])
        for what in ("keys", "values")
    ]
    if not found or None in found:
        raise InputError(
            "The model keeps something else of earlier tokens than keys and values, which no graph is written of here.",
            "Use --to safetensors, for transformers and vLLM.",
        )
    return [(int(shape[1]), int(shape[3])) for shape in found if shape is not None]


def _example_states(prefix: str, sizes: Sequence[tuple[int, int]], length: int) -> dict[str, torch.Tensor]:
    names = _names(prefix, len(sizes) // 2)
    return {name: torch.zeros(_ROWS, heads, length, size) for name, (heads, size) in zip(names, sizes, strict=True)}


def _ids(length: int) -> torch.Tensor:
    return torch.ones(_ROWS, length, dtype=torch.long)


class Reading:
    """Texts on their way through a graph, which remembers their tokens."""

    def __init__(self, session: Any, rows: int, beside: States | None = None, **source: IntArray) -> None:
        named = [one for one in session.get_inputs() if one.name.startswith(PAST)]
        self._session = session
        self._names = {one.name for one in session.get_inputs()}
        self._past = {one.name: np.zeros((rows, one.shape[1], 0, one.shape[3]), np.float32) for one in named}
        self._beside = {**(beside or {}), **source}
        self._num_seen = 0

    def read(self, ids_BL: IntArray, mask_BT: IntArray | None = None) -> npt.NDArray[np.float32]:
        """Return scores [B, L, V] of the next tokens; the mask is that of all tokens so far, none masked without."""
        seen, total = self._num_seen, self._num_seen + ids_BL.shape[1]
        places = np.broadcast_to(np.arange(seen, total), ids_BL.shape)
        mask = np.ones((len(ids_BL), total), np.int64) if mask_BT is None else mask_BT
        offered = {"input_ids": ids_BL, "attention_mask": mask, "position_ids": places, **self._beside, **self._past}
        given = {name: np.ascontiguousarray(value) for name, value in offered.items() if name in self._names}
        scores, *past = self._session.run(None, given)
        self._past = dict(zip(self._past, past, strict=True))
        self._num_seen = total
        return scores  # type: ignore[no-any-return]


def open_writer(model: nn.Module, task: Task, folder: Path) -> Opened:
    """Open what ``write_writer`` wrote of a model; scores are computed in two parts, so that the cache is compared."""
    if not writes_from_encoder(model):
        decoder = open_session(folder / DECODER)

        def scores(inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
            ids, mask = inputs["input_ids"].numpy(), inputs["attention_mask"].numpy()
            return _read_in_parts(Reading(decoder, len(ids)), ids, mask)

        def write(ids: Sequence[int], most: int, stops: frozenset[int]) -> list[int]:
            return _write(Reading(decoder, 1), ids, most, stops)

        return Opened(scores, write)
    source, behind = open_session(folder / SOURCE), open_session(folder / BEHIND_SOURCE)
    begins = first_tokens(model, task)

    def reading(ids_BS: IntArray, mask_BS: IntArray) -> Reading:
        states = source.run(None, {"input_ids": ids_BS, "attention_mask": mask_BS})
        cross = dict(zip(_names(CROSS, len(states) // 2), states, strict=True))
        return Reading(behind, len(ids_BS), cross, encoder_attention_mask=mask_BS)

    def scores_behind(inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
        texts = reading(inputs["input_ids"].numpy(), inputs["attention_mask"].numpy())
        return _read_in_parts(texts, inputs["decoder_input_ids"].numpy())

    def write_behind(ids: Sequence[int], most: int, stops: frozenset[int]) -> list[int]:
        ids_BS = np.array([ids], dtype=np.int64)
        return _write(reading(ids_BS, np.ones_like(ids_BS)), begins, most, stops)

    return Opened(scores_behind, write_behind)


def _read_in_parts(texts: Reading, ids_BL: IntArray, mask_BL: IntArray | None = None) -> torch.Tensor:
    half = ids_BL.shape[1] // 2
    ends = [end for end in (half, ids_BL.shape[1]) if end]
    parts = [
        texts.read(ids_BL[:, start:end], None if mask_BL is None else mask_BL[:, :end])
        for start, end in zip([0, *ends], ends, strict=False)
    ]
    return torch.from_numpy(np.concatenate(parts, axis=1))


def _write(text: Reading, begins: Sequence[int], most: int, stops: frozenset[int]) -> list[int]:
    def last_scores(tokens: Sequence[int]) -> torch.Tensor:
        return torch.from_numpy(text.read(np.array([tokens], dtype=np.int64))[0, -1])

    return written_greedily(last_scores, begins, most, stops)
