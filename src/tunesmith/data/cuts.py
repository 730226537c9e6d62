"""Ways of cutting lines into cells, and how many lines of a file each of them explains."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from tunesmith.data.delimited_records import Block, Quoting, blocks
from tunesmith.data.encodings import Lines


@dataclass(frozen=True, slots=True)
class Cut:
    """One way of cutting a file's lines into cells."""

    delimiter: str | None
    quoting: Quoting


@dataclass(slots=True)
class Count:
    """What a cut makes of a file: how many columns its rows have, and how many lines these stand on."""

    rows: Counter[int] = field(default_factory=Counter)
    """Rows by their number of columns; 0 for those that cannot be read."""
    lines: Counter[int] = field(default_factory=Counter)
    first: int = 0
    """Columns of the first row."""

    def fitting(self, delimiter: str | None) -> tuple[int, ...]:
        """Return the numbers of columns that the cut explains: one, or for tabs all from the narrowest on."""
        widths = {width: number for width, number in self.rows.items() if width > 1}
        if not widths:
            return ()
        if delimiter == "\t":
            # Tabs are never part of a text: rows with more columns than the rest fit as well.
            return tuple(width for width in widths if width >= _narrowest(self.rows))
        return (max(widths, key=lambda width: (widths[width], width)),)

    def explained(self, delimiter: str | None) -> tuple[int, int]:
        """Return how many lines and how many rows are explained."""
        widths = self.fitting(delimiter)
        return sum(self.lines[width] for width in widths), sum(self.rows[width] for width in widths)


def count_widths(lines: Lines, cut: Cut, width: int | None) -> Count:
    """Cut a whole file and count; rows over several lines that have not ``width`` cells cannot be read."""
    found = Count()
    for part in blocks(lines, cut.delimiter, cut.quoting, width):
        if isinstance(part, Block):
            widths = Counter(map(len, part.rows))
            del widths[0]
            found.rows.update(widths)
            found.lines.update(widths)
            first = next(filter(None, map(len, part.rows)), 0)
        else:
            first = 0 if part.error else len(part.cells)
            found.rows[first] += 1
            found.lines[first] += len(part.lines)
        found.first = found.first or first
    return found


def _narrowest(widths: Counter[int]) -> int:
    """Return the smallest number of columns that at least a tenth of the rows have."""
    total = sum(widths.values())
    return min((width for width, count in widths.items() if width > 1 and count >= 0.1 * total), default=2)
