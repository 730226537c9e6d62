"""Finished runs behind HTTP: OpenAI's API for what writes and embeds, one JSON route per task for the rest."""

from tunesmith.serve.server import serve
from tunesmith.serve.settings import ServeSettings

__all__ = ["ServeSettings", "serve"]
