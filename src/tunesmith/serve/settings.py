"""What a server allows: where it listens, who may ask, and how much at once."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ServeSettings:
    """Limits of one server. Whatever goes beyond them is refused with a status that says so."""

    host: str = "127.0.0.1"
    port: int = 8000
    token: str | None = None
    """What ``Authorization: Bearer`` must hold; nobody is asked for one where it is not given."""
    allowed_origins: tuple[str, ...] = ()
    """Pages of other hosts that browsers may ask from."""
    allowed_hosts: tuple[str, ...] = ()
    """Names that this machine is asked by, besides its own: others are refused (DNS rebinding)."""
    max_body_bytes: int = 4_000_000
    max_image_body_bytes: int = 20_000_000
    """The same of servers and routes that take images."""
    max_held_bytes: int = 200_000_000
    """Of the bodies of all requests together, and of what is made of the images of those that wait for an answer."""
    max_rows: int = 1000
    """Rows of one request."""
    max_images: int = 32
    """Images of one request."""
    max_pixels: int = 25_000_000
    """Of all images of one request: a few kilobytes can stand for any number of them."""
    max_waiting: int = 256
    """Requests that wait or are at work, of each model; further ones are told to come again."""
    timeout_seconds: float = 120.0
    """How long a request may take."""
    body_seconds: float = 20.0
    """How long the sending of a request may take."""
    gather_seconds: float = 0.002
    """How long short requests wait for others to be computed together with."""
    num_slots: int = 8
    """Answers that are written at the same time."""
    context: int | None = None
    """Tokens of prompt and answer; the model's own length when not given."""
    beginning_bytes: int = 256_000_000
    """Memory of each model that writes for what it computed of beginnings that prompts share; 0 keeps nothing."""
    watch_seconds: float | None = None
    """How often the folders are looked through for runs that are new or were replaced; never when not given."""
    drain_seconds: float = 30.0
    """How long requests at work may take after the server was asked to stop."""

    @property
    def is_local(self) -> bool:
        """Whether nobody but this machine can reach the server."""
        return is_loopback(self.host)


def is_loopback(host: str) -> bool:
    """Say whether a name or address is this machine's own."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
