"""A chat template as a program: sandboxed, bounded, and otherwise the same as in ``transformers``.

Templates are rendered as ``PreTrainedTokenizerBase.apply_chat_template`` renders them (blocks trimmed,
loop controls, ``raise_exception``, ``tojson``, ``namespace``, ``{% generation %}`` marks), but what they
may cost is bounded (``limits``): the parsed template gets a count at every loop, comparison and
container, and operators, methods and filters are checked before they run. Neither files nor Python's
inner attributes can be reached. Filters that are of no use in a chat template, or that give another
result every time, are not there.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

from jinja2 import nodes
from jinja2.exceptions import SecurityError, TemplateError, TemplateSyntaxError
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment, SandboxedFormatter
from jinja2.utils import Namespace, pass_context
from jinja2.visitor import NodeTransformer

from tunesmith.tasks.chat.limits import MAX_FORMAT, Budget, LimitError, Spending, current
from tunesmith.types import InputError

if TYPE_CHECKING:
    from jinja2.environment import Template
    from jinja2.parser import Parser
    from jinja2.runtime import Context

MAX_SOURCE = 64_000
"""Longest template in characters; those of known models have some thousands."""
THE_DAY = datetime(2024, 7, 26, tzinfo=UTC)
"""What ``strftime_now`` gives: the day that templates of Llama 3 fall back on when there is no such function."""

_FILTERS = """
    abs attr batch capitalize center count d default dictsort e escape first float forceescape format groupby indent
    int items join last length list lower map max min reject rejectattr replace reverse round safe select selectattr
    slice sort string sum title trim truncate unique upper urlencode wordcount
"""

_TICK, _MADE, _JOINED = "!tick", "!made", "!joined"
"""Filters put into parsed templates; no template can write these names."""

_FIX = "Use another chat template: give task.template."


class RefusedError(Exception):
    """The template refuses a conversation; the message holds the template's own words."""


@dataclass(frozen=True, slots=True)
class Rendered:
    """A conversation as text."""

    text: str
    marks: tuple[tuple[int, int], ...] | None = None
    """Start and end of what ``{% generation %}`` marks in ``text``; None where the template has no (usable) marks."""


class _Bounds(NodeTransformer):
    """Puts counting into a parsed template."""

    def visit(self, node: nodes.Node, *args: Any, **kwargs: Any) -> nodes.Node:
        self.generic_visit(node, *args, **kwargs)
        if isinstance(node, nodes.For | nodes.Macro | nodes.CallBlock):
            node.body.insert(0, _counts(node))
        if isinstance(node, nodes.For) and node.test is not None:
            node.test = nodes.And(_call(_TICK, nodes.Const(0)), node.test)
        if isinstance(node, nodes.Compare):
            return nodes.And(_call(_TICK, nodes.Const(0)), node)  # counting gives True
        if isinstance(node, nodes.Concat):
            return _call(_JOINED, nodes.Tuple(node.nodes, "load"))
        is_slice = isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Slice)
        is_made = isinstance(node, nodes.List | nodes.Dict) or (isinstance(node, nodes.Tuple) and node.ctx == "load")
        return _call(_MADE, cast("nodes.Expr", node)) if is_slice or is_made else node


def _call(name: str, node: nodes.Expr) -> nodes.Expr:
    return nodes.Filter(node, name, [], [], None, None)


def _counts(node: nodes.For | nodes.Macro | nodes.CallBlock) -> nodes.Stmt:
    """Return a statement that counts one round of a body, and the text that it writes as it is."""
    num_characters = sum(len(data.data) for one in node.body for data in one.find_all(nodes.TemplateData))
    return nodes.ExprStmt(_call(_TICK, nodes.Const(num_characters)))


def _tick(num_characters: int) -> bool:
    current().step(1 + num_characters // 256)
    return True


def _made(value: Any) -> Any:
    return current().keep(value)


def _joined(values: tuple[Any, ...]) -> str:
    budget = current()
    budget.step()
    texts: list[str] = []
    length = 0
    for value in values:
        texts.append(budget.as_text(value))
        length += len(texts[-1])
        budget.text_of(length)
    text: str = budget.keep("".join(texts))
    return text


class _Marks(Extension):
    """``{% generation %} … {% endgeneration %}``: what the model wrote."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        environment = self.environment
        assert isinstance(environment, _Environment)
        environment.has_marks = True
        return nodes.CallBlock(self.call_method("_marked"), [], [], body).set_lineno(line)

    def _marked(self, caller: Callable[[], str]) -> str:
        budget = current()
        start = budget.written
        text = caller()
        budget.marks.append((start, text))
        return text


class _Namespace(Namespace):
    """Holds nothing whose name starts with an underscore, and does not print what it holds."""

    def __init__(*args: Any, **kwargs: Any) -> None:
        self, *others = args
        values = dict(*others, **kwargs)
        for name in values:
            _check_name(name)
        Namespace.__init__(self, values)

    def __setitem__(self, name: str, value: Any) -> None:
        _check_name(name)
        Namespace.__setitem__(self, name, value)

    def __repr__(self) -> str:
        return "<Namespace>"


def _check_name(name: Any) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise SecurityError(f"a namespace cannot hold {name!r}")


class _Dict:
    """The type ``dict`` for templates: to be called, nothing more."""

    def __call__(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        return dict(*args, **kwargs)

    def fromkeys(self, *args: Any) -> dict[Any, Any]:
        return dict.fromkeys(*args)


class _Formatter(SandboxedFormatter):
    """``str.format`` whose fields are neither very wide nor very long in all."""

    def __init__(self, environment: ImmutableSandboxedEnvironment) -> None:
        super().__init__(environment)
        self._length = 0

    def format_field(self, value: Any, format_spec: str) -> str:
        budget = current()
        digits = "".join(character if character.isdigit() else " " for character in format_spec)
        for number in digits.split():
            budget.number(int(number) if len(number) < 10 else 10**9)
        self._length += budget.weigh(value)
        budget.text_of(self._length)
        text: str = super().format_field(value, format_spec)
        self._length += len(text)
        budget.text_of(self._length)
        return text


class _Environment(ImmutableSandboxedEnvironment):
    """The environment of one template."""

    intercepted_binops = frozenset(ImmutableSandboxedEnvironment.default_binop_table)

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=[_Marks, loopcontrols],
            finalize=_written,
            optimized=False,  # constants would be worked out before anything is counted
        )
        self.has_marks = False
        self.filters = {name: _bounded(name, self.filters[name]) for name in _FILTERS.split()}
        self.filters |= {"tojson": _tojson, _TICK: _tick, _MADE: _made, _JOINED: _joined}
        del self.globals["lipsum"]
        self.globals |= {"raise_exception": _raise, "dict": _Dict(), "namespace": _Namespace}

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        parsed = super()._parse(source, name, filename)
        if not _asks_for(parsed, "strftime_now"):
            self.globals["strftime_now"] = _strftime_now
        return cast("nodes.Template", _Bounds().visit(parsed))

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805
        budget = current()
        budget.step()
        owner = getattr(__obj, "__self__", None)
        if isinstance(owner, str | bytes):
            named = [value for name, value in kwargs.items() if not name.startswith("_")]  # Jinja adds such of its own
            args = budget.method(owner, getattr(__obj, "__name__", ""), args, named)
        elif isinstance(owner, int):
            for one in args:
                budget.number(one)
        return budget.keep(super().call(__context, __obj, *args, **kwargs))

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        budget = current()
        if operator == "+" and type(left) is str and type(right) is str:
            return budget.joined(left, right)
        budget.operator(operator, left, right)
        return budget.keep(super().call_binop(context, operator, left, right))

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        if super().wrap_str_format(value) is None:
            return None
        template: str = value.__self__
        takes_mapping = value.__name__ == "format_map"

        def formatted(*args: Any, **kwargs: Any) -> str:
            if len(template) > MAX_FORMAT:
                raise LimitError(f"it has a format of {len(template)} characters")
            if takes_mapping:
                (kwargs,) = args
                args = ()
            return str(_Formatter(self).vformat(template, args, kwargs))

        return formatted


@pass_context
def _written(context: Context, value: Any) -> str:
    """Count what a template writes."""
    del context
    budget = current()
    budget.step()
    text: str = budget.keep(budget.as_text(value))
    return text


def _raise(message: Any) -> None:
    raise TemplateError(str(message))


def _strftime_now(form: str) -> str:
    if len(form) > 200:
        raise LimitError("it asks for a very long date")
    return THE_DAY.strftime(form)


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
    budget = current()
    budget.step()
    for one in (indent, *(separators or ())):
        if (len(one) if isinstance(one, str) else one or 0) > 100:
            raise LimitError("it writes JSON with very long gaps")
    budget.text_of(budget.weigh(value))
    encoder = json.JSONEncoder(ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
    pieces: list[str] = []
    length = 0
    for piece in encoder.iterencode(value):
        pieces.append(piece)
        length += len(piece)
        budget.text_of(length)
    text: str = budget.keep("".join(pieces))
    return text


def _bounded(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a filter of Jinja that is checked before it runs and counted after."""
    first = 1 if hasattr(function, "jinja_pass_arg") else 0

    @functools.wraps(function)
    def filtered(*args: Any, **kwargs: Any) -> Any:
        budget = current()
        budget.step()
        context, given = args[:first], list(args[first:])
        given[0] = budget.counted(given[0])
        for one in (*given[1:], *kwargs.values()):
            budget.number(one)
        _check_filter(budget, name, given, kwargs)
        return budget.keep(function(*context, *given, **kwargs))

    return filtered


def _check_filter(budget: Budget, name: str, given: list[Any], kwargs: Mapping[str, Any]) -> None:
    """Check filters whose result may be much longer than what they are given."""
    options = [*given[1:], *kwargs.values()]
    if name == "string":
        given[0] = budget.as_text(given[0])
    elif name == "indent":
        widest = max((len(one) if isinstance(one, str) else int(one or 0) for one in options), default=4)
        text = budget.as_text(given[0])
        budget.text_of(len(text) + (len(text.splitlines()) + 1) * max(widest, 4))
    elif name == "replace" and len(options) > 1:
        texts = [budget.as_text(one) for one in (given[0], *options[:2])]
        budget.replacing(*texts)
    elif name == "join":
        given[0] = list(given[0]) if hasattr(given[0], "__iter__") else given[0]
        if isinstance(given[0], list):
            longest = max((len(one) for one in options if isinstance(one, str)), default=0)
            budget.joining("x" * longest, given[0])
    elif name == "format":
        budget.percent(budget.as_text(given[0]), kwargs or tuple(given[1:]))
    elif name == "sum" and any(not isinstance(one, int | float | str | None) for one in options):
        given[0] = list(given[0])
        if len(given[0]) > 1000:
            raise LimitError("it adds up very many lists")


class ChatTemplate:
    """One compiled template.

    Raises ``InputError`` where the source is no template, or is too long.
    """

    def __init__(self, source: str) -> None:
        if len(source) > MAX_SOURCE:
            message = f"The chat template has {len(source)} characters; at most {MAX_SOURCE} are read."
            raise InputError(message, _FIX)
        environment = _Environment()
        try:
            with Spending(Budget(0)):
                self._template: Template = environment.from_string(source)
            self._template.globals = dict(self._template.globals)  # a chain of mappings is slow to copy each time
        except TemplateSyntaxError as error:
            message = f"The chat template cannot be read: line {error.lineno}: {error.message}"
            raise InputError(message, "Correct the template, or give another as task.template.") from None
        except (LimitError, ValueError, SyntaxError, RecursionError, MemoryError, TemplateError) as error:
            raise InputError(f"The chat template cannot be compiled: {error}.", _FIX) from None
        self.has_marks = environment.has_marks

    def render(self, variables: Mapping[str, Any]) -> Rendered:
        """Return the text of a conversation.

        ``variables`` hold plain JSON values: ``messages``, ``tools``, ``documents``, ``add_generation_prompt``,
        the names of special tokens, and whatever else the template reads. ``strftime_now`` is left undefined for
        templates that look whether it is there, and else always gives ``THE_DAY``: training, serving and every
        day have the same text.

        Raises:
            RefusedError: The template refuses this conversation.
            InputError: The template does what no template may: it takes too long, makes too much, or reaches
                for Python's insides.
        """
        budget = Budget(_length(variables))
        pieces: list[str] = []
        try:
            with Spending(budget):
                for piece in self._template.generate(**variables):
                    pieces.append(piece)
                    budget.written += len(piece)
                    budget.text_of(budget.written)
        except (LimitError, SecurityError, RecursionError, MemoryError) as error:
            reason = "it calls itself too often" if isinstance(error, RecursionError) else str(error).rstrip(".")
            raise InputError(f"The chat template was stopped: {reason}.", _FIX) from None
        except Exception as error:  # whatever an operator or a filter raises is the template's own doing
            raise RefusedError(str(error) or type(error).__name__) from None
        text = "".join(pieces)
        if not self.has_marks:
            return Rendered(text)
        marks = tuple((start, start + len(marked)) for start, marked in budget.marks)
        is_placed = all(text[start : start + len(marked)] == marked for start, marked in budget.marks)
        # Marks inside of a macro or of a variable say nothing about the whole text.
        return Rendered(text, marks if is_placed else None)


def _length(variables: Mapping[str, Any]) -> int:
    """Return about how many characters a template is given."""
    length, stack = 0, list(variables.values())
    while stack:
        value = stack.pop()
        if isinstance(value, str):
            length += len(value)
        elif isinstance(value, dict):
            stack += value.values()
        elif isinstance(value, list | tuple):
            stack += value
        elif value is not None and not isinstance(value, int) and isinstance(value, Mapping):
            stack += value.values()
    return length


@functools.lru_cache(maxsize=32)
def compiled(source: str) -> ChatTemplate:
    """Return the compiled template; each source is compiled once."""
    return ChatTemplate(source)
