from __future__ import annotations

import pytest

from tunesmith.tasks import TASKS, Classification, MaskedLM, Regression, detect
from tunesmith.types import ColumnProfile, InputError


def text(name: str = "text") -> ColumnProfile:
    return ColumnProfile(name, "text", 1000, 0, 990, mean_length=80.0, mean_words=14.0, examples=("a long text", "b"))


def numbers(kind: str, num_distinct: int, *examples: str, name: str = "label", num_rows: int = 1000) -> ColumnProfile:
    return ColumnProfile(name, kind, num_rows, 0, num_distinct, low=0.0, high=9.0, examples=examples)


@pytest.mark.parametrize(
    ("label", "task"),
    [
        (ColumnProfile("label", "category", 1000, 0, 3, examples=("a", "b")), Classification),
        (ColumnProfile("label", "list", 1000, 0, 30, examples=("a|b",)), Classification),
        (numbers("boolean", 2, "true", "false"), Classification),
        (numbers("integer", 2, "0", "1"), Classification),
        (numbers("integer", 5, "1", "5"), Classification),
        (numbers("integer", 400, "17", "230"), Regression),
        (numbers("integer", 9, "17", "230", num_rows=12), Regression),
        (numbers("float", 700, "0.25", "3.8"), Regression),
        (numbers("float", 6, "0.5", "2.5"), Regression),
        (numbers("float", 2, "0.0", "1.0"), Classification),
    ],
)
def test_the_label_decides(label: ColumnProfile, task: type) -> None:
    found = detect({"text": text(), "label": label})
    assert found.task is task
    assert {choice.role: choice.column for choice in found.choices} == {"text": "text", "label": "label"}
    assert found.reasons[0].startswith(task().name)
    assert "'label'" in found.reasons[0]


def test_overrides_are_obeyed() -> None:
    profiles = {
        "text": text(),
        "stars": numbers("integer", 5, "1", "5", name="stars"),
        "y": numbers("float", 900, "0.25", name="y"),
    }
    assert detect(profiles, {"label": "stars"}).task is Classification
    assert detect(profiles, {"label": "y"}).task is Regression


def test_columns_without_any_text_are_an_error() -> None:
    with pytest.raises(InputError) as caught:
        detect({"price": numbers("float", 700, "0.25", "3.8", name="price")})
    assert caught.value.problems


def test_masked_lm_has_to_be_asked_for() -> None:
    """Whatever else suits the columns is preferred; plain text is what models that write text learn from."""
    assert MaskedLM.fit_score({"text": text()})[0] < 0.1
    assert "causal_lm" not in TASKS or detect({"text": text()}).task is TASKS["causal_lm"]


@pytest.mark.parametrize(
    ("overrides", "wanted"),
    [
        ({"label": "star"}, ["data.columns.label: the data has no column 'star'. Did you mean 'stars'?"]),
        ({"lable": "stars"}, ["data.columns: there is no role 'lable'. Did you mean 'label'?"]),
        ({"prompt": "txt"}, ["data.columns.prompt: the data has no column 'txt'. Did you mean 'text'?"]),
        (
            {"tags": "stars", "tokens": "tex"},
            ["data.columns.tokens: the data has no column 'tex'. Did you mean 'text'?"],
        ),
        (
            {"text": "tezt", "label": "stras"},
            ["data.columns.text: the data has no column 'tezt'. Did you mean 'text'?",
             "data.columns.label: the data has no column 'stras'. Did you mean 'stars'?"],
        ),
    ],
)  # fmt: skip
def test_wrong_columns_are_named_once_whatever_the_tasks(overrides: dict[str, str], wanted: list[str]) -> None:
    profiles = {"text": text(), "stars": numbers("integer", 5, "1", "5", name="stars")}
    with pytest.raises(InputError) as caught:
        detect(profiles, overrides)
    assert [problem.message for problem in caught.value.problems] == wanted


def test_only_the_task_that_the_roles_speak_of_complains() -> None:
    profiles = {"text": text(), "stars": numbers("integer", 5, "1", "5", name="stars")}
    with pytest.raises(InputError) as caught:
        detect(profiles, {"tags": "stars"})
    (problem,) = caught.value.problems
    assert "token_classification: No column was found for the role 'tokens'" in problem.message


def test_numbers_of_many_digits_and_numbers_written_in_two_ways_are_names() -> None:
    import pyarrow as pa

    from tunesmith.data import profile
    from tunesmith.data.rows import Rows

    sections = ["1.2", "1.20", "1.3", "2.1"]
    ids = ["1200000000000000001", "1200000000000000002"]
    texts = [f"a text of some words, and a number: {row}" for row in range(80)]
    for names in (sections, ids, ["1E2", "100"], ["0.10", "0.1"]):
        table = pa.table({"text": texts, "label": [names[row % len(names)] for row in range(80)]})
        found = detect(profile(Rows(table, "")))
        assert found.task is Classification
    for amounts in (["2,5", "3,25", "4"], [f"{row / 8:.3f}" for row in range(80)], ["1.5", "2.5"]):
        table = pa.table({"text": texts, "label": [amounts[row % len(amounts)] for row in range(80)]})
        assert detect(profile(Rows(table, ""))).task is Regression


def test_columns_that_belong_together_are_tokens_and_tags() -> None:
    """By what stands in them, whatever their names; with several, the usual name decides, or the user."""
    profiles = {
        "zin": ColumnProfile("zin", "list", 100, 0, 100),
        "soort": ColumnProfile("soort", "list", 100, 0, 90, tags_of=("zin",)),
        "ner": ColumnProfile("ner", "text", 100, 0, 90, mean_words=9, examples=("O B-X",), tags_of=("zin", "soort")),
        "text": text(),
    }
    found = detect(profiles)
    assert found.task is TASKS["token_classification"]
    assert {choice.role: choice.column for choice in found.choices} == {"tokens": "zin", "tags": "ner"}
    chosen = detect(profiles, {"tags": "soort"}).choices
    assert {choice.role: choice.column for choice in chosen} == {"tokens": "zin", "tags": "soort"}
    assert "in every row" in chosen[0].reason


def test_spans_are_found_by_their_content() -> None:
    profiles = {
        "text": text(),
        "annotations": ColumnProfile("annotations", "object", 100, 0, 100),
        "marks": ColumnProfile("marks", "object", 100, 0, 100, holds_spans=True),
    }
    found = detect(profiles)
    assert {choice.role: choice.column for choice in found.choices} == {"text": "text", "entities": "marks"}
