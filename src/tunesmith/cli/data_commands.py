"""``tunesmith data``: the group with all its commands."""

from tunesmith.cli import data_audit, export, passages
from tunesmith.cli.data import data_group

__all__ = ["data_audit", "data_group", "export", "passages"]
