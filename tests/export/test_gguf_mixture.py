"""Which weights of a file for llama.cpp get which kind of numbers."""

from __future__ import annotations

import pytest

from tunesmith.export.gguf_mixture import BASE, Mixture, said_of_odd_rows

MORE_BITS = {0, 1, 2, 3, 6, 9, 12, 15, 18, 21, 24, 27, 28, 29, 30, 31}
"""Layers of 32 whose values and narrow layers published files of Llama 2 7B in Q4_K_M hold in Q6_K."""


@pytest.mark.parametrize(("form", "base"), [("q4_k_m", "Q4_K"), ("q5_k_m", "Q5_K")])
def test_medium_mixtures_give_more_bits_to_what_published_files_give_them(form: str, base: str) -> None:
    mixture = Mixture(form, num_layers=32, shared_by=1, is_tied=False)
    for part in ("attn_v", "ffn_down"):
        kinds = [mixture.kept(f"blk.{layer}.{part}.weight", 4096) for layer in range(32)]
        assert {layer for layer, kind in enumerate(kinds) if kind == "Q6_K"} == MORE_BITS
        assert set(kinds) == {"Q6_K", base}
    for part in ("attn_q", "attn_k", "attn_output", "ffn_up", "ffn_gate"):
        assert mixture.kept(f"blk.5.{part}.weight", 4096) == base
    assert mixture.kept("output.weight", 4096) == "Q6_K"
    assert mixture.kept("token_embd.weight", 4096) == base
    tied = Mixture(form, num_layers=32, shared_by=1, is_tied=True)
    assert tied.kept("token_embd.weight", 4096) == "Q6_K"


def test_small_mixtures_give_more_bits_to_the_first_layers() -> None:
    mixture = Mixture("q4_k_s", num_layers=32, shared_by=1, is_tied=False)
    first = [mixture.kept(f"blk.{layer}.ffn_down.weight", 4096) for layer in range(6)]
    assert first == ["Q5_K"] * 4 + ["Q4_K"] * 2
    few = [Mixture("q2_k", 32, shared_by, is_tied=False).kept("blk.9.attn_v.weight", 4096) for shared_by in (1, 4)]
    assert few == ["Q3_K", "Q4_K"]
    middle = Mixture("q3_k_m", 32, 1, is_tied=False)
    assert [middle.kept(f"blk.{layer}.attn_v.weight", 4096) for layer in (1, 2)] == ["Q5_K", "Q4_K"]
    assert [middle.kept(f"blk.{layer}.ffn_down.weight", 4096) for layer in (1, 2)] == ["Q5_K", "Q4_K"]


@pytest.mark.parametrize(
    ("form", "kept"), [("q2_k", "Q4_0"), ("q4_k_s", "Q5_0"), ("q5_k_s", "Q5_1"), ("q6_k", "Q8_0"), ("q8_0", "Q8_0")]
)
def test_rows_that_do_not_divide_are_kept_in_smaller_blocks_or_in_16_bits(form: str, kept: str) -> None:
    mixture = Mixture(form, num_layers=30, shared_by=3, is_tied=True)
    assert mixture.kept("blk.9.attn_q.weight", 576) == kept
    assert mixture.kept("token_embd.weight", 576) == "Q8_0"
    assert mixture.kept("blk.9.attn_q.weight", 16) == "F16"


def test_what_is_kept_otherwise_is_said_once_for_all_layers() -> None:
    found = [(f"blk.{layer}.attn_q.weight", 576, "Q4_K", "Q5_0") for layer in range(30)]
    (sentence,) = said_of_odd_rows(found)
    assert sentence.startswith("30 weights are kept in Q5_0 instead of Q4_K, whose blocks of 256 numbers")
    assert sentence.endswith("attn_q.weight (rows of 576).")
    assert said_of_odd_rows([]) == []


def test_every_form_has_a_number_in_the_format() -> None:
    gguf = pytest.importorskip("gguf", reason="tunesmith[gguf] is not installed")
    for form, kind in BASE.items():
        name = f"MOSTLY_{form.upper()}"
        assert hasattr(gguf.LlamaFileType, name)
        assert kind in gguf.GGMLQuantizationType.__members__
