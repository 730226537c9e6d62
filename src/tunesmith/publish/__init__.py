"""What strangers get of a finished run: its model card, and code that uses it without tunesmith.

Pure functions of what the run directory holds. The room lies below ``run``, which writes the card into every
directory before it is finished; what task, method and model say of themselves comes from them.
"""

from tunesmith.publish.card import ensemble_card, model_card
from tunesmith.publish.usage import FOLDER, Parts

__all__ = ["FOLDER", "Parts", "ensemble_card", "model_card"]
