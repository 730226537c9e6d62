"""Sums, maxima and "any" over two real processes, a step made by both, and a process that is alone."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import torch

from engine import rank
from engine.memory import training
from forked_process import ForkedProcess
from tunesmith.engine import loop, ranks


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Return what two processes that know of each other were told."""
    place = tmp_path_factory.mktemp("ranks") / "meeting"
    processes = [ForkedProcess(rank.main, number, str(place)) for number in range(2)]
    found = []
    for process in processes:
        assert process.wait() == 0, process.stderr
        found.append(json.loads(process.stdout.splitlines()[-1]))
    return found


def test_two_processes_are_told_the_same(answers: list[dict[str, Any]]) -> None:
    for found in answers:
        expected = {"sum": 3.0, "max": 10.0, "any of one": True, "any of none": False, "norm": 5.0}
        assert found["joined"] == expected


def test_processes_that_have_not_joined_are_alone(answers: list[dict[str, Any]]) -> None:
    """Whoever starts several may let each train a model of its own."""
    for number, found in enumerate(answers):
        own = {"sum": number + 1.0, "max": 10.0 * number, "any of one": number == 1, "any of none": False}
        assert found["alone"] == found["alone again"] == {**own, "norm": [3.0, 4.0][number]}


def test_a_step_of_two_processes_is_one_step(answers: list[dict[str, Any]]) -> None:
    one, two = (found["step"] for found in answers)
    (whole, *_) = loop.train(training("smollm", dtype=torch.float64, rows=8))
    assert one["units"] == two["units"] == whole.num_rows == 8
    assert one["loss"] == two["loss"] == pytest.approx(whole.loss, rel=1e-12)
    assert one["norm"] == two["norm"] == pytest.approx(math.hypot(one["own norm"], two["own norm"]), rel=1e-12)


def test_both_make_smaller_micro_batches_when_one_has_no_memory(answers: list[dict[str, Any]]) -> None:
    for found in answers:
        assert (found["step"]["tries"], found["step"]["budget"]) == (2, 200)


def test_a_process_that_is_alone_gets_what_it_gave() -> None:
    norm = torch.tensor(3.0)
    for value in (0, 7, math.pi, math.inf):
        assert ranks.sum(value) is value
        assert ranks.max(value) is value
    assert ranks.any(True) is True
    assert ranks.any(False) is False
    assert ranks.norm(norm) is norm
    with ranks.joined():
        assert ranks.norm(norm) is norm, "there is nobody to join"
