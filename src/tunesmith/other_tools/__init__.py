"""Configurations of other tools, read as ours: what has a counterpart is translated, what has none is named."""

from tunesmith.other_tools.importing import TOOLS, Imported, import_config
from tunesmith.other_tools.translation import Line

__all__ = ["TOOLS", "Imported", "Line", "import_config"]
