"""Workbooks as spreadsheet programs write them (Office Open XML), made by hand."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
RELATIONS = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
PACKAGE = "http://schemas.openxmlformats.org/package/2006"
FIRST_DAY = datetime(1899, 12, 30)  # noqa: DTZ001 (sheets know no zones)
HEAD = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>'


def write_workbook(
    path: Path,
    sheets: Mapping[str, Sequence[Sequence[Any]]],
    *,
    merged: Sequence[str] = (),
    hidden_sheets: Sequence[str] = (),
    hidden_rows: Sequence[int] = (),
) -> None:
    """Write sheets of cells: texts, numbers, truth values, dates, None; ``=A1`` is a formula whose result is 3."""
    names = list(sheets)
    numbers = range(1, len(names) + 1)
    states = ['state="hidden"' if name in hidden_sheets else "" for name in names]
    listed = "".join(
        f'<sheet name="{escape(name)}" sheetId="{number}" {state} r:id="rId{number}"/>'
        for name, number, state in zip(names, numbers, states, strict=True)
    )
    ranges = "".join(f'<mergeCell ref="{each}"/>' for each in merged)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("[Content_Types].xml", f'{HEAD}<Types xmlns="{PACKAGE}/content-types"/>')
        archive.writestr(
            "_rels/.rels",
            f'{HEAD}<Relationships xmlns="{PACKAGE}/relationships"><Relationship Id="rId1" '
            f'Type="{RELATIONS}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
        )
        archive.writestr(
            "xl/workbook.xml",
            f'{HEAD}<workbook xmlns="{MAIN}" xmlns:r="{RELATIONS}"><sheets>{listed}</sheets></workbook>',
        )
        related = "".join(
            f'<Relationship Id="rId{number}" Type="{RELATIONS}/worksheet" Target="worksheets/sheet{number}.xml"/>'
            for number in numbers
        )
        related += f'<Relationship Id="rId99" Type="{RELATIONS}/styles" Target="styles.xml"/>'
        archive.writestr(
            "xl/_rels/workbook.xml.rels",
            f'{HEAD}<Relationships xmlns="{PACKAGE}/relationships">{related}</Relationships>',
        )
        archive.writestr(
            "xl/styles.xml",
            f'{HEAD}<styleSheet xmlns="{MAIN}"><cellXfs count="2"><xf numFmtId="0"/><xf numFmtId="22"/></cellXfs>'
            "</styleSheet>",
        )
        for number, rows in zip(numbers, sheets.values(), strict=True):
            content = "".join(_row(index, row, is_hidden=index in hidden_rows) for index, row in enumerate(rows, 1))
            shared = f"<mergeCells>{ranges}</mergeCells>" if ranges and number == 1 else ""
            archive.writestr(
                f"xl/worksheets/sheet{number}.xml",
                f'{HEAD}<worksheet xmlns="{MAIN}"><sheetData>{content}</sheetData>{shared}</worksheet>',
            )


def _row(index: int, row: Sequence[Any], *, is_hidden: bool) -> str:
    cells = "".join(_cell(f"{chr(65 + column)}{index}", value) for column, value in enumerate(row))
    hidden = 'hidden="1"' if is_hidden else ""
    return f'<row r="{index}" {hidden}>{cells}</row>'


def _cell(place: str, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return f'<c r="{place}" t="b"><v>{int(value)}</v></c>'
    if isinstance(value, (int, float)):
        return f'<c r="{place}"><v>{value}</v></c>'
    if isinstance(value, datetime):
        return f'<c r="{place}" s="1"><v>{(value - FIRST_DAY).total_seconds() / 86400}</v></c>'
    if value.startswith("="):
        return f'<c r="{place}"><f>{value[1:]}</f><v>3</v></c>'
    return f'<c r="{place}" t="inlineStr"><is><t xml:space="preserve">{escape(value)}</t></is></c>'
