"""A model that is to lie in parts over several processes, read by each of them no further than its part.

Until the weights are divided they stay in their files, and come into memory layer by layer where something is computed
with them (``models.streaming``). So no process ever needs room for the whole model, before its steps. Models that
cannot be read so (their files hold weights in another arrangement), and methods that look at weights when they are
applied, have all of it in memory until then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tunesmith.engine import ranks
from tunesmith.engine.precision import DTYPES, choose_device, choose_precision
from tunesmith.models.streaming import StreamSettings

if TYPE_CHECKING:
    from tunesmith.run.config import RunConfig


def wants_parts(config: RunConfig) -> bool:
    """Say whether the weights are to lie in parts over several processes, of which there are some."""
    return config.compute.parallel == "fsdp" and ranks.size() > 1


def until_divided(config: RunConfig) -> StreamSettings | None:
    """Return how a model that is to be divided is read from its files; None where it is loaded whole."""
    if not wants_parts(config) or config.model.from_scratch or not config.method.leaves_weights_unread:
        return None
    device = choose_device(config.compute.device)
    precision = choose_precision(config.train.precision, device, from_scratch=False)
    return StreamSettings(DTYPES[precision], is_mapped=device.type == "cpu", until_divided=True)
