"""Rows as a model reads them, with the tokens that are trained: ``tunesmith data inspect --show-mask``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tunesmith.types import InputError, Problem

if TYPE_CHECKING:
    from rich.console import Console

    from tunesmith.data.encoded import Encoded
    from tunesmith.models.base import ModelSource
    from tunesmith.tasks.base import Columns, Task

TRAINED, READ = "bold green", "dim"


def show_masks(console: Console, task: Task, columns: Columns, source: ModelSource) -> Sequence[Problem]:
    """Print every row in the model's tokens; return what there is to say about tokenizer and template."""
    encoded, tokenizer, problems = encoded_rows(task, columns, source)
    _print_rows(console, encoded, columns, tokenizer, source.max_length or task.head().default_max_length)
    return problems


def encoded_rows(task: Task, columns: Columns, source: ModelSource) -> tuple[Encoded, Any, Sequence[Problem]]:
    """Return rows in a model's tokens, its tokenizer, and what there is to say about that and its template."""
    from tunesmith.tasks import chatting
    from tunesmith.tasks.left_out import encoding_problems
    from tunesmith.tasks.saved_head import head_of_run

    if not task.chats or source.from_scratch:
        raise InputError(
            f"--show-mask shows which tokens a language model is trained on; the task is {task.name}.",
            f"Use it with --task {chatting()} and a pretrained model.",
        )
    tokenizer = source.load_tokenizer(head_of_run, task.head())
    problems = task.adapt(tokenizer)
    encoded = task.encode(columns, tokenizer, source.max_length or task.head().default_max_length)
    return encoded, tokenizer, [*problems, *encoding_problems(encoded, columns, "shown", "quarantine")]


def _print_rows(console: Console, encoded: Encoded, columns: Columns, tokenizer: Any, max_length: int) -> None:
    import numpy as np
    from rich.text import Text

    from tunesmith.cli.terminal import visible
    from tunesmith.tasks.chat.shown import shown_pieces

    # Without colours, brackets tell what is trained.
    opening, closing = ("", "") if console.is_terminal else ("⟦", "⟧")
    legend = Text.assemble(
        (f"{opening}trained{closing}", TRAINED), ", ", ("read only", READ), f"; rows of at most {max_length} tokens"
    )
    console.print(Text.assemble("\n", ("Tokens", "bold"), " (", legend, ")"))
    for row in range(len(encoded)):
        place = columns["row"][row if encoded.rows is None else int(np.searchsorted(encoded.rows, row, "right")) - 1]
        pieces = shown_pieces(encoded, row, tokenizer)
        num_trained = int(encoded.reads.lengths[row]) if encoded.reads is not None else 0
        console.print(f"  {place}: {encoded.lengths[row]} tokens, {num_trained} trained", style="dim", markup=False)
        text = Text()
        for raw, is_trained in pieces:
            piece = visible(raw)
            text.append(f"{opening}{piece}{closing}" if is_trained else piece, TRAINED if is_trained else READ)
        console.print(text)
