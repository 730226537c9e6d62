"""A file's rows, and rows made of them, as a new file."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from tunesmith.augment.rewriting import RUNS_OF, Rewriter, rewriter_of
from tunesmith.data.augmentation.config import WAYS, AugmentConfig
from tunesmith.data.augmentation.edited_rows import ANSWERS, CONTEXT, TAGS, TOKENS, require_editable, ways_of
from tunesmith.data.augmentation.edits import Way
from tunesmith.data.augmentation.made_rows import MADE_BY, MADE_FROM, has_made_rows, how_many, made_of, turns
from tunesmith.data.clean import Tally
from tunesmith.data.config import UNTOUCHED, DataConfig
from tunesmith.data.forms import Form, Wishes
from tunesmith.data.records import ROW
from tunesmith.data.rows import Rows, batches, nested_columns, with_nested
from tunesmith.data.written_rows import RowFile, require_row_format
from tunesmith.files.outputs import require_output
from tunesmith.run.rows import find_rows
from tunesmith.tasks import Task
from tunesmith.types import InputError


@dataclass(frozen=True, slots=True)
class AugmentOptions:
    """What is made, and through what."""

    by: tuple[str, ...]
    """Of ``WAYS`` and ``RUNS_OF``."""
    factor: float = 2.0
    share: float = 0.1
    lexicon: str | None = None
    through: tuple[str, ...] = ()
    """Folders of the runs that write texts anew."""
    seed: int = 0
    overwrite: bool = False


@dataclass(frozen=True, slots=True)
class Augmented:
    """What was written."""

    file: Path
    num_rows: int
    """Rows of the file that was read, its training rows where it has several splits."""
    made: Mapping[str, int] = field(default_factory=dict)
    """Rows made, by the way."""
    unchanged: int = 0
    """Rows of which none could be made, though some were asked for."""

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON-ready values."""
        return {"file": str(self.file), "rows": self.num_rows, "made": dict(self.made), "unchanged": self.unchanged}


def augment_file(
    data: DataConfig,
    task: Task | None,
    options: AugmentOptions,
    output: Path,
    working: Callable[[str], None] = lambda _: None,
) -> Augmented:
    """Write the training rows of ``data`` to ``output``, each followed by the rows made of it.

    Two columns are added, ``made_from`` and ``made_by``, by which ``train`` keeps made rows out of validation and test
    rows, and out of the training rows where their source is not among them.

    Raises ``InputError`` where rows cannot be changed, nothing changes, or the file cannot be written.
    """
    rewriters = _rewriters(options)
    found = find_rows(data, task)
    rows = found.raw.splits["train"]
    if has_made_rows(rows.column_names):
        raise InputError(f"{data.path} has made rows already.", "Give the file that they were made of.")
    form = found.form.of(
        found.raw.splits.values(), found.choices, Wishes(scheme=data.tag_scheme, offsets=data.span_offsets)
    )[0]
    columns = form.schema.names
    require_editable(columns, "augment")
    if rewriters and {TOKENS, ANSWERS} & set(columns):
        names = ", ".join(rewriters)
        raise InputError(
            f"--by {names}: the labels of these rows are places in their texts, which no text written anew keeps.",
            f"Use {' or '.join(WAYS)}, which keep entities and answers where they are.",
        )
    source = _Source(form, rows)
    require_row_format(output, source.schema, "--output")
    given = [one for one in (data.path, data.validation, data.test) if one]
    place = require_output(output, inputs=given, overwrite=options.overwrite)
    by = tuple(name for name in options.by if name in WAYS)
    ways: dict[str, Way] = {}
    if by:
        config = AugmentConfig(by=by, share=options.share, lexicon=options.lexicon)
        ways = ways_of(config, columns)
    made, unchanged = _write(source, _Making(ways, rewriters, options, working), place)
    return Augmented(output, len(rows), made, unchanged)


def _rewriters(options: AugmentOptions) -> dict[str, Rewriter]:
    """Return what writes texts anew, by its name; raise ``InputError`` where the options do not go together."""
    known = (*WAYS, *RUNS_OF)
    if unknown := [name for name in options.by if name not in known]:
        raise InputError(f"--by {unknown[0]}: there is no such way.", f"Ways: {', '.join(known)}.")
    if not options.by:
        raise InputError("--by names no way.", f"Ways: {', '.join(known)}.")
    written = [name for name in options.by if name in RUNS_OF]
    if len(written) > 1:
        raise InputError(f"--by {','.join(written)}: --through names the runs of one of them.", "Make two files.")
    if options.through and not written:
        raise InputError("--through names runs, and none of --by writes through runs.", f"Add {' or '.join(RUNS_OF)}.")
    if options.factor <= 1:
        raise InputError(f"--factor {options.factor:g} makes no rows.", "Give more than 1, such as 2.")
    return {name: rewriter_of(name, options.through, options.seed) for name in written}


class _Source:
    """Rows in canonical columns to be changed, and how they are written afterwards: with the user's own columns.

    Texts go back to the column that they came from. Tagged tokens are written as ``tokens`` and ``tags``, answers as
    ``answers`` with ``text`` and ``answer_start``, whatever the columns were that said so.
    """

    def __init__(self, form: Form, rows: Rows) -> None:
        self.form = form
        self.rows = rows
        names = set(form.schema.names)
        self._is_tagged, self._has_answers = TOKENS in names, CONTEXT in names and ANSWERS in names
        roles = {name for columns in form.columns.values() for name in columns}
        own = [one for one in rows.schema if one.name != ROW]
        nested = nested_columns(rows.schema)
        if self._is_tagged:
            own = [one for one in own if one.name not in roles]
            lists = pa.list_(pa.string())
            own += [pa.field(name, lists) for name in (TOKENS, TAGS) if name in names]
        elif self._has_answers:
            replaced = roles - {form.columns[role][0] for role in form.texts}
            own = [one for one in own if one.name not in replaced]
            own.append(pa.field(ANSWERS, pa.string()))
            nested = (nested - replaced) | {ANSWERS}
        else:
            self._require_plain_texts(rows, nested)
        kept = [one.name for one in own]
        fields = [*own, pa.field(MADE_FROM, pa.string()), pa.field(MADE_BY, pa.string())]
        self.schema = with_nested(pa.schema(fields), nested & set(kept))

    def _require_plain_texts(self, rows: Rows, nested: frozenset[str]) -> None:
        for role in self.form.texts:
            columns = self.form.columns.get(role, ())
            if len(columns) != 1 or columns[0] in nested or not pa.types.is_string(rows.schema.field(columns[0]).type):
                raise InputError(
                    f"The texts of {role} are not written as one column of texts, to which changed ones could go back.",
                    "Make rows while training instead: --data.augment noise.",
                )

    def parts(self) -> Iterator[tuple[list[dict[str, Any]], list[dict[str, Any]], list[bool]]]:
        """Yield, batch by batch, the user's rows, the same in canonical columns, and which of them can be learned."""
        made = self.form.batches(self.rows, UNTOUCHED, Tally())
        for batch, canonical in zip(batches(self.rows), made, strict=True):
            yield batch.to_pylist(), canonical.to_pylist(), self.form.fits(canonical).tolist()

    def written(self, raw: Mapping[str, Any], canonical: Mapping[str, Any], way: str) -> dict[str, Any]:
        """Return the cells of a row, made (by ``way``) or not."""
        cells = {name: raw.get(name) for name in self.schema.names}
        if self._is_tagged:
            cells |= {name: canonical[name] for name in (TOKENS, TAGS) if name in cells}
        else:
            cells |= {self.form.columns[role][0]: canonical[role] for role in self.form.texts}
        if self._has_answers:
            answers = canonical[ANSWERS] or []
            placed = {"text": [one["text"] for one in answers], "answer_start": [one["start"] for one in answers]}
            cells[ANSWERS] = json.dumps(placed, ensure_ascii=False)
        return {**cells, MADE_FROM: raw[ROW], MADE_BY: way}


@dataclass(frozen=True, slots=True)
class _Making:
    """How rows are made."""

    ways: dict[str, Way]
    rewriters: dict[str, Rewriter]
    options: AugmentOptions
    working: Callable[[str], None]

    def made(self, rows: Sequence[Mapping[str, Any]], fits: Sequence[bool], texts: Sequence[str]) -> Iterator[_Made]:
        """Yield what is made of each row of a batch."""
        factor, seed = self.options.factor, self.options.seed
        plans = [
            turns(row, self.options.by, how_many(row, factor, seed) if is_fit else 0, seed)
            for row, is_fit in zip(rows, fits, strict=True)
        ]
        written: dict[int, list[tuple[str, dict[str, Any]]]] = {}
        for name, rewrite in self.rewriters.items():
            chosen = [number for number, plan in enumerate(plans) if name in plan]
            self.working(f"{name} of {len(chosen):,} rows")
            for number, changed in _rewritten(rewrite, rows, chosen, texts):
                written.setdefault(number, []).append((name, changed))
        for number, (row, plan) in enumerate(zip(rows, plans, strict=True)):
            made = written.get(number, [])
            missing = len(plan) - len(made)
            edited = made_of(row, texts, self.ways, missing, seed) if self.ways and missing else []
            yield _Made([*made, *edited], len(plan))


class _Made(NamedTuple):
    rows: list[tuple[str, dict[str, Any]]]
    """Each with the way it was made by."""
    num_wanted: int


def _write(source: _Source, making: _Making, place: Path) -> tuple[Counter[str], int]:
    """Write all rows and those made of them; return how many were made, by the way, and of how many rows none."""
    counts: Counter[str] = Counter()
    unchanged = 0
    texts = source.form.texts
    with RowFile(place, source.schema) as file:
        for raw, canonical, fits in source.parts():
            rows: list[dict[str, Any]] = []
            for own, row, made in zip(raw, canonical, making.made(canonical, fits, texts), strict=True):
                counts.update(name for name, _ in made.rows)
                unchanged += bool(made.num_wanted) and not made.rows
                rows += [source.written(own, row, ""), *(source.written(own, one, name) for name, one in made.rows)]
            file.write(rows)
        if not counts:
            raise InputError(
                f"None of {len(source.rows)} rows changes by {', '.join(making.options.by)}.",
                "Give another way, a larger --share, or a lexicon that has words of the texts.",
            )
    return counts, unchanged


def _rewritten(
    rewrite: Rewriter, rows: Sequence[Mapping[str, Any]], chosen: Sequence[int], texts: Sequence[str]
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield those of the chosen rows whose texts are others when they are written anew, with their numbers."""
    written = {text: rewrite([rows[number][text] or "" for number in chosen]) for text in texts}
    for position, number in enumerate(chosen):
        row = rows[number]
        changed = {**row, **{text: written[text][position] for text in texts}}
        is_same = all(_plain(row[text]) == _plain(changed[text]) for text in texts)
        if not is_same and all(changed[text] for text in texts if row[text]):
            yield number, changed


def _plain(text: str | None) -> str:
    return " ".join((text or "").casefold().split())
