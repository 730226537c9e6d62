from __future__ import annotations

import hashlib
import random

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunesmith.data import CleanConfig, DataConfig, RawData, prepare, read, read_for_prediction
from tunesmith.data.rows import Rows
from tunesmith.files.hashing import hash_json
from tunesmith.types import ColumnChoice, InputError

CHOICES = (ColumnChoice("text", "t", "test"), ColumnChoice("label", "y", "test"))
NUMBERS = random.Random(0)


def words(number):
    return f"words {hashlib.sha256(str(number).encode()).hexdigest()[:12]}"


def raw_of(group=None, **splits):
    """Raw data from lists of (text, label) or (text, label, group)."""
    made = {}
    for name, rows in splits.items():
        columns = {
            "t": [row[0] for row in rows],
            "y": [row[1] for row in rows],
            "__row__": [f"{name}.csv:{line}" for line in range(1, len(rows) + 1)],
        }
        if rows and len(rows[0]) == 3:
            columns["g"] = [row[2] for row in rows]
        made[name] = Rows(pa.table(columns), hash_json(columns))
    return RawData(made, (), (), (), group)


def prepared(raw, choices=CHOICES, **options):
    return prepare(raw, DataConfig(path="x", **options), choices)


def contents(data, split):
    return [(row["text"], row["label"]) for row in data.splits[split]]


def messages(data):
    return "\n".join(problem.message for problem in data.problems)


ROWS = [(words(number), "ab"[number % 3 == 0]) for number in range(300)]


class TestSplits:
    def test_train_validation_and_test_are_cut_with_the_same_mix(self):
        data = prepared(raw_of(train=ROWS))
        sizes = {name: len(rows) for name, rows in data.splits.items()}
        assert sizes == {"train": 240, "validation": 30, "test": 30}
        for name, size in sizes.items():
            assert sum(label == "b" for _, label in contents(data, name)) == pytest.approx(size / 3, abs=1)
        assert sorted(row for name in data.splits for row in contents(data, name)) == sorted(ROWS)

    def test_given_splits_stay_as_they_are(self):
        data = prepared(raw_of(train=ROWS[:200], validation=ROWS[200:250], test=ROWS[250:]))
        assert contents(data, "train") == ROWS[:200]
        assert contents(data, "validation") == ROWS[200:250]
        assert contents(data, "test") == ROWS[250:]
        assert data.splits["test"]["row"][0] == "test.csv:1"

    def test_validation_is_cut_when_only_test_is_given(self):
        data = prepared(raw_of(train=ROWS[:200], test=ROWS[200:]))
        assert {name: len(rows) for name, rows in data.splits.items()} == {"train": 180, "validation": 20, "test": 100}

    def test_no_test_split_is_made_up_beside_validation(self):
        data = prepared(raw_of(train=ROWS[:200], validation=ROWS[200:]))
        assert set(data.splits) == {"train", "validation"}
        assert "final figures come from the validation rows" in messages(data)

    def test_other_fractions_and_seeds(self):
        data = prepared(raw_of(train=ROWS), validation_fraction=0.0, test_fraction=0.3)
        assert {name: len(rows) for name, rows in data.splits.items()} == {"train": 210, "test": 90}
        first, second = (set(contents(prepared(raw_of(train=ROWS), split_seed=seed), "test")) for seed in (0, 1))
        assert len(first & second) < 15

    def test_identical_texts_stay_together(self):
        rows = [(words(number % 60).upper() if number % 2 else words(number % 60), "ab"[number % 2])
                for number in range(240)]  # fmt: skip
        data = prepared(raw_of(train=rows), clean=CleanConfig(duplicates=False))
        sides = [{text.lower() for text, _ in contents(data, name)} for name in data.splits]
        assert len(sides) == 3
        assert not sides[0] & sides[1]
        assert not sides[0] & sides[2]
        assert not sides[1] & sides[2]

    def test_groups_stay_together_even_through_shared_texts(self):
        rows = [(words(number), "ab"[number % 2], f"film {number % 40}") for number in range(400)]
        rows.append((words(0), "a", "film 1"))
        data = prepared(raw_of(train=rows), group="g")
        side_of = {}
        for name in data.splits:
            for text, _ in contents(data, name):
                film = next(row[2] for row in rows if row[0] == text)
                assert side_of.setdefault(film, name) == name
        assert side_of["film 0"] == side_of["film 1"]
        assert len(data.splits["test"]) == pytest.approx(40, abs=15)

    def test_the_datas_own_group_is_used(self):
        rows = [(words(number), "a", f"film {number % 10}") for number in range(100)]
        assert "whole groups" in messages(prepared(raw_of(group="g", train=rows)))

    def test_numbers_are_spread_by_bands(self):
        rows = [(words(number), (number % 100) / 10) for number in range(1000)]
        data = prepared(raw_of(train=rows))
        low = sum(label < 5 for _, label in contents(data, "test"))
        assert (len(data.splits["test"]), low) == (100, 50)

    def test_rare_labels_are_trained_on(self):
        rows = [*ROWS, ("the only one", "rare"), ("first of two", "two"), ("second of two", "two")]
        data = prepared(raw_of(train=rows))
        assert {"rare", "two"} <= {label for _, label in contents(data, "train")}
        assert "1 of 4 labels have a single training row: 'rare'" in messages(data) or "single" in messages(data)

    @pytest.mark.parametrize("num_rows", [3, 4, 5, 9])
    def test_tiny_data(self, num_rows):
        data = prepared(raw_of(train=ROWS[:num_rows]))
        assert all(len(rows) for rows in data.splits.values())
        assert len(data.splits) == 3

    def test_too_few_rows(self):
        with pytest.raises(InputError, match="cannot be cut into 3 parts"):
            prepared(raw_of(train=[("same", "a"), ("other", "b")]))


class TestFolds:
    def folds(self, rows, num_folds, **options):
        return [prepared(raw_of(train=rows), fold=f"{fold}/{num_folds}", **options) for fold in range(1, num_folds + 1)]

    def test_every_row_is_judged_once_and_the_mix_is_the_same(self):
        cuts = self.folds(ROWS, 5)
        assert sorted(row for data in cuts for row in contents(data, "test")) == sorted(ROWS)
        for data in cuts:
            assert {name: len(rows) for name, rows in data.splits.items()} == {
                "train": 216,
                "validation": 24,
                "test": 60,
            }
            assert sum(label == "b" for _, label in contents(data, "test")) == pytest.approx(20, abs=1)
            assert sorted(row for name in data.splits for row in contents(data, name)) == sorted(ROWS)
        validated = [set(contents(data, "validation")) for data in cuts]
        assert len(validated[0] & validated[1]) < 12

    def test_the_order_of_rows_does_not_matter_and_the_seed_does(self):
        backwards = self.folds(ROWS[::-1], 3)
        for data, again, other in zip(self.folds(ROWS, 3), backwards, self.folds(ROWS, 3, split_seed=1), strict=True):
            for name in data.splits:
                assert set(contents(data, name)) == set(contents(again, name))
            assert len(set(contents(data, "test")) & set(contents(other, "test"))) < 60

    def test_groups_and_equal_texts_stay_together(self):
        rows = [(words(number % 150), "ab"[number % 2], f"film {number % 40}") for number in range(300)]
        seen = {}
        for fold, data in enumerate(self.folds(rows, 4, group="g")):
            for text, _ in contents(data, "test"):
                assert seen.setdefault(text, fold) == fold
            groups = {name: set(data.groups(name).tolist()) for name in data.splits}
            assert not groups["test"] & (groups["train"] | groups["validation"])
            assert not groups["train"] & groups["validation"]
            assert len(data.splits["test"]) == pytest.approx(75, abs=20)

    def test_given_test_rows_are_set_aside_and_validation_rows_are_used(self):
        raw = raw_of(train=ROWS[:200], validation=ROWS[200:250], test=ROWS[250:])
        data = prepared(raw, fold="1/4")
        assert contents(data, "validation") == ROWS[200:250]
        assert {name: len(rows) for name, rows in data.splits.items()} == {"train": 150, "validation": 50, "test": 50}
        assert set(contents(data, "test")) <= set(ROWS[:200])
        assert "set aside" in messages(data)

    def test_too_few_rows(self):
        with pytest.raises(InputError, match="cannot be cut into 5 folds"):
            prepared(raw_of(train=ROWS[:4]), fold="1/5")

    @pytest.mark.parametrize("fold", ["0/5", "6/5", "1/1", "2", "a/b", "1/2/3"])
    def test_what_is_no_fold(self, fold):
        with pytest.raises(ValueError, match="FOLD/FOLDS"):
            DataConfig(path="x", fold=fold)


label_kinds = st.sampled_from(
    [st.sampled_from("abc"), st.integers(0, 3), st.floats(0, 5, width=16), st.lists(st.sampled_from("xyz"), max_size=2)]
)


def as_content(row):
    """The order of several labels means nothing: rows that differ in it only are the same."""
    text, label = row
    return repr((text, sorted(label) if isinstance(label, list) else label))


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_the_order_of_rows_does_not_change_the_splits(data):
    labels = data.draw(label_kinds)
    has_group = data.draw(st.booleans())
    fields = [st.text("abc ", min_size=1, max_size=3), labels] + ([st.sampled_from("uvwxyz")] if has_group else [])
    rows = data.draw(st.lists(st.tuples(*fields), min_size=12, max_size=50))
    shuffled = data.draw(st.permutations(rows))
    options = {"group": "g" if has_group else None, "limit": data.draw(st.sampled_from([None, 20]))}
    results = []
    for order in (rows, shuffled):
        try:
            found = prepared(raw_of(train=order), **options)
        except InputError as error:
            results.append(error.problems[0].message.split("(")[0])
        else:
            results.append({name: sorted(map(as_content, contents(found, name))) for name in found.splits})
    assert results[0] == results[1]


class TestCleaning:
    DIRTY = (
        ("cafe\u0301 au lait", "a"),
        ("with\0 control\x07s", "b"),
        ("  outer space\u3000", " a "),
        ("", "a"),
        (" \0 ", "b"),
        ("no label", ""),
        ("twice the same", "a"),
        ("twice the same", "a"),
        ("twice, different", "a"),
        ("twice, different", "b"),
    )

    def run(self, **switches):
        rows = [*self.DIRTY, *ROWS[:40]]
        test = ROWS[40:60]
        return prepared(raw_of(train=rows, validation=test, test=test), clean=CleanConfig(**switches))

    def test_everything_is_done_and_counted(self):
        data = self.run()
        wanted = [
            ("café au lait", "a"),
            ("with controls", "b"),
            ("outer space", "a"),
            ("twice the same", "a"),
            ("twice, different", "a"),
            ("twice, different", "b"),
        ]
        assert contents(data, "train")[:6] == wanted
        said = messages(data)
        assert "1 row brought to one Unicode form" in said
        assert "2 rows without text left out" in said
        assert "1 row without a label left out" in said
        assert "1 row left out because they repeat" in said
        assert "2 rows of train have a text that stands there again with another label" in said
        places = {problem.message: problem.rows for problem in data.problems}
        assert places["2 rows without text left out."] == ("train.csv:4", "train.csv:5")

    def test_everything_can_be_switched_off(self):
        off = {"control_characters": False, "whitespace": False, "empty_rows": False, "duplicates": False}
        data = self.run(unicode="none", **off)
        assert contents(data, "train")[:10] == list(self.DIRTY)

    def test_labels_that_look_alike_are_named(self):
        rows = [(words(number), ["Spam", "spam", "ham"][number % 3]) for number in range(60)]
        data = prepared(raw_of(train=rows))
        assert {label for name in data.splits for _, label in contents(data, name)} == {"Spam", "spam", "ham"}
        assert "differ only in case or white space: 'Spam' and 'spam'" in messages(data)

    def test_nothing_left_is_an_error(self):
        with pytest.raises(InputError, match=r"Of 2 train rows none can be used .2 empty label"):
            prepared(raw_of(train=[("a", ""), ("b", "")]))


class TestLabels:
    @pytest.mark.parametrize(
        ("given_labels", "wanted"),
        [
            (["1", "0"], [1, 0]),
            (["1.0", "0.0"], [1, 0]),
            (["1.5", "0"], ["1.5", "0"]),
            (["4.1", "4.10"], ["4.1", "4.10"]),
            (["1E2", "100"], ["1E2", "100"]),
            (["1234567890123456789", "1234567890123456788"], ["1234567890123456789", "1234567890123456788"]),
            (["5", "5.0"], ["5", "5.0"]),
            (["+1", "1"], ["+1", "1"]),
            (["True", "FALSE"], ["true", "false"]),
            (["2,5", "3"], ["2,5", "3"]),
            (["[4.1, 4.10]", "[]"], [["4.1", "4.10"], []]),
            (["none", "nan"], ["none", "nan"]),
            (["01", "02"], ["01", "02"]),
            (["1", "x"], ["1", "x"]),
            (['["p", "q"]', "[]"], [["p", "q"], []]),
            ([True, False], ["true", "false"]),
            ([2, 3], [2, 3]),
            ([["p"], ["p", "q"]], [["p"], ["p", "q"]]),
            ([[1], [1, 2]], [["1"], ["1", "2"]]),
            (["a|b", "a"], ["a|b", "a"]),
        ],
    )
    def test_cells_keep_their_meaning(self, given_labels, wanted):
        rows = [(words(number), given_labels[number % 2]) for number in range(20)]
        data = prepared(raw_of(train=rows, validation=rows[:4], test=rows[:4]))
        assert data.splits["train"]["label"][:2] == wanted

    @pytest.mark.parametrize(
        ("given_labels", "wanted"),
        [(["4.1", "4.10"], [4.1, 4.1]), (["1E2", "+3"], [100.0, 3.0]), (["2,5", "3"], [2.5, 3.0]),
         (["5", "5.0"], [5, 5]), (["1.5", "x"], ["1.5", "x"])],
    )  # fmt: skip
    def test_numbers_where_numbers_are_predicted(self, given_labels, wanted):
        rows = [(words(number), given_labels[number % 2]) for number in range(20)]
        choices = (*CHOICES[:1], ColumnChoice("label", CHOICES[1].column, "", is_number=True))
        data = prepare(raw_of(train=rows, validation=rows[:4], test=rows[:4]), DataConfig(path="x"), choices)
        assert data.splits["train"]["label"][:2] == wanted

    @pytest.mark.parametrize(
        ("train", "other", "wanted"),
        [(["True", "False"], [True, False], ["true", "false"]), (["true", "false"], ["1", "0"], ["true", "false"]),
         ([True, False], [1, 0], ["true", "false"]), (["1.0", "2.0"], ["1", "2"], [1, 2]),
         ([1, 2], ["1.0", "2.0"], [1, 2]), (["1.0", "2.5"], ["1", "2.5"], ["1.0", "2.5"])],
    )  # fmt: skip
    def test_files_of_other_kinds_agree(self, train, other, wanted):
        rows, further = ([(words(i), given[i % 2]) for i in range(20)] for given in (train, other))
        data = prepared(raw_of(train=rows, validation=further[:4], test=further[:4]))
        assert data.splits["train"]["label"][:2] == wanted
        if wanted != ["1.0", "2.5"]:
            assert set(data.splits["validation"]["label"]) == set(wanted)

    @pytest.mark.parametrize("blank", ["", None, "  ", "NaN"])
    def test_an_empty_cell_is_no_label_where_rows_hold_several(self, blank):
        labels = ["rude;sly", "sly", "rude", blank]
        data = prepared(raw_of(train=[(words(number), labels[number % 4]) for number in range(40)]))
        assert sum(len(rows) for rows in data.splits.values()) == 40
        assert "10 rows without a label kept" in messages(data)
        assert [label for rows in data.splits.values() for label in rows["label"]].count(None) == 10

    def test_missing_lists_are_no_labels_and_missing_names_are_left_out(self):
        rows = [(words(number), [["p"], ["p", "q"], [], None][number % 4]) for number in range(40)]
        data = prepared(raw_of(train=rows))
        assert "10 rows without a label kept" in messages(data)
        names = [(words(number), ["praise", "blame", "NaN", None][number % 4]) for number in range(40)]
        assert "20 rows without a label left out" in messages(prepared(raw_of(train=names)))

    def test_missing_numbers_are_missing_labels(self):
        rows = [(words(number), ["1.5", "2", "NaN", ""][number % 4]) for number in range(40)]
        data = prepared(raw_of(train=rows))
        assert "20 rows without a label left out" in messages(data)

    def test_several_columns_become_lists(self):
        columns = {"t": [words(number) for number in range(30)], "rude": [0, 1, 1] * 10, "sly": ["0", "1", ""] * 10}
        table = Rows(pa.table({**columns, "__row__": [f"x:{number}" for number in range(30)]}), "sets")
        choices = (CHOICES[0], ColumnChoice("label", "rude", ""), ColumnChoice("label", "sly", ""))
        data = prepare(RawData({"train": table, "test": table}, (), ()), DataConfig(path="x"), choices)
        assert data.splits["test"]["label"][:3] == [[], ["rude", "sly"], ["rude"]]

    def test_types_agree_between_splits(self):
        data = prepared(raw_of(train=[(words(i), "1") for i in range(20)], test=[(words(50), "1.5")]))
        assert data.splits["train"]["label"][0] == "1"
        assert data.splits["train"].schema == data.splits["test"].schema


class TestAudit:
    def test_rows_on_two_sides_are_named_and_can_be_dropped(self):
        train, test = ROWS[:100], [*ROWS[200:240], ROWS[3], (ROWS[5][0].upper(), "a")]
        raw = raw_of(train=train, validation=ROWS[240:260], test=test)
        data = prepared(raw)
        (problem,) = [problem for problem in data.problems if "also stands in train" in problem.message]
        assert (problem.count, problem.severity) == (2, "warning")
        assert problem.rows == ("test.csv:41 = train.csv:4", "test.csv:42 = train.csv:6")
        assert len(data.splits["train"]) == 100
        mended = prepared(raw, clean=CleanConfig(leaks=True))
        assert len(mended.splits["train"]) == 98
        assert "also stands in train" not in messages(mended)

    def test_groups_that_cross_given_splits(self):
        rows = [(words(number), "ab"[number % 2], f"g{number % 20}") for number in range(100)]
        data = prepared(raw_of(train=rows[:60], validation=rows[60:70], test=rows[70:]), group="g")
        assert "20 groups have rows in several" in messages(data)

    def test_labels_that_stand_in_the_text(self):
        told = [(f"{words(number)} verdict: {'fresh' if number % 2 else 'rotten'}",
                 "fresh" if number % 2 else "rotten") for number in range(100)]  # fmt: skip
        assert "names the label in most rows of 'fresh', 'rotten'" in messages(prepared(raw_of(train=told)))
        fair = [(f"{words(number)} fresh or rotten", label) for number, (_, label) in enumerate(told)]
        assert "names the label" not in messages(prepared(raw_of(train=fair)))

    def test_uneven_unseen_and_single_labels(self):
        rows = [(words(number), "common") for number in range(100)] + [(words(number), "rare") for number in (901, 902)]
        data = prepared(raw_of(train=rows, validation=[(words(999), "new")], test=[("x y", "common")]))
        assert "'common' has 100 rows, 'rare' 2 rows" in messages(data)
        assert "validation has labels that no training row has: 'new'" in messages(data)

    def test_very_long_texts(self):
        data = prepared(raw_of(train=[*ROWS[:50], ("long " * 5000, "a")], validation=ROWS[60:70], test=ROWS[80:90]))
        assert "1 row of train have more than 10,000 characters (the longest 24,999)" in messages(data)


def test_a_limit_keeps_the_mix():
    data = prepared(raw_of(train=ROWS), limit=60)
    assert sum(len(rows) for rows in data.splits.values()) == 60
    assert sum(label == "b" for name in data.splits for _, label in contents(data, name)) == 20
    assert "240 rows not used, because of data.limit" in messages(data)
    (note,) = (problem for problem in data.problems if "data.limit" in problem.message)
    assert note.rows == (), "what is left out on purpose needs no list of places"


def test_a_split_without_labels_is_set_aside():
    raw = raw_of(train=ROWS[:50], validation=ROWS[50:60])
    unlabelled = Rows(pa.table({"t": ["some words"], "__row__": ["test.tsv:1"]}), "unlabelled")
    data = prepared(RawData({**raw.splits, "test": unlabelled}, (), ()))
    assert set(data.splits) == {"train", "validation"}
    assert "test rows have no column 'y' (label)" in messages(data)


def test_a_wrong_group_column_names_the_nearest():
    with pytest.raises(InputError, match="no column 'gg'"):
        prepared(raw_of(train=[(*row, "x") for row in ROWS[:9]]), group="gg")


def test_hashes_follow_the_content():
    first, second = prepared(raw_of(train=ROWS)), prepared(raw_of(train=[*ROWS[:-1], (ROWS[-1][0], "c")]))
    assert first.hashes == prepared(raw_of(train=ROWS)).hashes
    assert first.hashes != second.hashes


class TestPrediction:
    def read(self, tmp_path, content, name="new.csv"):
        (tmp_path / name).write_text(content)
        choices = (ColumnChoice("text", "review", ""), ColumnChoice("label", "verdict", ""))
        return read_for_prediction(str(tmp_path / name), choices, DataConfig(path="x"))

    def test_every_row_is_kept_in_order(self, tmp_path):
        found = self.read(tmp_path, "id,review\n1,  same words \n2,\n3,same words\n4,Cafe\u0301\n")
        assert found["text"][:] == ["same words", "", "same words", "Café"]
        assert found["row"][:] == [f"new.csv:{line}" for line in range(2, 6)]
        assert found.column_names == ["text", "row"]

    def test_labels_come_along(self, tmp_path):
        found = self.read(tmp_path, "review,verdict\nsome words,good\nother words,bad\n")
        assert found["label"][:] == ["good", "bad"]

    def test_a_single_column_needs_no_name(self, tmp_path):
        assert self.read(tmp_path, "just some words\nand others\n", "new.txt")["text"][:] == [
            "just some words",
            "and others",
        ]

    def test_a_missing_column_names_the_nearest(self, tmp_path):
        with pytest.raises(InputError, match=r"no column 'review'.*Did you mean 'reviews'"):
            self.read(tmp_path, "id,reviews\n1,some words here\n2,other words there\n")

    def test_bad_rows_are_shown_without_options_that_prediction_does_not_have(self, tmp_path):
        with pytest.raises(InputError) as caught:
            self.read(tmp_path, "id,review\n1,words\n2\n3,words\n4,words\n")
        assert "1 of 4 rows cannot be read. The first: new.csv:3: “2” (1 columns" in str(caught.value)
        assert "data.bad_rows" not in str(caught.value)

    def test_names_of_columns_may_have_commas(self, tmp_path):
        path = tmp_path / "new.csv"
        path.write_text('"what, if anything, was said",toxic,rude\nsome words,1,0\nother words,1,1\n')
        choices = [ColumnChoice("text", "what, if anything, was said", ""), ColumnChoice("label", "toxic,rude", "")]
        found = read_for_prediction(str(path), choices, DataConfig(path="x"))
        assert found["text"][:] == ["some words", "other words"]
        assert found["label"][:] == [["toxic"], ["toxic", "rude"]]

    def test_numbers_are_read_as_in_training(self, tmp_path):
        path = tmp_path / "new.csv"
        path.write_text('text,price\nsome words,"2,125"\nother words,"3,5"\n')
        choices = [ColumnChoice("text", "text", ""), ColumnChoice("label", "price", "", is_number=True)]
        assert read_for_prediction(str(path), choices, DataConfig(path="x"))["label"][:] == [2.125, 3.5]

    def test_bad_rows_are_refused(self, tmp_path):
        with pytest.raises(InputError, match=r"new\.csv:3"):
            self.read(tmp_path, "id,review\n1,words\n2\n3,words\n4,words\n")


def test_from_file_to_columns(tmp_path):
    lines = "".join(f"{text},{label}\n" for text, label in ROWS)
    (tmp_path / "x.csv").write_text(f"t,y\n{lines}")
    config = DataConfig(path=str(tmp_path / "x.csv"))
    data = prepare(read(config), config, CHOICES)
    assert sum(len(rows) for rows in data.splits.values()) == 300
    assert data.splits["train"].column_names == ["text", "label", "row"]
    before = pa.total_allocated_bytes()
    again = prepare(read(config), config, CHOICES)
    assert again.splits["train"]["text"][0] == data.splits["train"]["text"][0]
    assert pa.total_allocated_bytes() == before  # the rows lie on disk


def test_rows_without_any_of_several_labels():
    data = prepared(raw_of(train=[(words(number), []) for number in range(20)]))
    assert data.splits["test"]["label"][:] == [[], []]


def test_a_limit_with_groups_does_not_depend_on_the_order():
    rows = [("same words", "a", group) for group in "uvwxyz"]
    rows += [(words(number), "b", f"t{number}") for number in range(20)]
    found = [prepared(raw_of(train=order), group="g", limit=12) for order in (rows, rows[::-1])]
    assert found[0].splits.keys() == found[1].splits.keys()
    for name in found[0].splits:
        assert sorted(contents(found[0], name)) == sorted(contents(found[1], name))
