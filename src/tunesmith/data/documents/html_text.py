"""Text of HTML pages, by ``lxml``: headings, paragraphs, lists, tables; without scripts and menus."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tunesmith.data.documents.content import LINE, PARAGRAPH, Block, Content, UnreadableError
from tunesmith.data.encoding_guess import detect_encoding
from tunesmith.data.encodings import open_bytes

_HIDDEN = frozenset(["script", "style", "template", "noscript", "svg", "canvas", "head", "iframe", "object", "math"])
_FURNITURE = frozenset(["nav", "footer", "aside", "header"])
_BLOCKS = frozenset(
    (
        *("address", "article", "aside", "blockquote", "body", "caption", "center", "dd", "details", "dialog", "div"),
        *("dl", "dt", "fieldset", "figcaption", "figure", "footer", "form", "header", "hr", "html", "legend", "li"),
        *("main", "nav", "ol", "option", "p", "pre", "section", "select", "summary", "ul"),
        *("h1", "h2", "h3", "h4", "h5", "h6"),
    )
)
_CHARSET = re.compile(rb"<meta[^>]+charset\s*=\s*[\"']?\s*([\w.:-]+)", re.IGNORECASE)


def read(path: Path) -> Content:
    """Return what an HTML file says. Raises ``UnreadableError``."""
    content = read_markup(decoded(path))
    if not content.blocks:
        raise UnreadableError("it holds no text outside of scripts and menus")
    return content


def decoded(path: Path) -> str:
    """Return the text of a page: UTF-8 where it is that, else as it says of itself, else as its bytes suggest."""
    with open_bytes(path) as file:
        content = file.read()
    encoding, _ = detect_encoding(path)
    declared = _CHARSET.search(content[:4096])
    if encoding not in ("utf-8", "utf-8-sig", "utf-16", "utf-32") and declared is not None:
        name = declared[1].decode("ascii")
        try:
            return content.decode("gb18030" if codecs.lookup(name).name in ("gb2312", "gbk") else name)
        except (LookupError, UnicodeDecodeError):
            pass
    return content.decode(encoding, "replace")


def read_markup(markup: str) -> Content:
    """Return what a piece of HTML says; nothing where it holds no text."""
    from lxml import etree, html

    content = Content()
    markup = re.sub(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff]", "", markup)
    if not markup.strip():
        return content
    parser = html.HTMLParser(encoding="utf-8", remove_comments=True, remove_pis=True)
    try:
        root = html.document_fromstring(markup.encode("utf-8"), parser=parser, ensure_head_body=True)
    except etree.ParserError:  # nothing but comments
        return content
    title = root.find(".//title")
    content.title = " ".join((title.text_content() if title is not None else "").split())
    walk = _Walk()
    content.blocks = list(walk.blocks(root))
    content.num_repeated_lines = walk.num_left_out
    if not content.title:
        content.title = next((block.text for block in content.blocks if block.level), "")
    return content


class _Walk:
    """Goes through the elements in their order, and gathers text until a block ends."""

    def __init__(self) -> None:
        self.num_left_out = 0
        """Lines of menus, headers and footers of the page."""
        self._text: list[str] = []
        self._level = 0
        self._is_item = False
        self._was_item = False
        self._num_kept = 0
        """Elements around this one whose white space is kept (``pre``)."""

    def blocks(self, root: Any) -> Iterator[Block]:
        from lxml import etree

        walker = etree.iterwalk(root, events=("start", "end"))
        for event, element in walker:
            name = element.tag if isinstance(element.tag, str) else ""
            if event == "start" and (name in _HIDDEN or self._is_furniture(element, name)):
                yield from self._flushed()
                walker.skip_subtree()
            elif name == "table":
                if event == "start":
                    yield from self._flushed()
                    yield from self._table(element)
                    walker.skip_subtree()
            elif event == "start":
                yield from self._started(element, name)
            else:
                yield from self._ended(name)
            if event == "end" and element.tail and element is not root:
                self._text.append(self._spaced(element.tail))
        yield from self._flushed()

    def _is_furniture(self, element: Any, name: str) -> bool:
        if name not in _FURNITURE or any(one.tag in ("main", "article") for one in element.iterancestors()):
            return False
        self.num_left_out += sum(bool(line.strip()) for line in element.text_content().splitlines())
        return True

    def _started(self, element: Any, name: str) -> Iterator[Block]:
        if name == "br":
            self._text.append("\n")
        elif name in _BLOCKS:
            yield from self._flushed()
            self._level = int(name[1]) if re.fullmatch("h[1-6]", name) else 0
            self._is_item = name == "li"
            self._num_kept += name == "pre"
        if name == "img" and element.get("alt"):
            self._text.append(f" {element.get('alt')} ")
        if element.text:
            self._text.append(self._spaced(element.text))

    def _ended(self, name: str) -> Iterator[Block]:
        if name in _BLOCKS:
            yield from self._flushed()
            self._level = 0
            self._num_kept -= name == "pre"
            if name in ("ul", "ol"):
                self._was_item = False

    def _spaced(self, text: str) -> str:
        return text if self._num_kept else re.sub(r"[ \t\r\n\f]+", " ", text)

    def _flushed(self) -> Iterator[Block]:
        text, self._text = "".join(self._text), []
        is_code = self._num_kept > 0
        lines = text.splitlines() if is_code else [" ".join(line.split()) for line in text.splitlines()]
        text = "\n".join(line.rstrip() for line in lines if line.strip())
        if not text:
            return
        if self._level:
            yield Block(" ".join(text.split()), level=self._level)
        else:
            gap = LINE if self._is_item and self._was_item else PARAGRAPH
            yield Block(f"- {text}" if self._is_item else text, is_lines=is_code, gap=gap)
        self._was_item, self._is_item = self._is_item, False

    def _table(self, table: Any) -> Iterator[Block]:
        """Yield a table as lines, a row each; of tables in tables, the rows of the outer one hold the text."""
        rows = []
        for row in table.iter("tr"):
            if next(row.iterancestors("table")) is not table:
                continue
            cells = [" ".join(cell.text_content().split()) for cell in row if cell.tag in ("td", "th")]
            if any(cells):
                rows.append(" | ".join(cells))
        caption = table.find("caption")
        if caption is not None and caption.text_content().strip():
            rows.insert(0, " ".join(caption.text_content().split()))
        if rows:
            yield Block("\n".join(rows), is_lines=True)
