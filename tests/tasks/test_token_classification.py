"""Tags of tokens: parity with plain transformers, windows, decoding, and what becomes of the answers."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForTokenClassification

from tiny import VOCABULARY, tiny_model, tiny_tokenizer
from tunesmith.data.encoded import Encoded, Ragged
from tunesmith.data.tagged import join_tokens
from tunesmith.engine.layout import choose_layout, collator_for
from tunesmith.engine.predict import predict
from tunesmith.engine.scorer import Scorer
from tunesmith.tasks import TokenClassification
from tunesmith.tasks.tag_decoding import best_tags, transitions
from tunesmith.types import InputError

SENTENCES = [
    (["Great", "songs", ",", "great", "cast"], ["O", "B-a", "I-a", "O", "B-b"]),
    (["boring", "and", "wonderful", "movies"], ["O", "O", "B-b", "I-b"]),
    (["time"], ["B-a"]),
    (["slow", "far", "too", "long", "lovingly", "made"], ["B-a", "B-a", "I-a", "O", "O", "B-b"]),
]
LABELS = ("O", "B-a", "I-a", "B-b", "I-b")


def columns_of(sentences: list[tuple[list[str], list[str]]]) -> dict[str, Any]:
    joined = [join_tokens(tokens) for tokens, _ in sentences]
    return {
        "text": [text for text, _ in joined],
        "tokens": [tokens for tokens, _ in sentences],
        "starts": [starts for _, starts in joined],
        "tags": [tags for _, tags in sentences],
    }


COLUMNS = columns_of(SENTENCES)
TASK = TokenClassification().bind(COLUMNS)


def token_model(arch: str) -> Any:
    torch.manual_seed(0)
    config = tiny_model(arch, num_labels=len(LABELS)).config
    model = AutoModelForTokenClassification.from_config(config).double().eval()
    model.set_attn_implementation("sdpa")
    return model


def test_labels_are_complete_and_in_order() -> None:
    assert TASK.labels == LABELS
    assert TASK.types == ("a", "b")
    only_begins = columns_of([(["x", "y"], ["B-a", "O"])])
    assert TokenClassification().bind(only_begins).labels == ("O", "B-a", "I-a")


def test_tags_of_several_kinds_have_no_scheme() -> None:
    """A tag that only looks like the inside of an entity can be learned and predicted like any other."""
    mixed = columns_of([(["a", "b", "c"], ["I-a", "X", "O"]), (["b", "a"], ["X", "I-a"])])
    task = TokenClassification().bind(mixed)
    assert task.labels == ("I-a", "O", "X")
    assert not task.has_scheme
    assert task.types == task.labels
    assert not task.check("train", mixed)
    between, start = transitions(task.labels)
    assert not between.any()
    assert not start.any()
    with pytest.raises(ValueError, match="expected B- tags"):
        TokenClassification(labels=("O", "I-a"))


@pytest.mark.parametrize("kind", ["wordpiece", "bpe"])
def test_the_first_piece_of_every_word_is_read(kind: str) -> None:
    """The same ids and positions as ``transformers`` gives for words."""
    tokenizer = tiny_tokenizer(kind)
    encoded = TASK.encode(COLUMNS, tokenizer, 64)
    assert encoded.reads is not None
    for row, tokens in enumerate(COLUMNS["tokens"]):
        expected = tokenizer(tokens, is_split_into_words=True)
        words = expected.word_ids()
        firsts = [i for i, word in enumerate(words) if word is not None and word != (words[i - 1] if i else None)]
        assert encoded.inputs["input_ids"][row].tolist() == expected["input_ids"]
        assert encoded.reads[row].tolist() == firsts


def test_byte_level_words_get_the_space_before_them() -> None:
    """What GPT-2 and RoBERTa read in a text is what they read in tokens."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(COLUMNS["text"] * 5, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="!", pad_token="!")
    encoded = TASK.encode(COLUMNS, fast, 64)
    for row, text in enumerate(COLUMNS["text"]):
        assert encoded.inputs["input_ids"][row].tolist() == fast(text)["input_ids"]


@pytest.mark.parametrize("arch", ["bert", "roberta", "distilbert", "modernbert", "llama", "qwen3"])
@pytest.mark.parametrize("layout", ["padded", "flat"])
def test_loss_is_that_of_transformers(arch: str, layout: str) -> None:
    model = token_model(arch)
    tokenizer = tiny_tokenizer("bpe")
    data = TASK.encode(COLUMNS, tokenizer, 64)
    assert data.reads is not None
    input_ids = torch.full((len(data), int(data.lengths.max())), 1)
    labels = torch.full_like(input_ids, -100)
    targets = data.targets["tags"]
    assert isinstance(targets, Ragged)
    for row in range(len(data)):
        input_ids[row, : data.lengths[row]] = torch.from_numpy(data.inputs["input_ids"][row].astype(np.int64))
        labels[row, data.reads[row]] = torch.from_numpy(np.array(targets[row]))
    mask = (torch.arange(input_ids.shape[1]) < torch.from_numpy(data.lengths)[:, None]).long()
    with torch.no_grad():
        expected = model(input_ids=input_ids, attention_mask=mask, labels=labels)
    if layout == "flat":
        assert choose_layout(model, "token", VOCABULARY, "flat")[0] == "flat"
    collate = collator_for(model, layout, 1, torch.device("cpu"))  # type: ignore[arg-type]
    scorer = Scorer(model, layout, "token")  # type: ignore[arg-type]
    batch = collate(data, np.arange(len(data)))
    with torch.no_grad(), scorer.surrounding(batch):
        scores = scorer(batch)
    loss = TASK.loss_sum(scores, batch.targets, batch.units) / TASK.count_units(batch.targets, batch.units)
    # Some models take their own loss in float32, whatever their weights are.
    assert loss.item() == pytest.approx(expected.loss.item(), abs=1e-8 if arch == "bert" else 1e-6)
    exact = torch.nn.functional.cross_entropy(expected.logits.flatten(0, 1), labels.flatten())
    assert loss.item() == pytest.approx(exact.item(), abs=1e-8)
    reference = torch.cat([expected.logits[row][labels[row] != -100] for row in batch.sequences.tolist()])
    torch.testing.assert_close(scores, reference, rtol=0, atol=1e-8)


@pytest.mark.parametrize("arch", ["bert", "lstm"])
def test_windows_read_every_word_once_and_are_joined_again(arch: str, tmp_path: Any) -> None:
    tokenizer = tiny_tokenizer()
    whole, cut = (TASK.encode(COLUMNS, tokenizer, length) for length in (64, 8))
    assert whole.rows is None
    assert cut.rows is not None
    assert len(cut) > len(whole) == cut.num_data_rows == 4
    assert cut.lengths.max() <= 8
    assert cut.num_truncated == 1, "'lovingly' is longer than a window"
    cut.save(tmp_path)
    cut = Encoded.load(tmp_path)
    joined = cut.data_targets["tags"]
    assert isinstance(joined, Ragged)
    np.testing.assert_array_equal(joined.offsets, TASK.targets(COLUMNS)["tags"].offsets)  # type: ignore[union-attr]
    model = token_model(arch) if arch == "bert" else None
    if model is None:
        from tunesmith.models.lstm_network import LstmForTokenClassification

        model = LstmForTokenClassification(tiny_model("lstm", num_labels=5).config).eval()
    collate = collator_for(model, "padded", 1, torch.device("cpu"))
    scored = predict(Scorer(model, "padded", "token"), collate, TASK, cut, 40)
    assert [len(scored.outputs["scores"][row]) for row in range(4)] == [len(tokens) for tokens, _ in SENTENCES]
    alone = predict(Scorer(model, "padded", "token"), collate, TASK, cut, 1)
    np.testing.assert_allclose(scored.outputs["scores"].values, alone.outputs["scores"].values, atol=1e-6)
    assert cut.data_rows([0, 1, len(cut) - 1]) == [0, 3] if cut.rows[1] > 1 else True
    assert [len(row["tags"]) for row in TASK.decode(scored.outputs)] == [5, 4, 1, 6]


def test_words_that_the_tokenizer_drops_and_empty_rows_keep_their_place() -> None:
    tokenizer = tiny_tokenizer()
    columns = columns_of([(["", "time", "\u200b"], ["O", "B-a", "O"]), ([], [])])
    encoded = TASK.encode(columns, tokenizer, 64)
    assert encoded.reads is not None
    assert encoded.reads.lengths.tolist() == [3, 0]
    assert encoded.lengths.min() > 0


def test_decoding_is_the_best_allowed_sequence() -> None:
    """Viterbi against trying everything."""
    generator = np.random.default_rng(0)
    rows = [generator.normal(size=(length, 5)) for length in (4, 1, 3, 0, 2)]
    scores = Ragged.from_rows([np.zeros(len(row)) for row in rows], dtype=np.float64)
    scores = Ragged(np.concatenate(rows), scores.offsets)
    found = best_tags(scores, *transitions(LABELS))
    expected: list[int] = []
    for row in rows:
        allowed = [
            path
            for path in itertools.product(range(5), repeat=len(row))
            if all(
                LABELS[tag][0] != "I" or (i and LABELS[path[i - 1]][2:] == LABELS[tag][2:])
                for i, tag in enumerate(path)
            )
        ]
        expected += max(allowed, key=lambda path: sum(row[i, tag] for i, tag in enumerate(path)))
    assert found.tolist() == expected


@settings(max_examples=50)
@given(st.lists(st.integers(0, 7), min_size=1, max_size=6), st.integers(0, 1000))
def test_decoded_tags_always_keep_to_the_scheme(lengths: list[int], seed: int) -> None:
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    scores = np.random.default_rng(seed).normal(size=(int(offsets[-1]), 5)) * 10
    for row in TASK.decode({"scores": Ragged(scores.astype(np.float32), offsets)}):
        for before, tag in itertools.pairwise(["O", *row["tags"]]):
            assert not tag.startswith("I-") or before[2:] == tag[2:]


def test_entities_point_into_the_text() -> None:
    targets = TASK.targets(COLUMNS)["tags"]
    assert isinstance(targets, Ragged)
    scores = np.full((len(targets.values), 5), -5.0, dtype=np.float32)
    scores[np.arange(len(scores)), targets.values] = 5.0
    outputs = {"scores": Ragged(scores, targets.offsets)}
    first = TASK.decode(outputs, COLUMNS)[0]
    assert [(one["text"], one["label"], one["start"], one["end"]) for one in first["entities"]] == [
        ("songs ,", "a", 6, 13),
        ("cast", "b", 20, 24),
    ]
    assert COLUMNS["text"][0][6:13] == "songs ,"
    assert all(0.99 < one["score"] <= 1 for one in first["entities"])
    assert TASK.shown(first["tags"], COLUMNS, 0) == [
        {"text": "songs ,", "label": "a", "start": 6, "end": 13},
        {"text": "cast", "label": "b", "start": 20, "end": 24},
    ]
    assert not TASK.errors(outputs, {"tags": targets}).any()


@pytest.mark.parametrize(
    ("tokens", "split", "text", "expected"),
    [
        (["Hello", ",", "world", "."], "word", "See U.S., now.", ["See", "U", ".", "S", ".", ",", "now", "."]),
        (["Hello,", "world!"], "space", "See it, now", ["See", "it,", "now"]),
        (list("今天下午"), "character", "看a 太阳", ["看", "a", "太", "阳"]),
        (["Hello", "world"], "space", "太阳 up", ["太", "阳", "up"]),
    ],
)
def test_plain_texts_are_cut_as_the_training_rows_were(
    tokens: list[str], split: str, text: str, expected: list[str]
) -> None:
    task = TokenClassification().bind(columns_of([(tokens, ["B-a"] + ["O"] * (len(tokens) - 1))]))
    assert task.split == split
    completed = task.complete({"text": [text]})
    assert completed["tokens"] == [expected]
    assert [text[s : s + len(t)] for s, t in zip(completed["starts"][0], expected, strict=True)] == expected


def test_what_is_wrong_with_tags_is_named() -> None:
    columns = {
        **COLUMNS,
        "tags": [["O"] * 5, ["O"] * 3, None, ["O"] * 5 + ["B-c"]],
        "row": ["f:1", "f:7", "f:12", "f:14"],
    }
    problems = TASK.check("test", columns)
    assert [problem.rows for problem in problems] == [("f:7", "f:12"), ("f:14",)]
    assert "B-c" in problems[1].message
    with pytest.raises(InputError, match="no usable tags"):
        TASK.targets(columns)
    with pytest.raises(InputError, match="B-z"):
        TokenClassification(class_weights={"B-z": 2.0}).bind(COLUMNS)
    with pytest.raises(ValueError, match="I-q"):
        TokenClassification(labels=("O", "I-q"))


def test_every_unknown_tag_is_counted() -> None:
    """The first ten are named, as unknown labels are."""
    tags = [f"B-new{number}" for number in range(12)]
    problems = TASK.check("test", columns_of([(["word"], [tag]) for tag in tags]))
    assert [problem.count for problem in problems] == [1] * 10 + [2]
    assert problems[-1].message == "2 more tags of the test rows are unknown."


def test_confusion_tells_missed_and_invented_entities_apart() -> None:
    targets = TASK.targets(COLUMNS)
    truth = targets["tags"]
    assert isinstance(truth, Ragged)
    predicted = truth.values.copy()
    predicted[4] = 1  # "cast" is an a instead of a b
    predicted[9] = 0  # "time" is missed
    predicted[13] = 3  # "long" is invented
    scores = np.full((len(predicted), 5), -5.0, dtype=np.float32)
    scores[np.arange(len(predicted)), predicted] = 5.0
    details = TASK.details({"scores": Ragged(scores, truth.offsets)}, targets)
    assert details["labels"] == ["a", "b", details["unmatched"]]
    assert details["confusion_matrix"] == [[3, 0, 1], [1, 2, 0], [0, 1, 0]]
    assert details["counted"] == "entities"
    assert [row["support"] for row in details["per_label"]] == [4, 3]
    words = columns_of([(["a", "b"], ["x", "y"]), (["c"], ["y"])])
    plain = TokenClassification().bind(words)
    outputs = {"scores": Ragged(np.eye(2, dtype=np.float32)[[0, 0, 1]], np.array([0, 2, 3]))}
    details = plain.details(outputs, plain.targets(words))
    assert (details["counted"], details["confusion_matrix"]) == ("tokens", [[1, 0], [1, 1]])
    assert "unmatched" not in details
    assert plain.shown(["x", "y"], words, 0)[1] == {"text": "b", "label": "y", "start": 2, "end": 3}
