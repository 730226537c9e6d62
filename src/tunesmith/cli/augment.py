"""``tunesmith augment``: a file with more rows, made of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from tunesmith.cli.flags import ConfigCommand, FlagTree, build_config, flags_of
from tunesmith.readable import count


class AugmentCommand(ConfigCommand):
    """Takes the keys of the data and of the task as flags."""

    def flag_tree(self) -> FlagTree:
        from tunesmith.cli.inspect_config import InspectConfig

        return FlagTree(InspectConfig, ("data", "task"))


@click.command(cls=AugmentCommand, short_help="Make more training rows of those of a file.")
@click.argument("file", metavar="FILE")
@click.option(
    "--by",
    metavar="WAYS",
    default="noise",
    show_default=True,
    help="How, in turns, with commas: noise, synonyms, back-translation, paraphrase.",
)
@click.option("--factor", type=float, default=2.0, show_default=True, help="Rows afterwards for each one before.")
@click.option("--output", metavar="NEW", required=True, type=click.Path(path_type=Path), help="The file to write.")
@click.option(
    "--share",
    type=click.FloatRange(0, 1, min_open=True),
    default=0.1,
    show_default=True,
    help="Share of a text's words that noise and synonyms change.",
)
@click.option(
    "--lexicon",
    metavar="FILE",
    help="Synonyms, 'word<tab>synonym, synonym' a line; else WordNet's and, for Chinese, Cilin's.",
)
@click.option("--through", metavar="RUNS", help="Run that paraphrases, or two runs that translate there and back: A,B.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Another one makes other rows.")
@click.option("--overwrite", is_flag=True, help="Replace NEW if it is there.")
@click.option("--json", "as_json", is_flag=True, help="Print what was made as one JSON object.")
@click.option("--quiet", is_flag=True, help="Show the result only.")
@click.pass_context
def augment_command(context: click.Context, /, *, file: str, as_json: bool, quiet: bool, **given: Any) -> None:
    """Write the training rows of FILE, which is anything that --data takes, each followed by rows made of it.

    Labels stay; entities and answers are kept word by word and found again where they stand. Made rows are marked,
    so that 'tunesmith train' judges on none, nor trains on those whose source is judged on.

    \b
    tunesmith augment reviews.csv --by noise,synonyms --factor 3 --output more.csv
    tunesmith augment reviews.csv --by back-translation --through runs/en-zh,runs/zh-en --output more.csv
    """  # noqa: D301
    from tunesmith.augment import AugmentOptions, augment_file
    from tunesmith.cli.inspect_config import InspectConfig
    from tunesmith.cli.terminal import say, say_json
    from tunesmith.files.space import require_writable

    settings = build_config(InspectConfig, flags_of(context), {"data": file})
    output: Path = given["output"]
    require_writable(output.parent)
    options = AugmentOptions(
        by=_listed(given["by"]),
        factor=given["factor"],
        share=given["share"],
        lexicon=given["lexicon"],
        through=_listed(given["through"]),
        seed=given["seed"],
        overwrite=given["overwrite"],
    )

    def working(what: str) -> None:
        if not (quiet or as_json):
            say(f"{what} …", err=True, dim=True)

    augmented = augment_file(settings.data, settings.task, options, output, working)
    if as_json:
        say_json(augmented.to_json(), indent=1)
        return
    made = ", ".join(f"{count(number)} by {name}" for name, number in augmented.made.items())
    total = augmented.num_rows + sum(augmented.made.values())
    say(f"{augmented.file}: {count(total)} rows, {count(augmented.num_rows)} of {file} and {made}")
    if augmented.unchanged:
        say(f"Of {count(augmented.unchanged)} rows none could be made.")
    say(f"Train on it: tunesmith train --data {augmented.file} (made rows are judged on nowhere)", dim=True)


def _listed(text: str | None) -> tuple[str, ...]:
    return tuple(part.strip() for part in (text or "").split(",") if part.strip())
