"""Words and what they added to an answer: by hand, by what must add up, and by what a run has learned."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from run.test_contract import TASK_ROWS, write_rows
from small_runs import BAD, GOOD
from tiny import SENTENCES, tiny_model, tiny_tokenizer
from tiny_writers import tiny_writer, writer_folder
from tunesmith.cli.application import run as command
from tunesmith.data.encoded import Ragged
from tunesmith.engine.predict import predict
from tunesmith.engine.stand_ins import as_written
from tunesmith.models.wrapping import inner
from tunesmith.run import Run, RunConfig, train
from tunesmith.tasks import crf
from tunesmith.tasks.tag_decoding import tag_probabilities, transitions
from tunesmith.trust.attribution import METHODS, Question, along_the_line, shapley
from tunesmith.trust.explained_rows import explain_rows, word_effects
from tunesmith.trust.explained_target import log_odds, target_of, written_target
from tunesmith.trust.explanation import Explainer, Explanation
from tunesmith.trust.explanation_page import explanation_page
from tunesmith.trust.questioned_model import QuestionedModel, Sequence, network_to_question
from tunesmith.trust.words import words_of

Configure = Callable[..., RunConfig]
TEXT = "the plot of this great film, wonderfully warm"


@pytest.fixture
def question(run: Run) -> Question:
    network = network_to_question(run)
    data = network.encode(run.task, {"text": [TEXT]})
    outputs = predict(network.scorer, network.collate, run.task, data, 4096).outputs
    target = target_of(run.task, outputs, data, {"text": [TEXT]}, label="good", word=None)
    model = QuestionedModel(network.model, network.tokenizer)
    with model.asked():
        return Question.of(model, Sequence.of(network, data, 0), target, num_scores=2)


def logits_of(run: Run, rows: list[list[int]]) -> torch.Tensor:
    """Return what plain ``transformers`` gives."""
    ids = torch.tensor(rows)
    with torch.no_grad(), as_written(run.network.model):
        return run.network.model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits


# ---- words ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["wordpiece", "bpe", "chat"])
def test_every_token_is_in_one_word_and_pieces_are_joined(kind: str) -> None:
    tokenizer = tiny_tokenizer(kind)
    for text in (*SENTENCES, "unwonderfully, a plot", "很好的film"):
        ids = tokenizer(text)["input_ids"]
        words = words_of(tokenizer, ids)
        assert [place for word in words for place in word.places] == list(range(len(ids)))
    words = [word.text for word in words_of(tokenizer, tokenizer("a wonderful film, warm")["input_ids"])]
    assert [word for word in words if word.isalpha()] == ["a", "wonderful", "film", "warm"]


def test_characters_of_chinese_stand_for_themselves() -> None:
    tokenizer = tiny_tokenizer("chat")  # whose tokens are bytes
    words = words_of(tokenizer, tokenizer("很好的 film 啊")["input_ids"])
    assert [word.text for word in words if word.text.strip()] == ["很", "好", "的", "film", "啊"]
    assert all(len(word.places) == 3 for word in words[:2])


# ---- scores --------------------------------------------------------------------------------------


def test_log_odds_are_the_logarithm_of_p_over_one_minus_p() -> None:
    scores = torch.randn(5, 4, dtype=torch.float64)
    p = scores.softmax(-1)[:, 2]
    assert torch.allclose(log_odds(scores, 2), torch.log(p / (1 - p)))


def test_the_model_is_asked_as_transformers_runs_it(run: Run, question: Question) -> None:
    logits = logits_of(run, [question.sequence.ids])
    (value,) = question.values(question.vectors[None]).tolist()
    assert value == pytest.approx(float(log_odds(logits, run.task.label_names.index("good"))), abs=1e-5)


def test_occlusion_is_what_a_mask_in_the_place_of_the_word_takes(run: Run, question: Question) -> None:
    good, mask = run.task.label_names.index("good"), run.network.tokenizer.mask_token_id
    scores = METHODS["occlusion"](question, question.target.value, 0)
    for word, score in zip(question.open_words, scores, strict=True):
        masked = [mask if place in word.places else token for place, token in enumerate(question.sequence.ids)]
        whole, without = log_odds(logits_of(run, [question.sequence.ids, masked]), good).tolist()
        assert score == pytest.approx(whole - without, abs=1e-4)


@pytest.mark.parametrize("method", ["integrated-gradients", "shapley"])
def test_scores_add_up_to_what_all_words_together_add(question: Question, method: str) -> None:
    # Of a model that is not sure of itself: one that jumps from one answer to the other has no gradient between.
    inner(question.model.model).load_state_dict(tiny_model("bert", 2, torch.float32).state_dict())
    with question.model.asked():
        scores = METHODS[method](question, question.target.value, 0)
        blank, whole = question.values(torch.stack([question.blank, question.vectors])).tolist()
    assert scores.sum() == pytest.approx(whole - blank, abs=0.02 * max(1, abs(whole - blank)))


def test_of_two_words_shapley_is_exact(run: Run) -> None:
    network = network_to_question(run)
    data = network.encode(run.task, {"text": ["great plot"]})
    model = QuestionedModel(network.model, network.tokenizer)
    with model.asked():
        question = Question.of(
            model,
            Sequence.of(network, data, 0),
            target_of(run.task, {"scores": np.zeros((1, 2))}, data, {}, label="good", word=None),
            num_scores=2,
        )
        neither, first, second, both = question.values_with(
            np.array([[False, False], [True, False], [False, True], [True, True]])
        )
        scores = shapley(question, question.target.value)
    expected = [(first - neither + both - second) / 2, (second - neither + both - first) / 2]
    assert scores == pytest.approx(expected, abs=1e-5)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_integrated_gradients_are_those_of_captum(question: Question) -> None:
    captum = pytest.importorskip("captum.attr", reason="captum is not installed: pip install captum")

    def forward(vectors: torch.Tensor) -> torch.Tensor:
        return question.target.value(question.model.scores(question.sequence, vectors))

    with question.model.asked():
        own = question.per_word(along_the_line(question, question.target.value, 32))
        theirs = captum.IntegratedGradients(forward).attribute(
            question.vectors[None], question.blank[None], n_steps=32, method="gausslegendre"
        )
        product = captum.InputXGradient(forward).attribute(question.vectors[None].clone().requires_grad_())
        ours = METHODS["gradient-x-input"](question, question.target.value, 0)
    assert own == pytest.approx(question.per_word(theirs[0].sum(-1).detach()), abs=1e-4)
    assert ours == pytest.approx(question.per_word(product[0].sum(-1).detach()), abs=1e-4)


# ---- explanations --------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["integrated-gradients", "occlusion", "shapley"])
def test_the_word_that_a_run_goes_by_is_found(run: Run, method: str) -> None:
    explainer = Explainer(run, methods=[method])
    hits = {GOOD: 0, BAD: 0}
    for words in hits:
        for word in words:
            found = explainer.explain({"text": [f"the {word} cast of this movie"]})
            hits[words] += found.tokens[int(np.argmax(found.scores))] == word
            assert len(found.tokens) == len(found.scores) == 6
    # A run may know one label by its words, and the other by there being none of them.
    assert max(hits.values()) >= 4


def test_scores_of_what_a_run_goes_by_are_more_faithful_than_chance(run: Run, grouped: Path) -> None:
    rows = run.rows_to_predict(grouped)
    methods = ["integrated-gradients", "occlusion"]
    found = explain_rows(Explainer(run, methods=methods), rows, most=12)
    for name in methods:
        assert found.faithfulness[name]["comprehensiveness_gain"]["low"] > 0
        assert found.faithfulness[name]["sufficiency_gain"]["low"] > 0
    page = explanation_page(found, "tiny")
    assert page.count('class="card explained"') == 12
    assert "Words that speak for each label" in page


def test_words_are_listed_by_their_mean_score_in_texts_of_a_label() -> None:
    def explained(label: str, **scores: float) -> Explanation:
        tokens, values = tuple(scores), tuple(scores.values())
        return Explanation(
            (" ".join(tokens),),
            {"label": label},
            label,
            "log-odds",
            "occlusion",
            tokens,
            values,
            (True,) * len(tokens),
            0,
            0,
        )

    good = [explained("good", Great=2.0, plot=0.1, dull=-1.0), explained("good", great=1.0, plot=0.3)]
    found = word_effects([*good, explained("good", great=3.0, plot=0.2), explained("bad", great=9.0)])
    assert found["good"] == [
        {"word": "great", "score": 2.0, "texts": 3},
        {"word": "plot", "score": pytest.approx(0.2), "texts": 3},
    ]
    assert found["bad"] == []


def test_another_label_has_the_opposite_scores(run: Run) -> None:
    explainer = Explainer(run)
    good, bad = (explainer.explain({"text": [TEXT]}, label=label) for label in ("good", "bad"))
    assert good.scores == pytest.approx([-score for score in bad.scores], abs=1e-4)
    assert good.value == pytest.approx(-bad.value, abs=1e-4)


SHORT = {"train": {"max_steps": 2, "evaluate_steps": 2}, "evaluation": {"num_resamples": 10, "baseline": False}}


@pytest.mark.parametrize("row", ["regression", "entities", "chains", "answers", "pairs"])
def test_other_tasks_are_explained(configured: Configure, tmp_path: Path, row: str) -> None:
    name, settings, example = TASK_ROWS[row]
    config = configured(data=str(write_rows(tmp_path, example)), task={"name": name, **settings}, **SHORT)
    run = Run.open(train(config))
    columns, _ = run.labelled_columns(split="train")
    given = {key: [values[0]] for key, values in columns.items() if key not in run.task.truths}
    found = Explainer(run, methods=["integrated-gradients"]).explain(given)
    assert len(found.tokens) == len(found.scores) > 0
    assert sum(found.scores) == pytest.approx(found.value - found.value_without, abs=0.05)
    if found.parts:
        assert np.mean(list(found.parts.values()), axis=0) == pytest.approx(found.scores, abs=1e-4)


def test_written_answers_are_explained_by_what_was_asked(
    configured: Configure, llama_folder: Path, tmp_path: Path
) -> None:
    name, settings, example = TASK_ROWS["chat"]
    data = str(write_rows(tmp_path, example))
    config = configured(model=str(llama_folder), data=data, task={"name": name, **settings}, **SHORT)
    run = Run.open(train(config))
    found = Explainer(run, max_new_tokens=3).explain(run.columns_of(["a great film"]))
    assert found.target == "answer"
    assert len(found.parts) <= 3
    assert np.mean(list(found.parts.values()), axis=0) == pytest.approx(found.scores, abs=1e-4)
    assert "great" in found.tokens


@pytest.mark.parametrize("family", ["t5", pytest.param("bart", marks=pytest.mark.slow)])
def test_what_a_decoder_writes_is_explained_by_what_its_encoder_read(
    configured: Configure, tmp_path: Path, family: str
) -> None:
    name, _, example = TASK_ROWS["texts of texts"]
    model = writer_folder(tmp_path, family)
    config = configured(model=str(model), data=str(write_rows(tmp_path, example)), task={"name": name}, **SHORT)
    run = Run.open(train(config))
    found = Explainer(run, max_new_tokens=3).explain({"source": ["this warm film"]})
    assert found.target == "answer"
    assert "warm" in found.tokens
    assert 1 <= len(found.parts) <= 3
    assert np.mean(list(found.parts.values()), axis=0) == pytest.approx(found.scores, abs=0.02)  # of other points
    assert sum(found.scores) == pytest.approx(found.value - found.value_without, abs=0.05)
    # The number that is explained is what plain transformers gives to the tokens of its own answer.
    network, tokenizer = run.network, run.network.tokenizer
    source = torch.tensor([tokenizer("this warm film")["input_ids"]])
    with torch.no_grad(), as_written(network.model):
        whole = inner(network.model)
        answer = whole.generate(source, max_new_tokens=3, do_sample=False, num_beams=1)[0, 1:]
        start = torch.tensor([whole.config.decoder_start_token_id])
        given = torch.cat([start, answer[:-1]])[None]
        logits = whole(input_ids=source, attention_mask=torch.ones_like(source), decoder_input_ids=given).logits[0]
    ends = {tokenizer.eos_token_id, tokenizer.pad_token_id}
    odds = [
        float(log_odds(row, int(token))) for row, token in zip(logits, answer, strict=True) if int(token) not in ends
    ]
    assert found.value == pytest.approx(np.mean(odds), abs=1e-3)


def test_chains_are_explained_by_the_probability_of_a_tag_over_all_sequences() -> None:
    labels, generator = ("O", "B-X", "I-X"), torch.Generator().manual_seed(0)
    scores = torch.randn(2, 5, 3 + 12, generator=generator, dtype=torch.float64)
    between, start = map(torch.from_numpy, transitions(labels))
    flat = crf.potentials(scores.flatten(0, 1))
    found = crf.marginal_scores(flat.unflatten(0, (2, 5)), between, start)
    kept = Ragged(flat.numpy(), np.array([0, 5, 10]))
    np.testing.assert_allclose(
        found.exp().flatten(0, 1).numpy(), tag_probabilities(kept, *transitions(labels)), atol=1e-9
    )
    scores.requires_grad_()
    crf.marginal_scores(crf.potentials(scores.flatten(0, 1)).unflatten(0, (2, 5)), between, start)[
        ..., 0
    ].sum().backward()
    assert bool(scores.grad.isfinite().all())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("family", ["t5", "bart"])
def test_integrated_gradients_of_encoders_with_a_decoder_are_those_of_captum(family: str) -> None:
    captum = pytest.importorskip("captum.attr", reason="captum is not installed: pip install captum")
    model = QuestionedModel(tiny_writer(family, torch.float32), tiny_tokenizer())
    ids, answer = torch.tensor([[6, 11, 8, 2]]), torch.tensor([[0, 7, 9]])
    asked = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "decoder_input_ids": answer}
    reads = torch.tensor([0, 1])
    own = Sequence(asked, reads)
    blank = model.vectors(torch.tensor([[6, 5, 5, 2]]))

    def forward(vectors: torch.Tensor) -> torch.Tensor:
        rows = {name: one.expand(len(vectors), -1) for name, one in asked.items() if name != "input_ids"}
        logits = model.model(inputs_embeds=vectors, **rows).logits[:, reads]
        return torch.stack([log_odds(logits[:, 0], 7), log_odds(logits[:, 1], 9)]).mean(dim=0)

    target = written_target([7, 9], ["a", "b"])
    scale = getattr(model.model.get_encoder(), "embed_scale", 1.0) if family == "bart" else 1.0
    assert scale == 1.0, "vectors given to transformers are scaled by nobody"
    with model.asked():
        whole = model.vectors(ids)
        theirs = captum.IntegratedGradients(forward).attribute(whole, blank, n_steps=16, method="gausslegendre")
        question = Question(model, own, target, (), whole[0], blank[0], 8)
        ours = along_the_line(question, target.value, 16)
    torch.testing.assert_close(ours, theirs[0].sum(-1).to(ours), rtol=0, atol=1e-5)


def test_decoders_that_read_the_text_once_more_read_the_same_words() -> None:
    """Of BART a classifier's decoder is given the text, too: a word that is taken away is gone from both."""
    whole = tiny_model("bart", 2, torch.float32)
    model = QuestionedModel(whole, tiny_tokenizer())
    ids, blanked = (torch.tensor([[6, token, 8, 2]]) for token in (11, 5))
    with model.asked(), torch.no_grad():
        asked = Sequence({"input_ids": ids, "attention_mask": torch.ones_like(ids)}, None)
        found = model.scores(asked, model.vectors(blanked))
        expected = whole(input_ids=blanked, attention_mask=torch.ones_like(ids)).logits
    torch.testing.assert_close(found, expected)


# ---- the command ---------------------------------------------------------------------------------


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    assert command(["explain", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_the_command_gives_tokens_and_scores(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = told(capsys, str(trained), "--text", "a great plot")
    assert found["tokens"] == ["a", "great", "plot"]
    assert len(found["scores"]) == 3
    assert found["prediction"]["label"] == found["target"] == "good"
    assert command(["explain", str(trained), "--text", "a great plot"]) == 0
    assert "comprehensiveness" in capsys.readouterr().out


def test_a_file_is_explained_with_a_page(
    trained: Path, grouped: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.html"
    found = told(capsys, str(trained), "--data", str(grouped), "--rows", "4", "--output", str(page))
    assert len(found["rows"]) == 4
    assert found["faithfulness"]["integrated-gradients"]["comprehensiveness"]["low"] is not None
    assert "<h1>" in page.read_text(encoding="utf-8")
    assert command(["explain", str(trained), "--data", str(grouped), "--rows", "2", "--quiet"]) == 0
    assert "Faithfulness over 2 texts" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "There is nothing to explain"),
        (["--text", "a", "--data", "b.csv"], "Give either --text or --data"),
        (["--text", "great " * 200], "longer than the"),
        (["--text", "great", "--label", "superb"], "the run knows no such label"),
        (["--text", "great", "--word", "great"], "is for texts whose words have tags"),
        (["--text", "great", "--method", "magic"], "There is no way of explaining called magic"),
        (["--text", " "], "has no words to explain"),
        (["--text", "great", "--changes"], "--changes is about the model alone"),
    ],
)
def test_what_cannot_be_explained_is_refused(
    trained: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert command(["explain", str(trained), *arguments]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert "→" in error
