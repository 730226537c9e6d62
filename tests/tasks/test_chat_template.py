"""Chat templates: the same text as from transformers, within bounds, and which template is used."""

from __future__ import annotations

import re
import resource
from pathlib import Path
from typing import Any

import pytest

from chats import (
    ONE,
    SEVERAL,
    TEMPLATES,
    THINKING,
    TOOLS,
    WITH_TOOLS,
    WITHOUT_SYSTEM,
    assistant,
    chat_tokenizer,
    columns_of,
    source,
    user,
)
from child_memory import peak_of
from tunesmith.data.encoded import Encoded
from tunesmith.tasks import CausalLM
from tunesmith.tasks.chat import sandbox
from tunesmith.tasks.chat.sandbox import ChatTemplate, RefusedError, compiled
from tunesmith.tasks.chat.template import CHATML, ChatFormat, resolve_template
from tunesmith.tasks.left_out import encoding_problems
from tunesmith.types import InputError

_DATE = re.compile(r"Date: .*")


def rendered(name: str, messages: list[Any], tools: list[Any] | None, prompt: bool, **arguments: Any) -> str:
    chat_format = ChatFormat.of(chat_tokenizer(name), arguments)
    try:
        return _DATE.sub("Date:", chat_format.render(messages, tools, add_generation_prompt=prompt).text)
    except RefusedError as error:
        return f"refused: {error}"


def expected(name: str, messages: list[Any], tools: list[Any] | None, prompt: bool, **arguments: Any) -> str:
    from jinja2.exceptions import TemplateError

    try:
        text = chat_tokenizer(name).apply_chat_template(
            messages, tools=tools, add_generation_prompt=prompt, tokenize=False, **arguments
        )
    except TemplateError as error:
        return f"refused: {error}"
    assert isinstance(text, str)
    return _DATE.sub("Date:", text)


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize("prompt", [False, True])
def test_the_text_is_that_of_transformers(name: str, prompt: bool) -> None:
    with_none = [{**message, "name": None} for message in ONE]
    cases = [(ONE, None), (SEVERAL, None), (WITHOUT_SYSTEM[:-1], None), (THINKING, None), (with_none, None)]
    cases += [(WITH_TOOLS, TOOLS), (WITH_TOOLS[:3], TOOLS), (ONE, TOOLS), ([ONE[0], *ONE], None)]
    for messages, tools in cases:
        assert rendered(name, messages, tools, prompt) == expected(name, messages, tools, prompt)
    assert rendered("qwen", ONE[:1], None, prompt, enable_thinking=False) == expected(
        "qwen", ONE[:1], None, prompt, enable_thinking=False
    )


def test_documents_and_arguments_reach_the_template() -> None:
    text = "{{ documents[0].title }} {{ mood }} {{ eos_token }} {{ dict(a=1)|tojson }} {{ tools is none }}"
    tokenizer = chat_tokenizer("chatml")
    tokenizer.chat_template = text
    arguments = {"documents": [{"title": "T"}], "mood": "good"}
    found = ChatFormat.of(tokenizer, arguments).render(ONE).text
    assert found == tokenizer.apply_chat_template(ONE, tokenize=False, **arguments)
    assert found == 'T good <|im_end|> {"a": 1} True'


def test_blocks_are_trimmed_and_loops_controlled_as_in_transformers() -> None:
    text = (
        "  {% for message in messages %}\n    {% if loop.index > 2 %}{% break %}{% endif %}\n"
        "{% if message.role == 'system' %}{% continue %}{% endif %}\n"
        "{{ [message.content, loop.index0 ~ 1]|join('|') }}{{ '%s-%d' % ('a', 3) }}{{ 2 ** 3 + 7 // 2 }}\n"
        "  {% endfor %}\n"
        "{{ messages[1:]|map(attribute='role')|list }}{{ 'x'.replace('x', 'y').ljust(3) }}{{ '{:>4}'.format(1) }}|\n"
        "{% set ns = namespace(n=0) %}{% for m in messages if m.role != 'user' %}{% set ns.n = ns.n + 1 %}{% endfor %}"
        "{{ ns.n }}{{ messages|length }}{{ {'b': [1, (2,)]}|tojson(indent=2, sort_keys=true) }}\n"
        "{{ 'aé'|upper|indent }}"
    )
    tokenizer = chat_tokenizer("chatml")
    tokenizer.chat_template = text
    found = ChatFormat.of(tokenizer, {}).render(SEVERAL).text
    assert found == tokenizer.apply_chat_template(SEVERAL, tokenize=False)


def test_tokenizers_with_several_templates_use_the_one_for_tools() -> None:
    tokenizer = chat_tokenizer("chatml")
    tokenizer.chat_template = {"default": "plain", "tool_use": "tools"}  # type: ignore[assignment]
    chat_format = ChatFormat.of(tokenizer, {})
    assert chat_format.render(ONE).text == "plain"
    assert chat_format.render(ONE, TOOLS).text == "tools"


def test_every_day_gives_the_same_text() -> None:
    assert "26 Jul 2024" in ChatFormat.of(chat_tokenizer("llama3"), {}).render(ONE).text
    dated = compiled("{{ strftime_now('%Y-%m-%d') }}")
    assert dated.render({"messages": []}).text == "2024-07-26"


def test_refusals_come_in_the_templates_words_with_the_places() -> None:
    columns = columns_of([ONE, [ONE[0], *ONE], SEVERAL, [user("a"), user("b"), assistant("c")]])
    task = CausalLM().bind(columns)
    encoded = task.encode(columns, chat_tokenizer("mistral"), 200)
    assert encoded.data_rows(range(len(encoded))) == [0, 2]  # type: ignore[arg-type]
    (alternate,) = encoding_problems(encoded, columns, "train", "quarantine")
    assert alternate.severity == "warning"
    assert "Roles must alternate user/assistant" in alternate.message
    assert alternate.rows == ("chats.jsonl:2", "chats.jsonl:4")
    assert alternate.count == 2
    (system,) = task.encode(columns, chat_tokenizer("gemma"), 200).left_out.items()
    assert "System role not supported" in system[0]
    with pytest.raises(InputError, match="Roles must alternate"):  # an answer is owed to every prompt
        task.encode_prompts(columns, chat_tokenizer("mistral"), 200)


@pytest.mark.parametrize(
    ("num_refused", "num_rows", "bad_rows", "severity"),
    [(1, 20, "auto", "warning"), (3, 8, "auto", "warning"), (4, 20, "auto", "error"), (4, 400, "auto", "warning"),
     (5, 400, "auto", "error"), (10, 20, "quarantine", "warning"), (1, 20, "refuse", "error"),
     (8, 8, "quarantine", "error")],
)  # fmt: skip
def test_few_refused_conversations_are_set_aside_and_many_are_an_error(
    num_refused: int, num_rows: int, bad_rows: Any, severity: str
) -> None:
    bad, good = [ONE[0], *ONE], ONE
    columns = columns_of([bad] * num_refused + [good] * (num_rows - num_refused))
    encoded = CausalLM().bind(columns).encode(columns, chat_tokenizer("mistral"), 200)
    assert len(encoded) == num_rows - num_refused
    assert encoded.num_data_rows == num_rows
    (problem,) = encoding_problems(encoded, columns, "train", bad_rows)
    assert (problem.severity, problem.count) == (severity, num_refused)
    assert "Roles must alternate user/assistant" in problem.message
    assert "task.template" in problem.fix or severity == "warning"


def test_what_was_left_out_is_kept_with_the_tokens(tmp_path: Path) -> None:
    columns = columns_of([[ONE[0], *ONE], ONE, [user("Say </s>."), ONE[1]]])
    encoded = CausalLM().bind(columns).encode(columns, chat_tokenizer("mistral"), 200)
    encoded.save(tmp_path)
    again = Encoded.load(tmp_path)
    assert again.left_out == encoded.left_out != {}
    assert again.remarks == encoded.remarks != {}


def test_tool_calls_are_not_left_out_silently() -> None:
    columns = columns_of([WITH_TOOLS], TOOLS)
    encoded = CausalLM().bind(columns).encode(columns, chat_tokenizer("chatml"), 200)
    assert len(encoded) == 0
    assert encoded.left_out == {"are refused by the chat template (it does not write tool calls)": (0,)}


HOSTILE = {
    "loops": "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "empty loops": "{% for i in range(99999) %}{% for j in range(99999) if false %}{% endfor %}{% endfor %}",
    "long": "{{ 'a' * 10**9 }}",
    "doubled": "{% set n = namespace(x='ab') %}{% for i in range(99) %}{% set n.x = n.x ~ n.x %}{% endfor %}{{ n.x }}",
    "nested": "{% set n = namespace(x=[]) %}{% for i in range(99) %}{% set n.x = [n.x, n.x] %}{% endfor %}{{ n.x }}",
    "keys": "{% set n = namespace(x=()) %}{% for i in range(99) %}{% set n.x = (n.x, n.x) %}{% endfor %}{{ {n.x: 1} }}",
    "written": "{% set x = 'a' * 900000 %}{% for i in range(99999) %}{{ x }}{% endfor %}",
    "kept": "{% set x %}{% for i in range(99999) %}" + "a" * 99 + "{% endfor %}{% endset %}{{ x }}",
    "number": "{{ (9 ** 9) ** (9 ** 9) }}",
    "digits": "{{ ('9' * 4000)|int * ('9' * 4000)|int }}",
    "width": "{{ 'a'.ljust(10 ** 9) }}",
    "named width": "{{ 'a\t'.expandtabs(tabsize=10 ** 9) }}",
    "filter width": "{{ 'a'|center(1000000000) }}",
    "indent": "{{ ('a\n' * 9)|indent('b' * 900000, true)|indent('c' * 900000, true) }}",
    "format": "{{ '{:1000000000}'.format(1) }}",
    "format fields": "{{ ('{0}' * 3000).format('a' * 900000) }}",
    "percent": "{{ '%1000000000d' % 1 }}",
    "percent star": "{{ '%*d' % (1000000000, 1) }}",
    "replace": "{{ ('a' * 900000).replace('a', 'b' * 900000) }}",
    "replace filter": "{{ ('a' * 900000)|replace('a', 'b' * 900000) }}",
    "join": "{{ ('b' * 900000).join(range(99999)|map('string')) }}",
    "join filter": "{{ range(99999)|join('b' * 900000) }}",
    "translate": "{{ ('a' * 900000).translate({97: 'b' * 900000}) }}",
    "fill": "{{ range(9)|batch(1000000000, 'x')|list }}",
    "flatten": "{{ (range(99999)|batch(1)|list)|sum(start=[]) }}",
    "bytes": "{{ (1).to_bytes(1000000000, 'big') }}",
    "list": "{{ [1] * 1000000000 }}",
    "searches": "{% set l = range(99999)|list %}{% for i in range(99999) %}{% if -1 in l %}{% endif %}{% endfor %}",
    "copies": "{% set l = range(99999)|list %}{% for i in range(99999) %}{{ l[::-1]|length }}{% endfor %}",
    "calls": "{% set l = range(99999)|list %}{% for i in range(99999) %}{{ l.index(99998) }}{% endfor %}",
    "itself": "{% macro f() %}{{ f() }}{{ f() }}{% endmacro %}{{ f() }}",
    "hash": "{{ dict.fromkeys(range(0, 99999 * (2 ** 61 - 1), 2 ** 61 - 1))|length }}",
    "codec": "{{ ('\u4e00\u4e8c\u4e09' * 60000 ~ range(99999)|join).encode('punycode')|length }}",
    "class": "{{ ''.__class__.__mro__ }}",
    "globals": "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
    "changed": "{{ messages.append(1) }}",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_templates_end_quickly(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "MAX_SECONDS", 0.3)
    start = resource.getrusage(resource.RUSAGE_CHILDREN)
    with (
        peak_of(sandbox._worker) as peak,
        pytest.raises(InputError, match=r"chat template (was stopped|cannot be compiled)"),
    ):
        ChatTemplate(HOSTILE[name]).render({"messages": [user("a")]})
    end = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert end.ru_utime + end.ru_stime - start.ru_utime - start.ru_stime < 3.0
    assert peak.num_bytes < 1.2 * sandbox.MAX_BYTES


def test_the_peak_of_a_template_is_seen() -> None:
    with peak_of(sandbox._worker) as peak:
        ChatTemplate("{{ ('a' * 300000000)|length }}").render({"messages": []})
    assert 300_000_000 < peak.num_bytes < 500_000_000


def test_a_template_that_was_stopped_takes_no_other_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    good, stuck = ChatTemplate("{{ messages[0].content }}"), ChatTemplate(HOSTILE["hash"])
    monkeypatch.setattr(sandbox, "MAX_SECONDS", 0.3)
    with pytest.raises(InputError, match=r"more than 0\.3\d* seconds"):
        stuck.render({"messages": []})
    assert good.render({"messages": [user("still there")]}).text == "still there"


def test_texts_rendered_ahead_are_those_rendered_one_by_one() -> None:
    chat_format = ChatFormat.of(chat_tokenizer("mistral"), {})
    wanted = [(ONE, None, True), (SEVERAL, None, False), ([ONE[0], *ONE], None, False), (WITH_TOOLS, TOOLS, False)]

    def all_texts() -> list[str]:
        return [rendered("mistral", list(messages), tools, prompt) for messages, tools, prompt in wanted]

    one_by_one = all_texts()
    chat_format.prepare((*wanted, *wanted))
    assert len(chat_format.template._ready) == len(wanted)
    assert all_texts() == one_by_one
    chat_format.prepare(())
    assert not chat_format.template._ready


def test_texts_keep_what_no_encoding_knows() -> None:
    text = "half a pair \ud83d, \0, \u2028 and é"
    assert ChatTemplate("{{ messages[0].content }}").render({"messages": [user(text)]}).text == text


@pytest.mark.parametrize(
    "text",
    [
        "{% for %}",
        "{{ x ",
        "{{ x|nosuchfilter }}",
        "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
        "{% if 1 %}" * 200 + "{% endif %}" * 200,
        "{{ 1 }}" * 20_000,
        "{{ x|random }}",
    ],
)
def test_what_is_no_template_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="chat template"):
        ChatTemplate(text)


@pytest.mark.parametrize(
    "text", ["{% include 'secret' %}", "{% import 'secret' as x %}{{ x }}", "{{ messages[0] + 1 }}"]
)
def test_what_fails_in_a_template_is_a_refusal(text: str) -> None:
    with pytest.raises(RefusedError):
        ChatTemplate(text).render({"messages": [user("a")]})


def test_nothing_is_reached_through_attributes() -> None:
    for text in (
        "{{ '{0.__class__}'.format(1) }}",
        "{{ messages|attr('__class__') }}",
        "{{ messages['__class__'] }}",
        "{% set n = namespace() %}{% set n.__class__ = 1 %}{{ n.__class__ }}",
    ):
        try:
            found = ChatTemplate(text).render({"messages": [user("a")]}).text
        except InputError:
            continue
        assert "class" not in found


def test_long_conversations_are_within_bounds() -> None:
    messages = [user("a question " * 50), assistant("an answer " * 50)] * 500
    for name in ("qwen", "llama3", "mistral"):
        assert rendered(name, messages, None, True) == expected(name, messages, None, True)


def test_choice_of_the_template(tmp_path: Path) -> None:
    file = tmp_path / "own.jinja"
    file.write_text(source("gemma"), encoding="utf-8")
    columns = columns_of([ONE])
    task = CausalLM(template=str(file)).bind(columns)
    assert task.template == source("gemma")
    tokenizer = chat_tokenizer("chatml")
    assert task.adapt(tokenizer) == []
    assert tokenizer.chat_template == source("gemma")
    assert CausalLM(template="chatml").bind(columns).template == "chatml"
    assert CausalLM().bind(columns).adapt(chat_tokenizer("qwen")) == []
    for wrong, words in {"nosuch.jinja": "neither a file nor Jinja", str(tmp_path): "neither", "a\0b": "."}.items():
        with pytest.raises(InputError, match=words):
            resolve_template(wrong)
    file.write_bytes(b"\xff\xfe{{")
    with pytest.raises(InputError, match="cannot be read"):
        resolve_template(str(file))
    file.write_text("no template")
    with pytest.raises(InputError, match="holds no Jinja"):
        resolve_template(str(file))
    with pytest.raises(InputError, match="line 1"):
        CausalLM(template="{% for %}").bind(columns)


def test_models_without_a_template_write_chatml_and_say_so() -> None:
    tokenizer = chat_tokenizer(None)
    task = CausalLM().bind(columns_of([ONE]))
    (problem,) = task.adapt(tokenizer)
    assert problem.severity == "warning"
    assert "ChatML" in problem.message
    assert tokenizer.chat_template == CHATML, "the tokenizer has the tokens of ChatML"
    assert task.adapt(tokenizer) == []
    assert CausalLM().bind({"text": ["a"]}).adapt(chat_tokenizer(None)) == []


def test_chatml_ends_with_a_single_token_whatever_the_tokenizer() -> None:
    from tiny import tiny_tokenizer

    tokenizer = tiny_tokenizer("bpe")
    columns = columns_of([[user("a film"), assistant("great songs")]])
    task = CausalLM().bind(columns)
    task.adapt(tokenizer)
    encoded = task.encode(columns, tokenizer, 64)
    labels = encoded.targets["labels"]
    assert labels[0].tolist().count(tokenizer.eos_token_id) == 1  # type: ignore[index, union-attr]
    assert task.stop_tokens(tokenizer) == {tokenizer.eos_token_id}


@pytest.mark.parametrize("arguments", [{"messages": 1}, {"a b": 1}, {"_x": 1}])
def test_arguments_that_no_template_can_take(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="template"):
        CausalLM(template_arguments=arguments)
