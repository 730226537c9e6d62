"""Reinforcement by rewards: what answers are worth, what groups of them give to learn."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from chats import assistant, columns_of, system, user
from tiny import tiny_tokenizer
from tunesmith.data.encoded import Encoded, as_ragged
from tunesmith.tasks.answer_rewards import RewardPart, is_right, names_of, score_answers
from tunesmith.tasks.asked_question import Question
from tunesmith.tasks.grpo import GRPO
from tunesmith.tasks.objective import Written
from tunesmith.tasks.objectives.group_relative import advantages, differ
from tunesmith.types import InputError, RunError

FUNCTIONS = Path(__file__).parent / "reward_functions.py"
GSM = "6 + 6 = <<6+6=12>>12\nAnd 1,000 of them.\n#### 12,000"


def asked(reference: str | None = None, **row: Any) -> Question:
    return Question("How many?", [user("How many?")], reference, row, "rows.jsonl:7")


def worth(part: Any, answer: str, reference: str | None = None, length: int = 5) -> float:
    parts = GRPO(rewards=part).rewards
    return float(score_answers(parts, [answer], [length], [asked(reference)], {})[0, 0])


@pytest.mark.parametrize(
    ("answer", "reference", "right"),
    [
        ("It is 12000.", GSM, 1),
        ("12 boxes make 12,000", GSM, 1),
        ("#### 12,000.00 at once", GSM, 1),
        ("#### 12 000", GSM, 0),
        ("12000, or else 7", GSM, 0),
        ("no idea", GSM, 0),
        ("so -3.50", "-3.5", 1),
        ("so 3.5", "-3.5", 0),
        (r"\boxed{42} and 7", "the answer is 42", 1),
        ("42", "none at all", 0),
        ("42", None, 0),
    ],
)
def test_numbers_are_compared_as_numbers(answer: str, reference: str | None, right: float) -> None:
    assert worth("number", answer, reference) == right


def test_texts_fit_whatever_their_case_and_spaces() -> None:
    assert worth("text", " The  Sun\n", "the sun") == 1
    assert worth("text", "the sun.", "the sun") == 0
    assert worth("text", "the sun", None) == 0


def test_a_regular_expression_fits_whole_answers_or_parts_or_counts_its_share() -> None:
    number = r"####\s*-?\d+"
    assert worth({"by": "regex", "pattern": rf".*{number}"}, "two\nlines #### 4") == 1
    assert worth({"by": "regex", "pattern": rf".*{number}"}, "#### 4 apples") == 0
    assert worth({"by": "regex", "pattern": number, "counts": "anywhere"}, "#### 4 apples") == 1
    assert worth({"by": "regex", "pattern": "[aeiou]", "counts": "share"}, "banana and") == pytest.approx(0.4)
    assert worth({"by": "regex", "pattern": "x", "counts": "share"}, "") == 0
    assert worth("regex:a:b", "a:b") == 1


def test_length_is_worth_one_up_to_a_limit_and_falls_over_a_margin() -> None:
    assert [worth("length:4", "", length=length) for length in (1, 4, 5)] == [1, 1, 0]
    part = {"by": "length", "most": 4, "margin": 3}
    assert [worth(part, "", length=length) for length in (4, 5, 6, 7, 8, 20)] == [1, 0.75, 0.5, 0.25, 0, 0]


def test_functions_take_what_they_name() -> None:
    assert worth(f"{FUNCTIONS}:score", "12", "12") == 1
    assert worth(f"{FUNCTIONS}:score", "12", "13") == 0
    parts = GRPO(rewards=[f"{FUNCTIONS}:by_row"]).rewards
    assert score_answers(parts, ["a"], [1], [asked(factor=2)], {}).tolist() == [[18.0]]


def test_a_function_that_fails_is_named_with_its_line_and_row() -> None:
    with pytest.raises(
        RunError, match=r"(?s)reward_functions.py:broken failed.*rows.jsonl:7 \(line 17\).*ZeroDiv.*'abc'"
    ):
        worth(f"{FUNCTIONS}:broken", "abc")
    with pytest.raises(RunError, match=r"silent gave None for an answer to rows.jsonl:7"):
        worth(f"{FUNCTIONS}:silent", "abc")


@pytest.mark.parametrize(
    ("spelled", "said"),
    [
        ("nowhere.py:score", "there is no file nowhere.py"),
        (f"{FUNCTIONS}:nothing", "has no function nothing"),
        (f"{FUNCTIONS}:asks_for_more", "asks for tokenizer"),
    ],
)
def test_functions_that_cannot_be_used_are_refused_before_training(spelled: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        GRPO(rewards=spelled).bind(columns_of([[user("a")]]))


def test_files_that_do_not_run_and_files_that_change_are_told(tmp_path: Path) -> None:
    file = tmp_path / "rewards.py"
    file.write_text("def score(answer):\n    return 1 +\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"cannot be run \(line 2\): SyntaxError"):
        GRPO(rewards=f"{file}:score").bind(columns_of([[user("a")]]))
    file.write_text("def score(answer):\n    return 1\n", encoding="utf-8")
    bound = GRPO(rewards=f"{file}:score").bind(columns_of([[user("a")]]))
    assert worth(bound.rewards[0], "a") == 1
    file.write_text("def score(answer):\n    return 2\n", encoding="utf-8")
    with pytest.raises(InputError, match="has changed since the run was started"):
        worth(bound.rewards[0], "a")


@pytest.mark.parametrize(
    ("part", "said"),
    [
        ({"by": "regex"}, "regex needs pattern"),
        ("regex:(", "no regular expression"),
        ({"by": "number", "pattern": "a"}, "pattern belongs to regex"),
        ({"by": "function", "function": "score"}, "expected FILE.py:NAME"),
        ("length:none", "valid integer"),
        ("magic", "number"),
    ],
)
def test_parts_that_say_too_little_or_too_much_are_refused(part: Any, said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        GRPO(rewards=part)


def test_without_rewards_there_is_nothing_to_learn() -> None:
    with pytest.raises(InputError, match=r"task.rewards is empty.*(?s:.*)--task.rewards number"):
        GRPO().bind(columns_of([[user("a")]]))


def test_parts_have_names_of_their_own_and_judges_are_asked_by_them() -> None:
    task = GRPO(rewards=["number", "regex:a", "regex:b", f"{FUNCTIONS}:score", "run:runs/judge"])
    assert names_of(task.rewards) == ["number", "regex_1", "regex_2", "score", "run"]
    assert task.judges == {"run": "runs/judge"}
    found = score_answers(task.rewards, ["a"], [1], [asked("1")], {"run": np.array([2.5])})
    assert found.tolist() == [[0, 1, 0, 0, 2.5]]


def test_answers_are_right_by_number_where_the_reference_is_one() -> None:
    assert is_right("about 1,000", "1000") == 1
    assert is_right("12000", GSM) == 1
    assert is_right("Yes 7", "yes 7") == 1
    assert is_right("no", "yes") == 0
    assert math.isnan(is_right("no", None))


def test_advantages_are_those_of_the_group() -> None:
    rewards = np.array([[1.0, 0.0, 0.0, 2.0], [0.5, 0.5, 0.5, 0.5]])
    own = rewards[0] - 0.75
    deviation = math.sqrt(sum(own**2) / 3)
    np.testing.assert_allclose(advantages(rewards, scale=True), [own / (deviation + 1e-4), [0, 0, 0, 0]])
    np.testing.assert_allclose(advantages(rewards, scale=False), [own, [0, 0, 0, 0]])
    assert differ(rewards).tolist() == [1, 0]
    assert differ(np.array([[0.1 + 0.2, 0.3]])).tolist() == [0], "rounding is no difference"


ROWS = [
    [system("Be brief."), user("a wonderful film"), assistant("9")],
    [user("dull"), assistant("yes"), user("and worse"), assistant("5")],
    [user("no right answer is known")],
]


def encoded(task: GRPO) -> tuple[GRPO, Any, Encoded]:
    columns = columns_of(ROWS) | {"row": [f"rows.jsonl:{i + 1}" for i in range(3)]}
    columns["given"] = [f'{{"factor": {i}}}' for i in range(3)]
    task = task.bind(columns)
    tokenizer = tiny_tokenizer("chat")
    return task, tokenizer, task.encode(columns, tokenizer, 128)


def written(tokenizer: Any, texts: list[str], *, cut: tuple[int, ...] = ()) -> Written:
    tokens = [tokenizer(text, add_special_tokens=False)["input_ids"] + [tokenizer.eos_token_id] for text in texts]
    return Written(tokens, texts, [index in cut for index in range(len(texts))])


def test_questions_are_kept_with_room_for_an_answer() -> None:
    task, tokenizer, data = encoded(GRPO(rewards="number", max_new_tokens=6))
    assert (data.num_data_rows, data.num_samples) == (3, 3)
    prompts = task.prompts(data, np.array([1, 0]))
    text = tokenizer.decode(prompts[0])
    assert text.endswith("<|im_start|>user\nand worse<|im_end|>\n<|im_start|>assistant\n")
    assert "Be brief." in tokenizer.decode(prompts[1])
    assert data.lengths.tolist() == [len(prompts[1]) + 6, len(prompts[0]) + 6, data.lengths[2]]
    assert as_ragged(data.reads).lengths.tolist() == [6, 6, 6]
    assert [one[-1]["content"] for one in task.asked(data, np.arange(3))] == [
        "a wonderful film",
        "and worse",
        ROWS[2][0]["content"],
    ]


def test_answers_too_long_for_the_model_are_refused() -> None:
    with pytest.raises(InputError, match="leave no room for questions"):
        encoded(GRPO(rewards="number", max_new_tokens=120))


TEXTS = ["9", "it is 9", "8", "a long answer without any", "5", "4", "5", "5"]


def test_a_lesson_is_learned_from_the_tokens_of_answers_by_their_advantage() -> None:
    task, tokenizer, data = encoded(GRPO(rewards=[{"by": "number", "weight": 2}], group_size=4, max_new_tokens=40))
    given = written(tokenizer, TEXTS)
    lesson = task.lesson(data, np.array([0, 1]), given, is_learned=True)
    prompts = task.prompts(data, np.array([0, 1]))
    for index, tokens in enumerate(given.tokens):
        sequence = as_ragged(lesson.data.inputs["input_ids"])[index].tolist()
        reads = as_ragged(lesson.data.reads)[index]
        assert sequence == [*prompts[index // 4].tolist(), *tokens]
        assert [sequence[place + 1] for place in reads] == list(tokens)
        assert as_ragged(lesson.data.targets["labels"])[index].tolist() == list(tokens)
        assert as_ragged(lesson.data.targets["weight"])[index].tolist() == [1.0] * len(tokens)
    rewards = np.array([[2.0, 2, 0, 0], [2, 0, 2, 2]])
    found = [as_ragged(lesson.data.targets["advantage"])[index] for index in range(8)]
    for values, expected in zip(found, advantages(rewards, scale=True).ravel(), strict=True):
        np.testing.assert_allclose(values, expected, rtol=1e-6)
    assert lesson.measured["reward"] == 1.25
    assert lesson.measured["reward/number"] == lesson.measured["accuracy"] == 0.625
    assert lesson.measured["without_difference"] == lesson.measured["cut"] == 0
    assert not lesson.idle


def test_groups_of_equal_worth_are_told() -> None:
    task, tokenizer, data = encoded(GRPO(rewards="number", group_size=2, max_new_tokens=40))
    lesson = task.lesson(data, np.array([0, 1]), written(tokenizer, ["9", "8", "5", "5"]), is_learned=True)
    assert (lesson.measured["without_difference"], lesson.idle) == (0.5, "")
    lesson = task.lesson(data, np.array([0, 1]), written(tokenizer, ["9", "9", "1", "2"]), is_learned=True)
    assert lesson.measured["without_difference"] == 1
    assert "all answers to a question were worth the same (rewards: from 0 to 1)" in lesson.idle


def test_the_weights_of_tokens_follow_what_the_loss_is_a_mean_over() -> None:
    task, tokenizer, data = encoded(GRPO(rewards="number", group_size=2, max_new_tokens=40, per="answer"))
    given = written(tokenizer, TEXTS[:4], cut=(3,))
    lesson = task.lesson(data, np.array([0, 1]), given, is_learned=True)
    weights = [as_ragged(lesson.data.targets["weight"])[index].sum() for index in range(4)]
    np.testing.assert_allclose(weights, 1, rtol=1e-6)
    task = task.changed(per="token", learns_cut=False)
    lesson = task.lesson(data, np.array([0, 1]), given, is_learned=True)
    assert not as_ragged(lesson.data.targets["weight"])[3].any()
    assert lesson.measured["cut"] == 0.25


def test_judged_answers_carry_what_they_are_worth_beside_them() -> None:
    task, tokenizer, data = encoded(GRPO(rewards=["number", "length:3"], max_new_tokens=40))
    lesson = task.lesson(data, np.arange(3), written(tokenizer, ["9", "it is 5", "no"]), is_learned=False)
    assert lesson.data.beside["reward_number"].tolist() == [1, 1, 0]
    lengths = lesson.data.beside["answer_length"]
    np.testing.assert_array_equal(lesson.data.beside["reward_length"], lengths <= 3)
    np.testing.assert_array_equal(lesson.data.beside["accuracy"], [1, 1, np.nan])
    measured = task.measure(lesson.data.beside, lesson.data.targets, np.array([[1.0, 1, 1], [0, 0, 2]]))
    assert measured["accuracy"][0] == 1
    assert math.isnan(measured["accuracy"][1])
    assert measured["reward"].tolist() == [lesson.data.beside["reward"].mean(), lesson.data.beside["reward"][2]]


def test_rows_without_what_rewards_compare_with_are_counted() -> None:
    columns = columns_of(ROWS) | {"row": [f"rows.jsonl:{i + 1}" for i in range(3)]}
    (problem,) = GRPO(rewards=["number", "length:3"]).bind(columns).check("train", columns)
    assert (problem.severity, problem.count, problem.rows) == ("warning", 1, ("rows.jsonl:3",))
    none = columns_of([[user("a")], [user("b"), assistant("no number")]])
    (problem,) = GRPO(rewards="number").bind(none).check("train", none)
    assert (problem.severity, problem.count) == ("error", 2)


def test_a_part_may_be_given_as_it_stands() -> None:
    part = RewardPart(by="text", weight=0.5)
    assert GRPO(rewards=part).rewards == (part,)
