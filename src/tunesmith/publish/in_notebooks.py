"""What a notebook shows of a run or a study: a few facts and a table, in HTML that needs nothing from elsewhere.

Colours are those of the page it stands in, so that it reads in light and in dark. Every text is escaped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

_LINE = "1px solid color-mix(in srgb, currentColor 25%, transparent)"
_CELL = f"padding:.25em .8em .25em 0;border-bottom:{_LINE};text-align:left;vertical-align:top;background:none"


def block(
    title: str,
    *,
    said: str = "",
    facts: Mapping[str, str] | None = None,
    rows: Sequence[Mapping[str, str]] = (),
    page: Path | None = None,
    folder: Path | None = None,
) -> str:
    """Return a block of HTML.

    Args:
        title: Its heading.
        said: A sentence below it.
        facts: Names with values, in a line.
        rows: A table: cells by heading, the same headings in every row.
        page: A report to lead to, where it is there.
        folder: Where all of it is.
    """
    parts = [f'<div style="font-weight:600;margin:0 0 .3em">{escape(title)}</div>']
    if said:
        parts.append(f'<div style="margin:0 0 .5em;max-width:50em">{escape(said)}</div>')
    if facts:
        shown = " · ".join(f"{escape(name)} {escape(value)}" for name, value in facts.items())
        parts.append(f'<div style="margin:0 0 .5em;opacity:.8">{shown}</div>')
    if rows:
        parts.append(_table(rows))
    if folder is not None:
        parts.append(f'<div style="margin:.5em 0 0"><code>{escape(str(folder))}</code>{_link(page)}</div>')
    return f'<div style="color:inherit;background:none;font-size:.95em">{"".join(parts)}</div>'


def _table(rows: Sequence[Mapping[str, str]]) -> str:
    head = "".join(f'<th scope="col" style="{_CELL};font-weight:600">{escape(name)}</th>' for name in rows[0])
    body = "".join(
        "<tr>" + "".join(f'<td style="{_CELL}">{escape(cell)}</td>' for cell in row.values()) + "</tr>" for row in rows
    )
    return f'<table style="border-collapse:collapse;color:inherit;margin:0"><tr>{head}</tr>{body}</table>'


def _link(page: Path | None) -> str:
    if page is None or not page.is_file():
        return ""
    return f' · <a href="{escape(page.absolute().as_uri(), quote=True)}" style="color:inherit">report</a>'
