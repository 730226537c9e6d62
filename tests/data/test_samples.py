from __future__ import annotations

import bz2

import pytest

from tunesmith.data import SAMPLES, DataConfig, prepare, read
from tunesmith.types import ColumnChoice, InputError

CHOICES = (ColumnChoice("text", "text", ""), ColumnChoice("label", "label", ""))


def members(monkeypatch, folder, **files):
    for name, content in files.items():
        (folder / name.replace("_DOT_", ".")).write_bytes(content)
    monkeypatch.setattr("tunesmith.data.samples.fetch", lambda package: folder)


def test_film_reviews_leave_out_plots_and_bring_their_group(tmp_path, monkeypatch):
    rows = ["category,text,movie_name,has_plot_and_reviews", "plot,a man meets a dog,film0,True", "fresh,,film1,False"]
    rows += [f'{"fresh" if i % 2 else "rotten"},"words, many {i}",film{i % 12},False' for i in range(60)]
    members(monkeypatch, tmp_path, reviews_DOT_csv_DOT_bz2=bz2.compress("\n".join(rows).encode()))
    config = DataConfig(path="sample:rotten-tomatoes", delimiter=";")
    raw = read(config)
    assert raw.group == "film"
    assert raw.splits["train"].column_names == ["text", "label", "film", "__row__"]
    assert len(raw.splits["train"]) == 60
    films = {row["__row__"]: row["film"] for row in raw.splits["train"]}
    data = prepare(raw, config, CHOICES)
    sides = [{films[place] for place in data.splits[name]["row"]} for name in data.splits]
    assert sum(map(len, sides)) == len(set.union(*sides)) == 12


def test_chinese_reviews_are_two_files(tmp_path, monkeypatch):
    positive, negative = "很好\n不错\n一般\n很好\n\n".encode(), "很差\n一般\n".encode()
    members(monkeypatch, tmp_path, positive_DOT_txt=positive, negative_DOT_txt=negative)
    rows = read(DataConfig(path="sample:chinese-reviews")).splits["train"]
    found = list(zip(rows["text"], rows["label"], strict=True))
    assert found == [("很好", "positive"), ("不错", "positive"), ("很差", "negative")]


def test_small_talk_is_questions_with_their_first_answers(tmp_path, monkeypatch):
    topics = SAMPLES["small-talk"].package.members.values()
    for name in topics:
        (tmp_path / name).write_text("categories: [x]\nconversations:\n- - only one\n", encoding="utf-8")
    talk = "conversations:\n- - What is it?\n  - A thing.\n  - Another thing.\n- - What is it?\n  - A thing.\n"
    talk += '- - What is it?\n  - |\n    Code:\n\n    x = "1"\n- - 12\n  - a number\n'
    (tmp_path / "ai.yml").write_text(talk, encoding="utf-8")
    monkeypatch.setattr("tunesmith.data.samples.fetch", lambda package: tmp_path)
    raw = read(DataConfig(path="sample:small-talk"))
    assert raw.group == "question"
    rows = raw.splits["train"]
    assert list(zip(rows["question"], rows["answer"], strict=True)) == [
        ("What is it?", "A thing."),
        ("What is it?", 'Code:\n\nx = "1"'),
    ]


def test_an_unknown_sample_names_the_nearest():
    with pytest.raises(InputError, match=r"no sample 'rotten-tomatos'. Did you mean 'rotten-tomatoes'"):
        read(DataConfig(path="sample:rotten-tomatos"))


def test_every_sample_is_pinned():
    for name, sample in SAMPLES.items():
        assert sample.name == name
        assert len(sample.package.sha256) == 64
        assert sample.group is None or sample.group in sample.columns
