"""``tunesmith explain``: which words a run's answer comes from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tunesmith.cli.asked_texts import columns_of_file, require_texts, text_options
from tunesmith.cli.columns import columns_option
from tunesmith.types import InputError

if TYPE_CHECKING:
    from rich.text import Text

    from tunesmith.run import Run
    from tunesmith.trust.explained_rows import ExplainedRows
    from tunesmith.trust.explanation import Explanation
    from tunesmith.trust.weight_changes import LayerChange

WORDS_SHOWN = 8


@click.command("explain", short_help="Show which words a run's answers come from.")
@click.argument("run", metavar="RUN", type=click.Path(path_type=Path))
@text_options
@click.option("--data", metavar="FILE", help="A file of texts: explained one by one, and what they have in common.")
@columns_option
@click.option(
    "--rows", "num_rows", type=click.IntRange(min=1), default=100, show_default=True, help="Of --data, at most."
)
@click.option(
    "--method",
    "methods",
    default="integrated-gradients",
    show_default=True,
    help="integrated-gradients, gradient-x-input, occlusion or shapley; several with commas: the first is shown, the "
    "faithfulness of all is measured.",
)
@click.option("--label", help="Explain this label (or tag) instead of the predicted one.")
@click.option("--word", help="Explain the tag of this word (its text, or its number) of a tagged text.")
@click.option("--nearest", type=click.IntRange(min=1), help="Add so many training rows that speak most for the answer.")
@click.option("--changes", is_flag=True, help="Show what training changed, layer by layer: size and rank of updates.")
@click.option(
    "--output", metavar="FILE", type=click.Path(path_type=Path), help="An .html page of coloured texts to write."
)
@click.option("--overwrite", is_flag=True, help="Replace the file given as --output if there is one.")
@click.option("--json", "as_json", is_flag=True, help="Write tokens, scores and all else as JSON.")
@click.option("--quiet", is_flag=True, help="Show no progress.")
def explain_command(
    run: Path,
    *,
    texts: tuple[str, ...],
    text_pairs: tuple[str, ...],
    data: str | None,
    columns: tuple[str, ...],
    num_rows: int,
    methods: str,
    label: str | None,
    word: str | None,
    nearest: int | None,
    changes: bool,
    output: Path | None,
    overwrite: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Show for each word of a text what it added to the answer of the run in folder RUN.

    Scores are in log-odds of the answer, or in units of the predicted value. How well they tell what the model goes
    by is measured beside words in random order.
    """
    if changes and (texts or data is not None):
        raise InputError("--changes is about the model alone.", "Leave --text and --data out.")
    if not changes:
        require_texts(texts, text_pairs, data, to="explain")
    mapped = columns_of_file(columns, data)
    from tunesmith.cli.opened import OpenedRun
    from tunesmith.cli.progress import progress
    from tunesmith.cli.results import place_of
    from tunesmith.cli.terminal import say_json

    place = None if output is None else place_of(output, [".html"], inputs=[data] if data else [], overwrite=overwrite)
    opened = OpenedRun.open(run)
    if changes:
        _show_changes(opened, as_json=as_json)
        return
    names = [name.strip() for name in methods.split(",")]
    with progress(quiet=quiet or as_json) as shown:
        if data is None:
            found = _explained_texts(opened, texts, text_pairs, names, label=label, word=word)
        else:
            _refuse_word(word)
            found = _explained_file(opened, data, mapped, names, num_rows=num_rows, label=label, working=shown.show)
        near = _near(opened, found, nearest) if nearest else {}
    if place is not None:
        from tunesmith.files.atomic import write_text
        from tunesmith.trust.explanation_page import explanation_page

        write_text(place, explanation_page(found, opened.title))
    if as_json:
        say_json(_record(found, near, is_file=data is not None), indent=1)
    else:
        _show(found, near, is_file=data is not None)


def _refuse_word(word: str | None) -> None:
    if word is not None:
        raise InputError("--word is for single texts.", "Give the text as --text.")


def _explained_texts(
    run: Run,
    texts: tuple[str, ...],
    text_pairs: tuple[str, ...],
    methods: list[str],
    *,
    label: str | None,
    word: str | None,
) -> ExplainedRows:
    from tunesmith.trust.explained_rows import ExplainedRows
    from tunesmith.trust.explanation import Explainer

    columns = run.columns_of(texts, text_pairs or None)
    explainer = Explainer(run, methods=methods)
    rows = [{name: [values[place]] for name, values in columns.items()} for place in range(len(texts))]
    found = [explainer.explain(row, label=label, word=word, row=place) for place, row in enumerate(rows, start=1)]
    return ExplainedRows(tuple(found), 0, {}, {})


def _explained_file(
    run: Run,
    data: str,
    columns: dict[str, str],
    methods: list[str],
    *,
    num_rows: int,
    label: str | None,
    working: Callable[[str], None],
) -> ExplainedRows:
    from tunesmith.trust.explained_rows import explain_rows
    from tunesmith.trust.explanation import Explainer

    rows = run.rows_to_predict(data, columns)
    return explain_rows(Explainer(run, methods=methods), rows, most=num_rows, label=label, working=working)


def _near(run: Run, found: ExplainedRows, number: int) -> dict[int, list[dict[str, Any]]]:
    from tunesmith.trust.nearest_rows import NearestRows

    rows = NearestRows(run)
    near = {}
    for one in found.rows:
        columns = run.columns_of([one.texts if len(one.texts) > 1 else one.texts[0]])
        near[one.row] = [asdict(row) for row in rows.of(columns, number)]
    return near


def _record(found: ExplainedRows, near: dict[int, list[dict[str, Any]]], *, is_file: bool) -> dict[str, Any]:
    """Return what programs read: of a single text its explanation itself."""
    rows = [one.to_dict() | ({"nearest": near[one.row]} if near else {}) for one in found.rows]
    if is_file:
        return {**found.to_dict(), "rows": rows}
    return rows[0] if len(rows) == 1 else {"rows": rows}


def _show(found: ExplainedRows, near: dict[int, list[dict[str, Any]]], *, is_file: bool) -> None:
    from tunesmith.cli.tables import new_table, print_table, stdout_console
    from tunesmith.cli.terminal import say
    from tunesmith.readable import number
    from tunesmith.trust.explanation_page import answer_text

    console = stdout_console()
    for one in found.rows[: WORDS_SHOWN if is_file else None]:
        say(f"{answer_text(one.prediction)}   (explained: {one.target}, {one.unit} {number(one.value)}, ", end="")
        say(f"{number(one.value_without)} without any word)")
        console.print(coloured(one))
        if not is_file:
            _show_words(one)
        if near:
            table = new_table("Training rows that speak most for it, and against it", ["influence", "label", "text"])
            for row in near[one.row]:
                table.add_row(number(row["influence"]), str(row["label"]), row["text"][:100])
            print_table(console, table)
        say()
    if is_file:
        _show_common(found)


def _show_words(one: Explanation) -> None:
    from tunesmith.cli.tables import bar, new_table, print_table, stdout_console
    from tunesmith.readable import number
    from tunesmith.trust.explanation_page import strengths

    order = sorted(range(len(one.scores)), key=lambda place: -abs(one.scores[place]))[:WORDS_SHOWN]
    table = new_table("", ["word", one.unit, ""])
    shares = strengths(one.scores)
    for place in order:
        table.add_row(one.tokens[place], number(one.scores[place]), bar(abs(shares[place]) / 2))
    print_table(stdout_console(), table)
    for name, measured in one.faithfulness.items():
        from tunesmith.cli.terminal import say

        say(
            f"{name}: comprehensiveness {number(measured.comprehensiveness)} (random order "
            f"{number(measured.random_comprehensiveness)}), sufficiency {number(measured.sufficiency)} (random order "
            f"{number(measured.random_sufficiency)})"
        )


def _show_common(found: ExplainedRows) -> None:
    from tunesmith.cli.tables import new_table, print_table, stdout_console
    from tunesmith.readable import number

    console = stdout_console()
    if found.left_out:
        console.print(
            f"{found.left_out} rows were left out: the model does not read them whole, or they have no words."
        )
    for label, words in found.words.items():
        table = new_table(f"Words that speak for {label}", ["word", "mean score", "texts"])
        for word in words:
            table.add_row(word["word"], number(word["score"]), str(word["texts"]))
        print_table(console, table)
    table = new_table(
        f"Faithfulness over {len(found.rows)} texts [95% interval]",
        ["method", "comprehensiveness", "random order", "sufficiency", "random order"],
    )
    for name, figures in found.faithfulness.items():
        names = ("comprehensiveness", "random_comprehensiveness", "sufficiency", "random_sufficiency")
        table.add_row(name, *(_cell(figures[one]) for one in names))
    print_table(console, table)


def _cell(figure: Mapping[str, float | None]) -> str:
    from tunesmith.readable import number

    value, low, high = (figure[name] for name in ("value", "low", "high"))
    return number(value) if low is None else f"{number(value)} [{number(low)}, {number(high)}]"


def coloured(one: Explanation) -> Text:
    """Return the text with words on green that speak for what is explained, and on red those against it."""
    from rich.text import Text

    from tunesmith.cli.terminal import visible
    from tunesmith.trust.explanation_page import strengths

    shown = Text()
    for place, (token, space, strength) in enumerate(zip(one.tokens, one.spaces, strengths(one.scores), strict=True)):
        tone = round(abs(strength) * 110)
        ground = (60, 60 + tone, 60) if strength >= 0 else (60 + tone, 60, 60)
        style = f"white on rgb({ground[0]},{ground[1]},{ground[2]})" if tone > 10 else ""
        shown.append(" " if space and place else "")
        shown.append(visible(token), style=style)
    return shown


def _show_changes(run: Run, *, as_json: bool) -> None:
    from tunesmith.cli.tables import new_table, print_table, stdout_console
    from tunesmith.cli.terminal import say_json
    from tunesmith.readable import compact, number, percent
    from tunesmith.trust.weight_changes import weight_changes

    found: list[LayerChange] = weight_changes(run)
    if as_json:
        say_json({"layers": [asdict(one) for one in found]}, indent=1)
        return
    table = new_table("What training changed", ["layer", "parameters", "changed", "norm", "of the weights'", "rank"])
    for one in found:
        share = one.changed / one.parameters if one.parameters else 0.0
        rank = "" if one.rank is None else str(one.rank)
        table.add_row(
            one.name, compact(one.parameters), percent(share), number(one.norm), percent(one.relative, decimals=2), rank
        )
    print_table(stdout_console(), table)
