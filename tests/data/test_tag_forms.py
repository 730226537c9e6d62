"""Files of tagged sentences in every usual form: all of them hold the same sentences, and none may be lost."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tunesmith.data import DataConfig, prepare, profile, read, read_for_prediction
from tunesmith.data.records import PreparedData
from tunesmith.data.tagged_rows import TaggedTokens
from tunesmith.tasks import detect
from tunesmith.types import InputError

Sentences = list[tuple[list[str], list[str]]]

PEOPLE, TOWNS, WORDS = ("Ann", "Bo Lee", "Eve", "Max"), ("Rome", "New Delhi", "Oslo"), ("met", "saw", "#", "left", ",")


def sentences(number: int = 12) -> Sentences:
    """Make some sentences, no two of them equal, with entities that touch and of several tokens."""
    found = []
    for i in range(number):
        parts = [("PER", PEOPLE[i % 4]), ("", WORDS[i % 5]), ("LOC", TOWNS[i % 3]), ("PER", PEOPLE[i % 3])]
        parts += [("", f"no{i}x"), ("", ".")]
        tokens: list[str] = []
        tags: list[str] = []
        for kind, words in parts[i % 2 :]:
            tokens += words.split()
            tags += [f"{'I' if place else 'B'}-{kind}" if kind else "O" for place, _ in enumerate(words.split())]
        found.append((tokens, tags))
    return found


SENTENCES = sentences()


def load(path: Path, **settings: Any) -> PreparedData:
    config = DataConfig.model_validate({"path": str(path), "validation_fraction": 0, "test_fraction": 0, **settings})
    raw = read(config)
    found = detect(profile(raw.splits["train"]), config.columns)
    assert found.task.model_fields["name"].default == "token_classification"
    prepared = prepare(raw, config, found.choices, found.form)
    return PreparedData(
        prepared.splits,
        prepared.choices,
        (*raw.problems, *prepared.problems),
        prepared.hashes,
        guesses=(*raw.guesses, *prepared.guesses),
    )


def pairs(prepared: PreparedData) -> Sentences:
    rows = prepared.splits["train"][:]
    return list(zip(rows["tokens"], rows["tags"], strict=True))


def in_lines(line: Callable[[int, str, str], str], between: str = "\n", before: str = "") -> str:
    blocks = [
        "".join(f"{line(place, *pair)}\n" for place, pair in enumerate(zip(*sentence, strict=True)))
        for sentence in SENTENCES
    ]
    return before + between.join(blocks)


def upos(tag: str) -> str:
    return "PROPN" if tag != "O" else "X"


def spans_of(sentence: tuple[list[str], list[str]]) -> tuple[str, list[tuple[int, int, str]]]:
    text = ""
    spans: list[tuple[int, int, str]] = []
    for token, tag in zip(*sentence, strict=True):
        text += " " if text else ""
        if tag.startswith("B-"):
            spans.append((len(text), len(text) + len(token), tag[2:]))
        elif tag.startswith("I-"):
            spans[-1] = (spans[-1][0], len(text) + len(token), tag[2:])
        text += token
    return text, spans


def marked(mark: Callable[[str, str], str]) -> str:
    lines = []
    for sentence in SENTENCES:
        text, spans = spans_of(sentence)
        for start, end, label in reversed(spans):
            text = text[:start] + mark(text[start:end], label) + text[end:]
        lines.append(text)
    return "\n".join(lines) + "\n"


# ---- CoNLL ---------------------------------------------------------------------------------------

CONLL = {
    "two.txt": in_lines(lambda _, token, tag: f"{token} {tag}"),
    "tabs.dev": in_lines(lambda _, token, tag: f"{token}\t{tag}"),
    "blanks.iob": in_lines(lambda _, token, tag: f"{token}     {upos(tag):8}{tag}"),
    "windows.conll": "\ufeff" + in_lines(lambda _, token, tag: f"{token} {tag}\r", "\r\n"),
    "swapped.txt": in_lines(lambda _, token, tag: f"{tag} {token}"),
    "four.train": in_lines(lambda _, token, tag: f"{token} {upos(tag)} I-NP {tag}", before="-DOCSTART- -X- O O\n\n"),
    "document.tsv": in_lines(lambda place, token, tag: f"doc7\t{place}\t{token}\t{tag}"),
    "abstracts.tsv": in_lines(lambda _, token, tag: f"{token}\t{tag}"),
    "headed.tsv": in_lines(lambda _, token, tag: f"{token}\t{tag}", before="word\ttag\n"),
    "commas.csv": in_lines(lambda _, token, tag: f"{token},{tag}"),
    "nested.tsv": in_lines(
        lambda place, token, tag: f"{place + 1}\t{token}\t{tag}\t{'B-PER' if token == 'Eve' else 'O'}",
        "\n#\thttps://example.org/1 [2009-10-17]\n",
        "#\thttps://example.org/0 [2009-10-17]\n",
    ),
    "named.conll": in_lines(lambda _, t, tag: f"{t} _ _ {tag}", "\n# id 0f-a domain=en\n", "# id 0f-b domain=en\n"),
    "languages.txt": in_lines(lambda _, token, tag: f"en:{token}\t{tag}"),
}


@pytest.mark.parametrize("name", CONLL)
def test_conll(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(CONLL[name].encode())
    prepared = load(tmp_path / name)
    assert pairs(prepared) == SENTENCES
    columns, scheme = prepared.guesses
    assert (columns.name, columns.explained) == ("columns", len(SENTENCES))
    assert (scheme.chosen, scheme.explained) == ("BIO", len(SENTENCES))


def bracketed(tags: list[str], place: int) -> str:
    tag, after = tags[place], tags[place + 1] if place + 1 < len(tags) else "O"
    if tag == "O":
        return "*"
    begins, ends = tag[0] == "B", after[0] != "I"
    return f"{f'({tag[2:]}' if begins else ''}{'' if begins and ends else '*'}{')' if ends else ''}"


def test_ontonotes(tmp_path: Path) -> None:
    """Its sentences have different numbers of columns, and entities stand in brackets."""
    lines = ["#begin document (nw/a); part 000"]
    for number, (tokens, tags) in enumerate(SENTENCES):
        for place, token in enumerate(tokens):
            before = f"nw/a 0 {place} {token} {upos(tags[place])} (S* - - - -"
            lines.append(f"{before}  {bracketed(tags, place)}  {'* ' * (number % 3)}-")
        lines.append("")
    path = tmp_path / "a.gold_conll"
    path.write_text("\n".join([*lines, "#end document"]) + "\n", encoding="utf-8")
    assert pairs(load(path)) == SENTENCES
    assert pairs(load(path, columns={"tags": "pos"}))[0][1][0] == "PROPN"


CONLLU = """# newdoc id = a
# sent_id = 1	with = a tab
# text = Du weißt es
1-2	Dus	_	_	_	_	_	_	_	_
1	Du	du	PRON	PPER	_	2	nsubj	_	_
2	weißt	wissen	VERB	VVFIN	_	0	root	_	_
2.1	weißt	wissen	VERB	VVFIN	_	_	_	0:root	_
3	#	#	SYM	XY	_	2	obj	_	SpaceAfter=No

# sent_id = 2
1	Ja	ja	INTJ	ITJ	_	0	root	_	_
2	!	!	PUNCT	$.	_	1	punct	_	_
"""


def test_conllu(tmp_path: Path) -> None:
    path = tmp_path / "a.conllu"
    path.write_text(CONLLU, encoding="utf-8")
    found = load(path)
    assert pairs(found) == [(["Du", "weißt", "#"], ["PRON", "VERB", "SYM"]), (["Ja", "!"], ["INTJ", "PUNCT"])]
    assert {choice.role: choice.column for choice in found.choices} == {"tokens": "form", "tags": "upos"}
    assert pairs(load(path, columns={"tags": "xpos"}))[1][1] == ["ITJ", "$."]
    assert pairs(load(path, columns={"tokens": "lemma"}))[0][0] == ["du", "wissen", "#"]
    (tmp_path / "train").write_text(CONLLU, encoding="utf-8")
    assert pairs(load(tmp_path / "train")) == pairs(found)


def test_conllu_plus_names_its_columns(tmp_path: Path) -> None:
    path = tmp_path / "a.conllup"
    lines = ["# global.columns = ID FORM UPOS UPOS NER", "1 Ann PROPN x B-PER", "2 runs VERB y O", "", "1 Go VERB x O"]
    path.write_text("\n".join(lines).replace(" ", "\t").replace("#\tglobal.columns\t=\t", "# global.columns = "))
    assert pairs(load(path, columns={"tags": "ner"})) == [(["Ann", "runs"], ["B-PER", "O"]), (["Go"], ["O"])]
    assert pairs(load(path, columns={"tags": "upos"}))[0][1] == ["PROPN", "VERB"]


def test_a_hash_may_be_a_token_or_begin_a_comment(tmp_path: Path) -> None:
    path = tmp_path / "a.conll"
    text = "# a comment\n# id x\n# O\ntag B-x\n# inside of it\nend I-x\n\n#one O\nb B-x\n\n"
    text += "# B-x\nc O\n\n#x y z\nd B-x\ne O\n"
    path.write_text(text, encoding="utf-8")
    assert pairs(load(path)) == [
        (["#", "tag", "end"], ["O", "B-x", "I-x"]),
        (["#one", "b"], ["O", "B-x"]),
        (["#", "c"], ["B-x", "O"]),
        (["d", "e"], ["B-x", "O"]),
    ]


@pytest.mark.parametrize("lines", ["a B-x\n  O\nb I-x\n", "a\tB-x\n\u3000\tO\nb\tI-x\n", "a B-x\n\u00a0 O\nb I-x\n"])
def test_tokens_of_white_space_keep_the_sentence(tmp_path: Path, lines: str) -> None:
    path = tmp_path / "a.conll"
    path.write_text("".join(f"{lines}{i}{lines[1]}O\n\n" for i in range(5)), encoding="utf-8")
    found = load(path)
    assert pairs(found)[0] == (["a", "␣", "b", "0"], ["B-x", "O", "B-x", "O"])
    assert len(pairs(found)) == 5
    assert any("“␣” in 5 rows" in problem.message for problem in found.problems)


def test_lists_with_tokens_of_white_space(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    rows = [{"tokens": ["a", " ", str(i)], "tags": ["B-x", "I-x", "O"]} for i in range(4)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert pairs(load(path))[3] == (["a", "␣", "3"], ["B-x", "I-x", "O"])


def test_the_whole_file_decides_about_its_columns(tmp_path: Path) -> None:
    """Not the lines it begins with: here others, of another number of columns, which are then the bad ones."""
    path = tmp_path / "a.conll"
    path.write_text(
        "x y z O\n\n" * 3 + "\n".join([in_lines(lambda _, token, tag: f"{token} {tag}")] * 20), encoding="utf-8"
    )
    found = load(path, clean={"duplicates": False}, bad_rows="quarantine")
    assert len(pairs(found)) == 20 * len(SENTENCES)
    assert found.guesses[0].chosen == "2 columns by white space"
    assert ("4 columns by white space", 3) in found.guesses[0].alternatives


def test_columns_that_do_not_agree_are_an_error_that_names_the_guess(tmp_path: Path) -> None:
    path = tmp_path / "a.conll"
    path.write_text("".join(f"one{i % 5 // 4 * ' two'}\tO\nx\tB-x\n\n" for i in range(50)), encoding="utf-8")
    assert len(pairs(load(path))) == 2
    with pytest.raises(InputError, match=r"columns by white space(.|\n)*data\.delimiter") as caught:
        load(path, delimiter="space")
    assert caught.value.problems[0].count == 10


def test_other_splits_have_the_columns_of_the_training_file(tmp_path: Path) -> None:
    """However little they hold."""
    (tmp_path / "train.conll").write_text(in_lines(lambda _, token, tag: f"{tag} x {token}"), encoding="utf-8")
    (tmp_path / "dev.conll").write_text("O a b\nO c d\n\nO b a\n", encoding="utf-8")
    found = load(tmp_path)
    assert found.splits["validation"]["tokens"][:] == [["b", "d"], ["a"]]


# ---- lines ---------------------------------------------------------------------------------------


def tagged_words(joiner: str, *further: Callable[[str], str]) -> str:
    lines = [
        " ".join(joiner.join([token, *(each(tag) for each in further), tag]) for token, tag in zip(*one, strict=True))
        for one in SENTENCES
    ]
    return "\n".join(lines) + "\n"


LINES = {
    "slashes.txt": tagged_words("/"),
    "underscores.txt": tagged_words("_"),
    "three.train": tagged_words("|", upos),
    "elements.txt": marked(lambda words, label: f"<{label}>{words}</{label}>"),
    "typed.txt": marked(lambda words, label: f'<ENAMEX TYPE="{label}">{words}</ENAMEX>'),
    "linked.txt": marked(lambda words, label: f"[{words}]({label})"),
    "two.bmes": "".join(f"{' '.join(tokens)}\t{' '.join(tags)}\n" for tokens, tags in SENTENCES),
}


@pytest.mark.parametrize("name", LINES)
def test_a_sentence_a_line(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(LINES[name], encoding="utf-8")
    assert pairs(load(tmp_path / name)) == [(tokens, tags) for tokens, tags in SENTENCES]


def test_compounds_in_brackets_lose_their_brackets(tmp_path: Path) -> None:
    lines = [f"[中国/ns  政府/n]nt  说/v  第{i}/m  [/w  ]/w  1/2/m" for i in range(6)]
    (tmp_path / "a.txt").write_text("\n".join(lines), encoding="utf-8")
    tokens, tags = pairs(load(tmp_path / "a.txt"))[0]
    assert tokens == ["中国", "政府", "说", "第0", "[", "]", "1/2"]
    assert tags == ["ns", "n", "v", "m", "w", "w", "m"]


@pytest.mark.parametrize(
    "lines",
    [
        [f"He/she may come and/or go at {i}/10." for i in range(9)],
        [f"Line {i} has <b>bold</b> words in it." for i in range(9)],
        [f"See [the page](https://example.org/{i}) for more." for i in range(9)],
        [f"snake_case is_a style_{i} name_of things" for i in range(9)],
    ],
)
def test_running_text_has_no_tags(tmp_path: Path, lines: list[str]) -> None:
    (tmp_path / "a.txt").write_text("\n".join(lines), encoding="utf-8")
    raw = read(DataConfig(path=str(tmp_path / "a.txt")))
    assert raw.splits["train"].column_names[0] == "column_1"


# ---- tables and records --------------------------------------------------------------------------


def token_rows(sentence: Callable[[int, int], str]) -> str:
    rows = [
        f'{sentence(number, place)},"{token}",{upos(tag)},{tag}\n'
        for number, one in enumerate(SENTENCES)
        for place, (token, tag) in enumerate(zip(*one, strict=True))
    ]
    return "Sentence #,Word,POS,Tag\n" + "".join(rows)


TABLES = {
    "once.csv": token_rows(lambda number, place: "" if place else f"Sentence: {number}"),
    "always.csv": token_rows(lambda number, _: str(number)),
    "lists.csv": "sentence,pos,labels\n"
    + "".join(f'"{" ".join(tokens)}","{list(map(upos, tags))}","{tags}"\n' for tokens, tags in SENTENCES),
    "words.csv": "source,target\n" + "".join(f'"{" ".join(one)}",{" ".join(tags)}\n' for one, tags in SENTENCES),
}


@pytest.mark.parametrize("name", TABLES)
def test_tables(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(TABLES[name], encoding="utf-8")
    assert pairs(load(tmp_path / name)) == SENTENCES


def test_columns_of_a_table_may_be_called_as_roles_are(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(TABLES["always.csv"].replace("POS", "tags"), encoding="utf-8")
    assert pairs(load(tmp_path / "a.csv")) == SENTENCES


def test_a_bad_row_costs_its_sentence(tmp_path: Path) -> None:
    lines = TABLES["always.csv"].splitlines()
    lines[2] = "0"
    (tmp_path / "a.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert pairs(load(tmp_path / "a.csv")) == SENTENCES[1:]


RECORDS: dict[str, Callable[[str, list[tuple[int, int, str]]], dict[str, Any]]] = {
    "doccano": lambda text, spans: {"id": 1, "text": text, "label": [list(span) for span in spans]},
    "doccano 2": lambda text, spans: {
        "text": text,
        "entities": [{"id": 1, "label": c, "start_offset": a, "end_offset": b} for a, b, c in spans],
        "relations": [],
        "Comments": [],
    },
    "label studio": lambda text, spans: {
        "id": 1,
        "data": {"text": text},
        "annotations": [
            {
                "result": [
                    {"value": {"start": a, "end": b, "text": text[a:b], "labels": [c]}, "type": "labels"}
                    for a, b, c in spans
                ]
            }
        ],
        "predictions": [],
        "file_upload": "a.txt",
    },
    "prodigy": lambda text, spans: {
        "text": text,
        "tokens": [{"text": word, "id": 0} for word in text.split()],
        "spans": [{"start": a, "end": b, "label": c, "token_start": 0} for a, b, c in spans],
        "answer": "accept",
    },
    "last inclusive": lambda text, spans: {
        "text": text,
        "label": {
            kind: {
                words: [[a, b - 1] for a, b, c in spans if (c, text[a:b]) == (kind, words)]
                for words in {text[a:b] for a, b, c in spans if c == kind}
            }
            for kind in {c for _, _, c in spans}
        },
    },
    "unusual names": lambda text, spans: {
        "satz": text,
        "marks": [{"begin": a, "stop": b, "tag": c} for a, b, c in spans],
    },
}


@pytest.mark.parametrize("name", RECORDS)
def test_records_with_spans(tmp_path: Path, name: str) -> None:
    # A surface that comes twice has two places under one name.
    found = [spans_of(sentence) for sentence in SENTENCES]
    rows = [RECORDS[name](text, spans) for text, spans in found]
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    prepared = load(path)
    read_rows = prepared.splits["train"][:]
    assert read_rows["text"] == [text for text, _ in found]
    assert read_rows["tags"] == [tags for _, tags in SENTENCES]


@pytest.mark.parametrize(
    "row",
    [
        lambda i, tokens, tags: {"id": i, "zin": tokens, "merken": tags, "soort": [upos(tag) for tag in tags]},
        lambda i, tokens, tags: {"sentence": " ".join(tokens), "labels": tags},
        lambda i, tokens, tags: {"sentence": " ".join(tokens), "labels": " ".join(tags)},
        lambda i, tokens, tags: {"tokens": tokens, "ner_tags": tags, "text": "".join(tokens)},
        lambda i, tokens, tags: {"words": tokens, "tags": ",".join(tags)},
    ],
)
def test_tokens_and_tags_by_other_names(tmp_path: Path, row: Callable[..., dict[str, Any]]) -> None:
    path = tmp_path / "a.jsonl"
    rows = [row(number, *sentence) for number, sentence in enumerate(SENTENCES)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert pairs(load(path)) == SENTENCES


def test_a_text_with_a_tag_for_every_character(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    rows = [{"text": f"我在北京{'的' * i}", "labels": ["O", "O", "B-LOC", "I-LOC", *["O"] * i]} for i in range(9)]
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    found = load(path)
    assert pairs(found)[1] == (["我", "在", "北", "京", "的"], ["O", "O", "B-LOC", "I-LOC", "O"])
    # Where there are no tags to count by, the writing tells how a text is cut.
    more = tmp_path / "more.jsonl"
    more.write_text('{"text": "他去上海", "id": 1}\n', encoding="utf-8")
    rows = read_for_prediction(str(more), found.choices, DataConfig(path=str(more)), TaggedTokens)
    assert rows["tokens"][:] == [["他", "去", "上", "海"]]


def test_class_labels_have_their_names_at_any_depth(tmp_path: Path) -> None:
    from datasets import ClassLabel, Dataset, Features, Sequence, Value

    names = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
    label = ClassLabel(names=names)
    features = Features(
        {
            "tokens": Sequence(Value("string")),
            "ner_tags": Sequence(label),
            "spans": [{"start": Value("int32"), "kinds": Sequence(label)}],
            "whole": label,
        }
    )
    rows = {
        "tokens": [tokens for tokens, _ in SENTENCES],
        "ner_tags": [[names.index(tag) for tag in tags] for _, tags in SENTENCES],
        "spans": [[{"start": 0, "kinds": [1, -1]}]] * len(SENTENCES),
        "whole": [3] * len(SENTENCES),
    }
    Dataset.from_dict(rows, features=features).to_parquet(str(tmp_path / "a.parquet"))
    raw = read(DataConfig(path=str(tmp_path / "a.parquet")))
    first = {name: column[0] for name, column in raw.splits["train"].columns().items()}
    assert first["whole"] == "B-LOC"
    assert json.loads(first["spans"]) == [{"start": 0, "kinds": ["B-PER", None]}]
    assert pairs(load(tmp_path / "a.parquet")) == SENTENCES


def test_bare_numbers_are_warned_of_and_make_no_entities_of_o(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    names = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
    rows = [{"tokens": tokens, "ner_tags": [names.index(tag) for tag in tags]} for tokens, tags in SENTENCES]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    found = load(path)
    tags = [tag.replace("1/2", "PER").replace("3/4", "LOC") for _, tags in pairs(found) for tag in tags]
    assert tags == [tag for _, tags in SENTENCES for tag in tags]
    assert any("numbers" in problem.message and problem.severity == "warning" for problem in found.problems)


def test_spans_that_do_not_fit_are_an_error_that_names_the_offsets(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    rows = [{"text": f"Ann {i}", "entities": [[0, 3, "PER"]]} for i in range(20)]
    rows += [{"text": f"Bo {i}", "entities": [[0, 30, "PER"]]} for i in range(5)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    with pytest.raises(InputError, match=r"exclusive(.|\n)*data\.span_offsets"):
        load(path)
    assert len(pairs(load(path, bad_rows="quarantine"))) == 20
    rows[20:] = [{"text": f"New York City {i}", "entities": [[0, 13, "LOC"], [4, 8, "LOC"]]} for i in range(5)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    with pytest.raises(InputError, match=r"5 of 25 rows .*overlap"):
        load(path)
