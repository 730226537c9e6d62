"""``tunesmith data passages``: documents cut into passages that can be searched."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tunesmith.cli.data import data_group
from tunesmith.cli.flags import ConfigCommand, FlagTree, build_config, flags_of
from tunesmith.readable import count
from tunesmith.types import InputError

if TYPE_CHECKING:
    from tunesmith.data.documents.passages_file import Gathered
    from tunesmith.models.base import ModelSource

MOST_SHOWN = 20
"""Documents of which something is to be said, and files left out, that are shown one by one."""


class PassagesCommand(ConfigCommand):
    """Takes the keys of a model as flags: passages can be measured in its tokens."""

    def flag_tree(self) -> FlagTree:
        from tunesmith.cli.passages_config import PassagesConfig

        return FlagTree(PassagesConfig)


@data_group.command("passages", cls=PassagesCommand, short_help="Cut documents into passages that can be searched.")
@click.argument("documents", metavar="DOCUMENTS...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--output", metavar="FILE", required=True, type=click.Path(path_type=Path), help="The .jsonl file to write."
)
@click.option("--length", type=click.IntRange(min=8), default=200, show_default=True, help="Most words of a passage.")
@click.option(
    "--overlap",
    type=click.IntRange(min=0),
    default=40,
    show_default=True,
    help="Most words that a passage repeats of the one before: whole sentences.",
)
@click.option("--encoding", help="Of text files; found by content when not given.")
@click.option("--drop-duplicates", is_flag=True, help="Leave out passages that were there before, word by word.")
@click.option("--overwrite", is_flag=True, help="Replace FILE if it is there.")
@click.option("--json", "as_json", is_flag=True, help="Print what became of every document as one JSON object.")
@click.option("--quiet", is_flag=True, help="Show the result only.")
@click.pass_context
def passages_command(
    context: click.Context,
    documents: tuple[Path, ...],
    *,
    output: Path,
    length: int,
    overlap: int,
    encoding: str | None,
    drop_duplicates: bool,
    overwrite: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Cut DOCUMENTS (PDF, DOCX, HTML, Markdown and text files, or folders of them) into passages.

    Every line of the output is a passage: its text, the document's title, the headings it stands under, source, page
    and characters, and an id that stays the same while the passage does. Whatever could not be read is listed with the
    reason.

    \b
    tunesmith data passages docs/ --output passages.jsonl
    tunesmith data passages docs/ --output passages.jsonl --model sample:minilm --length 256 --overlap 32
    """  # noqa: D301
    from tunesmith.cli.passages_config import PassagesConfig
    from tunesmith.cli.terminal import say_json
    from tunesmith.data.documents.cutting import Lengths
    from tunesmith.data.documents.passages_file import write_passages
    from tunesmith.files.outputs import require_output
    from tunesmith.files.space import require_writable

    if output.suffix.lower() != ".jsonl":
        raise InputError(
            f"--output {output}: passages are written as .jsonl.", f"Call it {output.with_suffix('.jsonl')}."
        )
    if overlap >= length:
        raise InputError(
            f"--overlap {overlap} is no less than --length {length}: each passage would repeat all of the one before.",
            f"Give less, such as --overlap {length // 5}.",
        )
    model = build_config(PassagesConfig, flags_of(context), {}).model
    lengths = Lengths(length, overlap) if model is None else Lengths(length, overlap, tokens_of(model))
    place = require_output(output, inputs=[one for one in documents if one.is_file()], overwrite=overwrite)
    require_writable(place.parent)
    gathered = write_passages(
        documents,
        place,
        lengths,
        encoding=encoding,
        keeps_duplicates=not drop_duplicates,
        watch=_silent if quiet or as_json else _say_reading,
    )
    if as_json:
        say_json(gathered.to_json(), indent=2)
    else:
        _show(gathered, output, "words" if model is None else "tokens", length, dropped=drop_duplicates)


def _silent(_: str) -> None:
    pass


def _say_reading(name: str) -> None:
    from tunesmith.cli.terminal import say

    say(f"Reading {name}", err=True, dim=True)


def tokens_of(model: ModelSource) -> Callable[[str], int]:
    """Return what counts the tokens of a text, those around it (as at its beginning) not counted."""
    from tunesmith.tasks.saved_head import head_of_run

    if model.from_scratch:
        raise InputError(
            f"--model {model.name} is trained from scratch: its tokens are not known yet.",
            "Measure in words, by leaving --model out, or name a pretrained model.",
        )
    tokenizer = model.load_tokenizer(head_of_run)

    def measure(text: str) -> int:
        return len(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])

    return measure


def _show(gathered: Gathered, output: Path, unit: str, length: int, *, dropped: bool) -> None:
    from tunesmith.cli.terminal import say
    from tunesmith.data.documents.passages_file import kinds_of

    kinds = ", ".join(f"{number} {kind}" for kind, number in kinds_of(gathered).items())
    say(f"{output}: {count(gathered.num_passages)} passages of at most {length} {unit}, of {kinds}")
    same = gathered.num_duplicates
    if same:
        say(f"{count(same)} passages are in it more than once{'; only the first was written' if dropped else ''}.")
    noticed = [one for one in gathered.documents if one.said]
    for document in noticed[:MOST_SHOWN]:
        say(f"  {document.source}: {document.said}")
    if len(noticed) > MOST_SHOWN:
        say(f"  … {len(noticed) - MOST_SHOWN} more; --json lists all.")
    if gathered.left_out:
        say(f"Left out: {count(len(gathered.left_out))} files", err=True, fg="yellow")
    for source, reason in gathered.left_out[:MOST_SHOWN]:
        say(f"  {source}: {reason}", err=True)
    if len(gathered.left_out) > MOST_SHOWN:
        say(f"  … {len(gathered.left_out) - MOST_SHOWN} more; --json lists all.", err=True)
    say(
        f"Search them: tunesmith embed RUN --data {output} --passages --columns positive=text --output passages.npy",
        dim=True,
    )
