"""What the weights of a hub repository take, on the disk and in memory: said before a byte of them is fetched."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunesmith.files.memory import free_memory
from tunesmith.files.space import nearest_existing
from tunesmith.models.quiet import quiet
from tunesmith.models.safety import INDEX, WEIGHTS, shard_names
from tunesmith.readable import compact, size
from tunesmith.types import InputError

SECONDS = 10.0
"""That are waited for an answer of the hub."""
MARGIN = 64 << 20
"""Bytes that a disk is to have free besides: whoever fills it to the last stops others, too."""


@dataclass(frozen=True, slots=True)
class HubWeights:
    """The weights of a hub repository."""

    hub_id: str
    num_bytes: int
    """Of their files."""
    num_weights: int | None
    """As the hub counts them; None where it does not."""

    @property
    def memory_bytes(self) -> int:
        """What they take in memory in float32, in which they are loaded; at least, where they were not counted."""
        return self.num_bytes if self.num_weights is None else 4 * self.num_weights

    @property
    def free_disk(self) -> int:
        """Bytes that the disk has free to which they would be fetched."""
        return shutil.disk_usage(nearest_existing(cache_of_hub())).free

    @property
    def fits_disk(self) -> bool:
        """Whether they can be fetched."""
        return self.num_bytes + MARGIN <= self.free_disk

    @property
    def free_memory(self) -> int:
        """Bytes of memory that this process can take, swapped out if need be."""
        import psutil

        return free_memory() + int(psutil.swap_memory().free)

    @property
    def fits_memory(self) -> bool:
        """Whether they can be loaded as a whole."""
        return self.memory_bytes <= self.free_memory

    def described(self) -> str:
        """Return how large they are, and whether that fits, in numbers."""
        counted = "" if self.num_weights is None else f"{compact(self.num_weights)} numbers, "
        needed = f"{'at least ' if self.num_weights is None else ''}{size(self.memory_bytes)} of memory"
        return (
            f"The weights of {self.hub_id} are {counted}{size(self.num_bytes)} to fetch ({size(self.free_disk)} are "
            f"free on the disk), and take {needed} ({size(self.free_memory)} are free)."
        )

    def require_disk(self) -> None:
        """Raise ``InputError`` where the disk cannot hold them."""
        if not self.fits_disk:
            raise InputError(
                f"The weights of {self.hub_id!r} take {size(self.num_bytes)}, and the disk of {cache_of_hub()} has "
                f"{size(self.free_disk)} free. Nothing of them was fetched.",
                "Free some space, let HF_HUB_CACHE name a folder on a larger disk, or choose a smaller model.",
            )


def cache_of_hub() -> Path:
    """Return the folder in which the hub's library keeps what it fetches."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def weights_on_hub(hub_id: str, revision: str | None = None, folder: Path | None = None) -> HubWeights | None:
    """Return how large the weights of a repository are; None where the hub does not say so, or cannot be asked.

    ``folder`` is where its index lies, if it is there already: that names the files where there are several.
    """
    try:
        found = _asked(hub_id, revision)
    except Exception:  # whoever fetches it is told why, in the same words as ever
        return None
    sizes = {one.rfilename: one.size for one in found.siblings or ()}
    names = [WEIGHTS] if WEIGHTS in sizes else _shards(sizes, folder)
    known = [sizes.get(name) for name in names]
    if not known or None in known:
        return None
    counted = getattr(found.safetensors, "total", None)
    return HubWeights(hub_id, sum(one for one in known if one), int(counted) if counted else None)


def _asked(hub_id: str, revision: str | None) -> Any:
    from huggingface_hub import HfApi

    with quiet():
        return HfApi(library_name="tunesmith").model_info(
            hub_id, revision=revision, files_metadata=True, timeout=SECONDS
        )


def _shards(sizes: dict[str, int | None], folder: Path | None) -> list[str]:
    """Return the files of weights where there are several: those that the index names, or as they are called."""
    if folder is not None and (folder / INDEX).is_file():
        names, _ = shard_names(folder / INDEX)
        return names
    start, ending = Path(WEIGHTS).stem, Path(WEIGHTS).suffix
    return [name for name in sizes if name.startswith(f"{start}-") and name.endswith(ending)]
