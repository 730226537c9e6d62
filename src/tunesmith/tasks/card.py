"""What a task says of its trained models on the model card, and the code that predicts with them.

The code is for strangers: plain ``transformers`` (and what the method needs), nothing of tunesmith. It finds
``model``, ``tokenizer`` and ``folder``, and must give what the run itself predicts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_EXAMPLES = ("Your text.", "Its second text.")
SCORES = (
    "with torch.no_grad():",
    '    scores = model(**tokenizer("Your text.", return_tensors="pt", truncation=True)).logits',
)
"""Lines that score one text."""

IN_WINDOWS = "read in pieces that do not see each other"
"""``TaskCard.too_long`` of tasks that cut long texts into windows."""


@dataclass(frozen=True, slots=True)
class TaskCard:
    """A bound task's part of the model card. Its defaults are true of every task."""

    purpose: str = ""
    """What the model does, as a verb with its object: ``gives a text one label``."""
    labels: tuple[str, ...] = ()
    """What it chooses from."""
    pipeline_tag: str = ""
    """The hub's name for what such models do, such as ``text-classification``."""
    too_long: str = "cut"
    """What becomes of texts that are too long, as it follows on "are"."""
    limits: tuple[str, ...] = ()
    """Sentences on what not to expect of it."""
    code: tuple[str, ...] = (*SCORES, "print(scores)")
    """Lines that predict."""
    imports: tuple[str, ...] = ("torch",)
    """Packages whose names ``code`` uses."""
    pipeline: tuple[str, ...] = ()
    """Lines that predict with ``pipeline`` of ``transformers`` alone, for folders that hold the whole model; empty
    where its answers are not the run's."""
    reads_texts: bool = True
    """Whether ``code`` uses a tokenizer."""
    note: str = ""
    """What is to be said below ``code``, in Markdown."""
    pipeline_note: str = ""
    """What is to be said below ``pipeline``, in Markdown."""


def scores_of(inputs: Sequence[str]) -> tuple[str, ...]:
    """Return the lines that score a row of as many texts as there are ``inputs``."""
    given = ", ".join(f'"{text}"' for text in _EXAMPLES[: len(inputs)])
    return SCORES[0], SCORES[1].replace('"Your text."', given)


def pipeline_of(tag: str, inputs: Sequence[str], options: str = "") -> tuple[str, ...]:
    """Return the lines that classify a row with a pipeline, cut as in training where it is too long."""
    pair = ", ".join(f'"{name}": "{text}"' for name, text in zip(("text", "text_pair"), _EXAMPLES, strict=True))
    given = f'"{_EXAMPLES[0]}"' if len(inputs) == 1 else f"{{{pair}}}"
    return (
        f'predict = pipeline("{tag}", model=folder, truncation=True{options})',
        f"print(predict({given}))",
    )
