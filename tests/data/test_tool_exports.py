"""What annotation tools, services and collections write: texts and labels deep within objects."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from tunesmith.data import DataConfig, prepare
from tunesmith.run.rows import FoundRows, find_rows
from tunesmith.types import InputError

NUM_ROWS = 40
TEXTS = [f"the {('lamp', 'chair', 'table')[row % 3]} of order {row} came with a scratch" for row in range(NUM_ROWS)]
LABELS = [("refund", "praise")[row % 2] for row in range(NUM_ROWS)]


def rows_of(folder: Path, rows: Any, name: str = "x.jsonl") -> FoundRows:
    path = folder / name
    lines = "".join(json.dumps(row) + "\n" for row in rows) if isinstance(rows, list) else json.dumps(rows)
    path.write_text(lines, encoding="utf-8")
    return find_rows(DataConfig(path=str(path)), None)


def pairs_of(found: FoundRows) -> list[tuple[str, Any]]:
    columns = {choice.role: choice.column for choice in found.choices}
    rows = found.raw.splits["train"]
    return list(zip(rows[columns["text"]], rows[columns["label"]], strict=True))


def studio(row: int, result: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    marked = {"id": 900 + row, "result": result, "was_cancelled": False, "completed_by": 3, **more}
    return {"id": row, "annotations": [marked], "predictions": [], "data": {"body": TEXTS[row], "shop": "north"}}


def choice(name: str, *labels: str) -> dict[str, Any]:
    return {"from_name": name, "to_name": "body", "type": "choices", "value": {"choices": list(labels)}}


CLASSES: Mapping[str, Callable[[int], dict[str, Any]]] = {
    "Label Studio": lambda row: studio(row, [choice("mood", LABELS[row])]),
    "Argilla": lambda row: {
        "id": f"{row:08x}",
        "fields": {"note": TEXTS[row]},
        "responses": {
            "kind": [
                {"value": "other", "user_id": "a", "status": "discarded"},
                {"value": LABELS[row], "user_id": "b", "status": "submitted"},
            ]
        },
        "suggestions": {},
    },
    "Ground Truth": lambda row: {
        "source": TEXTS[row],
        "topic": row % 2,
        "topic-metadata": {"class-name": LABELS[row], "confidence": 0.7, "job-name": "j"},
    },
    "Vertex AI": lambda row: {"textContent": TEXTS[row], "classificationAnnotation": {"displayName": LABELS[row]}},
    "MongoDB": lambda row: {
        "_id": {"$oid": f"{row:024x}"},
        "ticket": {"text": TEXTS[row]},
        "meta": {"kind": LABELS[row]},
    },
}


@pytest.mark.parametrize("row_of", CLASSES.values(), ids=CLASSES)
def test_labels_stand_beside_their_texts(tmp_path: Path, row_of: Callable[[int], dict[str, Any]]) -> None:
    found = rows_of(tmp_path, [row_of(row) for row in range(NUM_ROWS)])
    assert found.task.name == "classification"
    assert pairs_of(found) == list(zip(TEXTS, LABELS, strict=True))


def test_every_control_of_label_studio_is_a_column(tmp_path: Path) -> None:
    rows = [
        studio(
            row,
            [
                choice("topics", *(["price"] if row % 3 else ["price", "speed"])),
                {"from_name": "gist", "type": "textarea", "value": {"text": [f"scratch {row}"]}},
                {"from_name": "stars", "type": "rating", "value": {"rating": row % 5 + 1}},
                {"from_name": "things", "type": "labels",
                 "value": {"start": 0, "end": 3, "text": "the", "labels": ["WORD"]}},
            ],
        )
        for row in range(NUM_ROWS)
    ]  # fmt: skip
    train = rows_of(tmp_path, rows).raw.splits["train"]
    assert train["topics"][:2] == [["price", "speed"], ["price"]]
    assert train["gist"][:2] == ["scratch 0", "scratch 1"]
    assert train["stars"][:3] == [1, 2, 3]
    assert json.loads(train["things"][0])[0]["value"]["labels"] == ["WORD"]
    assert train["body"][:] == TEXTS


def test_the_annotation_that_counts_is_taken_and_tasks_without_one_have_no_label(tmp_path: Path) -> None:
    rows = [studio(row, [choice("mood", LABELS[row])]) for row in range(NUM_ROWS)]
    rows[0]["annotations"] = [
        {"result": [choice("mood", "wrong")], "was_cancelled": True},
        {"result": [choice("mood", "praise")], "was_cancelled": False},
        {"result": [choice("mood", "refund")], "was_cancelled": False, "ground_truth": True},
    ]
    rows[1]["annotations"] = []
    found = rows_of(tmp_path, rows)
    assert pairs_of(found)[:3] == [(TEXTS[0], "refund"), (TEXTS[1], None), (TEXTS[2], "refund")]
    prepared = prepare(found.raw, found.data, found.choices, found.form)
    assert prepared.left_out == {"empty label": 1}


SPANS: Mapping[str, Callable[[int], dict[str, Any]]] = {
    "Ground Truth": lambda row: {
        "source": TEXTS[row],
        "job": {"annotations": {"entities": [{"startOffset": 0, "endOffset": 3, "label": "WORD"}], "labels": []}},
        "job-metadata": {"job-name": "j", "type": "groundtruth/text-span"},
    },
    "Vertex AI": lambda row: {
        "textContent": TEXTS[row],
        "textSegmentAnnotations": [{"startOffset": 0, "endOffset": 3, "displayName": "WORD"}],
    },
    "spaCy": lambda row: {
        "id": row,
        "paragraphs": [
            {
                "sentences": [
                    {"tokens": [{"orth": word, "ner": "U-WORD" if not place else "O"}
                                for place, word in enumerate(TEXTS[row].split())]}
                ]
            }
        ],
    },
}  # fmt: skip


@pytest.mark.parametrize("row_of", SPANS.values(), ids=SPANS)
def test_entities_are_found(tmp_path: Path, row_of: Callable[[int], dict[str, Any]]) -> None:
    found = rows_of(tmp_path, [row_of(row) for row in range(NUM_ROWS)])
    assert found.task.name == "token_classification"
    prepared = prepare(found.raw, found.data, found.choices, found.form)
    tags = prepared.splits["train"]["tags"][0]
    assert [tag for tag in tags if tag != "O"] in (["B-WORD"], ["U-WORD"], ["S-WORD"])
    assert tags[0] != "O"


def test_entities_of_texts_listed_beside_their_classes(tmp_path: Path) -> None:
    marked = [[text, {"entities": [[0, 3, "WORD"]]}] for text in TEXTS]
    found = rows_of(tmp_path, {"classes": ["WORD"], "annotations": [None, *marked]}, "x.json")
    assert found.task.name == "token_classification"
    assert len(found.raw.splits["train"]) == NUM_ROWS


INTENTS: Mapping[str, Any] = {
    "Rasa": {
        "rasa_nlu_data": {
            "regex_features": [{"name": "zip", "pattern": "[0-9]{5}"}],
            "entity_synonyms": [],
            "common_examples": [{"text": text, "intent": label} for text, label in zip(TEXTS, LABELS, strict=True)],
        }
    },
    "LUIS": {
        "name": "shop",
        "intents": [{"name": "refund"}, {"name": "praise"}],
        "entities": [],
        "utterances": [{"text": text, "intent": label} for text, label in zip(TEXTS, LABELS, strict=True)],
    },
    "Snips": {
        "language": "en",
        "entities": {"thing": {"data": []}},
        "intents": {
            label: {"utterances": [{"data": [{"text": text[:5]}, {"text": text[5:], "entity": "thing"}]}
                                   for text, own in zip(TEXTS, LABELS, strict=True) if own == label]}
            for label in ("refund", "praise")
        },
    },
}  # fmt: skip


@pytest.mark.parametrize("content", INTENTS.values(), ids=INTENTS)
def test_intents(tmp_path: Path, content: Any) -> None:
    found = rows_of(tmp_path, content, "nlu.json")
    assert sorted(pairs_of(found)) == sorted(zip(TEXTS, LABELS, strict=True))


def test_questions_with_choices_deep_within(tmp_path: Path) -> None:
    nested = [
        {
            "id": str(row),
            "answerKey": "AB"[row % 2],
            "question": {"stem": TEXTS[row], "choices": [{"label": "A", "text": "oak"}, {"label": "B", "text": "ash"}]},
        }
        for row in range(NUM_ROWS)
    ]
    on_articles = [
        {
            "id": f"high{row}.txt",
            "article": TEXTS[row],
            "questions": [f"What came with {row}?", f"Who sent {row}?"],
            "options": [["a lamp", "a scratch"], ["the shop", "nobody"]],
            "answers": ["B", "A"],
        }
        for row in range(NUM_ROWS)
    ]
    for rows, number in ((nested, NUM_ROWS), (on_articles, 2 * NUM_ROWS)):
        found = rows_of(tmp_path, rows)
        assert found.task.name == "multiple_choice"
        prepared = prepare(found.raw, found.data, found.choices, found.form)
        assert sum(map(len, prepared.splits.values())) == number
        assert not prepared.left_out


def test_of_a_tree_the_best_conversation_is_read_and_single_messages_are_a_question(tmp_path: Path) -> None:
    def reply(text: str, rank: int | None, *replies: Any) -> dict[str, Any]:
        return {"text": text, "role": "assistant", "rank": rank, "replies": list(replies)}

    trees = [
        {
            "message_tree_id": f"t{row}",
            "prompt": {
                "text": TEXTS[row],
                "role": "prompter",
                "replies": [reply("worse", 1), reply("better", 0, {"text": "Why?", "role": "prompter", "replies": []})],
            },
        }
        for row in range(NUM_ROWS)
    ]
    found = rows_of(tmp_path, trees)
    assert found.task.name == "causal_lm"
    turns = json.loads(found.raw.splits["train"]["messages"][0])
    assert [turn["content"] for turn in turns] == [TEXTS[0], "better"]
    assert any(one.count == 2 * NUM_ROWS and one.severity == "warning" for one in found.raw.problems)
    flat = [
        {"message_id": f"m{row}", "parent_id": None if row % 2 else f"m{row - 1}", "role": "prompter", "text": text}
        for row, text in enumerate(TEXTS)
    ]
    with pytest.raises(InputError, match="Each row is one message: 'parent_id'"):
        rows_of(tmp_path, flat)


def test_graded_answers_are_preferences_and_answers_side_by_side_a_question(tmp_path: Path) -> None:
    ranked = [
        {"prompt": text, "answers": [{"answer": "so", "rank": 2.0}, {"answer": "thus", "rank": 1.0}]} for text in TEXTS
    ]
    found = rows_of(tmp_path, ranked)
    assert found.task.name == "preference"
    prepared = prepare(found.raw, found.data, found.choices, found.form)
    assert json.loads(prepared.splits["train"]["messages"][0])[-1]["content"] == "thus"
    compared = [
        {"history": text, "human_ref_A": f"{text} indeed", "human_ref_B": f"{text} or not", "labels": row % 2}
        for row, text in enumerate(TEXTS)
    ]
    with pytest.raises(InputError, match="'human_ref_A' and 'human_ref_B' are two answers"):
        rows_of(tmp_path, compared)


def test_reviews_of_one_label_are_learned_and_marks_beside_labels_are_not(tmp_path: Path) -> None:
    asked = [
        {"text": text, "label": "RUDE", "answer": ("accept", "reject")[row % 2], "_input_hash": row * 7919}
        for row, text in enumerate(TEXTS)
    ]
    found = rows_of(tmp_path, asked)
    assert {choice.role: choice.column for choice in found.choices} == {"text": "text", "label": "answer"}
    chosen = [
        {"text": text, "accept": [label], "answer": "ignore" if row < 4 else "accept"}
        for row, (text, label) in enumerate(zip(TEXTS, LABELS, strict=True))
    ]
    found = rows_of(tmp_path, chosen)
    columns = {choice.role: choice.column for choice in found.choices}
    assert columns == {"text": "text", "label": "accept", "accepted": "answer"}
    prepared = prepare(found.raw, found.data, found.choices, found.form)
    assert sum(map(len, prepared.splits.values())) == NUM_ROWS - 4
    assert set(prepared.splits["train"]["label"]) == {"refund", "praise"}, "lists of one label each are labels"
