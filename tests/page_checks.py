"""What every page that is written must keep to: whole, closed in itself, nothing from outside."""

from __future__ import annotations

import html
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest

VOID = {"meta", "br", "img", "input", "link", "hr"}


class Checker(HTMLParser):
    """Checks that tags are balanced, ids unique and nothing is loaded from outside."""

    def __init__(self, pages: frozenset[str]) -> None:
        super().__init__()
        self.pages = pages
        self.open: list[str] = []
        self.ids: set[str] = set()
        self.links: set[str] = set()
        self.headings: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag not in VOID:
            self.open.append(tag)
        names = [name for name, _ in attrs]
        assert len(set(names)) == len(names), f"attribute given twice in <{tag}>"
        for name, value in attrs:
            assert not name.startswith("on"), f"inline handler {name}"
            if name == "id":
                assert value not in self.ids, f"id {value} given twice"
                self.ids.add(value or "")
            if name in {"href", "src", "srcset", "action", "data", "poster", "xlink:href"}:
                assert value is not None
                assert value.startswith("#") or (tag == "a" and value in self.pages), f"<{tag} {name}={value}>"
                if value.startswith("#"):
                    self.links.add(value[1:])

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag, f"</{tag}> is out of order"

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in {"h1", "h2", "h3"}:
            self.headings.append(data)


def check(path: Path, pages: frozenset[str] = frozenset()) -> tuple[str, Checker]:
    """Return the page's text and what was found in it; it may link to ``pages``, and to nothing else."""
    page = path.read_text(encoding="utf-8")
    checker = Checker(pages)
    checker.feed(page)
    checker.close()
    assert checker.open == []
    assert checker.links <= checker.ids
    assert not checker.tags & {"iframe", "object", "embed", "link", "base", "img", "form"}
    assert not re.search(r"@import|url\(|\bfetch\(|XMLHttpRequest|importScripts", page)
    assert (
        re.findall(r"https?://[^\"'\s<]*", page.partition("</style>")[2].replace("http://www.w3.org/2000/svg", ""))
        == []
    )
    assert path.stat().st_size < 1_000_000
    return page, checker


def visible(page: str) -> str:
    """Return the text of a page without tags."""
    text = re.sub(r"<(style|script)>.*?</\1>", "", page, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", text)).split())


def open_in_chromium(page: Path, profile: Path) -> subprocess.CompletedProcess[str]:
    """Return what chromium made of a page: its elements on stdout, errors of the script on stderr."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no chromium on PATH")
    return subprocess.run(
        [
            browser,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--enable-logging=stderr",
            f"--user-data-dir={profile}",
            "--dump-dom",
            page.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
