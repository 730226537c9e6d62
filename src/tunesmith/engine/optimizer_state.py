"""An optimizer's state as tensors and plain values, by names, and set again from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

PART = ":"
"""Between an entry of the state that has parts of its own, and the name of one of them."""
TURNED = "~"
"""After an entry whose matrix lies in memory column by column, as LAPACK leaves them: products with it round otherwise
than with one that lies row by row, and a file holds rows."""
GROUP = "group:"
"""Before the number of a parameter group, in the place of a parameter's name."""

Scalars = Sequence[Mapping[str, float]]


def scalars_of_groups(optimizer: torch.optim.Optimizer) -> list[dict[str, float]]:
    """Return the numbers that the optimizer has beside the weights of every group, but the rate."""
    return [
        {key: value for key, value in group.items() if isinstance(value, int | float) and key != "lr"}
        for group in optimizer.param_groups
    ]


def collect_state(
    optimizer: torch.optim.Optimizer, masters: Mapping[str, torch.Tensor], settings: Scalars
) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Return tensors and JSON-ready values by ``parameter/entry``.

    Args:
        optimizer: Whose state it is.
        masters: The weights that it steps on, by name.
        settings: ``scalars_of_groups`` before the first step: what has changed since is state, too.

    Raises ``TypeError`` where it remembers what neither is nor consists of tensors and plain values.
    """
    tensors: dict[str, torch.Tensor] = {}
    values: dict[str, Any] = {}
    seen: set[int] = set()
    for name, master in masters.items():
        for entry, value in _entries(optimizer.state.get(master, {})):
            if not isinstance(value, torch.Tensor):
                values[f"{name}/{entry}"] = value
                continue
            # A file of tensors holds no memory twice; bitsandbytes has one table for all weights.
            is_shared = value.data_ptr() in seen and value.numel() > 0
            seen.add(value.data_ptr())
            kept = value.clone() if is_shared else value
            is_turned = kept.dim() == 2 and not kept.is_contiguous() and kept.t().is_contiguous()
            tensors[f"{name}/{entry}{TURNED * is_turned}"] = kept.t() if is_turned else kept
    for index, (before, now) in enumerate(zip(settings, scalars_of_groups(optimizer), strict=True)):
        changed = {key: value for key, value in now.items() if before.get(key) != value}
        values |= {f"{GROUP}{index}/{key}": value for key, value in changed.items()}
    return tensors, values


def restore_state(
    optimizer: torch.optim.Optimizer,
    masters: Mapping[str, torch.Tensor],
    tensors: Mapping[str, torch.Tensor],
    values: Mapping[str, Any],
) -> None:
    """Set what ``collect_state`` gave, on the devices where torch keeps it; what else was remembered is forgotten."""
    for master in masters.values():
        optimizer.state.pop(master, None)
    counts_on_device = {
        id(master): bool(group.get("fused") or group.get("capturable"))
        for group in optimizer.param_groups
        for master in group["params"]
    }
    for place, value in (*tensors.items(), *values.items()):
        name, _, entry = place.rpartition("/")
        if name.startswith(GROUP):
            optimizer.param_groups[int(name.removeprefix(GROUP))][entry] = value
            continue
        master = masters[name]
        laid = value.t() if entry.endswith(TURNED) else value
        # Unless the step is made by one kernel, torch counts steps on the host.
        stays = not isinstance(value, torch.Tensor) or (entry == "step" and not counts_on_device[id(master)])
        _set_entry(optimizer.state[master], entry.removesuffix(TURNED), laid if stays else laid.to(master.device))


def _entries(state: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Return every tensor and plain value of one parameter's state, by its name or that of its part."""
    found: list[tuple[str, Any]] = []
    for key, value in state.items():
        if type(value).__name__ == "GaLoreProjector":
            found += [(f"{key}{PART}{part}", one) for part, one in vars(value).items()]
        else:
            found.append((key, value))
    for key, value in found:
        if not isinstance(value, torch.Tensor | int | float | str | bool | None):
            raise TypeError(f"it remembers a {type(value).__name__} ({key}) of every weight")
    return found


def _set_entry(state: dict[str, Any], entry: str, value: Any) -> None:
    key, _, part = entry.partition(PART)
    if not part:
        state[key] = value
        return
    if key not in state:
        from pytorch_optimizer.optimizer.utils.galore import GaLoreProjector

        state[key] = GaLoreProjector()
    setattr(state[key], part, value)
