"""Which layout a model can take: the flat one, wherever it is proven equal to the padded one.

Whether a model can be run flat is not taken from a list: ``choose_layout`` compares the flat
layout with the model as ``transformers`` wrote it on a few rows of random tokens, and says
why not when they differ.
"""

from __future__ import annotations

import math
from collections.abc import Callable, MutableMapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from tunesmith.data.encoded import Encoded, Ragged
from tunesmith.engine.attention import FLAT_ATTENTION, register
from tunesmith.engine.batch import EXACT, FEW, Batch, Collator, LayoutName, Shapes
from tunesmith.engine.blocks.install import install, install_adapters
from tunesmith.engine.precision import Precision
from tunesmith.engine.scorer import Reads, Scorer
from tunesmith.engine.stand_ins import Tier, as_written, attending_by, set_attention, take_away
from tunesmith.models.anatomy import Anatomy
from tunesmith.models.head_scores import head_inputs, head_scores
from tunesmith.models.modes import evaluating
from tunesmith.models.observation import RowReading
from tunesmith.models.wrapping import has_virtual_tokens, inner, takes_images, writes_from_encoder

PROBE_LENGTHS = (4, 7, 7, 9, 12, 30)
"""Equal and unequal lengths, so that every way of grouping is probed."""

LONGEST_PROBE = 8192
"""Tokens of the longest row that the layouts are compared on; one row of it takes a model of a billion weights about a
minute of a processor, and a second of a GPU."""

PAST_WINDOW = 1.5
"""Windows that a row is long which shows what they do: a third of its tokens are out of the last one's sight."""

PROBE_TOLERANCE = 1e-3
"""Largest difference of scores, relative to their size, for two layouts to count as equal in float32."""


def choose_layout(
    model: nn.Module,
    reads: Reads,
    vocab_size: int,
    wanted: str,
    *,
    fused: bool = True,
    longest: int | None = None,
    pooling: RowReading | None = None,
    proven: MutableMapping[str, float] | None = None,
) -> tuple[LayoutName, str]:
    """Return the layout to use and why, trying the flat one where ``wanted`` is ``auto`` or ``flat``.

    The model is compared with itself without dropout: on a few rows of random tokens and, where a layer or a mask
    ends what tokens see, on a row longer than that, unless rows have at most ``longest`` tokens and never are. On
    return it is set to the attention function of the layout chosen. ``pooling`` is that of ``Scorer``. With ``fused``,
    blocks and keyed noise stand in for its layers and dropout where that too is equal (``engine.blocks``; they are made
    for the CPU); without, one operation stands in for each adapted layer. ``proven`` holds the differences that were
    found on models that differ from this one in weights that a seed makes alone: clear ones are not found again.
    """
    if wanted == "padded":
        return "padded", "as configured"
    if takes_images(model):
        return "padded", "images are no rows of tokens, which the flat layout is made for"
    if has_virtual_tokens(model):
        return "padded", "what the method puts before every row has no place in the flat layout"
    if writes_from_encoder(model):
        return "padded", "a decoder that reads an encoder's states has two rows of tokens, and the flat layout has one"
    register()
    scorer = Scorer(model, "padded", reads, pooling=pooling)
    known = {} if proven is None else proven
    for stand_in in (install if fused else install_adapters, None):
        name = "" if stand_in is None else stand_in.__name__
        difference: float | str = known.get(name, math.inf)
        if isinstance(difference, float) and difference <= CLEARLY * PROBE_TOLERANCE:
            _let_stand_in(model, stand_in)
        else:
            difference = _try(partial(_layout_difference, scorer, vocab_size, longest, stand_in))
        if isinstance(difference, float):
            known[name] = difference
        if isinstance(difference, float) and difference <= PROBE_TOLERANCE:
            set_attention(model, FLAT_ATTENTION)
            return "flat", f"proven equal to the padded layout on this model (largest difference {difference:.0e})"
    reason = (
        difference
        if isinstance(difference, str)
        else f"its scores would differ from those of the padded layout by {difference:.1g}"
    )
    return "padded", reason


def collator_for(
    model: nn.Module, layout: LayoutName, pad_token_id: int, device: torch.device, shapes: Shapes = EXACT
) -> Collator:
    """Return the collator that lays out batches for ``model``."""
    offset = Anatomy.of(model).position_offset if layout == "flat" else 0
    return Collator(layout, pad_token_id, offset, device, shapes)


def shapes_for(precision: Precision, device: torch.device) -> Shapes:
    """Return how shapes are rounded: bf16 on the CPU compiles a kernel for each."""
    return FEW if precision == "bf16" and device.type == "cpu" else EXACT


CLEARLY = 0.1
"""Share of that tolerance up to which a difference found on one model speaks for others with other new weights."""


class _UncomparableError(Exception):
    """The layouts cannot be compared on all rows that may come."""


def _layout_difference(
    scorer: Scorer, vocab_size: int, longest: int | None, stand_in: Callable[[nn.Module], None] | None
) -> float:
    """Return the largest difference between the flat scores and the model's own, relative to their size.

    ``scorer`` is of the padded layout; ``stand_in`` installs what the flat layout is to run with, if anything.
    """
    model = scorer.model
    _let_stand_in(model, stand_in)
    config: Any = inner(model).config
    pad_token_id = getattr(config, "pad_token_id", None) or 0
    probes = [_probe_rows(vocab_size, pad_token_id, scorer.reads)]
    if length := _length_past_windows(Anatomy.of(model), longest):
        probes.append(_row_past_windows(length, max(Anatomy.of(model).windows), pad_token_id, scorer.reads))
    return max(_difference_on(scorer, data, pad_token_id) for data in probes)


def _let_stand_in(model: nn.Module, stand_in: Callable[[nn.Module], None] | None) -> None:
    """Install what the flat layout is to run with, if anything, in the place of what was there."""
    take_away(model, Tier.BLOCK)
    if stand_in is not None:
        stand_in(model)


def _difference_on(padded_scorer: Scorer, data: Encoded, pad_token_id: int) -> float:
    """Compare the layouts on some rows: the scores or, of a single row, so many of them, what the head reads."""
    model = padded_scorer.model
    device = next(model.parameters()).device
    rows = np.arange(len(data))
    only_hidden = len(data) == 1 and padded_scorer.reads == "token"
    with torch.no_grad(), evaluating(model):
        with as_written(model):
            batch = collator_for(model, "padded", pad_token_id, device)(data, rows)
            padded = padded_scorer.hidden(batch) if only_hidden else _scores_as_written(padded_scorer, batch)
        batch = collator_for(model, "flat", pad_token_id, device, FEW)(data, rows)
        scorer = replace(padded_scorer, layout="flat", shapes=FEW)
        with attending_by(model, FLAT_ATTENTION), scorer.surrounding(batch):
            flat = scorer.hidden(batch) if only_hidden else scorer(batch)
    padded, flat = padded.double(), flat.double()
    return float((padded - flat).abs().max() / padded.abs().max().clamp(min=1e-6))


def _scores_as_written(scorer: Scorer, batch: Batch) -> torch.Tensor:
    """Return the scores of a padded batch from the model's whole ``forward``."""
    if scorer.pooling is not None:
        return scorer(batch)
    scores = head_scores(scorer.model(**head_inputs(scorer.model, batch.inputs)))
    return scores if batch.read_tokens is None else scores[batch.inputs["attention_mask"].bool()][batch.read_tokens]


def _probe_rows(vocab_size: int, pad_token_id: int, reads: Reads) -> Encoded:
    generator = np.random.default_rng(0)
    tokens = [generator.integers(1, vocab_size, length) for length in PROBE_LENGTHS]
    tokens = [np.where(row == pad_token_id, (pad_token_id + 1) % vocab_size, row) for row in tokens]
    positions = Ragged.from_rows([np.arange(0, length, 2) for length in PROBE_LENGTHS]) if reads == "token" else None
    return Encoded(inputs={"input_ids": Ragged.from_rows(tokens)}, targets={}, reads=positions)


def _length_past_windows(anatomy: Anatomy, longest: int | None) -> int:
    """Return the length of a row that reaches past every window of the model; 0 where no row does, or short ones do."""
    bounds = [bound for bound in (longest, anatomy.max_positions) if bound is not None]
    most = min(bounds, default=None)
    window = max((one for one in anatomy.windows if most is None or one < most), default=0)
    length = min([round(PAST_WINDOW * window), LONGEST_PROBE, *bounds])
    if window >= LONGEST_PROBE:
        raise _UncomparableError(f"some of its layers see {window:,} tokens at once, and rows may be longer")
    return length if length > max(PROBE_LENGTHS) else 0


def _row_past_windows(length: int, window: int, pad_token_id: int, reads: Reads) -> Encoded:
    """Return a row of two tokens alone, one for all that is out of the last one's sight, and one for all that is not.

    Of random tokens attention sees about the same mean, however many they are; here it sees another.
    """
    out, seen = [token for token in (1, 2, 3) if token != pad_token_id][:2]
    row = np.where(np.arange(length) < max(length - window, 1), out, seen)
    positions = Ragged.from_rows([np.linspace(0, length - 1, 32).astype(np.int64)]) if reads == "token" else None
    return Encoded(inputs={"input_ids": Ragged.from_rows([row])}, targets={}, reads=positions)


def _try(compute: Callable[[], float]) -> float | str:
    """Return what ``compute`` gives or, since a model may refuse in any way it likes, why it failed."""
    try:
        return compute()
    except _UncomparableError as error:
        return f"the layouts cannot be compared on this model: {error}"
    except Exception as error:
        first_line = next(iter(str(error).splitlines()), "")
        return f"the flat layout does not fit this model ({type(error).__name__}: {first_line})"
