"""Which parameters are trained, and how: ``METHODS`` by name."""

from __future__ import annotations

from collections.abc import Mapping

from tunesmith.methods.auto import Auto
from tunesmith.methods.base import Method, ParameterGroup, trained_parameters
from tunesmith.methods.bitfit import BitFit
from tunesmith.methods.freeze import Freeze
from tunesmith.methods.full import Full
from tunesmith.methods.lisa import Lisa
from tunesmith.methods.lora import Lora
from tunesmith.methods.sparse import Sparse

__all__ = ["DEFAULT_METHOD", "METHODS", "Freeze", "Full", "Lora", "Method", "ParameterGroup", "trained_parameters"]

METHODS: Mapping[str, type[Method]] = {
    "full": Full,
    "freeze": Freeze,
    "lora": Lora,
    "bitfit": BitFit,
    "lisa": Lisa,
    "sparse": Sparse,
    "auto": Auto,
}
"""Every method by its name in the config."""

DEFAULT_METHOD: Method = Full()
"""What is taken when none is named."""
