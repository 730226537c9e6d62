"""How methods are named for a contest, and what is said of those that are not known."""

from __future__ import annotations

from typing import Any

import pytest

from tunesmith.config.base import ConfigError
from tunesmith.config.build import build
from tunesmith.data.augmentation import AugmentConfig
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


def test_made_rows_make_a_contestant_and_the_others_go_without() -> None:
    asked = config(
        methods="lora(rank=2), lora(rank=2)+augment, full + augment(by=[noise,synonyms],factor=3)",
        data={"path": "reviews.csv", "augment": {"share": 0.3}},
    )
    plain, made, full = read_contestants(asked)[0]
    assert [one.name for one in (plain, made)] == ["lora(rank=2)", "lora(rank=2)+augment"]
    assert full.name == "full+augment(by=[noise,synonyms],factor=3)"
    assert (made.without, full.without, plain.without) == ("lora(rank=2)", "full", "")
    assert plain.method == made.method
    assert asked.run_of(plain).data.augment is None
    assert asked.run_of(made).data.augment == AugmentConfig(share=0.3)
    assert asked.run_of(full).data.augment == AugmentConfig(by=("noise", "synonyms"), factor=3, share=0.3)
    assert len({one.folder for one in (plain, made, full)}) == 3


def test_made_rows_in_a_section() -> None:
    for augment, expected in ((True, AugmentConfig()), ("synonyms", AugmentConfig(by=("synonyms",)))):
        asked = config(methods=[{"name": "lora", "rank": 2, "augment": augment}])
        (made,) = read_contestants(asked)[0]
        assert asked.run_of(made).data.augment == expected
        assert made.without == "lora(rank=2)"


def test_rows_that_are_made_for_everybody_stay_so() -> None:
    asked = config(methods="lora,full", data={"path": "reviews.csv", "augment": "noise"})
    assert [asked.run_of(one).data.augment for one in read_contestants(asked)[0]] == [AugmentConfig()] * 2


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"methods": "full,lorra"}, "lora"),
        ({"methods": "full,lora(rnak=4)"}, "rank"),
        ({"methods": "lora(rank)"}, "name=value"),
        ({"methods": "lora(rank=4"}, "options in brackets"),
        ({"methods": "full,full"}, "named 2 times"),
        ({"methods": "full,full+augment(by=nois)"}, "no way to change a text"),
        ({"methods": "full,full+augment(factr=3)"}, "factor"),
        ({"methods": "full,full+augment(factor=1)"}, "no rows are made"),
        ({"methods": "full,ful+augment"}, "full"),
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
