"""A forward pass that ends as soon as one of its modules has computed."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn


class _Enough(Exception):  # noqa: N818 (no error)
    """Ends a forward pass whose rest nobody needs."""


def first_output(module: nn.Module, run: Callable[[], Any]) -> Any:
    """Return what ``module`` gives when ``run``, a forward pass with it in, first calls it; the rest is left."""
    found: list[Any] = []

    def keep(_module: nn.Module, _arguments: Any, output: Any) -> None:
        found.append(output)
        raise _Enough

    hook = module.register_forward_hook(keep)
    try:
        with suppress(_Enough):
            run()
    finally:
        hook.remove()
    (output,) = found
    return output
