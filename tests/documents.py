"""Documents of every kind for tests: PDF as the worked example writes them, DOCX by python-docx."""

from __future__ import annotations

import runpy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

__all__ = ["write_docx", "write_pdf"]

_EXAMPLE = Path(__file__).resolve().parent.parent / "examples" / "knowledge_base" / "make_documents.py"
# By its path: packages of others are called "examples", too.
write_pdf = runpy.run_path(str(_EXAMPLE))["write_pdf"]


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
