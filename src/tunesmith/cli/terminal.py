r"""The one door to the terminal: text of others (cells, names, answers, errors) is shown, never obeyed.

A terminal takes some characters for orders: escape sequences set its title or its clipboard, a carriage return writes
over the line, bidirectional overrides turn the order of letters around. Whoever wrote a data file or a model would have
them carried out. Everything that commands print passes through here and shows such characters as ``\x1b``;
colours are added afterwards. What programs read (JSON) keeps its data: there they stand in JSON's own spelling.

Square brackets are text, too: nothing printed here is read as rich's markup.
"""

from __future__ import annotations

import errno
import json
import math
import os
import re
import sys
import warnings
from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from typing import IO, TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

_ORDERS = (
    "\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f"  # C0 (but for tab and line feed), delete, C1
    "\u202a-\u202e\u2066-\u2069"  # turning the direction of writing
    "\u2028\u2029\u206a-\u206f\ufeff\ufff9-\ufffb"  # line separators, deprecated formats, marks without width
    "\U000e0000-\U000e007f"  # tags: letters that nobody sees
    "\ud800-\udfff"  # halves of characters, such as stand for bytes that are no UTF-8; no stream can write them
)
_ORDER = re.compile(f"[{_ORDERS}]")


def visible(text: str) -> str:
    """Return the text with every character that a terminal would obey in a spelling that can be seen."""
    return _ORDER.sub(_spelled, text)


def _spelled(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def say(text: object = "", *, err: bool = False, end: str = "\n", **style: Any) -> None:
    """Print a text for people; ``style`` is that of ``click.style``."""
    shown = visible(str(text))
    stream = sys.stderr if err else sys.stdout
    try:
        click.echo(
            click.style(_encodable(shown, stream), **style) if style else _encodable(shown, stream), stream, nl=False
        )
        click.echo(end, stream, nl=False)
    except OSError as error:
        if not is_gone(error):
            raise
        silence(stream)


def is_gone(error: OSError) -> bool:
    """Say whether an error of writing is that the terminal was closed."""
    return error.errno == errno.EIO


def silence(stream: IO[str]) -> None:
    """Let all that is written to a stream go nowhere, what it still holds included: nobody reads it any more."""
    with suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def say_json(value: Any, *, indent: int | None = None) -> None:
    """Print data for programs, exact; characters that a terminal would obey are escaped as JSON allows."""
    write(to_json(value, indent=indent) + "\n")


def write(text: str) -> None:
    """Write what programs read to stdout as it is."""
    click.echo(text, nl=False)


def to_json(value: Any, *, indent: int | None = None) -> str:
    """Return JSON that a terminal may show: the same data, no character that it would obey, no NaN."""
    is_narrow = not _writes_all(sys.stdout)
    try:
        text = json.dumps(value, ensure_ascii=is_narrow, indent=indent, allow_nan=False)
    except ValueError:
        text = json.dumps(_finite(value), ensure_ascii=is_narrow, indent=indent, allow_nan=False)
    return _ORDER.sub(_in_json, text)


def _finite(value: Any) -> Any:
    """Return the value with null for numbers that JSON does not have."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _in_json(found: re.Match[str]) -> str:
    return json.dumps(found[0])[1:-1] if found[0] != "\x7f" else "\\u007f"


def console(stream: IO[str] | None = None, **options: Any) -> Console:
    """Return a console of rich that shows texts as they are: no markup, no emoji codes, no order to the terminal."""
    return _console_class()(file=stream, highlight=False, markup=False, emoji=False, **options)


@cache
def _console_class() -> type[Console]:
    """Return the class of consoles; made when it is needed, for rich is imported then."""
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.segment import Segment

    class SafeConsole(Console):
        """Makes texts visible before their width is measured, and once more where they leave."""

        def render_str(self, text: str, **options: Any) -> Text:
            return super().render_str(visible(text), **options)

        def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
            for segment in super().render(renderable, options):
                if segment.control or not _ORDER.search(segment.text):
                    yield segment
                else:
                    yield Segment(visible(segment.text), segment.style)

    return SafeConsole


def allow_any_text() -> None:
    """Let the streams of this process replace what their encoding lacks, instead of failing with it."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def show_library_warnings() -> None:
    """Let each warning of a library be a line, and no more than one, whatever its words and wherever it comes from."""
    seen: set[str] = set()

    def show(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
        text = " ".join(str(message).split())
        if text not in seen:
            seen.add(text)
            say(f"{category.__name__} of a library: {text}", err=True, dim=True)

    warnings.showwarning = show


def _writes_all(stream: IO[str]) -> bool:
    encoding = (getattr(stream, "encoding", None) or "utf-8").lower().replace("-", "").replace("_", "")
    return encoding.startswith("utf")


def _encodable(text: str, stream: IO[str]) -> str:
    """Return the text in the characters that the stream's encoding has."""
    if _writes_all(stream):
        return text
    encoding = str(getattr(stream, "encoding", None) or "utf-8")
    return text.encode(encoding, "backslashreplace").decode(encoding)
