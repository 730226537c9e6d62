"""Models in bf16 are those that ``transformers`` loads in bf16, on rows of thousands of tokens too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification, PreTrainedModel

from tiny import END, NEEDS_END, PAD, TRANSFORMERS, VOCABULARY, tiny_config, tiny_folder, tiny_model
from tunesmith.data.encoded import Encoded, Ragged
from tunesmith.engine.layout import choose_layout, collator_for
from tunesmith.engine.precision import place
from tunesmith.engine.scorer import Scorer
from tunesmith.methods import Lora
from tunesmith.models.quiet import quiet

CPU = torch.device("cpu")
LENGTHS = (2300, 2100, 40)
LONG = 2400

SCALED: dict[str, dict[str, Any]] = {
    "linear": {"rope_type": "linear", "factor": 3.0},
    "llama3": {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 512,
    },
    "yarn": {"rope_type": "yarn", "factor": LONG / 512, "original_max_position_embeddings": 512},
}
# Heads of eight numbers have four frequencies, most of which bf16 happens to hold almost exactly.
WIDE: dict[str, dict[str, Any]] = {
    "llama": {"head_dim": 32},
    "qwen3": {"head_dim": 32},
    "modernbert": {"hidden_size": 64},
}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    **{arch: (arch, WIDE.get(arch, {})) for arch in TRANSFORMERS},
    **{
        f"llama-{name}": ("llama", {"head_dim": 32, "rope_parameters": {"rope_theta": 10_000.0, **settings}})
        for name, settings in SCALED.items()
    },
}


def settings_of(case: str) -> tuple[str, dict[str, Any]]:
    arch, settings = CASES[case]
    longest = {"gpt2": "n_positions"}.get(arch, "max_position_embeddings")
    return arch, {**settings, longest: LONG} if arch != "t5" else settings


def saved(case: str, folder: Path) -> tuple[Path, Any, str]:
    """Return a folder with a tiny model, its auto class, and what its head reads."""
    arch, settings = settings_of(case)
    head = "sequence" if arch in NEEDS_END else "token"
    auto = AutoModelForSequenceClassification if head == "sequence" else AutoModelForTokenClassification
    folder = tiny_folder(folder, arch, headless=False, head=head, **settings)
    model = loaded(auto, folder, torch.float32)
    with torch.no_grad(), quiet():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 2 and "att" in name.lower():  # new weights hardly attend: positions would not matter
                parameter.mul_(20)
        model.save_pretrained(folder)
    return folder, auto, "row" if head == "sequence" else head


def loaded(auto: Any, folder: Path, dtype: torch.dtype) -> PreTrainedModel:
    with quiet():
        return auto.from_pretrained(folder, dtype=dtype).eval()


def rows() -> list[np.ndarray[Any, Any]]:
    random = np.random.default_rng(0)
    return [np.append(random.integers(5, VOCABULARY, length - 1), END) for length in LENGTHS]


def as_written(model: PreTrainedModel, reads: str) -> torch.Tensor:
    """Return the scores that a model gives to each row alone, in float64."""
    with torch.no_grad():
        found = [model(input_ids=torch.from_numpy(row)[None]).logits[0].double() for row in rows()]
    return torch.cat([one[None] if reads == "row" else one for one in found])


def as_run(model: torch.nn.Module, reads: Any) -> torch.Tensor:
    """Return the scores that the engine gives to all rows at once."""
    layout, _ = choose_layout(model, reads, VOCABULARY, "auto")
    place(model, "bf16", CPU)
    tokens = Ragged.from_rows(rows())
    positions = Ragged.from_rows([np.arange(length) for length in LENGTHS])
    data = Encoded({"input_ids": tokens}, {}, reads=positions if reads == "token" else None)
    batch = collator_for(model, layout, PAD, CPU)(data, np.arange(len(LENGTHS)))
    scorer = Scorer(model, layout, reads)
    model.eval()
    with torch.no_grad(), scorer.surrounding(batch):
        scores = scorer(batch).double()
    if reads == "row":
        return scores[np.argsort(batch.sequences)]
    parts = dict(zip(batch.sequences.tolist(), scores.split([LENGTHS[row] for row in batch.sequences]), strict=True))
    return torch.cat([parts[row] for row in range(len(LENGTHS))])


def distance(found: torch.Tensor, exact: torch.Tensor) -> float:
    return float((found - exact).norm() / exact.norm())


@pytest.mark.parametrize("case", CASES)
def test_scores_of_long_rows_are_as_exact_as_those_of_transformers(case: str, tmp_path: Path) -> None:
    folder, auto, reads = saved(case, tmp_path)
    exact = as_written(loaded(auto, folder, torch.float64), reads)
    plain = distance(as_written(loaded(auto, folder, torch.bfloat16), reads), exact)
    ours = distance(as_run(loaded(auto, folder, torch.float32), reads), exact)
    assert ours <= 1.25 * plain + 1e-3


@pytest.mark.parametrize("case", [*CASES, "gemma3"])
def test_every_buffer_has_the_format_that_transformers_gives_it(case: str, tmp_path: Path) -> None:
    if case == "gemma3":
        from transformers import Gemma3ForCausalLM, Gemma3TextConfig

        config = tiny_config("llama").to_dict()
        kept = (
            "vocab_size",
            "hidden_size",
            "num_hidden_layers",
            "intermediate_size",
            "num_attention_heads",
            "head_dim",
        )
        auto, folder = Gemma3ForCausalLM, tmp_path / "gemma3"
        with quiet():
            auto(Gemma3TextConfig(**{key: config[key] for key in kept}, num_key_value_heads=1)).save_pretrained(folder)
    else:
        folder, auto, _ = saved(case, tmp_path)
    plain, ours = loaded(auto, folder, torch.bfloat16), loaded(auto, folder, torch.float32)
    expected = {name: buffer for name, buffer in plain.named_buffers() if buffer.is_floating_point()}
    place(ours, "bf16", CPU)
    found = {name: buffer for name, buffer in ours.named_buffers() if buffer.is_floating_point()}
    assert {name: buffer.dtype for name, buffer in found.items()} == {n: b.dtype for n, b in expected.items()}
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert {parameter.dtype for parameter in ours.parameters()} == {torch.bfloat16}


def test_an_adapted_model_keeps_its_frequencies_too() -> None:
    model = Lora(rank=2).apply(tiny_model("llama", dtype=torch.float32))
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    assert any("inv_freq" in name for name in before)
    place(model, "bf16", CPU)
    for name, buffer in model.named_buffers():
        assert torch.equal(buffer, before[name]), name
