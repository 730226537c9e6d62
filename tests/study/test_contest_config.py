"""How methods are named for a contest, and what is said of those that are not known."""

from __future__ import annotations

from typing import Any

import pytest

from tunesmith.config.base import ConfigError
from tunesmith.config.build import build
from tunesmith.study.contest_config import CompareConfig, read_contestants, reference_of


def config(**values: Any) -> CompareConfig:
    return build(CompareConfig, {"model": "sample:minilm", "data": "reviews.csv", **values})


def test_names_with_options() -> None:
    found, is_all = read_contestants(config(methods="full, lora(rank=64,rslora=true),lora"))
    assert [one.name for one in found] == ["full", "lora(rank=64,rslora=true)", "lora"]
    assert (found[1].method.rank, found[1].method.rslora) == (64, True)  # type: ignore[attr-defined]
    assert [one.folder for one in found] == ["full", "lora-rank-64-rslora-true", "lora"]
    assert not is_all


def test_sections_as_in_a_run() -> None:
    found, _ = read_contestants(config(methods=[{"name": "lora", "rank": 2, "target_modules": ["query", "key"]}]))
    assert found[0].method.target_modules == ("query", "key")  # type: ignore[attr-defined]


def test_options_with_lists_and_several_of_a_kind() -> None:
    found, _ = read_contestants(config(methods="lora(target_modules=[query, key],rank=2),lora(rank=4)"))
    assert found[0].method.target_modules == ("query", "key")  # type: ignore[attr-defined]
    assert found[1].method.rank == 4  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"methods": "full,lorra"}, "lora"),
        ({"methods": "full,lora(rnak=4)"}, "rank"),
        ({"methods": "lora(rank)"}, "name=value"),
        ({"methods": "lora(rank=4"}, "options in brackets"),
        ({"methods": "full,full"}, "named 2 times"),
        ({"methods": ""}, "no method"),
        ({"methods": "full", "reference": "lora"}, "does not take part"),
        ({"methods": "full", "method": "lora"}, "Use methods"),
        ({"methods": "full", "budget": "soon"}, "no duration"),
        ({"methods": "full", "seeds": 0}, "seeds"),
        ({"methods": "full", "margin": -1}, "margin"),
    ],
)
def test_what_is_wrong_is_said_with_a_way_out(values: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said.replace("(", r"\(")):
        read_contestants(config(**values))


def test_the_reference_is_full_where_it_takes_part() -> None:
    for methods, given, expected in (
        ("lora,full", "", "full"),
        ("lora,freeze", "", "lora"),
        ("lora,full", "lora", "lora"),
    ):
        asked = config(methods=methods, reference=given)
        assert reference_of(asked, read_contestants(asked)[0]) == expected


def test_all_methods() -> None:
    found, is_all = read_contestants(config(methods="all"))
    assert is_all
    assert {"full", "lora", "freeze"} <= {one.name for one in found}
