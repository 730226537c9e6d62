"""Cells that hold values written as text, and what is raised where they hold something else."""

from __future__ import annotations

import ast
import json
import warnings
from typing import Any

from tunesmith.data.encodings import has_marks

_MAX_LITERAL = 1 << 20


class MisfitError(Exception):
    """A cell that does not hold what it should; ``what`` is the misfit's name, ``detail`` what was found."""

    def __init__(self, what: str, detail: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.detail = detail


def decode_cell(cell: Any) -> Any:
    """Return what a cell holds: JSON text (also within JSON text) or a Python literal becomes its value.

    Text that is neither stays text. Raises ``MisfitError`` for half characters that no text can hold.
    """
    value = cell
    for _ in range(2):
        if not isinstance(value, str) or not value.lstrip().startswith(("[", "{", '"')):
            break
        decoded = _decode(value)
        if decoded is None:
            break
        # Lone surrogates can hide in escapes.
        if "\\" in value and has_marks(json.dumps(decoded, ensure_ascii=False)):
            raise MisfitError("no conversation")
        value = decoded
    return value


def _decode(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    if len(text) > _MAX_LITERAL or text.lstrip().startswith('"'):
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # Tables written by pandas hold lists as Python writes them.
            return json.loads(json.dumps(ast.literal_eval(text.strip())))
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return None
