"""Documents of every kind become passages; what cannot be read is listed with the reason."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from documents import write_docx, write_pdf
from tunesmith.data.documents import passages_file
from tunesmith.data.documents.content import Content, UnreadableError
from tunesmith.data.documents.cutting import Lengths
from tunesmith.data.documents.html_text import read_markup
from tunesmith.data.documents.passages_file import Gathered, write_passages
from tunesmith.data.documents.reading import kind_of, read
from tunesmith.types import InputError, MissingExtraError

MARKDOWN = """---
title: "The manual"
---
# First

Some *words* and a [link](https://nowhere).
Second line.

- one
- two

| name | price |
| --- | --- |
| tea | 3 |

## Second

```
code  here
```

<p>in HTML</p>
"""

HTML = """<html><head><title>A page</title><script>var x = "no";</script></head><body>
<nav>Home | About</nav><main><h1>Welcome</h1><p>First   paragraph<br>with a break.</p>
<ul><li>one</li><li>two <b>bold</b></li></ul>
<table><caption>Prices</caption><tr><th>tea</th><td>3</td></tr><tr><th>milk</th><td>1</td></tr></table>
<h2>More</h2><p>Last one.</p><pre>a  b
c</pre></main><footer>Imprint</footer></body></html>"""


def text_of(path: Path) -> str:
    """The text that the places of passages count in."""
    parts: list[str] = []
    for block in read(path, kind_of(path), Content()):
        parts += [block.gap if parts else "", block.text]
    return "".join(parts)


def passages(output: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]


def made(folder: Path, *given: Path, **options: Any) -> tuple[Gathered, list[dict[str, Any]]]:
    output = folder / "out" / "passages.jsonl"
    found = write_passages(given, output, options.pop("lengths", Lengths(40, 10)), **options)
    return found, passages(output)


def test_markdown_keeps_its_structure(tmp_path: Path) -> None:
    path = tmp_path / "manual.md"
    path.write_text(MARKDOWN, encoding="utf-8")
    _, found = made(tmp_path, path)
    assert [one["text"] for one in found] == [
        "First\n\nSome words and a link. Second line.\n\n- one\n- two\n\nname | price\ntea | 3",
        "Second\n\ncode  here\n\nin HTML",
    ]
    assert [one["headings"] for one in found] == ["First", "First > Second"]
    assert {one["title"] for one in found} == {"The manual"}
    assert all(text_of(path)[one["start"] : one["end"]] == one["text"] for one in found)


def test_html_keeps_what_is_read_and_leaves_menus_out(tmp_path: Path) -> None:
    path = tmp_path / "page"  # by its content
    path.write_text(HTML, encoding="utf-8")
    gathered, found = made(tmp_path, path)
    assert [one["text"] for one in found] == [
        "Welcome\n\nFirst paragraph\nwith a break.\n\n- one\n- two bold\n\nPrices\ntea | 3\nmilk | 1",
        "More\n\nLast one.\n\na  b\nc",
    ]
    assert found[0]["title"] == "A page"
    assert gathered.documents[0].kind == "HTML"
    assert gathered.documents[0].num_repeated_lines == 2


def test_html_says_its_encoding(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_bytes('<html><head><meta charset="gbk"></head><body><p>今天天气很好。</p>'.encode("gbk"))
    assert made(tmp_path, path)[1][0]["text"] == "今天天气很好。"
    assert read_markup("a\x00b<p>c").blocks[0].text == "ab"


def test_text_is_read_paragraph_by_paragraph(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    wrapped = "This paragraph was wrapped by somebody at a cer-\ntain width, long ago, as people used to do it.\n"
    path.write_text(f"{wrapped}\nRoses are red,\nviolets blue.\n", encoding="utf-8")
    gathered, found = made(tmp_path, path)
    assert "at a certain width" in found[0]["text"]
    assert found[0]["text"].endswith("Roses are red,\nviolets blue.")
    assert gathered.documents[0].num_mended == 1
    path.write_bytes("Grüße aus München. Schöne Straße!".encode("cp1252"))
    assert made(tmp_path, path)[1][0]["text"] == "Grüße aus München. Schöne Straße!"


def test_ids_stay_when_the_document_changes_elsewhere(tmp_path: Path) -> None:
    path = tmp_path / "notes.md"
    path.write_text("# A\n\nFirst.\n\n# B\n\nSecond.\n", encoding="utf-8")
    before = {one["text"]: one["id"] for one in made(tmp_path, path)[1]}
    path.write_text("# A\n\nFirst, changed.\n\n# B\n\nSecond.\n", encoding="utf-8")
    after = {one["text"]: one["id"] for one in made(tmp_path, path)[1]}
    assert after["B\n\nSecond."] == before["B\n\nSecond."]
    assert set(before.values()) & set(after.values()) == {before["B\n\nSecond."]}


def test_duplicates_are_noted_or_dropped(tmp_path: Path) -> None:
    folder = tmp_path / "docs"
    folder.mkdir()
    for name in ("a.txt", "b.txt"):
        (folder / name).write_text("The same words.", encoding="utf-8")
    (folder / "c.txt").write_text("Other words.", encoding="utf-8")
    gathered, found = made(tmp_path, folder)
    assert [one["duplicate_of"] for one in found] == [None, found[0]["id"], None]
    assert gathered.num_duplicates == 1
    gathered, found = made(tmp_path, folder, keeps_duplicates=False)
    assert [one["source"] for one in found] == ["a.txt", "c.txt"]
    assert gathered.documents[1].num_duplicates == 1


def test_what_cannot_be_read_is_listed_with_the_reason(tmp_path: Path) -> None:
    folder = tmp_path / "docs"
    (folder / ".hidden").mkdir(parents=True)
    (folder / "sub").mkdir()
    (folder / "sub" / "good.txt").write_text("Some words.", encoding="utf-8")
    (folder / "empty.txt").write_bytes(b" \n\n")
    (folder / "blank.md").write_text("<!-- nothing -->\n" * 400, encoding="utf-8")
    (folder / "old.doc").write_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600))
    (folder / "locked.docx").write_bytes(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600))
    (folder / "cut.pdf").write_bytes(b"not one")
    (folder / "noise.txt").write_bytes(bytes(range(32)) * 40)
    (folder / "style.css").write_text("a { b: c }", encoding="utf-8")
    with zipfile.ZipFile(folder / "other.docx", "w") as archive:
        archive.writestr("something", "else")
    gathered, found = made(tmp_path, folder)
    assert [one["source"] for one in found] == ["sub/good.txt"]
    reasons = dict(gathered.left_out)
    assert reasons.keys() == {
        "empty.txt", "blank.md", "old.doc", "locked.docx", "cut.pdf", "noise.txt", "style.css", "other.docx",
    }  # fmt: skip
    for name, word in {"empty.txt": "empty", "locked.docx": "encrypted", "cut.pdf": "damaged", "noise.txt": "no kind",
                       "other.docx": "archive", "blank.md": "no text", "style.css": ".css"}.items():  # fmt: skip
        assert word in reasons[name], reasons[name]
    assert made(tmp_path, folder / "style.css")[1][0]["text"] == "a { b: c }"  # named, it is read


def test_not_one_passage_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_bytes(b"")
    with pytest.raises(InputError, match=r"empty\.txt: it is empty"):
        made(tmp_path, tmp_path / "empty.txt")
    assert not list((tmp_path / "out").iterdir())


def test_a_missing_library_is_named_with_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_pdf(tmp_path / "a.pdf", [["Words."]])
    monkeypatch.setitem(passages_file.require_library.__globals__["LIBRARIES"], "PDF", ("not_there", "pypdf"))
    with pytest.raises(MissingExtraError, match=r"pypdf.*\n.*tunesmith\[documents\]"):
        made(tmp_path, path)


class TestPdf:
    @pytest.fixture(autouse=True)
    def _installed(self) -> None:
        pytest.importorskip("pypdf", reason="the extra 'documents' is not installed")

    def test_pages_become_paragraphs(self, tmp_path: Path) -> None:
        texts = ["sun", "moon", "star", "tree"]
        pages = [
            [
                "The yearly report",
                f"This page tells at some length about the {text} and what it means,",
                "with infor-" if number else "with a word,",
                "mation that goes on to the end of this line and further on to the"
                if number
                else "that is here for the length of all other lines of this page and",
                f"next {text}.",
                f"Page {number + 1}",
            ]
            for number, text in enumerate(texts)
        ]
        path = write_pdf(tmp_path / "report.pdf", pages, title="Report 2026")
        gathered, found = made(tmp_path, path)
        assert [one["page"] for one in found] == [1, 2, 3, 4]
        assert found[0]["title"] == "Report 2026"
        assert not any("yearly" in one["text"] or "Page" in one["text"] for one in found)
        assert "with information that goes on" in found[1]["text"]
        document = gathered.documents[0]
        assert (document.num_pages, document.num_repeated_lines, document.num_mended) == (4, 8, 3)
        assert all(text_of(path)[one["start"] : one["end"]] == one["text"] for one in found)

    def test_a_sentence_goes_on_on_the_next_page(self, tmp_path: Path) -> None:
        path = write_pdf(tmp_path / "a.pdf", [["A sentence that goes"], ["on here. Another one follows it."]])
        _, found = made(tmp_path, path, lengths=Lengths(7, 0))
        assert [(one["text"], one["page"]) for one in found] == [
            ("A sentence that goes on here.", 1),
            ("Another one follows it.", 2),
        ]

    def test_scans_and_encrypted_and_damaged_files_are_told_apart(self, tmp_path: Path) -> None:
        import pypdf

        scan = write_pdf(tmp_path / "scan.pdf", [[], []])
        whole = write_pdf(tmp_path / "whole.pdf", [["Words of a page."], []])
        writer = pypdf.PdfWriter(clone_from=whole)
        writer.encrypt("secret", algorithm="RC4-128")
        writer.write(tmp_path / "locked.pdf")
        (tmp_path / "cut.pdf").write_bytes(whole.read_bytes()[:120])
        gathered, found = made(tmp_path, *(tmp_path / f"{name}.pdf" for name in ("scan", "whole", "locked", "cut")))
        assert [one["source"] for one in found] == ["whole.pdf"]
        assert gathered.documents[0].notes == ("1 of its 2 pages hold no text: 2",)
        reasons = dict(gathered.left_out)
        assert "scan" in reasons["scan.pdf"]
        assert "encrypted" in reasons["locked.pdf"]
        assert "damaged" in reasons["cut.pdf"]
        assert kind_of(scan) == "PDF"


class TestDocx:
    @pytest.fixture(autouse=True)
    def _installed(self) -> None:
        pytest.importorskip("docx", reason="the extra 'documents' is not installed")

    def test_headings_lists_and_tables_are_kept(self, tmp_path: Path) -> None:
        parts = [
            (1, "Rules"),
            "No smoking here.",
            "- first",
            "- second",
            [["what", "fee"], ["late", "5"]],
            (2, "More"),
            "End.",
        ]
        path = write_docx(tmp_path / "rules.docx", parts, title="House rules")
        _, found = made(tmp_path, path)
        assert [one["text"] for one in found] == [
            "Rules\n\nNo smoking here.\n\n- first\n- second\n\nwhat | fee\nlate | 5",
            "More\n\nEnd.",
        ]
        assert [one["headings"] for one in found] == ["Rules", "Rules > More"]
        assert found[0]["title"] == "House rules"

    def test_damaged_files_are_listed(self, tmp_path: Path) -> None:
        whole = write_docx(tmp_path / "a.docx", ["Words."])
        content = bytearray(whole.read_bytes())
        content[200:260] = bytes(60)
        (tmp_path / "b.docx").write_bytes(content)
        (tmp_path / "c.docx").write_bytes(whole.read_bytes()[:300])
        gathered, found = made(tmp_path, tmp_path / "a.docx", tmp_path / "b.docx", tmp_path / "c.docx")
        assert found[0]["source"] == "a.docx"
        assert all("damaged" in reason for _, reason in gathered.left_out)
        with pytest.raises(UnreadableError):
            kind_of(tmp_path / "c.docx")
