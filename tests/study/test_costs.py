"""Time, memory and price on machines that are not at hand: the arithmetic, published throughputs, the command."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from benchmarks.cost_model import figures, summary
from tiny import tiny_folder
from tunesmith.cli.application import run
from tunesmith.methods import METHODS
from tunesmith.models.description import describe, parse_model_size
from tunesmith.models.pretrained import Pretrained
from tunesmith.study.costs.device import REACHED
from tunesmith.study.costs.estimate import Rows, Setting, estimate, step_of
from tunesmith.study.costs.machines import Machines, devices, find_machines
from tunesmith.study.costs.shape import Shape, shape_of
from tunesmith.types import HeadSettings, InputError

LLAMA_8B = Shape.of_decoder(32, 4096, 14336, 128256, keys=1024)
WRITES = HeadSettings("AutoModelForCausalLM", None)

FURTHER_OFF = {
    ("torchtitan", "H100", 8192): "a card of 500 W instead of 700, not compiled",
    ("tunesmith", "H200", 400): "small steps, for which the program cannot queue work fast enough",
    ("torchtune", "RTX-4090", 2048): "faster than the datasheet's rate allows with layers recomputed",
    ("torchtune", "A6000", 2048): "faster than the datasheet's rate allows with layers recomputed",
    ("mosaic", "H100", 8192): "rows of 8,192 tokens, one in a micro-batch",
    ("mosaic", "H100", 32768): "attention of rows of 32,768 tokens",
    ("mosaic", "A100-40", 2048): "micro-batches of two rows on 64 devices",
}
"""Published figures that are missed by more than a quarter; ``docs/scale.md`` shows them."""


# ---- published figures ---------------------------------------------------------------------------------------------


def test_published_throughputs_are_met_within_a_quarter_but_for_those_that_are_named() -> None:
    checks = [one for one in figures() if one.is_check]
    assert len({one.values["source"] for one in checks}) >= 5
    missed = {
        (one.values["source"], one.values["machine"].split("x ")[-1], one.values["length"]): round(one.error, 2)
        for one in checks
        if abs(one.error) > 0.25
    }
    assert set(missed) <= set(FURTHER_OFF), missed
    assert sum(abs(one.error) <= 0.25 for one in checks) >= 0.85 * len(checks), summary(checks)


@pytest.mark.parametrize("method", ["full", "LoRA"])
def test_the_median_error_of_checks_is_below_an_eighth(method: str) -> None:
    errors = sorted(abs(one.error) for one in figures() if one.is_check and one.method == method)
    assert errors[len(errors) // 2] < 0.125


# ---- machines ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "device", "number"),
    [("8x H100", "H100", 8), ("h100", "H100", 1), ("4 × A100", "A100-80", 4), ("2*RTX 4090", "RTX-4090", 2)],
)
def test_machines_are_found_by_the_names_that_people_use(text: str, device: str, number: int) -> None:
    found = find_machines(text, 3)
    assert (found.device.name, found.per_machine, found.num_devices) == (device, number, 3 * number)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("8x H1000", "Did you mean 'H100'?"),
        ("0x H100", "no machine"),
        ("", "no machine"),
        ("9999x L4", "1,024 devices"),
    ],
)
def test_machines_that_nobody_knows_are_refused_with_the_nearest_name(text: str, said: str) -> None:
    with pytest.raises(InputError) as error:
        find_machines(text)
    assert said in str(error.value)


def test_every_device_of_the_table_has_a_source_and_reaches_less_than_its_datasheet() -> None:
    assert len(devices()) >= 10
    for device in devices():
        assert device.source
        assert bool(device.products) == bool(device.products_source)
        assert 0.4e12 * device.peak < device.product_rate <= 1e12 * max(REACHED, 0.9) * device.peak


def test_a_device_of_ones_own_is_read_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "card.yaml"
    path.write_text("name: card\npeak: 100\nmemory: 16\nbandwidth: 400\nlink: 16\n")
    assert find_machines(f"2x {path}").device.product_rate == 80e12
    path.write_text("name: card\npeek: 100\n")
    with pytest.raises(InputError, match="peek"):
        find_machines(str(path))


def test_half_a_machine_has_half_of_its_network_unless_it_is_told() -> None:
    assert find_machines("4x H100", 2).network_bytes == 200e9
    assert find_machines("4x H100", 2, "800Gb/s").network_bytes == 100e9
    with pytest.raises(InputError, match="--network"):
        find_machines("4x H100", 2, "fast")


def test_this_machine_is_measured() -> None:
    two, one = find_machines("2x here"), find_machines("here")
    assert 1e9 < one.device.product_rate < 1e14
    assert two.device.memory == pytest.approx(one.device.memory / 2)
    assert two.device.product_rate < one.device.product_rate


# ---- shapes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["full", "lora"])
def test_sizes_found_in_modules_are_those_of_the_formula(method: str) -> None:
    config = LlamaConfig(
        vocab_size=300, hidden_size=64, intermediate_size=96, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, tie_word_embeddings=False,
    )  # fmt: skip
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    found = shape_of(model, METHODS[method](), is_causal=True, reads_tokens=True)
    expected = Shape.of_decoder(3, 64, 96, 300, keys=32, rank=8 if method == "lora" else 0)
    for name in ("num_layers", "hidden", "products", "outputs", "trained_products", "added", "num_added", "backward"):
        assert getattr(found, name) == getattr(expected, name), name
    assert (found.weights, found.trained) == (expected.weights, expected.trained)
    assert found.kept == pytest.approx(expected.kept, rel=0.1)


def test_what_stays_frozen_costs_no_backward_pass() -> None:
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(LlamaConfig(
            vocab_size=300, hidden_size=64, intermediate_size=96, num_hidden_layers=4, num_attention_heads=4
        ))  # fmt: skip
    top = METHODS["lora"](layers_to_transform="top 1")
    assert shape_of(model, top, is_causal=True, reads_tokens=True).backward == 0.25


@pytest.mark.parametrize(("name", "weights"), [("0.1B", 1e8), ("8B", 8.03e9), ("13B", 13e9), ("70B", 70.6e9)])
def test_a_size_stands_for_a_decoder_of_that_size(name: str, weights: float) -> None:
    model = describe(Pretrained(name=name), WRITES).bare_model()
    total = sum(one.numel() for one in {id(one): one for one in model.parameters()}.values())
    assert total == pytest.approx(weights, rel=0.08)
    assert all(one.is_meta for one in model.parameters()), "no weights are made"


@pytest.mark.parametrize("name", ["minilm", "8", "org/8B", "B", "7B-chat"])
def test_names_are_no_sizes(name: str) -> None:
    assert parse_model_size(name) is None


# ---- arithmetic ----------------------------------------------------------------------------------------------------


def machines(number: int) -> Machines:
    return find_machines(f"{min(number, 8)}x H100", max(number // 8, 1))


def test_more_devices_make_a_step_of_the_same_rows_quicker_but_never_by_more_than_their_number() -> None:
    steps = [estimate(LLAMA_8B, machines(n), Rows.alike(1024, 2048), Setting("fsdp")) for n in (8, 64, 512, 1024)]
    for slow, quick, times in zip(steps, steps[1:], (8, 8, 2), strict=False):
        assert slow.seconds / times * 0.999 <= quick.seconds < slow.seconds


def test_sharding_divides_what_is_held_and_takes_exchange() -> None:
    rows = Rows.alike(64, 2048)
    whole, sharded = (estimate(LLAMA_8B, machines(8), rows, Setting(way)) for way in ("data", "fsdp"))
    assert not whole.fits
    assert sharded.fits
    assert sharded.bytes_needed < whole.bytes_needed / 3
    assert sharded.exchange > 0
    assert estimate(LLAMA_8B, machines(1), Rows.alike(8, 2048), Setting("fsdp")).exchange == 0


def test_adapters_take_less_memory_and_arithmetic_than_everything() -> None:
    lora = Shape.of_decoder(32, 4096, 14336, 128256, keys=1024, rank=16)
    full, adapted = (
        step_of(one, machines(1), Rows.alike(8, 2048), Setting(recomputes=False)) for one in (LLAMA_8B, lora)
    )
    assert adapted.products == pytest.approx(full.products * 2 / 3, rel=0.1)
    assert adapted.bytes_needed < full.bytes_needed / 4


def test_recomputing_saves_memory_for_a_third_more_arithmetic() -> None:
    kept, again = (
        step_of(LLAMA_8B, machines(8), Rows.alike(64, 4096), Setting("fsdp", 8192, recomputes))
        for recomputes in (False, True)
    )
    assert again.bytes_needed < kept.bytes_needed
    assert again.products == pytest.approx(kept.products * 4 / 3, rel=0.05)
    assert again.operations == kept.operations


def test_micro_batches_shrink_before_activations_are_computed_again() -> None:
    long = Rows.alike(16, 512)
    step = estimate(Shape.of_decoder(32, 4096, 14336, 128256, keys=1024, rank=8), find_machines("L4"), long, Setting())
    assert step.fits
    assert not step.recomputes
    assert 512 <= step.micro_batch_tokens < 4096


# ---- the command ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("costs")
    with (folder / "reviews.csv").open("w", newline="") as file:
        rows = [(f"a {'fine' if n % 2 else 'dull'} film number {n}", "good" if n % 2 else "bad") for n in range(80)]
        csv.writer(file).writerows([("text", "label"), *rows])
    with (folder / "answers.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("prompt", "completion"), *((f"what is {n}?", f"it is {n}") for n in range(60))])
    tiny_folder(folder)
    return folder


def planned(capsys: pytest.CaptureFixture[str], place: Path, *arguments: str, data: str = "reviews.csv") -> dict:
    assert run(["plan", "--data", str(place / data), "--json", *arguments]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_plan_for_other_machines_needs_no_weights(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = next(path.parent for path in place.rglob("config.json"))
    for path in model.glob("*.safetensors"):
        path.unlink()
    arguments = ["--model", str(model), "--machine", "2x L4", "--nodes", "2", "--price_per_hour", "3"]
    plan = planned(capsys, place, *arguments)
    assert plan["machine"]["machines"] == 2
    choices = {(one["method"], one["parallel"]): one for one in plan["choices"]}
    assert {method for method, _ in choices} == {"full", "lora", "freeze"}
    one = choices["full", "data"]
    assert one["price"] == pytest.approx(one["seconds"] / 3600 * 2 * 3)
    assert one["seconds"] > plan["steps"] * one["seconds_of_step"]
    assert one["seconds_of_step"] == pytest.approx(sum(one["parts_of_step"].values()))


def test_a_plan_for_a_size_needs_no_model(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = planned(capsys, place, "--model", "8B", "--machine", "8x H100", "--methods", "full,lora", data="answers.csv")
    assert plan["model"]["weights"] == 8_030_261_248
    fits = {(one["method"], one["parallel"]): one["fits"] for one in plan["choices"]}
    assert fits == {("full", "data"): False, ("full", "fsdp"): True, ("lora", "data"): True, ("lora", "fsdp"): True}
    assert any("four bytes" in note for note in plan["notes"])


def test_more_devices_than_a_step_has_rows_are_said(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = planned(
        capsys, place, "--model", "1B", "--machine", "8x H100", "--nodes", "8", "--methods", "lora", data="answers.csv"
    )
    assert not any(one["fits"] for one in plan["choices"])
    assert "raise --train.batch_size" in plan["choices"][0]["reason"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--model", "lstm", "--machine", "L4"], "trained from scratch"),
        (["--model", "8B", "--machine", "L5"], "no device 'L5' is known"),
        (["--model", "8B", "--machine", "L4", "--nodes", "0"], "nodes"),
        (["--model", "8B", "--machine", "L4", "--price_per_hour", "-1"], "price_per_hour"),
    ],
)
def test_what_cannot_be_planned_is_refused(
    place: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert run(["plan", "--data", str(place / "reviews.csv"), *arguments]) == 2
    assert said in capsys.readouterr().err
