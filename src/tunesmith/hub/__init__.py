"""A finished run for others: its model with its card on the Hugging Face hub, or in a folder in the hub's form."""

from tunesmith.hub.contents import Left, prepared
from tunesmith.hub.pushing import Pushed, is_folder, push

__all__ = ["Left", "Pushed", "is_folder", "prepared", "push"]
