"""Tagged tokens: CoNLL files, lists, spans; every scheme becomes BIO, and what does not fit is named."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith.data import DataConfig, prepare, profile, read, read_for_prediction
from tunesmith.data.records import PreparedData
from tunesmith.data.schemes import TagForm
from tunesmith.data.tagged import (
    join_tokens,
    split_characters,
    split_spaces,
    split_words,
)
from tunesmith.data.tagged_rows import TaggedTokens
from tunesmith.tasks import detect
from tunesmith.types import InputError

ALL = {"validation_fraction": 0.0, "test_fraction": 0.0}


def load(path: Path, **settings: object) -> PreparedData:
    config = DataConfig.model_validate({"path": str(path), **ALL, **settings})
    raw = read(config)
    found = detect(profile(raw.splits["train"]), config.columns)
    assert found.task.model_fields["name"].default == "token_classification"
    prepared = prepare(raw, config, found.choices, found.form)
    return PreparedData(prepared.splits, prepared.choices, (*raw.problems, *prepared.problems), prepared.hashes)


def rows_of(prepared: PreparedData) -> dict[str, list]:
    return dict(prepared.splits["train"][:])


CONLL = """-DOCSTART- -X- -X- O

EU NNP B-NP B-ORG
rejects VBZ B-VP O
# NN B-NP O
tags NN I-NP O

Peter NNP B-NP B-PER
Blackburn NNP I-NP I-PER

BRUSSELS NNP B-NP B-LOC
1996-08-22 CD I-NP O
"""


@pytest.mark.parametrize("name", ["a.conll", "a.bio", "a.iob", "a.train", "a.annotated", "a.txt", "a"])
@pytest.mark.parametrize("separator", [" ", "\t", "  "])
def test_conll_of_any_name_and_separator(tmp_path: Path, name: str, separator: str) -> None:
    path = tmp_path / name
    path.write_text(CONLL.replace(" ", separator), encoding="utf-8")
    rows = rows_of(load(path))
    assert rows["tokens"] == [
        ["EU", "rejects", "#", "tags"],
        ["Peter", "Blackburn"],
        ["BRUSSELS", "1996-08-22"],
    ]
    assert rows["tags"] == [["B-ORG", "O", "O", "O"], ["B-PER", "I-PER"], ["B-LOC", "O"]]
    assert rows["row"] == [f"{name}:3", f"{name}:8", f"{name}:11"]
    assert rows["text"][0] == "EU rejects # tags"
    assert rows["starts"][0] == [0, 3, 11, 13]


def test_a_column_in_between_can_be_the_tags(tmp_path: Path) -> None:
    path = tmp_path / "a.conll"
    path.write_text(CONLL, encoding="utf-8")
    prepared = load(path, columns={"tags": "column_2"})
    assert rows_of(prepared)["tags"][1] == ["NNP", "NNP"]


def test_bad_lines_cost_their_sentence_and_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.conll"
    good = "one O\ntwo B-a\n\nthree B-b\n\nfour B-a\nfive O\n\n"
    path.write_text(good + "six O\nseven\n\neight B-a\n\nnine O O O\n\n", encoding="utf-8")
    raw = read(DataConfig(path=str(path), **ALL))  # type: ignore[arg-type]
    assert [(row.place, row.reason) for row in raw.rejected] == [
        ("a.conll:10", "a token without a tag"),
        ("a.conll:14", "4 columns, not 2"),
    ]
    assert len(raw.splits["train"]) == 4
    with pytest.raises(InputError, match=r"a\.conll:10"):
        read(DataConfig(path=str(path), bad_rows="refuse", **ALL))  # type: ignore[arg-type]


def test_tags_that_break_their_scheme_are_mended_or_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.conll"
    path.write_text("a B-x\nb I-x\n\nc O\nd I-x\n\ne B-y\nf I-x\n\ng B-y\n\nh O\n\n", encoding="utf-8")
    prepared = load(path)
    rows = rows_of(prepared)
    assert len(rows["row"]) == 5
    assert rows["tags"][1:3] == [["O", "B-x"], ["B-y", "B-x"]]
    (problem,) = [
        problem for problem in prepared.problems if problem.severity == "warning" and "scheme BIO" in str(problem)
    ]
    assert problem.count == 2
    assert problem.rows == ("a.conll:4", "a.conll:7")
    assert "data.tag_scheme" in problem.fix
    with pytest.raises(InputError, match=r"scheme BIO(.|\n)*data\.tag_scheme"):
        load(path, bad_rows="refuse")


def test_tags_of_another_kind_are_an_error_that_names_scheme_rows_and_flag(tmp_path: Path) -> None:
    path = tmp_path / "a.conll"
    good = "".join(f"w{i} B-x\nv I-x\n\n" for i in range(20))
    path.write_text(good + "".join(f"u{i} WHAT\nv O\n\n" for i in range(4)), encoding="utf-8")
    with pytest.raises(InputError) as caught:
        load(path)
    (problem,) = caught.value.problems
    assert problem.count == 4
    assert "scheme BIO" in problem.message
    assert "data.tag_scheme" in problem.fix
    assert all(f"u{i}" in problem.message for i in range(3))
    assert len(rows_of(load(path, bad_rows="quarantine"))["row"]) == 20
    # As plain tags nothing is left out.
    assert len(rows_of(load(path, tag_scheme="plain"))["row"]) == 24


def test_lists_of_different_lengths_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    rows = [
        {"tokens": ["New", "York", "waits"], "ner_tags": ["B-LOC", "I-LOC", "O"]},
        {"tokens": ["one", "two"], "ner_tags": ["O"]},
        {"tokens": ["Peter"], "ner_tags": ["B-PER"]},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    prepared = load(path)
    assert rows_of(prepared)["tokens"] == [["New", "York", "waits"], ["Peter"]]
    assert any(
        problem.rows == ("a.jsonl:2",) and "not as many tags" in problem.message for problem in prepared.problems
    )


def test_lists_in_parquet(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table({"tokens": [["a", "b"], ["c"], ["d"]], "tags": [["B-x", "O"], ["O"], ["B-y"]]})
    pq.write_table(table, tmp_path / "a.parquet")
    assert rows_of(load(tmp_path / "a.parquet"))["tags"] == [["B-x", "O"], ["O"], ["B-y"]]


def test_spans_of_characters_keep_text_and_offsets(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    rows = [
        {"text": "  Angela Merkel's trip to New York.", "entities": [
            {"start": 26, "end": 34, "label": "LOC"}, {"start": 2, "end": 15, "label": "PER"}]},
        {"text": "nothing here", "entities": []},
        {"text": "broken", "entities": [{"start": 3, "end": 30, "label": "LOC"}]},
        {"text": "Tokyo", "entities": [[0, 5, "LOC"]]},
    ]  # fmt: skip
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    prepared = load(path)
    found = rows_of(prepared)
    assert found["text"] == [rows[0]["text"], "nothing here", "Tokyo"]
    assert found["tags"][0] == ["B-PER", "I-PER", "O", "O", "O", "O", "B-LOC", "I-LOC", "O"]
    for text, tokens, starts in zip(found["text"], found["tokens"], found["starts"], strict=True):
        assert [text[s : s + len(t)] for s, t in zip(starts, tokens, strict=True)] == tokens
    assert any("spans" in problem.message and problem.rows == ("a.jsonl:3",) for problem in prepared.problems)
    config = DataConfig(path=str(path))
    texts = read_for_prediction(str(path), prepared.choices, config, TaggedTokens)
    assert len(texts) == 4


def test_numbered_characters_lose_their_numbers(tmp_path: Path) -> None:
    path = tmp_path / "a.dev"
    path.write_text("科0\tO\n技1\tO\n20\tO\n\ufffd\ufffd0\tO\n\n李0\tB-PER\n开1\tI-PER\n复2\tI-PER\n", encoding="utf-8")
    prepared = load(path)
    assert rows_of(prepared)["text"] == ["科技2 \ufffd\ufffd", "李开复"]
    assert any("numbers were removed" in problem.message for problem in prepared.problems)


def test_tables_with_blank_lines_are_no_conll(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("text\tlabel\ngood film\tyes\n\nbad one\tno\nso so\tyes\n\nvery bad\tno\n", encoding="utf-8")
    assert "label" in read(DataConfig(path=str(path))).splits["train"].column_names


# Schemes

SPANS = st.lists(
    st.lists(st.tuples(st.sampled_from(["", "x", "y"]), st.integers(1, 3)), min_size=1, max_size=5),
    min_size=1,
    max_size=5,
)


def written(row: list[tuple[str, int]], scheme: str) -> list[str]:
    tags: list[str] = []
    before = ""
    for kind, length in row:
        if not kind:
            tags += ["O"] * length
        elif scheme == "BIO":
            tags += [f"B-{kind}"] + [f"I-{kind}"] * (length - 1)
        elif scheme == "IOB1":
            tags += [f"{'B' if before == kind else 'I'}-{kind}"] + [f"I-{kind}"] * (length - 1)
        else:
            begin, inside, end, single = scheme
            tags += [f"{single}-{kind}"] if length == 1 else (
                [f"{begin}-{kind}"] + [f"{inside}-{kind}"] * (length - 2) + [f"{end}-{kind}"]
            )  # fmt: skip
        before = kind
    return tags


@pytest.mark.parametrize("scheme", ["BIO", "IOB1", "BIES", "BILU", "BMES"])
@given(spans=SPANS)
def test_every_scheme_becomes_the_same_bio(scheme: str, spans: list[list[tuple[str, int]]]) -> None:
    certain = [[("x", 1), ("x", 3), ("", 1)]]  # something that only this scheme writes so
    rows = [written(row, scheme) for row in certain + spans]
    form = TagForm.learn(lambda: rows)
    assert [form.read(row) for row in rows] == [written(row, "BIO") for row in certain + spans]
    assert not any(map(form.is_broken, rows))


# Texts


@given(st.lists(st.text(st.characters(exclude_categories=("Z", "C")), min_size=1, max_size=5), max_size=8))
def test_joined_tokens_are_where_they_are_said_to_be(tokens: list[str]) -> None:
    text, starts = join_tokens(tokens)
    assert [text[start : start + len(token)] for start, token in zip(starts, tokens, strict=True)] == tokens


@given(st.text(max_size=40))
def test_cut_texts_lose_nothing_but_white_space(text: str) -> None:
    for cut in (split_words, split_spaces, split_characters):
        tokens, starts = cut(text)
        assert [text[start : start + len(token)] for start, token in zip(starts, tokens, strict=True)] == tokens
        assert "".join("".join(tokens).split()) == "".join(text.split())


# Real data


@pytest.mark.skipif("TUNESMITH_TEST_DATA" not in os.environ, reason="TUNESMITH_TEST_DATA is not set")
@pytest.mark.parametrize(
    ("name", "sizes", "kinds"), [("wnut17", (3394, 1009, 1287), 6), ("weibo_ner", (1350, 270, 270), 8)]
)
def test_real_folders(name: str, sizes: tuple[int, ...], kinds: int) -> None:
    config = DataConfig(path=str(Path(os.environ["TUNESMITH_TEST_DATA"]) / name))
    raw = read(config)
    assert tuple(len(raw.splits[split]) for split in ("train", "validation", "test")) == sizes
    assert raw.rejected == ()
    found = detect(profile(raw.splits["train"]))
    task = found.task.model_validate({})
    prepared = prepare(raw, config, found.choices, found.form)
    bound = task.bind(prepared.splits["train"][:])
    assert len(bound.types) == kinds  # type: ignore[attr-defined]
    for split, rows in prepared.splits.items():
        assert not [p for p in bound.check(split, rows[:]) if p.severity == "error"]
