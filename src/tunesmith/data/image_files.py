"""Images as users have them: found where a reference says, opened within limits, and turned into plain RGB.

A reference is a text that says where the bytes of one image are:

- ``/data/cats/1.png``: a file, by its absolute path;
- ``/data/train.zip!cats/1.png``: a member of an archive;
- ``cache:rows/KEY/images.bin!120+3456``: a part of a file of the cache, from an offset on, so many bytes long;
- ``data:image/png;base64,...``: the image itself;
- ``outside:../1.png``, ``address:https://...``: what leads out of the folder of the data, and is never followed.
"""

from __future__ import annotations

import base64
import binascii
import io
import re
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Literal
from urllib.parse import unquote_to_bytes

import numpy as np
import numpy.typing as npt

from tunesmith.files.root import cache_root
from tunesmith.types import MissingExtraError

FORMATS = ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF", "PPM")
"""What Pillow may open: not the formats for which it starts other programs."""
SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm"})
MAX_PIXELS = 100_000_000
"""Of one image: a few kilobytes can stand for any number of them."""
MAX_BYTES = 256 << 20
"""Of one image as it is stored."""

OUTSIDE, ADDRESS, CACHED = "outside:", "address:", "cache:"
_IN_ARCHIVE = re.compile(r"(.+?\.zip)!(.+)", re.IGNORECASE | re.DOTALL)
_IN_CACHE = re.compile(r"cache:(rows/[\w.-]+/images\.bin)!(\d+)\+(\d+)", re.ASCII)
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+://|data:", re.IGNORECASE)
WRITTEN_OUT = re.compile(r"data:image/[\w.+-]+[^,]*,", re.IGNORECASE)
"""How an image begins that stands in the text itself (RFC 2397)."""
_MAGIC = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM", b"II*\0", b"MM\0*", b"RIFF", b"P5", b"P6")

Fault = Literal["no image", "missing", "outside", "address", "unreadable", "damaged", "too large"]

Rgb = npt.NDArray[np.uint8]
"""[height, width, 3]."""


class ImageError(ValueError):
    """An image cannot be read; ``fault`` says of what kind that is."""

    def __init__(self, fault: Fault, message: str) -> None:
        super().__init__(message)
        self.fault: Fault = fault


def has_image_suffix(name: str) -> bool:
    """Say whether a name ends as those of images do."""
    return Path(name).suffix.lower() in SUFFIXES


def is_address(text: str) -> bool:
    """Say whether a text is an address on the web (or holds an image itself), rather than a path."""
    return _ADDRESS.match(text) is not None


def is_reference(text: str) -> bool:
    """Say whether a text is a reference to an image, as readers write them: never a path that begins nowhere."""
    if _IN_CACHE.fullmatch(text) or text.startswith((OUTSIDE, ADDRESS)) or WRITTEN_OUT.match(text):
        return True
    return has_image_suffix(text) and Path(text).is_absolute()


def file_of(reference: str) -> Path:
    """Return the file that holds the bytes behind a reference; one that is not there, where none is meant."""
    if found := _IN_CACHE.fullmatch(reference):
        return cache_root() / found[1]
    found = _IN_ARCHIVE.fullmatch(reference)
    return Path(found[1] if found else reference)


def shown_reference(reference: str) -> str:
    """Return a reference as it is told of in a message: of an image that is written out, the beginning."""
    return f"{reference[:40]}…" if WRITTEN_OUT.match(reference) else reference[:200]


def looks_like_image(content: bytes) -> bool:
    """Say whether bytes begin as those of an image do."""
    return content.startswith(_MAGIC)


class ImageBytes(AbstractContextManager["ImageBytes"]):
    """Reads the bytes behind references; archives stay open as long as the ``with`` block lasts."""

    def __init__(self) -> None:
        self._archives: dict[str, zipfile.ZipFile] = {}

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for archive in self._archives.values():
            archive.close()
        self._archives.clear()

    def read(self, reference: str) -> bytes:
        """Return the bytes of one image. Raises ``ImageError``."""
        if not reference.strip():
            raise ImageError("no image", "no image is named")
        if reference.startswith(OUTSIDE):
            raise ImageError("outside", f"{reference.removeprefix(OUTSIDE)} leads out of the folder of the data")
        if found := WRITTEN_OUT.match(reference):
            return _written_out(found[0], reference[found.end() :])
        plain = reference.removeprefix(ADDRESS)
        if is_address(plain) and not plain.startswith(CACHED):
            raise ImageError("address", f"{plain[:200]} is an address, and nothing is fetched")
        try:
            return self._read(reference)
        except (OSError, ValueError) as error:  # a name with a zero byte is a ValueError
            if isinstance(error, ImageError):
                raise
            raise ImageError("missing", f"{reference} cannot be read: {error}") from error

    def _read(self, reference: str) -> bytes:
        if found := _IN_CACHE.fullmatch(reference):
            with (cache_root() / found[1]).open("rb") as file:
                file.seek(int(found[2]))
                return file.read(int(found[3]))
        if (found := _IN_ARCHIVE.fullmatch(reference)) and not Path(reference).exists():
            return self._read_member(found[1], found[2], reference)
        path = Path(reference)
        if not path.is_file():
            raise ImageError("missing", f"{reference} is not there")
        if path.stat().st_size > MAX_BYTES:
            raise ImageError("too large", f"{reference} has more than {MAX_BYTES >> 20} MB")
        return path.read_bytes()

    def _read_member(self, archive: str, member: str, reference: str) -> bytes:
        try:
            if archive not in self._archives:
                self._archives[archive] = zipfile.ZipFile(archive)
            with self._archives[archive].open(member) as file:
                content = file.read(MAX_BYTES + 1)
        except KeyError as error:
            raise ImageError("missing", f"{reference} is not there") from error
        except (zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError, OSError) as error:
            if isinstance(error, FileNotFoundError):
                raise
            raise ImageError("unreadable", f"{reference} cannot be unpacked: {error}") from error
        if len(content) > MAX_BYTES:
            raise ImageError("too large", f"{reference} grows to more than {MAX_BYTES >> 20} MB")
        return content


def _written_out(head: str, content: str) -> bytes:
    """Return the bytes of an image that stands in a text, after the ``head`` that says how."""
    if len(content) > 2 * MAX_BYTES:
        raise ImageError("too large", f"{head} has more than {MAX_BYTES >> 20} MB")
    if ";base64" not in head.lower():
        return unquote_to_bytes(content)
    try:
        return base64.b64decode("".join(content.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise ImageError("damaged", f"what follows {head} is no base64: {error}") from error


def require_pillow(purpose: str = "Reading images") -> None:
    """Raise ``MissingExtraError`` where Pillow is not installed."""
    try:
        import PIL  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(purpose, "pillow", "images") from error


def decode(content: bytes) -> Rgb:
    """Return an image's first frame as people see it, [height, width, 3].

    It is turned as its camera held it, laid on white where it is transparent, and brought from any number of bits, of
    greys or of inks to eight bits of red, green and blue. Raises ``ImageError``.
    """
    require_pillow()
    from PIL import ImageOps

    with _opened(content) as image:
        image.load()
        return _rgb(ImageOps.exif_transpose(image))


def glance(content: bytes) -> tuple[str, int]:
    """Return an image's format and how many pixels it says that it has, before any is unpacked.

    Raises ``ImageError``.
    """
    require_pillow()
    with _opened(content) as image:
        width, height = image.size
        return str(image.format), int(width * height)


@contextmanager
def _opened(content: bytes) -> Iterator[Any]:
    """Yield an image of which nothing but its beginning has been read; whatever goes wrong is an ``ImageError``."""
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of large images, which are refused here, and of odd metadata
            with Image.open(io.BytesIO(content), formats=FORMATS) as image:
                width, height = image.size
                if width * height > MAX_PIXELS:
                    raise ImageError("too large", f"it has {width:,} x {height:,} pixels")
                yield image
    except (ImageError, MemoryError):
        raise
    except Image.DecompressionBombError as error:
        raise ImageError("too large", str(error)) from error
    except UnidentifiedImageError as error:
        known = looks_like_image(content)
        message = "it is damaged at its beginning" if known else f"it is none of {', '.join(FORMATS)}"
        raise ImageError("damaged" if known else "unreadable", message) from error
    except Exception as error:  # decoders raise whatever they stumble over
        raise ImageError("damaged", str(error).splitlines()[0][:200] if str(error) else type(error).__name__) from error


def _rgb(image: Any) -> Rgb:
    from PIL import Image

    if image.mode.startswith("I"):
        return _from_deep_greys(np.asarray(image))
    if image.mode == "F":
        raise ImageError("unreadable", "its pixels are fractions, whose white is not known")
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        white.alpha_composite(image.convert("RGBA"))
        image = white
    return np.array(image.convert("RGB"), dtype=np.uint8)


def _from_deep_greys(greys_HW: npt.NDArray[Any]) -> Rgb:
    """Return greys of sixteen bits as colours of eight; what fits into eight bits already is left as it is."""
    wide = np.clip(greys_HW.astype(np.int64), 0, 65_535)
    is_deep = greys_HW.dtype.itemsize == 2 or int(wide.max(initial=0)) > 255
    shades = (wide * 255 + 32_767) // 65_535 if is_deep else wide
    return np.repeat(shades.astype(np.uint8)[:, :, None], 3, axis=2)
