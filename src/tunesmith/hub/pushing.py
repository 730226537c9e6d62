"""Putting a run's model onto the Hugging Face hub by ``huggingface_hub``, or into a folder."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunesmith.files.atomic import new_folder
from tunesmith.files.space import require_writable
from tunesmith.hub.contents import Left, prepared
from tunesmith.models.quiet import quiet
from tunesmith.run import Run
from tunesmith.types import InputError, RunError
from tunesmith.version import __version__

FILE = "file:"
_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
_TOKEN = re.compile(r"\b(?:hf|api_org)_[A-Za-z0-9]{8,}")


@dataclass(frozen=True, slots=True)
class Pushed:
    """What went, or would go."""

    target: str
    files: Mapping[str, int]
    """Bytes by name."""
    left: tuple[Left, ...]
    """What of the run did not go."""
    url: str
    """Where it is; empty where nothing was written yet."""
    commit: str = ""


def is_folder(target: str) -> bool:
    """Say whether a target is a folder of this machine: ``file:PATH``, or a path that begins as one."""
    return target.startswith((FILE, "/", "./", "../", "~")) or target in (".", "..")


def push(
    run: Run,
    target: str,
    *,
    private: bool = False,
    merged: bool = False,
    revision: str | None = None,
    with_predictions: bool = False,
    dry_run: bool = False,
    endpoint: str | None = None,
) -> Pushed:
    """Put the model of ``run``, with its card, onto the hub or into a folder.

    Args:
        run: A finished run.
        target: ``owner/name`` of the hub, or ``file:PATH`` for a folder to create.
        private: Only its owner may see a repository that is created.
        merged: Add an adapter to its base first.
        revision: The branch that it goes to, which is made if there is none; the main one when not given.
        with_predictions: Let files go that hold texts of the rows.
        dry_run: Say what would go, and where; nothing is sent or written.
        endpoint: Another hub than the usual one; ``HF_ENDPOINT`` when not given.

    Raises:
        InputError: The run is of no use elsewhere, the name is none, or the hub refuses it.
        RunError: The hub could not be reached.
    """
    to_folder = is_folder(target)
    place = Path(target.removeprefix(FILE)).expanduser() if to_folder else None
    if place is not None:
        _require_free(place, private=private, revision=revision)
    elif not _NAME.fullmatch(target) or ".." in target or "--" in target:
        raise InputError(
            f"{target!r} is no name of a repository.", "Give OWNER/NAME, or file:PATH for a folder of this machine."
        )
    name = "" if to_folder else target
    with prepared(run, name=name, merged=merged, with_predictions=with_predictions, public=not to_folder) as (
        folder,
        left,
    ):
        files = {
            path.relative_to(folder).as_posix(): path.stat().st_size
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }
        if dry_run:
            return Pushed(target, files, tuple(left), "")
        if place is not None:
            _copy(folder, list(files), place)
            return Pushed(target, files, tuple(left), str(place))
        url, commit = _upload(folder, list(files), target, private=private, revision=revision, endpoint=endpoint)
        return Pushed(target, files, tuple(left), url, commit)


def _require_free(place: Path, *, private: bool, revision: str | None) -> None:
    if place.exists():
        raise InputError(f"{place} is there already.", "Choose another folder.")
    if private or revision is not None:
        raise InputError("A folder is neither private nor has it branches.", "Leave out --private and --revision.")
    require_writable(place.parent)


def _copy(folder: Path, names: list[str], place: Path) -> None:
    with new_folder(place, durable=False) as temporary:
        for name in names:
            (temporary / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder / name, temporary / name)


def _upload(
    folder: Path, names: list[str], target: str, *, private: bool, revision: str | None, endpoint: str | None
) -> tuple[str, str]:
    """Send the files as one commit; return the repository's address and the commit."""
    from huggingface_hub import CommitOperationAdd, HfApi

    api = HfApi(endpoint=endpoint, library_name="tunesmith", library_version=__version__)
    with _told(target), quiet():
        url = api.create_repo(target, private=private or None, exist_ok=True)
        if private and not api.repo_info(target).private:
            raise InputError(
                f"{target} is there already, and everybody may see it.",
                "Make it private on the hub first, choose another name, or leave out --private.",
            )
        if revision is not None:
            api.create_branch(target, branch=revision, exist_ok=True)
        operations = [CommitOperationAdd(path_in_repo=name, path_or_fileobj=str(folder / name)) for name in names]
        done = api.create_commit(target, operations, commit_message="Model and card, by tunesmith", revision=revision)
    return str(url), str(done.oid)


@contextmanager
def _told(target: str) -> Iterator[None]:
    """Say what the hub refused, and why, without any token."""
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

    try:
        yield
    except (InputError, RunError, MemoryError):
        raise
    except LocalTokenNotFoundError as error:
        raise InputError(f"There is no token for the hub, which is needed to write {target}.", LOG_IN) from error
    except HfHubHTTPError as error:
        status = getattr(error.response, "status_code", None)
        reason = _without_tokens(error)
        if status in (401, 403):
            raise InputError(f"The hub does not let this token write {target}: {reason}", LOG_IN) from error
        raise InputError(
            f"The hub refused {target}: {reason}", "Check the name; what is there already stays."
        ) from error
    except Exception as error:  # the transport's own exceptions differ between releases of the hub's library
        raise RunError(
            f"The hub could not be reached, and {target} was not written: {_without_tokens(error)}\n"
            "  → Try again later: what has arrived is not sent twice."
        ) from error


LOG_IN = "Log in with a token that may write: hf auth login."


def _without_tokens(error: Any) -> str:
    lines = str(error).splitlines() or [type(error).__name__]
    return _TOKEN.sub("(token)", next((line for line in lines if line.strip()), type(error).__name__))[:400]
