from __future__ import annotations

import pyarrow as pa
import pytest

from tunesmith.data import assign_roles, profile
from tunesmith.data.rows import Rows
from tunesmith.types import Role

TEXT = Role("text", ("text", "sentence", "review", "question", "sentence1", "premise", "title"), ("text", "category"))
PAIR = Role("text_pair", ("text_pair", "sentence2", "hypothesis"), ("text", "category"), required=False)
LABEL = Role(
    "label", ("label", "labels", "class", "sentiment"), ("category", "boolean", "list", "integer", "float"),
    purpose="what is to be predicted",
)  # fmt: skip
NUMBER = Role("label", ("label", "score", "rating"), ("float", "integer"))
CLASSIFICATION, REGRESSION = (TEXT, PAIR, LABEL), (TEXT, PAIR, NUMBER)

N = 60
SENTENCES = [f"this is sentence number {row} of the whole set" for row in range(N)]
OTHERS = [f"and here is another one with the number {row}" for row in range(N)]
CLASSES = [["good", "bad", "fair"][row % 3] for row in range(N)]


def profiles(**columns):
    return profile(Rows(pa.table(columns), ""))


def chosen(found, roles=CLASSIFICATION, **overrides):
    choices, problems = assign_roles(found, roles, overrides)
    assert not problems
    assert all(choice.reason for choice in choices)
    result: dict[str, str] = {}
    for choice in choices:
        result[choice.role] = f"{result[choice.role]},{choice.column}" if choice.role in result else choice.column
    return result


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (SENTENCES, "text"),
        (CLASSES, "category"),
        ([f"w{row}" for row in range(N)], "text"),
        (["1", "0", "2"] * 20, "integer"),
        (["1.0", "0.0", ""] * 20, "integer"),
        (["1.5", "0", "nan"] * 20, "float"),
        (["007", "008"] * 30, "category"),
        ([1.5, 2.0, None] * 20, "float"),
        ([1, 2, None] * 20, "integer"),
        ([True, False] * 30, "boolean"),
        (["yes", "No"] * 30, "boolean"),
        ([["a"], ["a", "b"]] * 30, "list"),
        (['["a"]', '["a", "b"]'] * 30, "list"),
        (["joy", "joy|fear", "fear", "fear|hope", "hope|joy"] * 12, "list"),
        (['{"a": 1}', '{"a": 2}'] * 30, "object"),
        ([None, "", "  "] * 20, "empty"),
        (["wait, what", "yes, sure"] * 30, "category"),
    ],
)
def test_kinds(values, kind):
    assert profiles(x=values)["x"].kind == kind


def test_words_of_writing_without_spaces_are_counted():
    texts = ["这家酒店的服务很好，房间也很干净。" + "啊" * row for row in range(N)]
    found = profiles(x=texts)["x"]
    assert found.kind == "text"
    assert found.mean_words > 10


def test_a_sample_over_the_whole_data_is_looked_at():
    found = profiles(label=["a"] * 9000 + ["b"] * 9000, text=[f"number {row} of many words" for row in range(18000)])
    assert found["label"].num_distinct == 2
    assert found["label"].num_rows == 2000
    assert found["label"].examples == ("a", "b")


class TestByName:
    def test_usual_names(self):
        found = profiles(id=list(range(N)), review=SENTENCES, source=["web", "app"] * 30, sentiment=CLASSES)
        assert chosen(found) == {"text": "review", "label": "sentiment"}

    def test_names_among_words(self):
        found = profiles(movie_title=CLASSES, ReviewText=SENTENCES, true_label=CLASSES[::-1])
        assert chosen(found) == {"text": "ReviewText", "label": "true_label"}

    def test_the_better_name_wins(self):
        found = profiles(title=OTHERS, text=SENTENCES, label=CLASSES)
        assert chosen(found) == {"text": "text", "label": "label"}

    def test_pairs(self):
        found = profiles(sentence1=SENTENCES, sentence2=OTHERS, score=[row / 7 for row in range(N)])
        assert chosen(found, REGRESSION) == {"text": "sentence1", "text_pair": "sentence2", "label": "score"}
        found = profiles(question=SENTENCES, answer=OTHERS, label=CLASSES)
        assert chosen(found)["text_pair"] == "answer"

    def test_a_name_does_not_outweigh_the_content(self):
        choices, problems = assign_roles(profiles(text=SENTENCES, label=CLASSES), REGRESSION, {})
        assert [choice.role for choice in choices] == ["text"]
        assert "'label' holds category, not float or integer" in problems[0].message


class TestByContent:
    def test_text_and_category(self):
        assert chosen(profiles(column_1=CLASSES, column_2=SENTENCES)) == {"text": "column_2", "label": "column_1"}

    def test_two_texts_and_a_number_are_a_pair(self):
        columns = {
            "column_1": ["genre", "other"] * 30,
            "column_2": [f"{row:04d}" for row in range(N)],
            "column_3": [str(row / 12) for row in range(N)],
            "column_4": SENTENCES,
            "column_5": OTHERS,
        }
        wanted = {"text": "column_4", "text_pair": "column_5", "label": "column_3"}
        assert chosen(profiles(**columns), REGRESSION) == wanted

    def test_ids_are_never_text(self):
        ids = [f"train_{row:05d}" for row in range(N)]
        hashes = [f"{row * 7919:032x}" for row in range(N)]
        found = profiles(a=ids, b=hashes, c=SENTENCES, d=CLASSES)
        assert chosen(found) == {"text": "c", "label": "d"}

    def test_several_columns_of_0_and_1_are_one_set_of_labels(self):
        flags = {f"kind{number}": [int(row % number == 0) for row in range(N)] for number in (2, 3, 5)}
        assert chosen(profiles(comment=SENTENCES, **flags)) == {"text": "comment", "label": "kind2,kind3,kind5"}

    def test_doubt_is_an_error_that_names_the_candidates(self):
        found = profiles(words=SENTENCES, a=CLASSES, b=["x", "y"] * 30)
        choices, problems = assign_roles(found, CLASSIFICATION, {})
        assert [choice.role for choice in choices] == ["text"]
        (problem,) = problems
        assert problem.severity == "error"
        assert "'a': 3 distinct values" in problem.message
        assert "'b'" in problem.message
        assert "data.columns.label" in problem.fix

    def test_short_texts_in_few_rows(self):
        found = profiles(a=["good film", "bad film", "fine film", "poor film"], b=["x", "y", "x", "y"])
        assert chosen(found) == {"text": "a", "label": "b"}

    def test_nothing_fits(self):
        _, problems = assign_roles(profiles(a=[1.5] * 9), CLASSIFICATION, {})
        assert {problem.message.split("'")[1] for problem in problems} == {"text", "label"}


class TestOverrides:
    FOUND = profiles(words=SENTENCES, a=CLASSES, b=["x", "y"] * 30, toxic=[0, 1] * 30, rude=[1, 0] * 30)

    def test_they_win(self):
        assert chosen(self.FOUND, label="b") == {"text": "words", "label": "b"}
        assert chosen(self.FOUND, text="a", label="b")["text"] == "a"

    def test_several_label_columns(self):
        assert chosen(self.FOUND, label="toxic, rude")["label"] == "toxic,rude"

    def test_mistakes_name_the_nearest(self):
        _, problems = assign_roles(self.FOUND, CLASSIFICATION, {"label": "toxc", "txt": "words"})
        assert "no column 'toxc'. Did you mean 'toxic'?" in problems[0].message
        assert "no role 'txt'. Did you mean 'text'?" in problems[1].message
        assert len(problems) == 2
