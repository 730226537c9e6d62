"""Steps that several real processes make together are those that one makes; a process that is alone stays alone."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from engine import rank
from forked_process import ForkedProcess
from tunesmith.engine import ranks
from tunesmith.engine.gradient_sums import DENSE, ROWS


@pytest.fixture(scope="module", params=rank.MADE_BY)
def answers(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Return what processes that know of each other were told, and what they made together."""
    size, place = request.param, tmp_path_factory.mktemp("ranks") / "meeting"
    processes = [ForkedProcess(rank.main, number, size, str(place)) for number in range(size)]
    found = []
    for process in processes:
        assert process.wait() == 0, process.stderr
        found.append(json.loads(process.stdout.splitlines()[-1]))
    return found


@pytest.fixture(scope="module")
def alone() -> dict[str, Any]:
    """Return the curves of one process."""
    return {name: rank.curve(name) for name in rank.TRAININGS}


def test_all_processes_are_told_the_same(answers: list[dict[str, Any]]) -> None:
    numbers = range(len(answers))
    total = float(sum(numbers))
    for found in answers:
        assert found["joined"] == {
            "sum": total + len(answers),
            "sums": [total, float(len(answers))],
            "max": 10.0 * (len(answers) - 1),
            "any of one": True,
            "any of none": False,
            "of each": [float(number) for number in numbers],
        }


def test_processes_that_have_not_joined_are_alone(answers: list[dict[str, Any]]) -> None:
    """Whoever starts several may let each train a model of its own."""
    for number, found in enumerate(answers):
        own = {"sum": number + 1.0, "max": 10.0 * number, "any of one": number == 1, "any of none": False}
        expected = {**own, "sums": [float(number), 1.0], "of each": [float(number)]}
        assert found["alone"] == found["alone again"] == expected


def test_curves_are_those_of_one_process(answers: list[dict[str, Any]], alone: dict[str, Any]) -> None:
    """Uneven steps, ranks without rows and unequal numbers of micro-batches included."""
    for name, own in answers[0]["curves"].items():
        assert all(found["curves"][name] == own for found in answers), f"{name}: to the bit, on all ranks"
        assert own["counts"] == alone[name]["counts"]
        assert rank.differences(own, alone[name]) <= rank.CLOSE.get(name, rank.EXACT), name


def test_gradients_in_16_bits_give_the_sums_of_those_in_32(answers: list[dict[str, Any]]) -> None:
    curves = answers[0]["curves"]
    if len(answers) == 2:
        assert curves["bf16"] == curves["bf16, summed in 32 bits"], "to the bit"


def test_rows_of_tables_travel_alone(answers: list[dict[str, Any]]) -> None:
    kinds = {name: curve["kinds"] for name, curve in answers[0]["curves"].items()}
    assert kinds["flat"] == [DENSE, ROWS]
    assert kinds.get("tokens", [DENSE]) == [DENSE], "of LoRA, whose tables are not trained"


def test_all_make_smaller_micro_batches_when_one_has_no_memory(answers: list[dict[str, Any]]) -> None:
    """Also where the gradients of the others had set out already."""
    enough = rank.train_with_little_memory(0)
    assert enough["tries"] == 3
    for found in answers:
        own = found["little memory"]
        assert (own["tries"], own["budget"]) == (4, 200)
        assert rank.differences(own, enough) <= rank.EXACT


def test_a_process_that_is_alone_gets_what_it_gave() -> None:
    for value in (0, 7, math.pi, math.inf):
        assert ranks.sum(value) is value
        assert ranks.max(value) is value
    assert ranks.any(True) is True
    assert ranks.any(False) is False
    assert ranks.shared("name", lambda: "value") == "value"
    with ranks.joined():
        assert ranks.size() == 1, "there is nobody to join"
        assert ranks.is_first()
