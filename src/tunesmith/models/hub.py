"""Model files from the Hugging Face hub: safetensors and text files only, never code."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from tunesmith.files.fetching import tell, watched
from tunesmith.files.known_hashes import known_hash
from tunesmith.models.hub_weights import HubWeights, weights_on_hub
from tunesmith.models.quiet import quiet
from tunesmith.models.safety import INDEX, WEIGHTS, shard_names
from tunesmith.types import InputError

_TEXT_FILES = ("*.json", "*.txt", "*.model", "*.spm", "*.jinja", "*.tiktoken")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_HUB_ID = re.compile(r"[\w.-]{1,96}(/[\w.-]{1,96})?", re.ASCII)

LOCAL_ADVICE = (
    "Give a local folder, or sample:minilm or sample:smollm2-135m-instruct, which come from the Python package index."
)


def is_hub_id(name: str) -> bool:
    """Say whether ``name`` can be the id of a hub repository."""
    return _HUB_ID.fullmatch(name) is not None and ".." not in name and "--" not in name


def download_model(
    hub_id: str, revision: str | None, check: Callable[[HubWeights], None] = lambda _: None
) -> tuple[Path, str]:
    """Return the folder with a repository's model files, and its commit.

    Config and tokenizer files come first; of the weights, only ``model.safetensors`` or the shards
    that its index names. How large these are is told before (``tunesmith.files.fetching``), and ``check``
    may refuse it. Raises ``InputError`` when the repository, the revision or the network is
    not there, it has no safetensors, or the disk cannot hold them.
    """
    folder = download_description(hub_id, revision)
    commit = folder.name
    weights = None if _has_weights(folder) else weights_on_hub(hub_id, commit, folder)
    if weights is not None:
        check(weights)
        weights.require_disk()
        tell(weights.described(), lasting=True)
    with watched(f"fetching {hub_id}", folder.parents[1] / "blobs", weights.num_bytes if weights else 0):
        _download_weights(hub_id, folder)
    _require_sound(folder, hub_id)
    return folder, commit


def find_weights(name: str) -> tuple[HubWeights | None, bool]:
    """Return how large the weights are that the hub has by a name, and whether they are here already.

    Nothing is fetched. It is None where the name is that of a folder or of nothing on the hub, or the hub does not say.
    """
    from huggingface_hub import try_to_load_from_cache

    if not is_hub_id(name) or "/" not in name or Path(name).expanduser().exists():
        return None, False
    kept = try_to_load_from_cache(name, "config.json")
    return weights_on_hub(name), isinstance(kept, str) and _has_weights(Path(kept).parent)


def _has_weights(folder: Path) -> bool:
    """Say whether a repository's weights are here already."""
    if (folder / WEIGHTS).is_file():
        return True
    if not (folder / INDEX).is_file():
        return False
    names, problems = shard_names(folder / INDEX)
    return not problems and all((folder / name).is_file() for name in names)


def _download_weights(hub_id: str, folder: Path) -> None:
    commit = folder.name
    _download(hub_id, commit, [WEIGHTS])
    if not (folder / WEIGHTS).is_file() and (folder / INDEX).is_file():
        names, problems = shard_names(folder / INDEX)
        if problems:
            raise InputError(problems)
        _download(hub_id, commit, names)
    elif not (folder / WEIGHTS).is_file():
        raise InputError(
            f"The hub repository {hub_id!r} has no safetensors weights; pickle files can run code and are not read.",
            "Give a revision that has model.safetensors (often one under refs/pr/…), or another model.",
        )


def download_description(hub_id: str, revision: str | None) -> Path:
    """Return the folder with a repository's config and tokenizer; its name is the commit. Errors as above."""
    folder = _download(hub_id, revision, list(_TEXT_FILES))
    if not (folder / "config.json").is_file():
        raise InputError(f"The hub repository {hub_id!r} is no model for transformers: it has no config.json.")
    return folder


def _require_sound(folder: Path, hub_id: str) -> None:
    """Refuse weights that have changed in the hub's cache, where large files are kept under their SHA-256."""
    for path in sorted(folder.glob("*.safetensors")):
        kept = path.resolve()
        if _SHA256.fullmatch(kept.name) and known_hash(kept) != kept.name:
            raise InputError(
                f"The weights of {hub_id!r} in the cache are damaged: the SHA-256 of {kept} is not what the hub "
                "gave for it.",
                "Delete that file; it is then downloaded again.",
            )


def _download(hub_id: str, revision: str | None, patterns: list[str]) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

    at = f" at revision {revision!r}" if revision else ""
    try:
        with quiet():
            found = snapshot_download(
                hub_id, revision=revision, allow_patterns=patterns, ignore_patterns=["*/*"], library_name="tunesmith"
            )
    except GatedRepoError as error:
        raise InputError(
            f"The model {hub_id!r} is gated: its owner must grant access first.",
            f"Ask for it on https://huggingface.co/{hub_id} and log in with `hf auth login`.",
        ) from error
    except RevisionNotFoundError as error:
        raise InputError(f"The hub repository {hub_id!r} has no revision {revision!r}.") from error
    except RepositoryNotFoundError as error:
        raise InputError(
            f"There is no model {hub_id!r}: neither a local folder nor a public repository on the hub has this name.",
            "Check the spelling; private repositories need `hf auth login`. " + LOCAL_ADVICE,
        ) from error
    except HfHubHTTPError as error:
        raise InputError(f"The hub refused to send {hub_id!r}{at}: {error}", LOCAL_ADVICE) from error
    except Exception as error:  # the transport's own exceptions differ between releases of the hub's library
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"The model {hub_id!r}{at} is neither a local folder nor in the cache, and the hub cannot be reached: "
            f"{reason}",
            LOCAL_ADVICE,
        ) from error
    return Path(found)
