"""What the one pass over the texts found, in words: damage, languages, lengths, boilerplate, words, personal data."""

from __future__ import annotations

import numpy as np

from tunesmith.data.boilerplate import Shared, part_of
from tunesmith.data.split_checks import IMBALANCE
from tunesmith.data_audit.audited_rows import AuditedRows
from tunesmith.data_audit.findings import AuditOptions, Finding
from tunesmith.data_audit.survey import UNLABELLED, Survey

_NO_ROWS = np.zeros(0, dtype=np.int64)
MOST_PARTS = 10
"""Shared beginnings, ends and sentences that are named."""
UNEVEN_LENGTHS = 2.0
"""Texts of one label are this many times as long, in the median, as those of another."""
LEAST_OF_CLASS = 10
_DAMAGE_REMEDY = {
    "it was decoded wrongly": "Read the file in its right encoding (data.encoding); --fix FILE decodes it again.",
    "characters were replaced and are lost": "Get the texts from their source again: what was there is lost.",
}


def text_findings(rows: AuditedRows, survey: Survey, options: AuditOptions) -> list[Finding]:
    """Return all of it, but for what concerns several rows at once."""
    size, found = max(len(rows), 1), []
    for damage, listed in survey.damage.items():
        found.append(
            Finding(
                "encoding_damage",
                f"{len(listed):,} texts are damaged: {damage}.",
                np.array(listed),
                len(listed) / size,
                "share of all rows",
                _DAMAGE_REMEDY.get(damage, "Clean the texts where they come from, or leave these rows out."),
                {"damage": damage},
            )
        )
    for kind, listed in survey.personal.items():
        found.append(
            Finding(
                "personal_data",
                f"{len(listed):,} texts hold personal data: {survey.personal_counts[kind]:,} of the kind {kind}.",
                np.array(listed),
                len(listed) / size,
                "share of all rows",
                "--fix FILE --personal-data mask writes [KIND] in its place, replace a stand-in.",
                {"kind": kind, "count": survey.personal_counts[kind]},
            )
        )
    if survey.toxic:
        words = [word for word, _ in survey.toxic_words.most_common(20)]
        found.append(
            Finding(
                "toxic",
                f"{len(survey.toxic):,} texts have words of the list.",
                np.array(survey.toxic),
                len(survey.toxic) / size,
                "share of all rows",
                "Look at them: a word alone makes no text unfit. --toxic drop leaves them out of what --fix writes.",
                {"words": words},
            )
        )
    if "imbalance" in options.checks:
        found += _imbalance(rows, survey)
    return found + _languages(survey) + _boilerplate(rows, survey)


def _languages(survey: Survey) -> list[Finding]:
    told = {language: listed for language, listed in survey.languages.items() if language}
    total = sum(map(len, told.values()))
    if len(told) < 2:
        return []
    main = max(told, key=lambda language: len(told[language]))
    shares = {language: len(listed) / total for language, listed in sorted(told.items(), key=lambda one: -len(one[1]))}
    others = np.sort(np.concatenate([np.array(listed) for language, listed in told.items() if language != main]))
    listed = ", ".join(f"{language} {share:.1%}" for language, share in list(shares.items())[:6])
    return [
        Finding(
            "language_mix",
            f"{len(others):,} of {total:,} texts whose language could be told are not in '{main}' ({listed}).",
            others,
            len(others) / total,
            "share of the texts whose language could be told",
            "Take a multilingual model, or leave these rows out; short texts are told least surely.",
            {"languages": shares, "looked_at": sum(map(len, survey.languages.values()))},
        )
    ]


def _imbalance(rows: AuditedRows, survey: Survey) -> list[Finding]:
    labels, lengths = survey.labels[: rows.num_train], survey.lengths[: rows.num_train]
    known = labels != UNLABELLED
    counts = np.bincount(labels[known], minlength=len(survey.names)) if known.any() else np.zeros(0, dtype=np.int64)
    present = np.flatnonzero(counts)
    found = []
    if len(present) >= 2 and counts[present].max() >= IMBALANCE * counts[present].min():
        most, least = int(counts.argmax()), int(present[counts[present].argmin()])
        found.append(
            Finding(
                "imbalance",
                f"'{survey.names[most]}' has {counts[most]:,} training rows, "
                f"'{survey.names[least]}' {counts[least]:,}.",
                np.flatnonzero(labels == least)[:100],
                float(counts[most] / counts[least]),
                "rows of the commonest label for each of the rarest",
                "Judge by macro F1, weigh classes (task.class_weights), or collect rows of the rare ones.",
                {
                    "rows": {
                        survey.names[code]: int(counts[code]) for code in present[np.argsort(-counts[present])][:200]
                    }
                },
            )
        )
    medians = {
        survey.names[code]: float(np.median(lengths[labels == code]))
        for code in present
        if counts[code] >= LEAST_OF_CLASS
    }
    if 2 <= len(medians) <= 200 and max(medians.values()) >= UNEVEN_LENGTHS * max(min(medians.values()), 1.0):
        longest, shortest = max(medians, key=medians.__getitem__), min(medians, key=medians.__getitem__)
        found.append(
            Finding(
                "imbalance",
                f"Texts of '{longest}' have {medians[longest]:,.0f} characters in the median, those of '{shortest}' "
                f"{medians[shortest]:,.0f}: length may be learned in the place of content.",
                _NO_ROWS,
                medians[longest] / max(medians[shortest], 1.0),
                "median length of the longest label's texts for that of the shortest's",
                "Compare on texts of like length; see whether a finding 'leak' names the length.",
                {"median_characters": medians},
            )
        )
    return found + _odd_lengths(survey)


def _odd_lengths(survey: Survey) -> list[Finding]:
    """Return texts that are far shorter or longer than the others: beyond three quartile distances of the logarithm."""
    filled = np.flatnonzero(survey.lengths > 0)
    if len(filled) < 100:
        return []
    logs = np.log(survey.lengths[filled])
    low, middle, high = np.quantile(logs, [0.25, 0.5, 0.75])
    distance = max(high - low, 0.25)
    odd = filled[(logs < low - 3 * distance) | (logs > high + 3 * distance)]
    if not len(odd):
        return []
    odd = odd[np.argsort(-survey.lengths[odd], kind="stable")]
    return [
        Finding(
            "imbalance",
            f"{len(odd):,} texts are far longer or shorter than the others: {survey.lengths[odd].min():,} to "
            f"{survey.lengths[odd].max():,} characters beside {np.exp(middle):,.0f} in the median.",
            odd,
            len(odd) / len(filled),
            "share of the texts",
            "See whether they are what they should be, or several rows in one.",
            {"median_characters": float(np.exp(middle))},
        )
    ]


def _boilerplate(rows: AuditedRows, survey: Survey) -> list[Finding]:
    found: list[Finding] = []
    seen: list[Shared] = []
    for shared in survey.shared.shared(len(rows)):
        distinct = len(np.unique(survey.texts[shared.rows]))
        if distinct < 5 or any(len(np.setxor1d(shared.rows, one.rows)) <= 0.05 * len(shared.rows) for one in seen):
            continue  # repeated rows have a finding of their own; the same rows need no second one
        seen.append(shared)
        _, firsts = np.unique(survey.texts[shared.rows], return_index=True)
        first, second = rows.read(np.sort(shared.rows[firsts])[:2])
        part = part_of(first, shared.what, second)
        words = {"beginning": "begin with", "end": "end with", "sentence": "hold the sentence"}[shared.what]
        found.append(
            Finding(
                "boilerplate",
                f"{len(shared.rows):,} texts {words} “{part if len(part) <= 80 else part[:79] + '…'}”.",
                shared.rows,
                len(shared.rows) / max(len(rows), 1),
                "share of all rows",
                "Remove it where the texts come from, unless texts will have it later, too.",
                {"what": shared.what, "text": part[:500]},
            )
        )
        if len(found) == MOST_PARTS:
            break
    return found
