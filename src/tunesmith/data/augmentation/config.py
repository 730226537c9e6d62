"""What is made of training rows, and how many."""

from __future__ import annotations

from typing import Any

from pydantic import Field, field_validator

from tunesmith.config.base import Config

WAYS = ("noise", "synonyms")
"""How the text of a row is changed, by itself."""


class AugmentConfig(Config):
    """Rows made of the training rows, after the split: validation and test rows stay what they are."""

    by: tuple[str, ...] = Field(default=("noise",), min_length=1)
    """How rows are made, in turns: `noise` (letters swapped, left out, doubled, mistyped; homophones in Chinese) and
    `synonyms` (`--data.augment noise,synonyms`)."""
    factor: float = Field(default=2.0, ge=1, le=20)
    """Training rows afterwards for each one before; 1 makes none."""
    share: float = Field(default=0.1, gt=0, le=1)
    """Share of a text's words that are changed, at least one."""
    lexicon: str | None = None
    """File of synonyms, one entry a line: `word<tab>synonym, synonym`; those of English (WordNet) and Chinese (Cilin),
    which are fetched, when not given."""
    seed: int = Field(default=0, ge=0, lt=2**32)
    """Another number makes other rows."""

    @field_validator("by", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("by")
    @classmethod
    def _known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if unknown := [name for name in value if name not in WAYS]:
            raise ValueError(
                f"'{unknown[0]}' is no way to change a text while training; there are {', '.join(WAYS)} "
                "(back-translation and paraphrase: tunesmith augment writes them into a file)"
            )
        return value
