"""Documents of every kind for tests: PDF as the worked example writes them, DOCX by python-docx."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from examples.knowledge_base.make_documents import write_pdf

__all__ = ["write_docx", "write_pdf"]


def write_docx(path: Path, parts: Sequence[Any], title: str = "") -> Path:
    """Write a DOCX file: texts, ``(level, heading)`` and lists of rows (tables)."""
    import docx

    document = docx.Document()
    document.core_properties.title = title
    for part in parts:
        if isinstance(part, str):
            style = "List Bullet" if part.startswith("- ") else None
            document.add_paragraph(part.removeprefix("- "), style=style)
        elif isinstance(part, tuple):
            document.add_heading(part[1], level=part[0])
        else:
            table = document.add_table(rows=len(part), cols=len(part[0]))
            for row, cells in enumerate(part):
                for column, cell in enumerate(cells):
                    table.cell(row, column).text = cell
    document.save(str(path))
    return path
