"""Whether a template writes a turn's calls is decided by that turn, whatever else speaks of the tool."""

from __future__ import annotations

import pytest

from chats import RESULT, assistant, chat_tokenizer, columns_of, user
from tunesmith.tasks import CausalLM

TURN = "{{ '<|im_start|>' + m.role + '\n' }}{{ m.content }}"
END = "{{ '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
XML = "{% for c in m.tool_calls or [] %}<call={{ c.function.name }}>{% for k, v in c.function.arguments|items %}<{{ k }}>{{ v }}{% endfor %}{% endfor %}"  # noqa: E501
PYTHON = "{% for c in m.tool_calls or [] %}{{ c.function.name }}({% for k in c.function.arguments %}{{ k }}={{ c.function.arguments[k]|tojson }}, {% endfor %}){% endfor %}"  # noqa: E501
NAMES = "{% for c in m.tool_calls or [] %}{{ c.function.name }}{% endfor %}"
LAST = "{% if loop.last %}" + PYTHON + "{% endif %}"
KNOWN = "{% for c in m.tool_calls or [] %}{% if c.function.name != 'weather' %}{{ raise_exception('unknown') }}{% endif %}{% endfor %}"  # noqa: E501
LISTED = "{{ tools|tojson if tools else '' }}"


def call(**arguments: object) -> dict[str, object]:
    return assistant("", tool_calls=[{"type": "function", "function": {"name": "weather", "arguments": arguments}}])


SPOKEN_OF = [user('Please call weather with {"city": "Bern"}.'), call(city="Bern"), RESULT, assistant("weather: Bern")]
WEATHER = [{"type": "function", "function": {"name": "weather", "parameters": {"city": "Bern"}}}]


@pytest.mark.parametrize(
    ("written", "is_written"),
    [(XML, True), (PYTHON, True), (LAST, True), (KNOWN + PYTHON, True), (NAMES, False), ("", False), (KNOWN, False)],
)
def test_calls_are_looked_for_in_their_own_turn(written: str, is_written: bool) -> None:
    template = LISTED + "{% for m in messages %}" + TURN + written + END
    columns = columns_of([SPOKEN_OF, [user("Hi"), assistant("Ho")]], WEATHER)
    tokenizer = chat_tokenizer("chatml")
    task = CausalLM(template=template).bind(columns)
    task.adapt(tokenizer)
    encoded = task.encode(columns, tokenizer, 2000)
    wanted = {} if is_written else {"are refused by the chat template (it does not write tool calls)": (0,)}
    assert encoded.left_out == wanted


@pytest.mark.parametrize("train_on", ["assistant", "all"])
def test_a_turn_that_leaves_out_one_of_its_calls_is_refused(train_on: str) -> None:
    first = "{% if m.tool_calls %}{{ m.tool_calls[0].function|tojson }}{% endif %}"
    template = "{% for m in messages %}" + TURN + first + END
    turn = call(city="Bern")
    twice = {**turn, "tool_calls": [*turn["tool_calls"], *call(city="Rom")["tool_calls"]]}  # type: ignore[misc]
    columns = columns_of([[user("Bern, Rom"), turn], [user("Bern, Rom"), twice], [user("any"), call()]])
    tokenizer = chat_tokenizer("chatml")
    task = CausalLM(template=template, train_on=train_on).bind(columns)
    task.adapt(tokenizer)
    assert list(task.encode(columns, tokenizer, 2000).left_out.values()) == [(1,)]


def test_calls_in_the_text_of_a_turn_are_text() -> None:
    said = '<tool_call>\n{"name": "weather", "arguments": {"city": "Bern"}}\n</tool_call>'
    columns = columns_of([[user("Bern?"), assistant(said), {"role": "tool", "content": "3"}, assistant("Cold.")]])
    tokenizer = chat_tokenizer("chatml")
    encoded = CausalLM().bind(columns).encode(columns, tokenizer, 2000)
    assert not encoded.left_out
    assert said in tokenizer.decode(encoded.inputs["input_ids"][0])
