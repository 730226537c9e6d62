"""Files of other tools: YAML or JSON, read as carefully as our own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tunesmith.config.load import MAX_CHARACTERS, load_yaml
from tunesmith.types import InputError


def read_values(path: Path) -> dict[str, Any]:
    """Return the keys and values of a YAML or JSON file; ``InputError`` where there are none."""
    if path.suffix.lower() != ".json":
        return load_yaml(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
        if len(text) > MAX_CHARACTERS:
            raise InputError(f"{path} has {len(text):,} characters.", "Give the file of settings, not of data.")
        values = json.loads(text)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.", "Check the path.") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8.", "Save it as UTF-8.") from error
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{path} is no JSON: {str(error)[:200]}.", "Give the file as the other tool reads it."
        ) from error
    if not isinstance(values, dict):
        raise InputError(f"{path} holds a {type(values).__name__}; expected keys and values.")
    return values


def placed(name: str, *folders: Path) -> str | None:
    """Return the path that a file or folder is found at from here: as it is named, or below one of ``folders``."""
    for path in (Path(name).expanduser(), *(folder / name for folder in folders)):
        try:
            if path.exists():
                return str(path)
        except (OSError, ValueError):  # names that are no paths
            return None
    return None
