"""Write the documents of the example that are no text: a PDF file and a DOCX file.

python examples/knowledge_base/make_documents.py FOLDER
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

SAFETY = [
    [
        "Linden Cycle Library: safety",
        "Helmets are lent without charge at both stations. They are cleaned after",
        "every ride, and thrown away after a fall, whatever they look like. Riders be-",
        "low the age of eighteen must wear one.",
        "Page 1 of 3",
    ],
    [
        "Linden Cycle Library: safety",
        "After an accident, stop and look after everybody who is hurt. Then call the",
        "emergency number, and after that the repair line. Do not move the bicycle until",
        "a photograph has been taken of it.",
        "Page 2 of 3",
    ],
    [
        "Linden Cycle Library: safety",
        "Every ride is insured against damage to others up to two million euros. The",
        "insurance does not cover riders who have been drinking, nor rides on motorways.",
        "Lights must be on from sunset to sunrise, and whenever it rains.",
        "Page 3 of 3",
    ],
]
PRICES = [
    ("Bicycle", "First hour", "Every further hour", "Whole day"),
    ("City bicycle", "free", "1 euro", "6 euros"),
    ("Cargo bicycle", "2 euros", "2 euros", "12 euros"),
    ("Electric bicycle", "3 euros", "3 euros", "18 euros"),
]


def write_pdf(path: Path, pages: Sequence[Sequence[str]], title: str = "") -> Path:
    """Write a PDF file whose pages hold these lines, in Helvetica; a page without lines is empty."""
    streams = []
    for lines in pages:
        shown = "".join(f"({_escaped(line)}) Tj T*\n" for line in lines)
        streams.append(f"BT /F1 11 Tf 14 TL 72 760 Td\n{shown}ET" if lines else "")
    numbers = [4 + 2 * index for index in range(len(pages))]
    objects = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{' '.join(f'{number} 0 R' for number in numbers)}] /Count {len(pages)} >>",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
    ]
    for number, stream in zip(numbers, streams, strict=True):
        page = "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Resources << /Font << /F1 3 0 R >> >> "
        objects.append(f"{page}/Contents {number + 1} 0 R >>")
        objects.append(f"<< /Length {len(stream.encode('cp1252'))} >>\nstream\n{stream}\nendstream")
    objects.append(f"<< /Title ({_escaped(title)}) >>")
    content, places = b"%PDF-1.4\n", []
    for number, text in enumerate(objects, 1):
        places.append(len(content))
        content += f"{number} 0 obj\n{text}\nendobj\n".encode("cp1252")
    table = "".join(f"{place:010d} 00000 n \n" for place in places)
    end = f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{table}trailer\n<< /Size {len(objects) + 1} /Root 1 0 R "
    end += f"/Info {len(objects)} 0 R >>\nstartxref\n{len(content)}\n%%EOF\n"
    path.write_bytes(content + end.encode("ascii"))
    return path


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("(", "\\(").replace(")", "\\)")


def write_prices(path: Path) -> Path:
    """Write the list of prices as a DOCX file."""
    import docx

    document = docx.Document()
    document.core_properties.title = "Prices"
    document.add_heading("Prices", level=1)
    document.add_heading("Rides", level=2)
    table = document.add_table(rows=0, cols=4)
    for row in PRICES:
        for cell, text in zip(table.add_row().cells, row, strict=True):
            cell.text = text
    document.add_heading("Deposits", level=2)
    document.add_paragraph("A deposit of fifty euros is taken for cargo bicycles, and none for all others.")
    document.add_heading("Late returns", level=2)
    document.add_paragraph(
        "A bicycle that comes back late costs five euros for every day begun. After seven days the police are told."
    )
    document.save(str(path))
    return path


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    print(write_pdf(folder / "safety.pdf", SAFETY, title="Safety"))
    print(write_prices(folder / "prices.docx"))


if __name__ == "__main__":
    main()
