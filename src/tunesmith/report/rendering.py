"""What all pages are made with: templates, our own styles and scripts, and no letter that HTML forbids."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from tunesmith.version import __version__

_NOT_IN_HTML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def render_page(template: str, *, styles: Sequence[str], scripts: Sequence[str], **values: Any) -> str:
    """Return a page as HTML text, with the named ``styles`` and ``scripts`` of ours in it and no others allowed."""
    environment = Environment(
        loader=PackageLoader("tunesmith.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template(template).render(
        style=Markup("\n".join(map(_asset, styles))),  # noqa: S704 -- our own files
        script=Markup(_script(scripts)),  # noqa: S704 -- our own files
        script_hash=script_hash(scripts),
        version=__version__,
        **values,
    )
    return _NOT_IN_HTML.sub("\N{REPLACEMENT CHARACTER}", page)


def script_hash(scripts: Sequence[str]) -> str:
    """Return the hash by which a page allows the named scripts, and no others, to run in it."""
    return base64.b64encode(hashlib.sha256(_script(scripts).encode()).digest()).decode()


def _script(names: Sequence[str]) -> str:
    return "\n".join(map(_asset, names))


def _asset(name: str) -> str:
    text = resources.files("tunesmith.report").joinpath("templates", name).read_text(encoding="utf-8")
    return text.replace("\r\n", "\n").strip()
