"""Rows longer than the windows and chunks of a model get the scores that its authors' code gives them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from transformers import AttentionInterface

from models.test_observation import WINDOWED, windowed
from tiny import tiny_model
from tunesmith.data.encoded import Encoded, Ragged
from tunesmith.engine import layout
from tunesmith.engine.attention import flat_attention
from tunesmith.engine.batch import FEW
from tunesmith.engine.layout import choose_layout, collator_for
from tunesmith.engine.scorer import Scorer

WINDOW = 40
"""More tokens than the short rows have that the layouts are compared on."""
LENGTHS = (70, 55, 12)
PAST: dict[str, dict[str, Any]] = {
    name: {
        key: WINDOW for key, value in settings.items() if key in ("sliding_window", "attention_chunk_size") and value
    }
    for name, (_, settings, _) in WINDOWED.items()
}


def rows() -> Encoded:
    random = np.random.default_rng(0)
    tokens = [random.integers(3, 90, length) for length in LENGTHS]
    reads = [np.arange(0, length, 3) for length in LENGTHS]
    return Encoded({"input_ids": Ragged.from_rows(tokens)}, {}, reads=Ragged.from_rows(reads))


def scores(model: Any, chosen: Any) -> torch.Tensor:
    batch = collator_for(model, chosen, 0, torch.device("cpu"), FEW)(rows(), np.arange(len(LENGTHS)))
    scorer = Scorer(model, chosen, "token", FEW)
    with torch.no_grad(), scorer.surrounding(batch):
        return scorer(batch)


@pytest.mark.parametrize("fused", [True, False], ids=["fused", "as written"])
@pytest.mark.parametrize("name", WINDOWED)
def test_what_is_past_a_window_is_scored_as_the_authors_code_does(name: str, fused: bool) -> None:
    expected = scores(windowed(name, **PAST[name]), "padded")
    model = windowed(name, **PAST[name])
    chosen, reason = choose_layout(model, "token", 90, "auto", fused=fused)
    assert chosen == ("padded" if name == "llama4" else "flat"), reason
    torch.testing.assert_close(scores(model, chosen), expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


def test_a_window_that_no_row_reaches_is_none() -> None:
    model = windowed("llama4", **PAST["llama4"])
    assert choose_layout(model, "token", 90, "auto", longest=WINDOW)[0] == "flat"
    assert choose_layout(model, "token", 90, "auto", longest=WINDOW + 1)[0] == "padded"


def test_a_window_too_long_to_compare_past_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "LONGEST_PROBE", WINDOW)
    chosen, reason = choose_layout(windowed("mistral", **PAST["mistral"]), "token", 90, "auto")
    assert (chosen, "see 40 tokens at once" in reason) == ("padded", True)
    assert choose_layout(windowed("mistral", **PAST["mistral"]), "token", 90, "auto", longest=WINDOW)[0] == "flat"


@pytest.mark.parametrize("arch", ["mistral", "modernbert"])
def test_a_window_that_is_forgotten_is_caught(arch: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def forgetful(*given: Any, sliding_window: int | None = None, **settings: Any) -> Any:
        return flat_attention(*given, **settings)

    monkeypatch.setattr(layout, "register", lambda: AttentionInterface.register(layout.FLAT_ATTENTION, forgetful))
    tagger = tiny_model("modernbert", local_attention=2 * WINDOW, head="token", dtype=torch.float32)
    model = windowed("mistral", **PAST["mistral"]) if arch == "mistral" else tagger
    assert choose_layout(model, "token", 90, "auto", fused=False)[0] == "padded"
    AttentionInterface.register(layout.FLAT_ATTENTION, flat_attention)
