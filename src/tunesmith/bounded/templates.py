"""Chat templates, rendered in a process with limits.

The environment is that of ``PreTrainedTokenizerBase.apply_chat_template`` (immutable sandbox, blocks trimmed,
loop controls, ``raise_exception``, ``tojson``, ``{% generation %}`` marks). What gives another result every
time is not there. This module is loaded by the process itself and imports nothing heavy.
"""

from __future__ import annotations

import json
import marshal
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from jinja2 import nodes
from jinja2.exceptions import SecurityError, TemplateError, TemplateSyntaxError
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from tunesmith.bounded.child import allow
from tunesmith.types import InputError

if TYPE_CHECKING:
    from jinja2.environment import Template
    from jinja2.parser import Parser

THE_DAY = datetime(2024, 7, 26, tzinfo=UTC)
"""What ``strftime_now`` gives: the day that templates of Llama 3 fall back on when there is no such function."""
MAX_CHARACTERS = 4_000_000
"""Length of a rendered text, on top of ``GROWTH`` times the bytes of the request."""
GROWTH = 8
TEXT, REFUSED, STOPPED = range(3)
"""What a rendering ends with: the text; the template's own refusal; an end put to it."""

_KEPT = 8
_compiled: dict[str, _Compiled] = {}


def answer(request: bytes) -> bytes:
    """Return ``[has_marks, [[kind, text or reason, marks], ...]]`` as JSON for ``(source, seconds, [variables, ...])``.

    Raises ``InputError`` for a source that is no template. ``seconds`` are given to each rendering anew.
    """
    source, seconds, given = marshal.loads(request)  # noqa: S302  (it comes from the parent)
    template = _compiled.get(source)
    if template is None:
        template = _Compiled(source)
        if len(_compiled) >= _KEPT:
            _compiled.pop(next(iter(_compiled)))
        _compiled[source] = template
    results = []
    for variables in given:
        allow(seconds)
        results.append(template.render(marshal.loads(variables), MAX_CHARACTERS + GROWTH * len(variables)))  # noqa: S302
    return json.dumps([template.has_marks, results]).encode()


class _Marks(Extension):
    """``{% generation %} ... {% endgeneration %}``: what the model wrote."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        environment = self.environment
        assert isinstance(environment, _Environment)
        environment.has_marks = True
        return nodes.CallBlock(self.call_method("_marked"), [], [], body).set_lineno(line)

    def _marked(self, caller: Callable[[], str]) -> str:
        environment = self.environment
        assert isinstance(environment, _Environment)
        start = environment.written
        text = caller()
        environment.marks.append((start, text))
        return text


class _Environment(ImmutableSandboxedEnvironment):
    """The environment of one template, and how far its rendering is."""

    def __init__(self) -> None:
        super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=[_Marks, loopcontrols])
        self.has_marks = False
        self.written = 0
        """Characters of the text so far."""
        self.marks: list[tuple[int, str]] = []
        """Where each marked block started, and its text."""
        del self.globals["lipsum"], self.filters["random"]
        self.filters["tojson"] = _tojson
        self.globals["raise_exception"] = _raise

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        parsed = super()._parse(source, name, filename)
        if not _asks_for(parsed, "strftime_now"):
            self.globals["strftime_now"] = THE_DAY.strftime
        return parsed


class _Compiled:
    """One template."""

    def __init__(self, source: str) -> None:
        self._environment = _Environment()
        try:
            self._template: Template = self._environment.from_string(source)
        except TemplateSyntaxError as error:
            message = f"The chat template cannot be read: line {error.lineno}: {error.message}"
            raise InputError(message, "Correct the template, or give another as task.template.") from None
        except (RecursionError, MemoryError) as error:
            reason = "it is nested too deeply" if isinstance(error, RecursionError) else "it needs too much memory"
            raise InputError(*_cannot(reason)) from None
        except Exception as error:  # Jinja works constants out, and Python compiles what Jinja made of the source
            raise InputError(*_cannot(str(error) or type(error).__name__)) from None
        self._template.globals = dict(self._template.globals)  # a chain of mappings is slow to copy each time
        self.has_marks = self._environment.has_marks

    def render(self, variables: dict[str, Any], max_characters: int) -> tuple[int, str, list[tuple[int, int]] | None]:
        """Return how it ended, the text or the reason, and where the marks are."""
        environment = self._environment
        environment.written, environment.marks = 0, []
        pieces: list[str] = []
        try:
            for piece in self._template.generate(**variables):
                pieces.append(piece)
                environment.written += len(piece)
                if environment.written > max_characters:
                    return STOPPED, f"it writes more than {max_characters} characters", None
        except (SecurityError, RecursionError, MemoryError) as error:
            pieces.clear()
            return STOPPED, _reason(error), None
        except Exception as error:  # whatever an operator or a filter raises is the template's own doing
            return REFUSED, str(error)[:2000] or type(error).__name__, None
        text = "".join(pieces)
        if not self.has_marks:
            return TEXT, text, None
        marks = [(start, start + len(marked)) for start, marked in environment.marks]
        is_placed = all(text[start : start + len(marked)] == marked for start, marked in environment.marks)
        # Marks inside of a macro or of a variable say nothing about the whole text.
        return TEXT, text, marks if is_placed else None


def _reason(error: Exception) -> str:
    if isinstance(error, SecurityError):
        return str(error)[:2000].rstrip(".")
    return "it calls itself too often" if isinstance(error, RecursionError) else "it asks for too much memory"


def _cannot(reason: str) -> tuple[str, str]:
    message = f"The chat template cannot be compiled: {reason[:500].rstrip('.')}."
    return message, "Use another chat template: give task.template."


def _raise(message: Any) -> None:
    raise TemplateError(str(message))


def _asks_for(template: nodes.Template, name: str) -> bool:
    """Say whether a template looks whether a name is defined."""
    return any(
        isinstance(test.node, nodes.Name) and test.node.name == name and test.name in ("defined", "undefined")
        for test in template.find_all(nodes.Test)
    )


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | str | None = None,
    separators: Any = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
