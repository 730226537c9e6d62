"""The schemes in which tags are written, and how they become BIO.

Whatever the user's tags are written in becomes BIO (Tjong Kim Sang and Veenstra 1999): ``B-X`` opens an
entity of type X, ``I-X`` continues it, ``O`` is outside. Tags of another kind (parts of speech) stay as they are.

Which scheme it is decides no single tag: the one that explains the most sentences of all the data wins. Every
scheme can be judged by pairs of neighbouring tags, and one reading is right for all of them: what opens opens,
what continues continues an entity of its type or else opens one. So a sentence that breaks the rules of its scheme
is mended, not lost.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from tunesmith.types import Guess

Scheme = Literal["BIO", "IOB1", "BIOES", "BIE", "BIS", "IOE2", "IO", "plain"]
"""BIOES stands for BILOU and BMES too, which name the same things by other letters; in BIE a single token is a B-, in
BIS an S- and nothing marks the end; IO has types without prefixes, plain tags stand for themselves."""

Tags = Sequence[str]
Part = tuple[str, str]
"""Role (B, I, E, S or O) and type of a tag."""

OUTSIDE = "O"
FLAG = "data.tag_scheme"

_PREFIXED_SCHEMES: tuple[Scheme, ...] = ("BIO", "IOB1", "BIOES", "BIE", "BIS", "IOE2")
"""The first of those that explain as much wins."""
_ROLES = {"B": "B", "I": "I", "M": "I", "E": "E", "L": "E", "S": "S", "U": "S", "W": "S"}
_LETTERS = "".join(_ROLES)
_ALSO_OUTSIDE = frozenset({"o", "0", "_", "-", "*"})
"""What is written for no tag beside O, or instead of it."""
_BARE_SETS = ({"B", "I"}, {"B", "I", "S"}, {"B", "I", "E", "S"}, {"B", "M", "E", "S"}, {"B", "I", "L", "U"})
_SURE = 0.99
"""Share of the sentences that a reading of bare letters or numbers as a scheme has to explain."""
_MARGIN = 0.01
_MOST_DIGITS = 9
"""Of a number that counts tags. Python converts no more than 4,300 of them anyway."""
_END: Part = (OUTSIDE, "")


# ---- how a tag is put together -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Writing:
    """How role and type are put into one tag."""

    name: str
    """As an example: ``B-X``."""
    parse: Callable[[str], Part | None]
    """Role and type of a tag that is written so, else None; what is outside is not its matter."""
    is_certain: bool = True
    """Whether tags written so can hardly be anything else."""
    schemes: tuple[Scheme, ...] = _PREFIXED_SCHEMES
    """The schemes that are written so."""


def _by_pattern(name: str, pattern: str) -> Writing:
    compiled = re.compile(pattern, re.DOTALL)

    def parse(tag: str) -> Part | None:
        match = compiled.fullmatch(tag)
        return (_ROLES[match["role"].upper()], match["type"]) if match else None

    return Writing(name, parse)


_ROLE = f"(?P<role>[{_LETTERS}{_LETTERS.lower()}])"
_AFFIXED = (
    _by_pattern("B-X", f"{_ROLE}-(?P<type>.+)"),
    _by_pattern("B_X", f"{_ROLE}_(?P<type>.+)"),
    _by_pattern("X-B", f"(?P<type>.+)-{_ROLE}"),
    _by_pattern("X_B", f"(?P<type>.+)_{_ROLE}"),
)


def _bare(counts: Mapping[str, int]) -> Writing | None:
    """Return the reading of tags that are letters of a scheme and nothing else, as in word segmentation."""
    letters = {tag for tag in counts if tag != OUTSIDE}
    if "B" not in letters or len(letters) < 2 or not any(letters <= known for known in _BARE_SETS):
        return None
    kind = "span" if OUTSIDE in counts else "word"
    return Writing("B", lambda tag: (_ROLES[tag], kind) if tag in _ROLES else None, is_certain=False)


def _numbered(counts: Mapping[str, int]) -> Writing | None:
    """Return the reading of numbers as ids in the usual order: O, B- and I- of the first type, of the second, ..."""
    if not are_numbers(counts) or counts.get("0", 0) < max(counts.values()) or not any(_is_even(tag) for tag in counts):
        return None

    def parse(tag: str) -> Part | None:
        number = int(tag)
        if number == 0:
            return None
        first = number if number % 2 else number - 1
        return ("B" if number % 2 else "I", f"{first}/{first + 1}")

    return Writing("1, 2", parse, is_certain=False, schemes=("BIO",))


def are_numbers(counts: Mapping[str, int]) -> bool:
    """Say whether all tags are numbers that could count tags, which name nothing."""
    return bool(counts) and all(tag.isascii() and tag.isdigit() and len(tag) <= _MOST_DIGITS for tag in counts)


def _is_even(tag: str) -> bool:
    return int(tag) % 2 == 0 and int(tag) > 0


# ---- what each scheme allows ---------------------------------------------------------------------


def _allows(scheme: Scheme, before: Part, tag: Part) -> bool:  # noqa: PLR0911 (a table)
    """Say whether a tag may follow another one; the end of a sentence is an O."""
    role, last = tag[0], before[0]
    continues = last in ("B", "I") and tag[1] == before[1]
    if scheme == "BIO":
        return role in ("O", "B") or (role == "I" and continues)
    if scheme == "BIS":
        return role in ("O", "B", "S") or (role == "I" and continues)
    if scheme == "IOB1":
        return role in ("O", "I") or (role == "B" and continues)
    if scheme == "BIOES":
        return continues if role in ("I", "E") else last not in ("B", "I")
    if scheme == "BIE":
        return continues if role in ("I", "E") else last != "I"
    if role not in ("O", "I", "E"):  # IOE2
        return False
    return last != "I" or (role in ("I", "E") and continues)


@dataclass(slots=True)
class _Reading:
    """Tags by one writing: what each means, and what may follow what by each scheme, in bits."""

    writing: Writing
    outside: frozenset[str]
    parts: dict[str, Part | None]
    explained: Counter[Scheme] = field(default_factory=Counter)
    _bits: dict[tuple[str, str], int] = field(default_factory=dict)

    def part(self, tag: str) -> Part | None:
        """Return role and type of a tag; None for one of another kind."""
        if tag not in self.parts:
            self.parts[tag] = (OUTSIDE, "") if tag in self.outside else self.writing.parse(tag)
        return self.parts[tag]

    def fitting(self, tags: Tags) -> int:
        """Return which schemes the tags of a sentence keep to: bits in the order of ``_PREFIXED_SCHEMES``."""
        found = (1 << len(_PREFIXED_SCHEMES)) - 1
        before = ""
        for tag in tags:
            bits = self._bits.get((before, tag))
            found &= self._learn(before, tag) if bits is None else bits
            before = tag
        return found & self._learn(before, "")

    def _learn(self, before: str, tag: str) -> int:
        known = self._bits.get((before, tag))
        if known is None:
            # An empty text stands for the borders of a sentence, unless it is itself a tag: then it is outside.
            first = self.part(before) if before else _END
            second = self.part(tag) if tag else _END
            known = 0
            if first is not None and second is not None:
                known = sum(_allows(scheme, first, second) << k for k, scheme in enumerate(_PREFIXED_SCHEMES))
            self._bits[before, tag] = known
        return known


# ---- the scheme of all rows ----------------------------------------------------------------------


class TagForm:
    """In which scheme tags are written: learned from all rows, then applied to each."""

    def __init__(
        self, scheme: Scheme, reading: _Reading | None, counts: Mapping[str, int], alternatives: Mapping[str, int]
    ) -> None:
        self.scheme: Scheme = scheme
        self.counts = counts
        """How often each tag occurs."""
        self.explained = alternatives.get(scheme, 0)
        """Sentences that keep to the scheme."""
        self._alternatives = alternatives
        self._reading = reading
        self._bit = 1 << _PREFIXED_SCHEMES.index(scheme) if scheme in _PREFIXED_SCHEMES else 0

    @classmethod
    def learn(cls, rows: Callable[[], Iterable[Tags | None]], given: Scheme | None = None) -> TagForm:
        """Find the scheme that explains most of the sentences; ``rows`` is called twice. ``given`` is the user's word.

        A sentence without a tag of a type is explained by every scheme.
        """
        counts: Counter[str] = Counter()
        for tags in rows():
            counts.update(tags or ())
        readings = _readings(counts)
        certain = [reading for reading in readings if reading.writing.is_certain]
        num_plain = num_rows = 0
        for tags in rows():
            if tags is None:
                continue
            num_rows += 1
            for reading in readings:
                bits = reading.fitting(tags)
                for k, scheme in enumerate(_PREFIXED_SCHEMES):
                    reading.explained[scheme] += bits >> k & 1
            num_plain += all(tags) and not any(
                part is not None and part[0] != OUTSIDE for one in certain for part in map(one.part, set(tags))
            )
        return cls._choose(counts, readings, num_plain, num_rows, given)

    @classmethod
    def _choose(
        cls, counts: Counter[str], readings: Sequence[_Reading], num_plain: int, num_rows: int, given: Scheme | None
    ) -> TagForm:
        best = max(readings, key=lambda reading: _best(reading)[1], default=None)
        has_types = bool(set(counts) - {OUTSIDE, ""})
        unprefixed: Scheme = "IO" if _outside_of(counts, dominant=True) else "plain"
        found: dict[str, int] = {"BIO": 0 if has_types else num_rows}
        found |= {} if best is None else {scheme: best.explained[scheme] for scheme in best.writing.schemes}
        found |= {unprefixed: num_plain, "plain": num_plain}
        if given is not None:
            scheme = given
        elif not has_types:
            scheme = "BIO"
        elif best is None:
            scheme = unprefixed
        else:
            scheme, number = _best(best)
            if number < (num_plain if best.writing.is_certain else _SURE * num_rows):
                scheme = unprefixed
        return cls(scheme, _reading_for(scheme, best, counts), counts, found)

    @property
    def also_outside(self) -> list[str]:
        """Tags other than O that are read as O."""
        outside = frozenset[str]() if self._reading is None else self._reading.outside
        return sorted(tag for tag in outside if tag != OUTSIDE and tag in self.counts)

    @property
    def are_ids(self) -> bool:
        """Whether the tags are numbers whose names are nowhere."""
        return are_numbers(self.counts)

    @property
    def writing(self) -> str:
        """How tags are put together, as an example; empty for tags without parts."""
        return "" if self._reading is None or self._reading.writing is _TYPES else self._reading.writing.name

    def guess(self) -> Guess:
        """Return what was chosen, with the sentences that every other scheme explains."""
        others = Counter({name: count for name, count in self._alternatives.items() if name != self.scheme})
        return Guess("scheme", self.scheme, self.explained, tuple(others.most_common()), FLAG)

    def read(self, tags: Tags) -> list[str] | None:
        """Return a sentence's tags as BIO (or as they are, where there is no scheme); None for tags of another kind.

        Where they break the scheme's rules, ``is_broken``, what continues no entity of its type opens one, and an
        entity ends where the next begins.
        """
        if self._reading is None:
            return list(tags) if all(tags) else None
        found: list[str] = []
        inside = ""
        for tag in tags:
            part = self._reading.part(tag)
            if part is None:
                return None
            role, kind = part
            if role == OUTSIDE:
                found.append(OUTSIDE)
            else:
                continues = role in ("I", "E") and kind == inside
                found.append(f"{'I' if continues else 'B'}-{kind}")
            inside = kind if role in ("B", "I") else ""
        return found

    def is_broken(self, tags: Tags) -> bool:
        """Say whether a sentence that can be read breaks the rules of the scheme."""
        return self._reading is not None and self._bit > 0 and not self._reading.fitting(tags) & self._bit


def _any_type(tag: str) -> Part | None:
    """Return a tag as a type that plays the role I; with a prefix, its type."""
    if not tag:
        return None
    return _AFFIXED[0].parse(tag) or ("I", tag)


_TYPES = Writing("X", _any_type)


def _reading_for(scheme: Scheme, best: _Reading | None, counts: Mapping[str, int]) -> _Reading | None:
    """Return how tags of a scheme are cut: as they mostly are, or else as they usually are; None for plain tags."""
    if scheme == "plain":
        return None
    if scheme == "IO":
        outside = _outside_of(counts, dominant=True) or _outside_of(counts)
        return _Reading(_TYPES, outside or frozenset({OUTSIDE}), {})
    return best or _Reading(_AFFIXED[0], _outside_of(counts) or frozenset({OUTSIDE}), {})


def _readings(counts: Mapping[str, int]) -> list[_Reading]:
    """Return the ways in which most tags can be cut into role and type."""
    found = []
    for writing in _AFFIXED:
        parts = {tag: writing.parse(tag) for tag in counts}
        parsed = {tag for tag, part in parts.items() if part is not None}
        has_beginning = any(part is not None and part[0] in ("B", "I") for part in parts.values())
        others = {tag: count for tag, count in counts.items() if tag not in parsed}
        outside = _outside_of(others) or frozenset({OUTSIDE})
        total = sum(count for tag, count in counts.items() if tag not in outside)
        if has_beginning and 2 * sum(counts[tag] for tag in parsed) >= total:
            found.append(_Reading(writing, outside, {}))
    if not found:
        weak = [writing for writing in (_bare(counts), _numbered(counts)) if writing is not None]
        found = [_Reading(writing, frozenset({"0"} if are_numbers(counts) else {OUTSIDE}), {}) for writing in weak]
    return found


def _outside_of(counts: Mapping[str, int], *, dominant: bool = False) -> frozenset[str]:
    """Return the tags that stand for no entity: O and its like, or else the only tag there is beside prefixed ones.

    With ``dominant`` they must be the commonest of all tags, as they are where tags have no prefixes.
    """
    found = frozenset(tag for tag in counts if tag == OUTSIDE or (tag in _ALSO_OUTSIDE and OUTSIDE in counts))
    if not found and dominant:
        found = frozenset(tag for tag in counts if tag in _ALSO_OUTSIDE)
    if not found and not dominant and len(counts) == 1:
        found = frozenset(counts)
    if dominant and found:
        largest = max((count for tag, count in counts.items() if tag not in found), default=0)
        return found if sum(counts[tag] for tag in found) >= largest else frozenset()
    return found


def _best(reading: _Reading) -> tuple[Scheme, int]:
    """Return the scheme that explains most sentences, the stricter one of two that explain about as many."""
    explained = reading.explained
    best = max(reading.writing.schemes, key=lambda scheme: explained[scheme])
    if best == "BIE" and explained["BIE"] - explained["BIOES"] <= max(3, _MARGIN * explained["BIE"]):
        best = "BIOES"
    return best, explained[best]
