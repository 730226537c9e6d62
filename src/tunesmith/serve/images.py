"""Images in requests: each stands in the request itself, within limits; nothing that a client names is opened.

A reference to an image may be the path of any file of this machine. Of requests, no other reference goes on from here
than the image written out (``data:image/png;base64,...``), whose format and size were looked at before anything was
unpacked.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from tunesmith.data.image_files import ImageBytes, ImageError, decode, glance
from tunesmith.run import Run
from tunesmith.serve.errors import RefusedError
from tunesmith.serve.settings import ServeSettings

FORMATS = ("PNG", "JPEG", "GIF", "WebP", "BMP")
"""Of files that are read, those that browsers and cameras make; further ones have more to be wrong with."""
_FORMATS = frozenset({*(name.upper() for name in FORMATS), "MPO"})
"""As Pillow calls them. Cameras write JPEG files with a second image behind the first, which it calls MPO."""
_WRITTEN_OUT = re.compile(r"data:image/[\w.+-]+;base64,", re.ASCII)
EXPECTED = f"an image stands in the request itself, as data:image/png;base64,... ({', '.join(FORMATS)})"


def looks_at_images(run: Run) -> bool:
    """Say whether a run's rows show images."""
    return run.task.head().reads_images


def require_images(given: Mapping[str, str], settings: ServeSettings) -> None:
    """Pass the images of a request, each written out whole. All of them are unpacked, one after the other.

    ``given`` is each by the place in the request that it stands in, such as ``images.0``. Raises ``RefusedError`` with
    the place of the first that cannot be used.
    """
    if len(given) > settings.max_images:
        message = f"{len(given)} images are more than the {settings.max_images} of one request."
        raise RefusedError(413, message, "too_many_images", param=_field(next(iter(given))))
    with ImageBytes() as source:
        contents = {place: _content(source, text, place) for place, text in given.items()}
    num_pixels = 0
    for place, content in contents.items():
        try:
            kind, size = glance(content)
        except ImageError as error:
            raise _unusable(place, error) from error
        if kind not in _FORMATS:
            raise RefusedError(400, f"{place}: {kind} is not read; {EXPECTED}.", "bad_image", param=_field(place))
        num_pixels += size
        if num_pixels > settings.max_pixels:
            message = (
                f"{place}: the images have more than the {settings.max_pixels:,} pixels that those of one request may "
                "have together. Make them smaller."
            )
            raise RefusedError(413, message, "image_too_large", param=_field(place))
    for place, content in contents.items():
        try:
            decode(content)
        except ImageError as error:
            raise _unusable(place, error) from error


def _content(source: ImageBytes, text: str, place: str) -> bytes:
    if not _WRITTEN_OUT.match(text):
        message = f"{place}: {EXPECTED}; no path is opened, and nothing is fetched."
        raise RefusedError(400, message, "bad_image", param=_field(place))
    try:
        return source.read(text)
    except ImageError as error:
        raise _unusable(place, error) from error


def _unusable(place: str, error: ImageError) -> RefusedError:
    status = 413 if error.fault == "too large" else 400
    message = f"{place}: the image cannot be used: {error} ({error.fault})."
    return RefusedError(status, message, "bad_image", param=_field(place))


def _field(place: str) -> str:
    return place.partition(".")[0]
