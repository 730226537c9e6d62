"""The studio: everything that the command line does with data, runs and models, in the browser of this machine."""

from tunesmith.studio.server import studio

__all__ = ["studio"]
