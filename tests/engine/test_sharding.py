"""Weights in parts over real processes train as whole ones do, are saved as these are, and are put together again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from engine import rank, sharded_rank
from forked_process import ForkedProcess
from tiny import tiny_model
from tunesmith.engine.optimizer_config import OptimizerConfig
from tunesmith.engine.sharding.divisible import hindrance_of_method, hindrance_of_model, hindrance_of_optimizer
from tunesmith.engine.sharding.parts import Parts, local_part
from tunesmith.methods import METHODS
from tunesmith.methods.base import ParameterGroup

FEW = ("tied, in chunks", "lora", "bf16")
SEVERAL = [
    pytest.param((2, FEW), id="2"),
    pytest.param((2, tuple(sharded_rank.TRAININGS)), id="2, all", marks=pytest.mark.slow),
    pytest.param((3, tuple(sharded_rank.TRAININGS)), id="3, all", marks=pytest.mark.slow),
]
"""How many ranks make which trainings. Three have parts of unlike sizes, and in a step of two rows one has none."""


@pytest.fixture(scope="module", params=SEVERAL)
def answers(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Return what each of several processes made with its part of the weights."""
    (size, wanted), place = request.param, tmp_path_factory.mktemp("parts")
    processes = [ForkedProcess(sharded_rank.main, number, size, str(place), list(wanted)) for number in range(size)]
    found = []
    for process in processes:
        assert process.wait() == 0, process.stderr
        found.append(json.loads(process.stdout.splitlines()[-1]))
    return found


def test_the_curve_is_that_of_one_process(answers: list[dict[str, Any]]) -> None:
    """Uneven steps, ranks with fewer micro-batches than others or without rows, and a clipped norm included."""
    for name, own in answers[0]["curves"].items():
        assert all(found["curves"][name] == own for found in answers), f"{name}: to the bit, on all ranks"
        alone = sharded_rank.curve(sharded_rank.made(name, in_parts=False))
        assert own["counts"] == alone["counts"], name
        limit = sharded_rank.CLOSE.get(name, sharded_rank.EXACT)
        assert rank.differences(own, alone) <= limit, name
        assert own["scored"] == pytest.approx(alone["scored"], rel=limit), f"{name}: scored between steps, too"


def test_a_training_goes_on_from_its_checkpoint_to_the_same_bytes(answers: list[dict[str, Any]]) -> None:
    for found in answers:
        assert found["resumed"]["same"]
        assert found["resumed"]["losses"] == found["curves"]["tied, in chunks"]["loss"][2:]


def test_the_first_rank_has_a_plain_model_in_the_end(answers: list[dict[str, Any]]) -> None:
    first, *others = (found["ended"] for found in answers)
    assert first["masters"], "its masters are the parts of all ranks, to the bit"
    assert first["dtypes"] == ["torch.bfloat16"]
    assert first["classes"] == []
    assert first["loss"] == pytest.approx(answers[0]["curves"]["bf16"]["scored"][0], rel=1e-3)
    assert first["state"]
    assert not any(others)


def test_each_rank_has_its_part_of_weights_and_state(answers: list[dict[str, Any]]) -> None:
    whole = sharded_rank.made("tied, in chunks", in_parts=False)
    weights = sum(one.nbytes for one in whole.scorer.model.parameters())
    for found in answers:
        own = found["memory"]
        assert own["weights"] <= weights / len(answers) + 4096
        assert own["state"] <= 2 * weights / len(answers) + 4096
        assert own["planned"][0] >= own["weights"]
        assert own["planned"][1] >= own["state"]
        assert own["planned"] == answers[0]["memory"]["planned"], "all ranks plan alike"
        assert own["passing"] > 0


def test_parts_of_a_weight_are_as_torch_cuts_them() -> None:
    for rows in (1, 2, 5, 6):
        whole = torch.arange(rows * 3.0).view(rows, 3)
        for size in (1, 2, 4):
            cut = [*whole.chunk(size), *[whole[:0]] * size][:size]
            for number, part in enumerate(cut):
                assert torch.equal(Parts((rows, 3), number, size).part_of(whole), part)
    assert local_part(whole) is whole


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd", "RMSprop", "NAdam", "Adagrad"])
def test_optimizers_that_work_number_by_number_fit(name: str) -> None:
    assert hindrance_of_optimizer(OptimizerConfig(name=name)) == ""


@pytest.mark.parametrize("name", ["adafactor", "Muon"])
def test_optimizers_that_look_at_whole_weights_do_not_fit(name: str) -> None:
    assert hindrance_of_optimizer(OptimizerConfig(name=name))


@pytest.mark.parametrize("name", ["GaLore", "APOLLO", "CAME", "Lamb", "Prodigy"])
def test_so_it_is_with_optimizers_of_another_package(name: str) -> None:
    pytest.importorskip(
        "pytorch_optimizer", reason="these are pytorch-optimizer's: pip install 'tunesmith[optimizers]'"
    )
    assert hindrance_of_optimizer(OptimizerConfig(name=name))
    assert hindrance_of_optimizer(OptimizerConfig(name="Lion")) == ""


def test_what_a_method_must_not_do_is_told_by_what_it_does() -> None:
    def hindrance(name: str, **options: Any) -> str:
        method = METHODS[name](**options)
        model = method.apply(tiny_model("bert", dtype=torch.float32, head="sequence", num_hidden_layers=3))
        before = [one.requires_grad for one in model.parameters()]
        found = hindrance_of_method(method, model, method.parameter_groups(model))
        assert [one.requires_grad for one in model.parameters()] == before
        return found

    for name, options in {"full": {}, "lora": {}, "freeze": {"layers": 1}, "bitfit": {}, "dora": {}}.items():
        assert hindrance(name, **options) == "", name
    assert "from step to step" in hindrance("lisa", layers=1)
    assert "from step to step" in hindrance("freeze", gradual=True)
    assert "whole weights or gradients" in hindrance("adalora")
    within = [ParameterGroup(("weight",), 1.0, decay=True, places={"weight": torch.tensor([0])})]
    assert "places within weights" in hindrance_of_method(METHODS["full"](), torch.nn.Linear(1, 1), within)


def test_weights_that_cannot_be_divided_are_named() -> None:
    plain = ("plain", torch.zeros(2))
    assert hindrance_of_model([plain]) == ""
    assert "scale is a single number" in hindrance_of_model([plain, ("scale", torch.zeros(()))])
    assert "packed is packed (uint8)" in hindrance_of_model([("packed", torch.zeros(2, dtype=torch.uint8))])


def test_a_file_is_written_tensor_by_tensor(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    from tunesmith.files.tensors import Described, write_tensors

    numbers = torch.arange(6.0).view(2, 3)
    described = [Described("a", "F32", (2, 3), 24), Described("none", "F32", (0, 3), 0)]
    write_tensors(tmp_path / "file", described, [memoryview(numbers.numpy()), memoryview(b"")])
    found = load_file(tmp_path / "file")
    assert torch.equal(found["a"], numbers)
    assert found["none"].shape == (0, 3)
