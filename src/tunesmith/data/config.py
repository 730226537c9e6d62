"""What the user says about the data: where it is, which column is what, how it is split and cleaned."""

from __future__ import annotations

import codecs
import re
from collections.abc import Mapping
from pathlib import PurePath
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from tunesmith.config.base import Choice, Config
from tunesmith.data.augmentation.config import AugmentConfig
from tunesmith.data.bad_rows import BadRows
from tunesmith.data.schemes import Scheme
from tunesmith.data.spans import Offsets

_DELIMITER_NAMES = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";", "pipe": "|", "space": " "}
# Codecs that are text encodings by name only: they undo escapes or are slow on purpose.
_REFUSED_CODECS = {"idna", "punycode", "unicode_escape", "raw-unicode-escape", "unicode-escape", "undefined", "mbcs"}


_FOLD = re.compile(r"(\d{1,6})/(\d{1,6})", re.ASCII)


def _stem(path: str) -> str:
    return PurePath(path.removeprefix("sample:")).name.split(".")[0] or path


def _path_in(section: Any) -> str:
    """Return the path of a set as it is written, which may be anything."""
    return str(section.get("path", "")) if isinstance(section, Mapping) else str(section)


class CleanConfig(Config):
    """What is tidied before training. Every switch that is off leaves the rows as they are."""

    unicode: Literal["NFC", "NFKC", "none"] = "NFC"
    """Unicode form of texts and labels: composed letters (NFC), or full-width letters made normal as well (NFKC)."""
    control_characters: bool = True
    """Remove NUL and other control characters (tabs and line ends stay)."""
    whitespace: bool = True
    """Remove white space around texts and labels."""
    empty_rows: bool = True
    """Leave out rows with an empty text or no label."""
    duplicates: bool = True
    """Leave out rows that repeat another row of the same split: same texts, same label, same group."""
    leaks: bool = False
    """Leave out training rows whose text also stands in the validation or test rows."""


UNTOUCHED = CleanConfig(
    unicode="none", control_characters=False, whitespace=False, empty_rows=False, duplicates=False, leaks=False
)
"""Rows as they are."""


class SetConfig(Config):
    """One data set of a mixture."""

    path: str = Field(min_length=1)
    """As `data.path`."""
    validation: str | None = None
    """A further file with the set's validation rows; cut from its rows where there is none."""
    test: str | None = None
    """The same of test rows."""
    columns: dict[str, str] = Field(default_factory=dict)
    """Which of the set's columns fills a role; `data.columns` where there are none."""
    weight: float | None = Field(None, gt=0)
    """How often a row is taken of the set beside other weights, whatever the sets' sizes; 1 where others have one."""
    epochs: float | None = Field(None, gt=0)
    """How often its rows are read in one epoch of the training; once when not given."""
    replay: float = Field(0.0, ge=0, lt=1)
    """For rows that are to keep a model from forgetting, such as general text: their share of all rows that are read
    (`true`: 0.1). They are not judged."""

    @field_validator("replay", mode="before")
    @classmethod
    def _usual_share(cls, value: object) -> object:
        return (0.1 if value else 0.0) if isinstance(value, bool) else value

    @property
    def name(self) -> str:
        """What it is called in reports: its file's name without the ending."""
        return _stem(self.path)


class DataConfig(Config):
    """Where the rows are, and how they become training, validation and test rows."""

    path: str = Field(min_length=1)
    """A file (CSV, TSV, JSON, JSONL, Parquet, Arrow, text), a folder, hub:owner/name[:config], or sample:NAME."""
    mixture: tuple[SetConfig, ...] = ()
    """Several data sets for one training, in the place of `path`: `[{path: a.csv}, {path: b.jsonl, epochs: 0.5},
    {path: general.txt, replay: true}]`. Each is gone through whole before one of its rows comes again."""
    temperature: float | None = Field(None, ge=1)
    """Take rows of each set of a mixture in proportion to its size to the power of 1/temperature: 1 for their sizes,
    more to bring up the small ones."""
    validation: str | None = None
    """A further file with the validation rows."""
    test: str | None = None
    """A further file with the test rows."""
    columns: dict[str, str] = Field(default_factory=dict)
    """Which of your columns fills a role, as role: column. Only needed where the choice made by name and content is
    wrong. Several 0/1 columns as labels: label: "toxic,obscene"."""
    group: str | None = None
    """A column (author, film, patient); rows that share its value never stand on two sides of a split."""
    validation_fraction: float = Field(0.1, ge=0.0, lt=1.0)
    """Share of the rows cut off for validation when no validation rows are given."""
    test_fraction: float = Field(0.1, ge=0.0, lt=1.0)
    """Share of the rows cut off for the final test when neither test nor validation rows are given."""
    split_seed: int = Field(0, ge=0, lt=2**32)
    """Another number gives another split; the order of the rows never matters."""
    validation_seed: int | None = Field(None, ge=0, lt=2**32)
    """Another number gives other validation rows beside the same test rows; split_seed when not given."""
    fold: str | None = None
    """Which fold is judged, as 2/5: the training rows are cut into 5 of one size and one mix of labels (whole groups),
    the second holds the test rows, and validation rows are cut from the others. Test rows that are given are set
    aside."""
    few_shot: int | None = Field(None, ge=1)
    """Train on so few rows of each class (`--few-shot 8`), drawn at random; so many in all where rows have no classes.
    Test rows, where none are given, are all others; validation rows there are none."""
    draw: str = "1/1"
    """Which rows are drawn, as 2/5: the second of five draws, which have no row in common while classes have enough of
    them, and the same test rows."""
    limit: int | None = Field(None, ge=1)
    """Use at most this many rows of each given split, in the same mix of labels: for a quick trial."""
    train_fraction: float = Field(1.0, gt=0.0, le=1.0)
    """Train on so many of the training rows alone, in the same mix of labels; those of a smaller share are among those
    of a larger one, and validation and test rows stay as they are."""
    encoding: str | None = None
    """Character encoding of text files (utf-8, gb18030, latin-1, ...); found by content when not given."""
    delimiter: str | None = None
    """Column separator: one character, or tab, comma, semicolon, pipe; found by content when not given."""
    header: bool | None = None
    """Whether the first row holds column names; found by content when not given."""
    passage: int | None = Field(None, ge=0)
    """Plain text files: join lines into passages of at least this many characters, ending at the end of a line (at an
    empty line where there is one soon); 0 makes every line a row. Chosen by the task when not given."""
    tag_scheme: Scheme | None = None
    """How tags of entities are written: BIO (IOB2), IOB1, BIOES (BILOU, BMES), BIE, BIS, IOE2, IO (types without
    prefixes), or plain (tags that stand for themselves); chosen by the sentences it explains when not given."""
    span_offsets: Offsets | None = None
    """How places of entities in a text are counted: up to the end (exclusive), with the last character (inclusive),
    with it and from 1 (from_one), in units of UTF-16 or in bytes; chosen by the rows it explains when not given."""
    augment: Annotated[AugmentConfig | None, Choice("augment", {}, default=AugmentConfig, key="by")] = None
    """Make further training rows of those that are there, after the split: noise, synonyms."""
    bad_rows: BadRows = "auto"
    """Rows that cannot be used for their form: up to three of a file, or 1%, are left out, counted and listed, more are
    reason to stop (auto); any number is left out (quarantine); none is (refuse)."""
    clean: CleanConfig = Field(default_factory=CleanConfig)
    """What is tidied before training."""

    @model_validator(mode="before")
    @classmethod
    def _name_of_mixture(cls, values: Any) -> Any:
        """Let a mixture have a path to be called by: the names of its sets."""
        given = values.get("mixture") if isinstance(values, Mapping) else None
        if not given or values.get("path") or not isinstance(given, (list, tuple)):
            return values
        paths = [one.path if isinstance(one, SetConfig) else _path_in(one) for one in given]
        return {**values, "path": "+".join(map(_stem, paths))}

    @property
    def name_of_mixture(self) -> str:
        """What a mixture is called."""
        return "+".join(_stem(one.path) for one in self.mixture)

    @model_validator(mode="after")
    def _sets_that_go_together(self) -> Self:
        """Refuse shares that contradict each other, and what would be said of all sets at once."""
        sets = self.mixture
        if not sets:
            if self.temperature is not None:
                raise ValueError("temperature is about the sets of a mixture, and there is none")
            return self
        ways = {
            "weight": any(one.weight is not None for one in sets),
            "epochs": any(one.epochs is not None for one in sets),
            "temperature": self.temperature is not None,
        }
        if sum(ways.values()) > 1:
            given = " and ".join(name for name, is_given in ways.items() if is_given)
            raise ValueError(f"{given} say the same in different ways: how often rows of each set are taken; give one")
        if all(one.replay for one in sets):
            raise ValueError("every set of the mixture is replayed, so that none is learned; drop replay of one")
        if sum(bool(one.replay) for one in sets) > 1:
            raise ValueError("several sets are replayed; put their rows into one file")
        if any(one.replay and (one.weight or one.epochs or one.validation or one.test) for one in sets):
            raise ValueError("a set that is replayed has its share only: no weight, epochs, validation or test rows")
        if self.validation or self.test or self.few_shot is not None:
            raise ValueError("with a mixture give validation and test rows with their sets, and no few_shot")
        return self

    @field_validator("encoding")
    @classmethod
    def _known_encoding(cls, value: str | None) -> str | None:
        if value is None:
            return None
        try:
            codec = codecs.lookup(value)
            is_text = bool(getattr(codec, "_is_text_encoding", True)) and codec.name not in _REFUSED_CODECS
        except (LookupError, ValueError):
            is_text = False
        if not is_text:
            raise ValueError(f"'{value}' is no character encoding; examples: utf-8, utf-16, gb18030, latin-1")
        return value

    @field_validator("delimiter")
    @classmethod
    def _one_character(cls, value: str | None) -> str | None:
        if value is None:
            return None
        value = _DELIMITER_NAMES.get(value, value)
        if len(value) != 1 or value in '"\n\r\\\0':
            raise ValueError(
                "must be one character (not a quote, backslash or line end), or tab, comma, semicolon, pipe"
            )
        return value

    @field_validator("fold")
    @classmethod
    def _number_of_folds(cls, value: str | None) -> str | None:
        if value is not None and not (
            (found := _FOLD.fullmatch(value)) and int(found[2]) > 1 and 1 <= int(found[1]) <= int(found[2])
        ):
            raise ValueError("expected FOLD/FOLDS, such as 2/5 for the second of five")
        return value

    @field_validator("draw")
    @classmethod
    def _number_of_draws(cls, value: str) -> str:
        if not ((found := _FOLD.fullmatch(value)) and 1 <= int(found[1]) <= int(found[2])):
            raise ValueError("expected DRAW/DRAWS, such as 2/5 for the second of five")
        return value

    @property
    def draw_numbers(self) -> tuple[int, int]:
        """Which draw of ``few_shot`` rows, from 0 on, and of how many."""
        number, _, draws = self.draw.partition("/")
        return int(number) - 1, int(draws)

    @property
    def fold_numbers(self) -> tuple[int, int] | None:
        """Which fold, from 0 on, and of how many."""
        if self.fold is None:
            return None
        number, _, folds = self.fold.partition("/")
        return int(number) - 1, int(folds)

    @model_validator(mode="after")
    def _something_left_to_train_on(self) -> Self:
        if self.fold is not None and self.few_shot is not None:
            raise ValueError("fold and few_shot cannot be used together: few rows are drawn anew (draw) instead of cut")
        if self.validation_fraction + self.test_fraction >= 1.0:
            raise ValueError(
                f"validation_fraction ({self.validation_fraction}) and test_fraction ({self.test_fraction}) "
                "leave nothing to train on; their sum must be below 1"
            )
        return self
