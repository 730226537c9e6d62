"""``tunesmith data``: the group with all its commands."""

from tunesmith.cli import export, passages
from tunesmith.cli.data import data_group

__all__ = ["data_group", "export", "passages"]
