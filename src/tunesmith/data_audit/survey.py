"""The one pass over all rows: afterwards a few numbers are known of each, and what is wrong with which."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tunesmith.data.boilerplate import SharedParts
from tunesmith.data.forms import plain_text, row_keys
from tunesmith.data.language_mix import language_finder
from tunesmith.data.near_duplicates import sketch
from tunesmith.data.text_damage import damage_of
from tunesmith.data_audit.audited_rows import AuditedRows
from tunesmith.data_audit.findings import AuditOptions

MAX_LANGUAGE_ROWS = 50_000
"""Rows whose language is told, evenly spread over all."""
UNLABELLED = -1


@dataclass
class Survey:
    """N rows."""

    texts: npt.NDArray[np.uint64]
    """[N]: stands for a row's texts, case and white space put aside."""
    exact: npt.NDArray[np.uint64]
    """[N]: stands for its texts as they are."""
    whole: npt.NDArray[np.uint64]
    """[N]: stands for its texts and its label."""
    lengths: npt.NDArray[np.int32]
    """[N]: in characters."""
    labels: npt.NDArray[np.int32]
    """[N]: place in ``names``, -1 without a label."""
    bands: npt.NDArray[np.uint32]
    """[N, B]: sketches, or nothing where near duplicates are not looked for."""
    names: list[str] = field(default_factory=list)
    damage: dict[str, list[int]] = field(default_factory=dict)
    personal: dict[str, list[int]] = field(default_factory=dict)
    personal_counts: Counter[str] = field(default_factory=Counter)
    """Stretches of each kind."""
    toxic: list[int] = field(default_factory=list)
    toxic_words: Counter[str] = field(default_factory=Counter)
    languages: dict[str, list[int]] = field(default_factory=dict)
    shared: SharedParts = field(default_factory=SharedParts)


def survey_rows(rows: AuditedRows, options: AuditOptions, watch: Callable[[int, int], None]) -> Survey:
    """Look at every row once; ``watch`` is told how many of how many are done."""
    size, checks = len(rows), set(options.checks)
    survey = Survey(
        texts=np.zeros(size, dtype=np.uint64),
        exact=np.zeros(size, dtype=np.uint64),
        whole=np.zeros(size, dtype=np.uint64),
        lengths=np.zeros(size, dtype=np.int32),
        labels=np.full(size, UNLABELLED, dtype=np.int32),
        bands=np.zeros((size, 0), dtype=np.uint32),
    )
    look = _Look(survey, options, size)
    codes: dict[str, int] = {}
    has_classes = rows.form.label is not None and not pa.types.is_floating(rows.form.schema.field(rows.form.label).type)
    for first, batch in rows.batches():
        texts, last = rows.texts_of(batch), first + batch.num_rows
        keys = row_keys(batch, rows.form, None)
        survey.texts[first:last], survey.exact[first:last], survey.whole[first:last] = (
            keys.texts,
            keys.exact,
            keys.whole,
        )
        survey.lengths[first:last] = [len(text) for text in texts]
        if "near_duplicate" in checks:
            bands = sketch(texts)
            if not survey.bands.shape[1]:
                survey.bands = np.zeros((size, bands.shape[1]), dtype=np.uint32)
            survey.bands[first:last] = bands
        if has_classes:
            labels = [_label_name(label) for label in rows.form.summaries(batch)]
            survey.labels[first:last] = [
                UNLABELLED if label is None else codes.setdefault(label, len(codes)) for label in labels
            ]
        for row, text in enumerate(texts, start=first):
            look.at(row, text)
        survey.shared.pack()
        watch(last, size)
    survey.names = list(codes)
    return survey


def _label_name(label: object) -> str | None:
    """Return what a row's label is counted by: of several, all of them, in order."""
    if isinstance(label, list):
        return ", ".join(sorted({str(one) for one in label})) or None
    return None if label is None or label == "" else plain_text(label)


class _Look:
    """What is looked for in each text by itself."""

    def __init__(self, survey: Survey, options: AuditOptions, num_rows: int) -> None:
        self._survey = survey
        self._checks = set(options.checks)
        self._detect = options.detector
        self._words = words_pattern(options.words)
        self._every = max(1, -(-num_rows // MAX_LANGUAGE_ROWS))
        self._language = language_finder() if "language_mix" in self._checks else None

    def at(self, row: int, text: str) -> None:
        """Look at the text of a row."""
        survey = self._survey
        if "encoding_damage" in self._checks and (damage := damage_of(text)):
            survey.damage.setdefault(damage, []).append(row)
        if "personal_data" in self._checks and (found := self._detect(text)):
            survey.personal_counts.update(one.kind for one in found)
            for kind in {one.kind for one in found}:
                survey.personal.setdefault(kind, []).append(row)
        if self._words is not None and (words := self._words.findall(text.casefold())):
            survey.toxic.append(row)
            survey.toxic_words.update(set(words))
        if self._language is not None and row % self._every == 0 and (language := self._language(text)):
            survey.languages.setdefault(language, []).append(row)
        if "boilerplate" in self._checks:
            survey.shared.add(row, text)


def words_pattern(words: tuple[str, ...]) -> re.Pattern[str] | None:
    """Return what finds any of some words: whole ones, but for writing without spaces."""
    if not words:
        return None
    plain = sorted({word.casefold() for word in words}, key=lambda word: (-len(word), word))
    return re.compile("|".join(rf"\b{re.escape(word)}\b" if word.isascii() else re.escape(word) for word in plain))
