from __future__ import annotations

import gzip
import pickle
import zipfile

import pytest

from tunesmith.data import DataConfig, read
from tunesmith.types import InputError

CSV = "text,label\nsome nice words,a\nother good words,b\nlast of the words,a\n"


def write(folder, **files):
    for name, content in files.items():
        path = folder / name.replace("__", "/").replace("_DOT_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())


def read_folder(folder, **options):
    return read(DataConfig(path=str(folder), **options))


def sizes(raw):
    return {name: len(rows) for name, rows in raw.splits.items()}


@pytest.mark.parametrize(
    "names",
    [
        ("train.csv", "dev.csv", "test.csv"),
        ("sts-train.csv", "sts-val.csv", "sts-test.csv"),
        ("my_train_set.csv", "validation.csv", "TEST.csv"),
        ("data/train-00000-of-00001.csv", "data/valid-00000-of-00001.csv", "data/test-00000-of-00001.csv"),
        ("train/rows.csv", "dev/rows.csv", "test/rows.csv"),
    ],
)
def test_split_files_are_found_by_their_names(tmp_path, names):
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(CSV)
    (tmp_path / "README.md").write_text("# words")
    raw = read_folder(tmp_path)
    assert sizes(raw) == {"train": 3, "validation": 3, "test": 3}
    assert not raw.problems


def test_formats_may_differ_between_splits(tmp_path):
    write(
        tmp_path,
        train_DOT_csv=CSV,
        dev_DOT_jsonl='{"text": "w", "label": "a"}\n',
        test_DOT_tsv_DOT_gz=gzip.compress(CSV.replace(",", "\t").encode()),
    )
    assert sizes(read_folder(tmp_path)) == {"train": 3, "validation": 1, "test": 3}


def test_files_of_no_split_are_passed_over_and_named(tmp_path):
    write(tmp_path, train_DOT_csv=CSV, test_DOT_csv=CSV, categories_DOT_json="[]", all_rows_DOT_csv=CSV)
    (problem,) = read_folder(tmp_path).problems
    assert problem.severity == "note"
    assert problem.message == "Not read: all_rows.csv, categories.json."


def test_pieces_of_a_split_are_joined_in_number_order(tmp_path):
    for number in (10, 2, 1):
        write(tmp_path, **{f"train-{number}_DOT_csv": f"text,label\nwords of piece {number},a\nmore of it,b\n"})
    raw = read_folder(tmp_path)
    assert raw.splits["train"]["__row__"][::2] == ["train-1.csv:2", "train-2.csv:2", "train-10.csv:2"]
    assert len(raw.sources) == 3


def test_pieces_must_have_the_same_columns(tmp_path):
    write(tmp_path, train1_DOT_csv=CSV, train2_DOT_csv=CSV.replace("label", "class"))
    with pytest.raises(InputError, match="different columns"):
        read_folder(tmp_path)


def test_two_files_for_one_split_are_a_question(tmp_path):
    write(tmp_path, train_DOT_csv=CSV, train_DOT_jsonl='{"text": "w"}')
    with pytest.raises(InputError, match=r"several files for train: train\.csv, train\.jsonl"):
        read_folder(tmp_path)


def test_no_file_for_training(tmp_path):
    write(tmp_path, dev_DOT_csv=CSV, test_DOT_csv=CSV)
    with pytest.raises(InputError, match=r"validation and test .*but none for training"):
        read_folder(tmp_path)


def test_a_single_file_is_taken_several_are_a_question(tmp_path):
    write(tmp_path, SMSSpamCollection="ham\thello you\nspam\tfree money\nham\tfine\n", LICENSE="MIT")
    assert sizes(read_folder(tmp_path)) == {"train": 3}
    write(tmp_path, other_DOT_csv=CSV)
    with pytest.raises(InputError, match=r"2 data files and none is named train: SMSSpamCollection, other\.csv"):
        read_folder(tmp_path)


def test_further_files_are_given_by_name(tmp_path):
    write(tmp_path, rows_DOT_csv=CSV, held__out_DOT_csv=CSV)
    raw = read_folder(tmp_path / "rows.csv", test=str(tmp_path / "held" / "out.csv"))
    assert sizes(raw) == {"train": 3, "test": 3}


def test_the_header_of_the_training_file_is_known_in_short_files(tmp_path):
    train = "Wort,Art\n" + "".join(
        f"langer Satz mit vielen Worten {number},{'ab'[number % 2]}\n" for number in range(9)
    )
    write(tmp_path, train_DOT_csv=train, test_DOT_csv="Wort,Art\nkurz,a\n")
    assert read_folder(tmp_path).splits["test"].column_names == ["Wort", "Art", "__row__"]


class TestRefused:
    def test_a_missing_file_names_the_nearest(self, tmp_path):
        write(tmp_path, reviews_DOT_csv=CSV)
        with pytest.raises(InputError, match=r"reveiws\.csv does not exist.*\n.*Did you mean 'reviews\.csv'"):
            read_folder(tmp_path / "reveiws.csv")

    def test_a_missing_folder(self, tmp_path):
        with pytest.raises(InputError, match="nor does the folder"):
            read_folder(tmp_path / "no" / "x.csv")

    @pytest.mark.parametrize("name", ["x.csv", "x.jsonl", "x.parquet", "x"])
    def test_an_empty_file(self, tmp_path, name):
        (tmp_path / name).touch()
        with pytest.raises(InputError, match=f"{name} is empty"):
            read_folder(tmp_path / name)

    @pytest.mark.parametrize(("name", "content"), [("x.csv", "text,label\n"), ("x.jsonl", "\n\n"), ("x.json", "[]")])
    def test_a_file_without_rows(self, tmp_path, name, content):
        (tmp_path / name).write_text(content)
        with pytest.raises(InputError, match="holds no rows"):
            read_folder(tmp_path / name)

    def test_a_folder_without_data(self, tmp_path):
        with pytest.raises(InputError, match="No data file"):
            read_folder(tmp_path)
        write(tmp_path, song_DOT_mp3=b"ID3", README="hello")
        with pytest.raises(InputError, match=r"It holds: song\.mp3"):
            read_folder(tmp_path)

    @pytest.mark.parametrize("name", ["rows.pkl", "rows.pt", "model.bin", "rows.csv"])
    def test_a_pickle(self, tmp_path, name):
        (tmp_path / name).write_bytes(pickle.dumps({"text": ["a"]}))
        with pytest.raises(InputError, match="can run any program"):
            read_folder(tmp_path / name)

    def test_archives_and_sheets(self, tmp_path):
        with zipfile.ZipFile(tmp_path / "rows.csv", "w") as archive:
            archive.writestr("rows.csv", CSV)
        with pytest.raises(InputError, match="is a zip file"):
            read_folder(tmp_path / "rows.csv")
        (tmp_path / "rows.numbers").write_bytes(b"PK")
        with pytest.raises(InputError, match="Save the sheet as CSV"):
            read_folder(tmp_path / "rows.numbers")

    def test_binary_files(self, tmp_path):
        (tmp_path / "x.csv").write_bytes(bytes(range(256)) * 20)
        with pytest.raises(InputError, match="not a text file"):
            read_folder(tmp_path / "x.csv")
