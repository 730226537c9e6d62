"""In which kind of numbers llama.cpp keeps each weight of a file: its mixtures, and what it does with odd sizes.

Which weights get more bits is what ``llama_tensor_get_type`` in ``src/llama-quant.cpp`` of llama.cpp decides, for
models without experts and without an importance matrix; ``tests/export/test_llama_cpp.py`` holds every kind and every
byte against llama.cpp's own ``llama_model_quantize``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

BLOCK = {
    **dict.fromkeys(("Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K"), 256),
    **dict.fromkeys(("Q4_0", "Q5_0", "Q5_1", "Q8_0"), 32),
}
"""Kind -> numbers that share their scales; a row has to divide into so many."""

BASE = {
    "q2_k": "Q2_K",
    "q3_k_s": "Q3_K",
    "q3_k_m": "Q3_K",
    "q3_k_l": "Q3_K",
    "q4_0": "Q4_0",
    "q4_k_s": "Q4_K",
    "q4_k_m": "Q4_K",
    "q5_k_s": "Q5_K",
    "q5_k_m": "Q5_K",
    "q6_k": "Q6_K",
    "q8_0": "Q8_0",
}
"""Form -> the kind that most weights have in it."""

_INSTEAD = {"Q2_K": "Q4_0", "Q3_K": "Q4_0", "Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0"}
"""Kind -> the one, of blocks of 32, in which rows are kept that do not divide into blocks of 256."""


@dataclass(frozen=True, slots=True)
class Mixture:
    """What decides the kinds of a model's weights."""

    form: str
    """One of ``BASE``."""
    num_layers: int
    shared_by: int
    """Query heads that share a head of keys and values."""
    is_tied: bool
    """The output layer is the embedding matrix."""

    def wanted(self, name: str) -> str:
        """Return the kind that the form gives to the weight ``name`` (as llama.cpp calls it)."""
        base = BASE[self.form]
        part, layer = _part(name), _layer(name)
        if part == "output" or (part == "token_embd" and self.is_tied):
            return "Q8_0" if base == "Q8_0" else "Q6_K"
        if part in ("attn_v", "attn_qkv"):
            return self._of_values(layer, base)
        if part == "ffn_down":
            return self._of_down(layer, base)
        if part == "attn_output":
            return {"q2_k": "Q3_K", "q3_k_m": "Q4_K", "q3_k_l": "Q5_K"}.get(self.form, base)
        return base

    def kept(self, name: str, row: int) -> str:
        """Return the kind that it has in the file, its rows being so long: as wanted, of smaller blocks, or ``F16``."""
        kind = self.wanted(name)
        if row % BLOCK[kind]:
            kind = _INSTEAD.get(kind, kind)
        return "F16" if row % BLOCK[kind] else kind

    def _of_values(self, layer: int, base: str) -> str:
        """Values suffer most from few bits, and are few where heads share them."""
        kind = base
        if self.form == "q2_k":
            kind = "Q4_K" if self.shared_by >= 4 else "Q3_K"
        elif self.form == "q3_k_m":
            kind = "Q5_K" if layer < 2 else "Q4_K"
        elif self.form == "q3_k_l" or (self.form == "q4_k_s" and layer < 4):
            kind = "Q5_K"
        elif self.form in ("q4_k_m", "q5_k_m") and self._gets_more_bits(layer):
            kind = "Q6_K"
        is_largest = self.num_layers == 80 and self.shared_by > 1
        return "Q5_K" if is_largest and kind in ("Q3_K", "Q4_K") else kind

    def _of_down(self, layer: int, base: str) -> str:
        if self.form == "q2_k":
            return "Q3_K"
        if self.form == "q3_k_m":
            return "Q5_K" if layer < self.num_layers // 16 else "Q4_K"
        if self.form == "q3_k_l" or (self.form == "q4_k_s" and layer < self.num_layers // 8):
            return "Q5_K"
        return "Q6_K" if self.form in ("q4_k_m", "q5_k_m") and self._gets_more_bits(layer) else base

    def _gets_more_bits(self, layer: int) -> bool:
        """Say whether it is one of the first or last eighth of the layers, or each third one between them."""
        eighth = self.num_layers // 8
        return layer < eighth or layer >= 7 * self.num_layers // 8 or (layer - eighth) % 3 == 2


def _part(name: str) -> str:
    return re.sub(r"^blk\.\d+\.", "", name).partition(".")[0]


def _layer(name: str) -> int:
    found = re.match(r"blk\.(\d+)\.", name)
    return int(found[1]) if found else 0


def said_of_odd_rows(found: Sequence[tuple[str, int, str, str]]) -> list[str]:
    """Return what the user is told of weights kept in another kind than wanted: (name, row, wanted, kept) of each.

    One sentence for each pair of kinds; the numbers of layers are left out, as their sizes are the same.
    """
    groups: dict[tuple[str, str], list[str]] = {}
    for name, row, wanted, kept in found:
        part = re.sub(r"^blk\.\d+\.", "", name)
        groups.setdefault((wanted, kept), []).append(f"{part} (rows of {row})")
    return [
        f"{len(parts)} weights are kept in {kept} instead of {wanted}, whose blocks of {BLOCK[wanted]} numbers their "
        f"rows do not divide into: {', '.join(dict.fromkeys(parts))}."
        for (wanted, kept), parts in groups.items()
    ]
