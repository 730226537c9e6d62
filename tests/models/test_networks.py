"""The networks trained from scratch, and what is learned for them from the texts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from forked_process import ForkedProcess
from tiny import SENTENCES, tiny_batch, tiny_model
from tunesmith.models import MODELS, Cnn, Lstm, load_tokenizer, load_trained, tokenizer_hash
from tunesmith.models.scratch_tokenizer import SPECIAL_TOKENS, choose_kind, learn_tokenizer
from tunesmith.types import HeadSettings, InputError

HEAD = HeadSettings("AutoModelForSequenceClassification", 2, {"id2label": {0: "no", 1: "yes"}})
CHINESE = ("这部电影真好看", "剧情太无聊了，浪费时间", "我喜欢这个演员", "不推荐大家去看")
NETWORKS: list[tuple[str, dict[str, Any]]] = [
    *(("lstm", {"pooling": pooling}) for pooling in ("max", "mean", "last", "attention")),
    ("lstm", {"pooling": "last", "bidirectional": False}),
    ("cnn", {}),
    ("cnn", {"widths": [1, 4, 7]}),
]


@pytest.mark.parametrize(("arch", "config"), NETWORKS)
def test_padding_changes_no_row(arch: str, config: dict[str, Any]) -> None:
    model = tiny_model(arch, **config)
    # The padding embedding has a value here, as after an optimizer with decay might have touched it.
    model.get_input_embeddings().weight.data += 1.0
    lengths = (9, 1, 4, 12)
    batch = tiny_batch(lengths, padded_to=17)
    together = model(**batch).logits
    hidden = model.base_model(**batch).last_hidden_state
    assert hidden.shape[:2] == (4, 17)
    for row, length in enumerate(lengths):
        alone = batch["input_ids"][row : row + 1, :length]
        torch.testing.assert_close(model(input_ids=alone).logits[0], together[row], rtol=0, atol=1e-12)
        torch.testing.assert_close(
            model.base_model(input_ids=alone).last_hidden_state[0], hidden[row, :length], rtol=0, atol=1e-12
        )


@pytest.mark.parametrize(("arch", "config"), NETWORKS)
def test_what_stands_in_the_padding_does_not_matter(arch: str, config: dict[str, Any]) -> None:
    model = tiny_model(arch, **config)
    batch = tiny_batch((9, 3))
    before = model(**batch).logits
    batch["input_ids"][batch["attention_mask"] == 0] = 50
    torch.testing.assert_close(model(**batch).logits, before, rtol=0, atol=1e-12)


def test_lstm_is_torchs_own_stacked_lstm() -> None:
    model = tiny_model("lstm", pooling="last")
    reference = torch.nn.LSTM(16, 8, num_layers=2, batch_first=True, bidirectional=True, dtype=torch.float64)
    for index, layer in enumerate(model.encoder.layers):
        for name, parameter in layer.lstm.named_parameters():
            getattr(reference, name.replace("_l0", f"_l{index}")).data.copy_(parameter.data)
    ids = tiny_batch((6,))["input_ids"]
    _, (state, _) = reference(model.encoder.embeddings(ids))
    expected = model.classifier(torch.cat([state[-2], state[-1]], dim=1))
    torch.testing.assert_close(model(input_ids=ids).logits, expected, rtol=0, atol=1e-12)


def test_cnn_is_kims_maximum_over_windows() -> None:
    model = tiny_model("cnn", widths=[3])
    ids = tiny_batch((5,))["input_ids"]
    embedded = torch.nn.functional.pad(model.encoder.embeddings(ids)[0].T, (1, 1)).T  # [7, E]
    filters = model.encoder.convolutions[0]
    windows = torch.stack([embedded[start : start + 3].T for start in range(5)])  # [windows, E, width]
    values = torch.einsum("new,cew->nc", windows, filters.weight) + filters.bias
    expected = model.classifier(values.relu().amax(dim=0))
    torch.testing.assert_close(model(input_ids=ids).logits[0], expected, rtol=0, atol=1e-12)


def test_rows_without_tokens_give_finite_scores() -> None:
    for arch, config in NETWORKS:
        batch = tiny_batch((3, 2))
        batch["attention_mask"][1] = 0
        assert tiny_model(arch, **config)(**batch).logits.isfinite().all()


@pytest.mark.parametrize("source", [Lstm(hidden_size=8, embedding_size=8), Cnn(num_channels=4, embedding_size=8)])
def test_from_scratch_to_folder_and_back(source: Any, tmp_path: Path) -> None:
    state = torch.get_rng_state()
    loaded = source.load(HEAD, iter(SENTENCES), seed=3)
    again = source.load(HEAD, iter(SENTENCES), seed=3)
    other = source.load(HEAD, iter(SENTENCES), seed=4)
    assert torch.equal(torch.get_rng_state(), state)
    for (name, one), two in zip(loaded.model.named_parameters(), again.model.parameters(), strict=True):
        assert torch.equal(one, two), name
    assert not torch.equal(loaded.model.classifier.weight, other.model.classifier.weight)
    assert tokenizer_hash(loaded.tokenizer) == tokenizer_hash(again.tokenizer)
    loaded.model.save_pretrained(tmp_path)
    loaded.tokenizer.save_pretrained(tmp_path)
    restored = load_trained(tmp_path, HEAD)
    assert restored.max_length == loaded.max_length == 512
    assert restored.model.config.id2label == {0: "no", 1: "yes"}
    assert tokenizer_hash(restored.tokenizer) == tokenizer_hash(loaded.tokenizer)
    inputs = restored.tokenizer(list(SENTENCES), padding=True, return_tensors="pt")
    assert torch.equal(restored.model(**inputs).logits, loaded.model.eval()(**inputs).logits)


def test_settings_reach_the_network() -> None:
    loaded = Lstm(dropout=0.25, num_layers=3, hidden_size=8, pooling="attention", max_length=40).load(
        HEAD, SENTENCES, 0
    )
    assert {m.p for m in loaded.model.modules() if isinstance(m, torch.nn.Dropout)} == {0.25}
    assert len(loaded.model.encoder.layers) == 3
    assert loaded.max_length == loaded.tokenizer.model_max_length == 40
    assert {source.model_fields["name"].default for source in MODELS.values()} == set(MODELS)


def test_tasks_without_a_head_are_refused() -> None:
    with pytest.raises(InputError, match="has no head for this task"):
        Lstm().load(HeadSettings("AutoModelForQuestionAnswering", 2), SENTENCES, 0)


def test_words_punctuation_and_case() -> None:
    tokenizer = learn_tokenizer([*SENTENCES, *SENTENCES], "word")
    assert tokenizer.tokenize("A Wonderful film, unheard-off") == [
        "a",
        "wonderful",
        "film",
        ",",
        "[UNK]",
        "[UNK]",
        "[UNK]",
    ]
    assert tokenizer.convert_ids_to_tokens(tokenizer("a film")["input_ids"]) == ["[CLS]", "a", "film", "[SEP]"]
    pair = tokenizer("a", "film")
    assert set(pair) == {"input_ids", "attention_mask"}
    assert tokenizer.convert_ids_to_tokens(pair["input_ids"]) == ["[CLS]", "a", "[SEP]", "film", "[SEP]"]
    assert tokenizer.pad_token_id == 0
    assert tokenizer.padding_side == "right"


def test_characters() -> None:
    tokenizer = learn_tokenizer(CHINESE, "character", min_frequency=1)
    assert tokenizer.tokenize("这电影 好") == ["这", "电", "影", "好"]


def test_limits_of_the_vocabulary() -> None:
    tokenizer = learn_tokenizer([*SENTENCES, *SENTENCES], "word", vocabulary_size=12)
    assert len(tokenizer) == 12
    assert {"a", ",", "and"} <= set(tokenizer.get_vocab())
    rare = learn_tokenizer(["one one two"], "word", min_frequency=2)
    assert set(rare.get_vocab()) == {*SPECIAL_TOKENS, "one"}


@pytest.mark.parametrize(
    ("texts", "kind"),
    [
        (CHINESE, "character"),
        (("今日はとても良い天気ですね", "映画はつまらなかった"), "character"),
        (("วันนี้อากาศดีมาก",), "character"),
        (["the film was good", "the film was bad"] * 3, "word"),
        (["이 영화는 정말 좋다", "이 영화는 정말 나쁘다"] * 3, "word"),
        (["every word here differs from others"], "bpe"),
        (["the film 电影 was good and the plot was fine"] * 3, "word"),
    ],
)
def test_auto_looks_at_the_texts(texts: list[str], kind: str) -> None:
    assert choose_kind(texts) == kind


def test_nothing_to_learn_from() -> None:
    with pytest.raises(InputError, match="every training text is empty"):
        learn_tokenizer(["", "  "])


@pytest.mark.parametrize("kind", ["word", "bpe", "character"])
def test_saved_tokenizer_is_the_same(kind: Any, tmp_path: Path) -> None:
    tokenizer = learn_tokenizer([*SENTENCES, *CHINESE] * 2, kind)
    tokenizer.save_pretrained(tmp_path)
    restored = load_tokenizer(tmp_path)
    assert tokenizer_hash(restored) == tokenizer_hash(tokenizer)
    for text in (*SENTENCES, *CHINESE, "", "Unseen: ½ café"):
        assert restored(text)["input_ids"] == tokenizer(text)["input_ids"]


def test_learning_is_the_same_in_another_process() -> None:
    code = (
        "from tunesmith.models.scratch_tokenizer import learn_tokenizer\n"
        "from tunesmith.models import tokenizer_hash\n"
        f"texts = {[*SENTENCES, *CHINESE]!r} * 2\n"
        "for kind in ('word', 'bpe', 'character'): print(tokenizer_hash(learn_tokenizer(texts, kind)))\n"
    )
    done = ForkedProcess(exec, code, {})
    assert done.wait() == 0, done.stderr
    texts = [*SENTENCES, *CHINESE] * 2
    assert done.stdout.split() == [
        tokenizer_hash(learn_tokenizer(texts, kind)) for kind in ("word", "bpe", "character")
    ]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.text(max_size=30), min_size=1, max_size=8), st.sampled_from(["auto", "word", "bpe", "character"]))
def test_any_text_is_tokenised(texts: list[str], kind: Any) -> None:
    if not any(text.strip() for text in texts):
        return
    texts = [text.encode("utf-8", "ignore").decode() for text in texts]
    try:
        tokenizer = learn_tokenizer(texts, kind, min_frequency=1)
    except InputError:
        assert not any(text.strip() for text in texts)
        return
    size = len(tokenizer)
    for text in texts:
        ids = tokenizer(text)["input_ids"]
        assert len(ids) >= 2
        assert max(ids) < size
