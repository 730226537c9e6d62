"""Text to text: loss, gradients and searches of ``transformers``, several targets, rivals, and what does not fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tiny import PAD, gradients_of, tiny_model, tiny_tokenizer
from tiny_writers import FAMILIES, tiny_writer
from tunesmith.data.encoded import Encoded, Ragged
from tunesmith.engine.batch import Batch, Collator
from tunesmith.engine.generate import Sampling, generate
from tunesmith.engine.layout import choose_layout
from tunesmith.engine.losses import loss_sum
from tunesmith.engine.scorer import Scorer
from tunesmith.models.anatomy import Anatomy
from tunesmith.tasks.seq2seq import Seq2Seq
from tunesmith.types import InputError

SOURCES = ["a wonderful little film, warm and funny", "the plot is dull", "this movie made me laugh and cry"]
TARGETS = [["great songs"], ["boring, slow and far too long"], ["a great evening"]]
COLUMNS = {"source": SOURCES, "target": TARGETS, "row": ["a:1", "a:2", "a:3"]}


def encoded_for(model: Any, columns: Any = COLUMNS, **settings: Any) -> tuple[Seq2Seq, Encoded]:
    tokenizer = tiny_tokenizer("bpe")
    task = Seq2Seq(**settings).bind(columns).suited_to(model, tokenizer)
    return task, task.encode(columns, tokenizer, 64)


def batch_of(data: Encoded, *rows: int) -> Batch:
    return Collator("padded", PAD)(data, np.array(rows or range(len(data))))


def as_transformers_has_it(tokenizer: Any, batch: Batch) -> dict[str, torch.Tensor]:
    """Return the batch as the data collator of ``transformers`` makes it of the same rows."""
    from transformers import DataCollatorForSeq2Seq

    rows = [
        {**tokenizer(SOURCES[row]), "labels": tokenizer(text_target=TARGETS[row][0])["input_ids"]}
        for row in batch.sequences.tolist()
    ]
    found = DataCollatorForSeq2Seq(tokenizer)([{k: v for k, v in row.items() if k != "token_type_ids"} for row in rows])
    return {name: found[name] for name in ("input_ids", "attention_mask", "labels")}


@pytest.mark.parametrize("family", FAMILIES)
def test_loss_and_gradients_are_those_of_transformers(family: str) -> None:
    """What the decoder reads is what the model's own ``forward(labels=...)`` shifts: no part of it is told by name."""
    model = tiny_writer(family)
    task, data = encoded_for(model)
    batch = batch_of(data)
    scorer = Scorer(model, "padded", "token")
    with scorer.surrounding(batch):
        loss = loss_sum(scorer, task, batch) / task.count_units(batch.targets, batch.units)
    loss.backward()
    found = gradients_of(model)
    model.zero_grad()
    expected = model(**as_transformers_has_it(tiny_tokenizer("bpe"), batch)).loss
    expected.backward()
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=0)
    assert gradients_of(model).keys() == found.keys()
    for name, gradient in gradients_of(model).items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-9, atol=1e-12)


def test_micro_batches_add_up_to_the_loss_of_the_whole_step() -> None:
    model = tiny_writer("bart")
    task, data = encoded_for(model, label_smoothing=0.1)
    scorer = Scorer(model, "padded", "token")

    def total(*rows: int) -> torch.Tensor:
        batch = batch_of(data, *rows)
        with torch.no_grad(), scorer.surrounding(batch):
            return loss_sum(scorer, task, batch)

    torch.testing.assert_close(total(0) + total(1, 2), total(0, 1, 2), rtol=1e-12, atol=0)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_is_that_of_seq2seq_trainer(tmp_path: Path, smoothing: float) -> None:
    from transformers import Seq2SeqTrainer, Seq2SeqTrainingArguments

    model = tiny_writer("t5")
    task, data = encoded_for(model, label_smoothing=smoothing)
    batch = batch_of(data)
    scorer = Scorer(model, "padded", "token")
    with torch.no_grad(), scorer.surrounding(batch):
        found = loss_sum(scorer, task, batch) / task.count_units(batch.targets, batch.units)
    arguments = Seq2SeqTrainingArguments(
        output_dir=str(tmp_path), label_smoothing_factor=smoothing, use_cpu=True, report_to="none"
    )
    trainer = Seq2SeqTrainer(model=model, args=arguments)
    given = as_transformers_has_it(tiny_tokenizer("bpe"), batch)
    given["decoder_input_ids"] = model.prepare_decoder_input_ids_from_labels(given["labels"])
    with torch.no_grad():
        expected = trainer.compute_loss(model, given)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=0)


@pytest.mark.parametrize("family", ["bart", "t5"])
@pytest.mark.parametrize(
    "settings",
    [{}, {"num_beams": 3, "length_penalty": 2.0}, {"num_beams": 2, "no_repeat_ngram": 2, "first_token": 7}],
)
def test_answers_are_those_of_generate(family: str, settings: dict[str, Any]) -> None:
    """Sources of several lengths at once get what each gets alone from the model's own search."""
    model, tokenizer = tiny_writer(family), tiny_tokenizer("bpe")
    first = {"first_token": settings["first_token"]} if "first_token" in settings else {}
    task = Seq2Seq(**settings).bind(COLUMNS).suited_to(model, tokenizer).changed(**first)
    prompts = task.encode_prompts(COLUMNS, tokenizer, 64).inputs["input_ids"]
    sampling = Sampling(9, task.stop_tokens(tokenizer), PAD, search=task.search())
    assert isinstance(prompts, Ragged)
    done: list[int] = []
    found = generate(model, prompts, sampling, check=done.append)
    assert done[0] == 0
    for row, answer in enumerate(found):
        wanted = model.generate(
            input_ids=torch.tensor([prompts[row].tolist()]),
            max_new_tokens=9,
            do_sample=False,
            **task.search(),
        )[0, 1:].tolist()
        ends = [place for place, token in enumerate(wanted) if token in sampling.stop_tokens]
        assert answer == wanted[: ends[0] if ends else len(wanted)]
        if "first_token" in settings:
            assert answer[0] == 7


def test_answers_end_where_the_decoder_has_no_more_places() -> None:
    model, tokenizer = tiny_writer("bart"), tiny_tokenizer("bpe")
    task = Seq2Seq().bind(COLUMNS).suited_to(model, tokenizer)
    prompts = task.encode_prompts(COLUMNS, tokenizer, 64).inputs["input_ids"]
    found = generate(model, prompts, Sampling(256, frozenset(), PAD, search=task.search()))
    assert max(map(len, found)) <= 63


def test_every_target_of_a_row_is_learned_and_answers_are_judged_by_all() -> None:
    columns = {**COLUMNS, "target": [["great songs", "a great film"], ["boring"], ["a great evening", "slow"]]}
    task, data = encoded_for(tiny_writer("bart"), columns)
    assert data.rows is not None
    assert data.rows.tolist() == [0, 2, 3, 5]
    assert len(data) == 5
    sources = data.inputs["input_ids"]
    np.testing.assert_array_equal(sources[0], sources[1])
    outputs = task.judge_answers(["a great film", "dull", None], columns)
    metrics = task.measure(outputs, data.targets, np.ones((1, 3)))
    assert metrics["exact_match"].tolist() == [0.5]
    assert task.footnotes(outputs, columns)["signatures"]["bleu"].startswith("nrefs:var|")
    for reference in range(2):  # the order of references does not matter
        turned = {**columns, "target": [texts[::-1] if reference else texts for texts in columns["target"]]}
        again = task.measure(task.judge_answers(["a great film", "dull", None], turned), data.targets, np.ones((1, 3)))
        assert again["chrf"].tolist() == metrics["chrf"].tolist()


def test_corpus_scores_are_sacrebleus() -> None:
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF

    answers = ["the cat sat on a mat", "他们在公园里玩"]
    targets = [["the cat sat on the mat", "a cat sat on the mat"], ["他们在公园里玩耍", "孩子们在公园里"]]
    columns = {"source": ["x", "y"], "target": targets, "row": ["a:1", "a:2"]}
    task = Seq2Seq(judged_by="bleu").bind(columns)
    outputs = task.judge_answers(answers, columns)
    found = task.measure(outputs, {}, np.ones((1, 2)))
    streams = [[texts[number] for texts in targets] for number in range(2)]
    assert found["bleu"][0] == pytest.approx(BLEU(tokenize="zh").corpus_score(answers, streams).score)
    assert found["chrf"][0] == pytest.approx(CHRF().corpus_score(answers, streams).score)
    assert "tok:zh" in task.footnotes(outputs, columns)["signatures"]["bleu"]
    assert task.headline(found) == "bleu"
    assert task.headline(["perplexity"]) == "perplexity"


def test_short_targets_are_summaries_whose_rival_is_the_best_extract() -> None:
    texts = [f"The main finding is number {i}. Then there is more to say of it. And it ends so." for i in range(8)]
    columns = {
        "source": texts,
        "target": [[f"the main finding is number {i}"] for i in range(8)],
        "row": list("abcdefgh"),
    }
    task = Seq2Seq(via="encoder_decoder").bind(columns)
    assert task.judged_by == "rouge_l"
    name, outputs = task.answer_by_rule(columns, columns)
    assert name == "the first sentence"
    assert outputs["answers"][3] == "The main finding is number 3."
    alike = Seq2Seq(via="encoder_decoder").bind({**columns, "target": [[text[::-1]] for text in texts]})
    assert alike.judged_by == "bleu"
    assert alike.answer_by_rule(columns, columns)[0] == "copying the source"
    assert Seq2Seq(via="prompt").rival == "untuned"
    chinese = {"source": ["Everybody is at home."] * 3, "target": [["大家都在家。"]] * 3, "row": list("abc")}
    assert Seq2Seq().bind(chinese).judged_by == "bleu"


def test_a_rival_is_judged_on_the_rows_that_the_model_wrote_to() -> None:
    task = Seq2Seq(via="encoder_decoder").bind(COLUMNS)
    own = task.judge_answers(["great songs", None, None], COLUMNS)
    _, rival = task.answer_by_rule(COLUMNS, COLUMNS)
    assert task.as_answered(rival, own)["answer_given"].tolist() == [True, False, False]


def test_sentences_end_in_any_script() -> None:
    from tunesmith.tasks.rules_of_thumb import sentences

    assert sentences("One. Two! (Three?) Four") == ["One.", "Two!", "(Three?", "Four"]
    assert sentences("研究很重要。我们提出方法！结果好。") == ["研究很重要。", "我们提出方法！", "结果好。"]
    assert sentences("") == [""]


def lines(number: int, shift: int = 0) -> dict[str, Any]:
    lengths = np.random.default_rng(0).integers(2, 40, number + 5)
    return {
        "source": ["w" * int(length) for length in lengths[:number]],
        "target": [["v" * int(length)] for length in lengths[shift : number + shift]],
        "row": [f"a.en:{row + 1}" for row in range(number)],
    }


def test_lines_that_do_not_belong_together_are_seen_by_their_lengths() -> None:
    assert Seq2Seq().bind(lines(200)).check("train", lines(200)) == []
    task = Seq2Seq(judged_by="bleu").bind(lines(200, shift=1))
    problems = task.check("train", lines(200, shift=1))
    assert "do not seem to belong together" in problems[0].message
    assert "with the target 1 row earlier it is 1.00" in problems[0].message


def test_rows_of_striking_length_are_listed_and_left_out_by_choice() -> None:
    columns = lines(200)
    columns["target"][7] = ["v" * 900]
    (problem,) = Seq2Seq().bind(columns).check("train", columns)
    assert problem.count == 1
    assert problem.rows == ("a.en:8",)
    assert "task.most_length_ratio" in problem.fix
    model = tiny_writer("bart")
    _, data = encoded_for(model, columns, most_length_ratio=5.0)
    assert data.left_out == {"have sides of lengths that do not fit (task.most_length_ratio)": (7,)}
    assert data.num_data_rows == 200
    assert len(data) == 199


def test_the_other_kind_of_model_is_refused_and_languages_must_be_known() -> None:
    tokenizer = tiny_tokenizer("bpe")
    with pytest.raises(InputError, match=r"task.via is prompt, and BartForConditionalGeneration is no such model"):
        Seq2Seq(via="prompt").suited_to(tiny_writer("bart"), tokenizer)
    with pytest.raises(InputError, match=r"task.target_language: the model does not know the language 'xx'"):
        Seq2Seq(target_language="xx").suited_to(tiny_writer("bart"), tokenizer)
    prompted = Seq2Seq().suited_to(tiny_model("llama", head="causal"), tokenizer)
    assert prompted.via == "prompt"
    assert prompted.head().auto_class == "AutoModelForCausalLM"


def test_decoders_begin_as_their_models_say() -> None:
    found = {family: Anatomy.of(tiny_writer(family)).decoder_start for family in FAMILIES}
    assert found == {"bart": 2, "mbart": "last", "marian": PAD, "m2m100": 2, "pegasus": 0, "t5": PAD}


def test_the_padded_layout_is_taken_and_the_reason_is_said() -> None:
    layout, reason = choose_layout(tiny_writer("bart", torch.float32), "token", 97, "auto")
    assert layout == "padded"
    assert "two rows of tokens" in reason


def test_prompted_rows_are_learned_as_answers() -> None:
    """Several targets of a row are conversations of their own; only answers are read."""
    columns = {**COLUMNS, "target": [["great songs", "a great film"], ["boring"], ["slow"]]}
    task = Seq2Seq(via="prompt", prefix="Sum up: ").bind(columns)
    tokenizer = tiny_tokenizer("chat")
    data = task.encode(columns, tokenizer, 256)
    assert data.rows is not None
    assert data.rows.tolist() == [0, 2, 3, 4]
    whole = data.inputs["input_ids"]
    assert "Sum up: a wonderful" in tokenizer.decode(whole[0])
    labels = data.targets["labels"]
    assert isinstance(labels, Ragged)
    assert tokenizer.decode(labels[1], skip_special_tokens=True).strip() == "a great film"
