"""What becomes of the keys of another tool's file: every one of them is translated, needless here, or left out.

Which key here a name of theirs stands for is said by ``tunesmith.config.synonyms``, which also answers flags and keys
of other tools; here stands what has to be computed, put together or explained.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from tunesmith.config.build import show
from tunesmith.config.synonyms import meaning_of

Kind = Literal["translated", "needless", "left out"]

NO_COUNTERPART = "There is nothing of the kind here; the training goes without it."
SAYS_NOTHING = "It is empty."
OFF = "It is off, as it is here where nobody says otherwise."
_COPIED = """
    train.learning_rate train.epochs train.max_steps train.optimizer.weight_decay train.clip_norm train.seed
    train.early_stopping.patience train.early_stopping.minimum_gain compute.keep_checkpoints compute.checkpoint_steps
    train.evaluate_steps output model.revision model.max_length method.rank method.alpha method.dropout
    method.lora_plus_ratio task.system task.beta task.gamma task.label_smoothing task.desirable_weight
    task.undesirable_weight task.template_arguments data.limit data.validation_fraction evaluation.max_new_tokens
    tracker.project tracker.name
"""
MAY_BE_COPIED = frozenset(_COPIED.split())
"""Keys whose values are the same here as elsewhere."""
_NAMED_BY = {
    "model": "name",
    "method": "name",
    "task": "name",
    "data": "path",
    "tracker": "to",
    "train.optimizer": "name",
    "train.schedule": "name",
}
"""Sections, each with the key that a plain text stands for."""
_SECRET = re.compile(r"(?:^|_)(?:token|api_key|password|secret)$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Line:
    """What became of one key."""

    key: str
    """As it is called there; ``datasets[0].type`` for what stands deeper."""
    value: Any
    kind: Kind
    said: str
    """Of what was translated the keys here with their values; else why it was not, and what to do instead."""

    @property
    def shown(self) -> str:
        """The key with its value, as in YAML."""
        name = re.sub(r"\[\d+\]", "", self.key).rpartition(".")[2]
        return f"{self.key}: {'(not shown)' if _SECRET.search(name) else show(self.value)}"


@dataclass
class Translation:
    """The translation of one file while it is made."""

    values: Mapping[str, Any]
    """Their keys."""
    lines: dict[str, Line] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    """Our keys, dotted."""
    usual: dict[str, Any] = field(default_factory=dict)
    """Those of ``settings`` of which their file says nothing: what their tool takes then."""

    def get(self, key: str) -> Any:
        """Return the value of a key of theirs; None where it says nothing."""
        value = self.values.get(key)
        return value if is_said(value) else None

    def is_on(self, key: str) -> bool:
        """Say whether a switch is on."""
        return self.get(key) is True or str(self.get(key)).lower() == "true"

    def number(self, key: str) -> float | None:
        """Return the number that a key holds; None where it holds none."""
        return as_number(self.get(key))

    def translate(self, keys: str, settings: Mapping[str, Any], note: str = "") -> None:
        """Put ``settings`` into the configuration, which come of ``keys`` (words) as far as these are given."""
        settings = {whole_path(path): value for path, value in settings.items()}
        self.settings.update(settings)
        for path in settings:
            self.usual.pop(path, None)
        said = ", ".join(f"{path}: {show(value)}" for path, value in settings.items())
        self._note(keys, "translated", f"{said}. {note}".strip() if note else said)

    def also(self, keys: str, path: str) -> None:
        """Note that ``keys`` went into what stands under ``path`` already."""
        self._note(keys, "translated", f"{path}: {show(self.settings.get(path))}")

    def needless(self, keys: str, why: str) -> None:
        """Note that nothing has to be said of ``keys`` here."""
        self._note(keys, "needless", why)

    def leave_out(self, keys: str, why: str) -> None:
        """Note that ``keys`` were not translated: why, and what to do instead."""
        self._note(keys, "left out", why)

    def _note(self, keys: str, kind: Kind, said: str) -> None:
        for key in keys.split():
            if key in self.values and (key not in self.lines or kind == "translated"):
                value = self.values[key]
                kind_of = kind if is_said(value) or kind == "translated" else "needless"
                self.lines[key] = Line(key, value, kind_of, said if kind_of == kind else SAYS_NOTHING)

    def note_part(self, key: str, value: Any, kind: Kind, said: str) -> None:
        """Note what became of something that stands below a key."""
        self.lines[key] = Line(key, value, kind, said)

    def take_usual(self, path: str, value: Any) -> None:
        """Write what their tool takes where its file says nothing, unless something stands there already."""
        if whole_path(path) not in self.settings:
            self.settings[whole_path(path)] = self.usual[whole_path(path)] = value

    def number_or_usual(self, key: str, path: str, usual: float) -> float:
        """Write the number that ``key`` says, else the one that their tool takes; return which it is."""
        given = self.number(key)
        if given is None:
            self.take_usual(path, usual)
            return usual
        self.translate(key, {path: given})
        return given

    def apply_table(self, table: Iterable[tuple[str, str]], kind: Kind) -> None:
        """Note keys that need no thought: (keys, what is said of them)."""
        for keys, said in table:
            (self.needless if kind == "needless" else self.leave_out)(keys, said)

    def translate_rest(self, is_known: Callable[[str], bool]) -> None:
        """Note all keys of which nothing was said yet, by the table of names of other tools."""
        for key, value in self.values.items():
            if key not in self.lines:
                self._translate_by_table(key, value, is_known)

    def _translate_by_table(self, key: str, value: Any, is_known: Callable[[str], bool]) -> None:
        meaning = meaning_of(key, is_known)
        if not is_said(value):
            self.needless(key, SAYS_NOTHING)
        elif meaning is None and (path := _of_the_same_name(key)):
            self.translate(key, {path: value})
        elif meaning is None:
            self.leave_out(key, OFF if value is False else NO_COUNTERPART)
        elif not meaning.settings:
            self.needless(key, meaning.note)
        elif value is False:
            self.needless(key, OFF)
        elif value is True and all(implied for _, implied in meaning.settings):
            self.translate(key, {path: _typed(implied) for path, implied in meaning.settings}, meaning.note)
        elif len(meaning.settings) == 1 and meaning.settings[0][0] in MAY_BE_COPIED:
            self.translate(key, {meaning.settings[0][0]: value}, meaning.note)
        else:
            said = f"Here it is {meaning.as_keys()}, with values of its own. {meaning.note}"
            self.leave_out(key, said.strip())


def read_notes(text: str) -> list[tuple[str, str]]:
    """Return what is said of keys: lines of keys, below them, indented, what is said of these."""
    found: list[tuple[str, str]] = []
    keys, said = "", ""
    for line in text.strip().splitlines():
        if line.startswith(" "):
            said = f"{said} {line.strip()}".strip()
            continue
        if said:
            found.append((keys, said))
            keys, said = "", ""
        keys = f"{keys} {line}".strip()
    return [*found, (keys, said)]


def is_said(value: Any) -> bool:
    """Say whether a value says something: null and what is empty do not."""
    return value is not None and not (isinstance(value, (str, list, tuple, Mapping)) and not value)


def as_number(value: Any) -> float | None:
    """Return a value as a number, whole ones as such; None where it is none."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        found = float(value)
    except ValueError:
        return None
    return int(found) if found.is_integer() and abs(found) < 2**53 else found


def names_in(value: Any) -> list[str]:
    """Return the names in a list, or in a text with commas."""
    parts = value.split(",") if isinstance(value, str) else value if isinstance(value, (list, tuple)) else []
    return [str(part).strip() for part in parts if str(part).strip()]


def _of_the_same_name(key: str) -> str:
    """Return our key of the same name, where its values are the same, too; nothing where there is none."""
    return next((path for section in ("train", "task") if (path := f"{section}.{key}") in MAY_BE_COPIED), "")


def _typed(implied: str) -> Any:
    return {"true": True, "false": False}.get(implied, implied)


def nested(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return dotted keys as a tree; a section that only says its name (a path) becomes that name."""
    tree: dict[str, Any] = {}
    for path, value in settings.items():
        *sections, last = path.split(".")
        place = tree
        for section in sections:
            place = place.setdefault(section, {})
        place[last] = value
    for section, key in _NAMED_BY.items():
        *above, last = section.split(".")
        place = tree
        for one in above:
            place = place.get(one, {})
        if isinstance(place.get(last), dict) and list(place[last]) == [key]:
            place[last] = place[last][key]
    return tree


def whole_path(path: str) -> str:
    """Return the path of what a section's name alone stands for: ``method`` is ``method.name``."""
    return f"{path}.{_NAMED_BY[path]}" if path in _NAMED_BY else path
