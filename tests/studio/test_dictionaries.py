"""The pages say everything in both languages: no sentence is missing, none is left over."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import tunesmith.studio

STATIC = Path(tunesmith.studio.__file__).parent / "static"
SCRIPTS = {path.name: path.read_text(encoding="utf-8") for path in STATIC.rglob("*.js")}
LANGUAGES = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in (STATIC / "languages").glob("*.json")}
WHOLE = re.compile(r"""\bt(?:Or)?\(\s*"([^"]+)\"""")
BEGUN = re.compile(r"\bt(?:Or)?\(\s*`([^`$]+)\$\{")
PLACES = re.compile(r"\{(\w+)\}")


def test_both_languages_have_the_same_keys_in_the_same_order() -> None:
    assert set(LANGUAGES) == {"en", "zh"}
    assert list(LANGUAGES["en"]) == list(LANGUAGES["zh"])
    assert list(LANGUAGES["en"]) == sorted(LANGUAGES["en"])


@pytest.mark.parametrize("name", LANGUAGES)
def test_every_sentence_says_something_and_tells_the_same(name: str) -> None:
    for key, text in LANGUAGES[name].items():
        assert text.strip(), key
        assert set(PLACES.findall(text)) == set(PLACES.findall(LANGUAGES["en"][key])), key


def test_every_key_that_the_pages_ask_for_is_there_and_no_other() -> None:
    whole = {key for text in SCRIPTS.values() for key in WHOLE.findall(text)}
    begun = {start for text in SCRIPTS.values() for start in BEGUN.findall(text)}
    assert len(whole) > 100
    keys = set(LANGUAGES["en"])
    assert not whole - keys
    assert not {start for start in begun if not any(key.startswith(start) for key in keys)}
    assert not {key for key in keys - whole if not any(key.startswith(start) for start in begun)}


def test_every_term_that_is_asked_for_is_explained() -> None:
    asked = re.compile(r"""(?:\bterm\(|about: |\bnamed\(.{0,120}?\), |\blineChart\(t\("[a-z.]+"\), )"([a-z_]+)\"""")
    terms = {key for text in SCRIPTS.values() for key in asked.findall(text)}
    known = {key.removeprefix("term.") for key in LANGUAGES["en"] if key.startswith("term.")}
    assert len(terms) > 25
    assert not terms - known


def test_the_chinese_is_chinese() -> None:
    plain = [key for key, text in LANGUAGES["zh"].items() if not re.search(r"[\u4e00-\u9fff]", text)]
    assert set(plain) <= {"method.ia3", "method.lora"}


@pytest.mark.parametrize("name", sorted(SCRIPTS))
def test_no_script_reads_text_as_html_or_loads_from_elsewhere(name: str) -> None:
    text = SCRIPTS[name]
    forbidden = r"(inner|outer|insertAdjacent)HTML|document\.write|\beval\(|new Function|DOMParser|ContextualFragment"
    assert not re.search(forbidden, text)
    addresses = re.findall(r"https?://[^\"'`\s)]*", text)
    assert {address for address in addresses if "127.0.0.1" not in address} <= {"http://www.w3.org/2000/svg"}


def test_the_first_page_has_no_script_or_style_of_its_own() -> None:
    page = (STATIC / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"<style|style=|\son\w+=|<script(?![^>]*src=\"/static/)", page)
    assert re.search(r"<noscript>.*JavaScript.*工作室.*</noscript>", page, re.DOTALL)
    css = (STATIC / "studio.css").read_text(encoding="utf-8")
    assert not re.search(r"@import|url\(", css)
