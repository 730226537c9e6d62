"""Groups of signs that separate the cells of a file's lines: ``||``, ``_!_``, `` => ``, ``[SEP]``."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

_MAX_LOOKED_AT, _FEWEST_LINES, _NEARLY_ALL = 500, 5, 0.95
"""Lines in which groups of signs are looked for, and the share of them that must have one."""

_SIGNS = re.compile(r" ?[!#$%&*+,./:;<=>?@^_|~→⇒•·¦§-]{2,8} ?|\s?(?:\[SEP\]|<sep>|</s>)\s?", re.IGNORECASE)
"""What may separate cells though it is more than one sign: ``||``, ``_!_``, `` +++$+++ ``, `` => ``, ``[SEP]``."""
_OF_PROSE = re.compile(
    r"(?!\s*(?:::|<sep>|</s>)\s*$) ?(?:[.,;:!?-]+|([*_=~])\1+|://|.*<.*|.*[^=-]>|>.*) ?", re.IGNORECASE
)
"""Signs that texts are full of, and marks of other kinds."""


def signs_in(lines: Sequence[str]) -> list[str]:
    """Return the groups of signs that stand in (nearly) all lines as often, the most frequent first."""
    looked_at = [line for line in lines[:_MAX_LOOKED_AT] if line.strip()]
    if len(looked_at) < _FEWEST_LINES:
        return []
    counts: dict[str, Counter[int]] = {}
    for line in looked_at:
        for sign, number in Counter(_SIGNS.findall(line.rstrip("\r\n"))).items():
            counts.setdefault(sign, Counter())[number] += 1
    found = {}
    for sign, by_number in counts.items():
        if _OF_PROSE.fullmatch(sign):
            continue
        number, num_lines = by_number.most_common(1)[0]
        starts = sum(line.startswith(sign.strip()) for line in looked_at)
        if num_lines >= _NEARLY_ALL * len(looked_at) and 2 * starts < len(looked_at):
            found[sign] = number
    return sorted(found, key=lambda sign: -found[sign])
